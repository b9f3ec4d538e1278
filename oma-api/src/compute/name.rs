//! Names that are safe as the name of a folder, a process and a log field.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// In which our ids are unlike anybody's.
const SPACE: Uuid = Uuid::from_u128(0x6d69_6772_6174_656b_6974_0000_0000_0002);

/// A name that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "machine name {value:?} cannot be used: expected 1 to 64 of a-z A-Z 0-9 - _ ., no dot in front and no .tmp at the end"
)]
pub struct InvalidName {
    value: String,
}

/// What a machine is called here: its maker's choice, and the same however often it is asked for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(String);

impl MachineName {
    /// Checks the form.
    pub fn parse(value: impl Into<String>) -> Result<Self, InvalidName> {
        let value = value.into();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        // The ending is the local backend's own.
        let reserved = value.starts_with('.') || value.ends_with(".tmp");
        match (1..=64).contains(&value.len()) && value.chars().all(plain) && !reserved {
            true => Ok(Self(value)),
            false => Err(InvalidName { value }),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the guest sees as the machine's, and what a backend with ids of its own is asked to call it. Nobody else makes this
    /// one, so that it is a mark as well. Where an id can be used only once, attempt 1, 2, … have others.
    pub fn uuid(&self, attempt: u32) -> Uuid {
        Uuid::new_v5(&SPACE, format!("{self}/machine/{attempt}").as_bytes())
    }
}

impl TryFrom<String> for MachineName {
    type Error = InvalidName;
    fn try_from(value: String) -> Result<Self, InvalidName> {
        Self::parse(value)
    }
}

impl From<MachineName> for String {
    fn from(name: MachineName) -> Self {
        name.0
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        let long = "a".repeat(65);
        for bad in ["", ".", "..", "../x", "a/b", "a\0b", ".hidden", "x.tmp", "é", " ", &long] {
            assert!(MachineName::parse(bad).is_err(), "{bad:?}");
            let json = serde_json::to_string(bad).expect("a text");
            assert!(serde_json::from_str::<MachineName>(&json).is_err(), "{bad:?}");
        }
        for good in ["a", "mk-test-0190163d-8694-739b-aea5-966c26f8ad90", "x.1", "x.img"] {
            let name = MachineName::parse(good).expect("a good name");
            let json = serde_json::to_string(&name).expect("a text");
            assert_eq!(json, format!("{good:?}"));
            assert_eq!(serde_json::from_str::<MachineName>(&json).expect("as written"), name);
        }
    }
}
