//! Names as LINSTOR takes them.

use serde::Deserialize;
use std::fmt;

/// The name of a resource definition or a snapshot: 2 to 48 characters, a letter or `_` first, then digits and `-` too. LINSTOR
/// keeps the case and does not look at it: two names that differ in nothing else are one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// A name that LINSTOR would refuse.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} cannot be a name in LINSTOR: expected 2 to 48 of a-z A-Z 0-9 _ -, a letter or _ in front, and not `all`"
)]
pub struct InvalidName(String);

impl Name {
    /// Checks the form.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn parse(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        match begins && plain && (2..=48).contains(&name.len()) && !name.eq_ignore_ascii_case("all") {
            true => Ok(Self(name)),
            false => Err(InvalidName(name)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::parse(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a real controller took and refused.
    #[test]
    fn a_name_is_taken_as_a_controller_takes_it() {
        let longest = "x".repeat(48);
        for good in ["mk-0190163d-8694-739b-aea5-966c26f8ad90", "mk-UPPER", "abc-", "_a", &longest] {
            assert_eq!(Name::parse(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let too_long = "x".repeat(49);
        for bad in ["", "y", "1abc", "-abc", "a.b", "has space", "ümlaut", "all", "ALL", "a/b", &too_long] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }
}
