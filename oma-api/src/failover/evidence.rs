//! What a machine shows of itself, kept for the report: it goes with the machine.

use super::effects::tail;
use crate::compute::{Compute, MachineName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Largest picture that is kept in a journal.
const LARGEST: usize = 64 << 10;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// See the module; as the journal has it, where every part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// The end of its serial console, as plain text.
    pub console: String,
    /// What its screen showed: PNG in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screenshot: Option<String>,
    /// Why there is no picture, where it has a screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screenshot_note: Option<String>,
}

impl Evidence {
    /// Never fails: a machine that shows nothing is no reason to keep it.
    pub async fn of(compute: &dyn Compute, name: &MachineName) -> Self {
        let console = tail(compute, name).await;
        let (screenshot, screenshot_note) = match compute.screenshot(name).await {
            Ok(None) => (None, None),
            Ok(Some(png)) => match picture(&png) {
                Ok(text) => (Some(text), None),
                Err(why) => (None, Some(why)),
            },
            Err(error) => {
                let why = format!("its screen could not be read: {}", shared::error::chain(&error));
                (None, Some(why))
            }
        };
        Self { console, screenshot, screenshot_note }
    }
}

fn picture(png: &[u8]) -> Result<String, String> {
    if !png.starts_with(PNG) {
        return Err("what its screen gave is no PNG".to_owned());
    }
    match png.len() <= LARGEST {
        true => Ok(STANDARD.encode(png)),
        false => Err(format!("the picture has {} KiB, and at most 64 are kept", png.len() >> 10)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_small_png() {
        let of = |size: usize| [PNG, &vec![0; size - PNG.len()]].concat();
        let kept = picture(&of(LARGEST)).expect("kept");
        assert_eq!(STANDARD.decode(kept).expect("base64"), of(LARGEST));
        assert!(picture(&of(LARGEST + 1)).expect_err("left out").contains("64"));
        assert!(picture(b"<svg onload=alert(1)>").is_err());
    }

    /// Journals of before have a console alone.
    #[test]
    fn an_older_journal_is_read() {
        let old: Evidence = serde_json::from_value(serde_json::json!({ "console": "login:" })).expect("read");
        assert_eq!(old, Evidence { console: "login:".to_owned(), ..Evidence::default() });
        assert_eq!(
            serde_json::from_value::<Evidence>(serde_json::json!({})).expect("read"),
            Evidence::default()
        );
    }
}
