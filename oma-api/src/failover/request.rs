//! What may be asked of a failover, and what is wrong with a request by itself.

mod ready;

use jiff::SignedDuration;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

pub use ready::{Check, Checks, Http, HttpAsked, Ready, Weight};

/// How long a test is kept when nobody says.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// And at least, and at most.
const KEPT_BETWEEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(31 * 24 * 3600));

/// Bytes of `custom_config` and of `notification_config`, as JSON.
const MOST_CONFIG: usize = 16 << 10;

/// Networks of a request.
const MOST_NETWORKS: usize = 256;

/// Bytes of a name or a text.
const LONGEST: usize = 256;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The VM's uuid at its source.
    pub vm_id: String,
    /// Its name, to make sure that it is the one that is meant.
    pub vm_name: String,
    /// A restore point; the newest where none is named.
    pub restore_point: Option<String>,
    pub auto_cleanup: bool,
    /// In Go's notation, such as `1h30m`.
    pub test_duration: Option<String>,
    pub skip_validation: bool,
    pub skip_snapshot: bool,
    pub skip_virtio_injection: bool,
    /// By the source's name of a network, the target's.
    pub network_mappings: BTreeMap<String, String>,
    pub custom_config: Option<Map<String, Value>>,
    pub notification_config: Option<Map<String, Value>>,
    pub ready: Option<Ready>,
    /// Of a live failover; `None`: a test.
    pub live: Option<super::live::Live>,
}

/// Why a request cannot be taken, whatever there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Invalid {
    pub field: &'static str,
    pub why: String,
}

fn invalid(field: &'static str, why: impl Into<String>) -> Invalid {
    Invalid { field, why: why.into() }
}

impl Request {
    /// How long the test is kept.
    ///
    /// # Errors
    /// A duration that is none, or out of bounds.
    pub fn keep(&self) -> Result<Duration, Invalid> {
        let Some(text) = &self.test_duration else { return Ok(KEPT) };
        let keep = go_duration(text).ok_or_else(|| {
            let shown: String = text.chars().take(32).collect();
            invalid("test_duration", format!("{shown:?} is no duration: write it as 30m, 2h or 1h30m"))
        })?;
        let (least, most) = KEPT_BETWEEN;
        match (least..=most).contains(&keep) {
            true => Ok(keep),
            false => Err(invalid(
                "test_duration",
                format!("{text} is out of bounds: at least 1s, at most 744h (31 days)"),
            )),
        }
    }

    /// Whatever is wrong of itself.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn check(&self) -> Result<(), Invalid> {
        let plain = |field, text: &str| match text {
            "" => Err(invalid(field, "is missing")),
            text if text.len() > LONGEST || text.contains(char::is_control) => {
                Err(invalid(field, format!("takes 1 to {LONGEST} bytes without control characters")))
            }
            _ => Ok(()),
        };
        plain("vm_id", &self.vm_id)?;
        plain("vm_name", &self.vm_name)?;
        self.keep()?;
        if self.network_mappings.len() > MOST_NETWORKS {
            return Err(invalid("network_mappings", format!("takes {MOST_NETWORKS} networks at most")));
        }
        for (source, target) in &self.network_mappings {
            if source.is_empty() || target.trim().is_empty() {
                return Err(invalid(
                    "network_mappings",
                    "has an empty name: map the source's name of a network to the target's",
                ));
            }
            plain("network_mappings", source)?;
            plain("network_mappings", target.trim())?;
        }
        for (field, config) in
            [("custom_config", &self.custom_config), ("notification_config", &self.notification_config)]
        {
            if config.as_ref().is_some_and(|c| Value::Object(c.clone()).to_string().len() > MOST_CONFIG) {
                return Err(invalid(field, format!("takes {MOST_CONFIG} bytes of JSON at most")));
            }
        }
        if let Some(config) = &self.notification_config {
            super::notice::recipient(config).map_err(|why| invalid("notification_config.email", why))?;
        }
        if let Some(live) = &self.live {
            live.check(self.restore_point.as_deref())?;
        }
        match &self.ready {
            Some(ready) => ready.check(),
            None => Ok(()),
        }
    }
}

/// Go's `time.ParseDuration`, but for signs and a bare 0, which are no durations of anything here.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let known = |c: char| c.is_ascii_digit() || "hmsnuµ.".contains(c);
    if text.len() > LONGEST || !text.chars().all(known) || text.contains("ns.") {
        return None;
    }
    let parsed: SignedDuration = text.parse().ok()?;
    Duration::try_from(parsed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request { vm_id: "u".to_owned(), vm_name: "n".to_owned(), ..Request::default() }
    }

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in
            [("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), ("1h0m0s", 3600)]
        {
            assert_eq!(go_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "30", "m", "-5m", "+5m", "1 h", "1d", "PT1H", "1h 30m", "one hour", "1e3s", "٣h", "30M"]
        {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_of_itself_is_said_with_its_field() {
        request().check().expect("good");
        let of = |change: fn(&mut Request)| {
            let mut request = request();
            change(&mut request);
            request.check().expect_err("wrong").field
        };
        assert_eq!(of(|r| r.vm_id.clear()), "vm_id");
        assert_eq!(of(|r| r.vm_name = "a\nb".to_owned()), "vm_name");
        assert_eq!(of(|r| r.test_duration = Some("soon".to_owned())), "test_duration");
        assert_eq!(of(|r| r.test_duration = Some("0s".to_owned())), "test_duration");
        assert_eq!(of(|r| r.test_duration = Some("745h".to_owned())), "test_duration");
        assert_eq!(
            of(|r| drop(r.network_mappings.insert("LAN".to_owned(), " ".to_owned()))),
            "network_mappings"
        );
        assert_eq!(
            of(|r| {
                let text = Value::String("x".repeat(MOST_CONFIG));
                r.custom_config = Some(Map::from_iter([("key".to_owned(), text)]));
            }),
            "custom_config"
        );
        assert_eq!(
            of(|r| r.ready = Ready::console("", None, Weight::Required).ok()),
            "wait_for_ready.console"
        );
        assert_eq!(
            of(|r| r.ready = Ready::console("x", Some("25h"), Weight::Required).ok()),
            "wait_for_ready.timeout"
        );
    }
}
