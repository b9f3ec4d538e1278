//! What is sent, and the signature over it: HMAC-SHA1 of the parameters as the server's Java spells them
//! (`cloudstack-signing-vectors.json`; vectors 0 to 12 were accepted by a real 4.22).
//!
//! The server signs anew what it received, so that the spelling on the wire is free; this one's is percent-encoding
//! throughout, as a raw `+` is not.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Parameters of one command; of a name that is set twice the last counts, as at the server.
///
/// Values are kept out of its `Debug`: some are secrets of guests.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Params {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Adds one where there is a value.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// A map as commands take it whose maps are read from index 0 alone: `details[0].name=value`.
    #[must_use]
    pub fn with_map<'a>(self, name: &str, map: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        map.into_iter().fold(self, |params, (key, value)| params.with(format!("{name}[0].{key}"), value))
    }

    /// In the order of their names' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The text that is signed: names in the order of their bytes as they are spelled, values encoded, then all of it in
    /// lower case.
    pub fn to_sign(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.iter().filter(|(name, _)| *name != "signature") {
            if !text.is_empty() {
                text.push('&');
            }
            text.push_str(name);
            text.push('=');
            encode(value, &mut text);
        }
        text.make_ascii_lowercase();
        text
    }

    /// Adds the signature.
    #[must_use]
    pub fn signed(self, secret: &str) -> Signed {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, self.to_sign().as_bytes()));
        Signed(self.with("signature", signature))
    }
}

/// Parameters that may go out.
#[derive(Clone, Debug)]
pub struct Signed(Params);

impl Signed {
    /// As the body of a form.
    pub fn form(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.0.iter() {
            if !text.is_empty() {
                text.push('&');
            }
            encode(name, &mut text);
            text.push('=');
            encode(value, &mut text);
        }
        text
    }

    #[cfg(test)]
    pub(super) fn signature(&self) -> &str {
        self.0.0.get("signature").map_or("", String::as_str)
    }
}

/// As `java.net.URLEncoder` does, but for the space: `%20`.
fn encode(value: &str, into: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                into.push(char::from(byte))
            }
            _ => {
                let _ = write!(into, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vector {
        params: BTreeMap<String, String>,
        secret: String,
        string_to_sign: String,
        signature_base64: String,
    }

    #[test]
    fn the_vectors_are_signed_as_a_real_server_takes_them() -> anyhow::Result<()> {
        let vectors: Vec<Vector> = serde_json::from_str(include_str!("signing-vectors.json"))?;
        assert_eq!(vectors.len(), 14);
        for vector in vectors {
            let params = Params(vector.params);
            assert_eq!(params.to_sign(), vector.string_to_sign);
            assert_eq!(params.signed(&vector.secret).signature(), vector.signature_base64);
        }
        Ok(())
    }

    #[test]
    fn a_form_holds_nothing_raw_that_a_server_reads_otherwise() {
        let params = Params::new()
            .with("command", "x")
            .with("a b", "1+1=2&é")
            .with_map("details", [("UEFI", "LEGACY")]);
        let form = params.signed("s").form();
        assert!(
            form.starts_with("a%20b=1%2B1%3D2%26%C3%A9&command=x&details%5B0%5D.UEFI=LEGACY&signature="),
            "{form}"
        );
        assert!(!form.contains('+'), "{form}");
    }

    #[test]
    fn the_last_of_a_name_counts_and_an_absent_value_is_none() {
        let params = Params::new()
            .with("id", "1")
            .with("id", "2")
            .with_some("x", None::<String>)
            .with_some("y", Some(""));
        assert_eq!(params.to_sign(), "id=2&y=");
    }

    #[test]
    fn values_are_kept_out_of_logs() {
        let shown = format!("{:?}", Params::new().with("password", "hunter2").signed("secret"));
        assert!(!shown.contains("hunter2") && !shown.contains("secret"), "{shown}");
        assert!(shown.contains("password"), "{shown}");
    }
}
