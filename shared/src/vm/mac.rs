//! Addresses of network cards.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An EUI-48 address of one card, always shown as `00:50:56:8a:01:02`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// A text that is no address of a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMac {
    #[error("{0:?} is no MAC address: write six pairs of hexadecimal digits, such as 00:50:56:8a:01:02")]
    Form(String),
    #[error("{0:?} is the address of a group or of nobody, not of a card: take it as the source shows it")]
    NotOfACard(String),
}

impl FromStr for Mac {
    type Err = InvalidMac;

    /// With colons or dashes, in either case.
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let form = || InvalidMac::Form(text.chars().take(32).collect());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut pairs = text.split(separator);
        for byte in &mut bytes {
            let pair = pairs.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(pair.ok_or_else(form)?, 16).map_err(|_| form())?;
        }
        match pairs.next() {
            Some(_) => Err(form()),
            // The lowest bit of the first byte says "group"; broadcast has it too.
            None if bytes[0] & 1 == 1 || bytes == [0; 6] => Err(InvalidMac::NotOfACard(text.to_owned())),
            None => Ok(Self(bytes)),
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidMac;
    fn try_from(text: String) -> Result<Self, InvalidMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_comes_out_and_no_group_goes_in() {
        for text in ["00:50:56:8A:01:02", "00-50-56-8a-01-02"] {
            assert_eq!(text.parse::<Mac>().map(String::from), Ok("00:50:56:8a:01:02".to_owned()));
        }
        for bad in [
            "",
            "00:50:56:8a:01",
            "00:50:56:8a:01:02:03",
            "00:50:56:8a:01:0g",
            "0:50:56:8a:01:02",
            "+0:50:56:8a:01:02",
            "ü0:50:56:8a:01:02",
        ] {
            assert!(matches!(bad.parse::<Mac>(), Err(InvalidMac::Form(_))), "{bad}");
        }
        for group in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"] {
            assert!(matches!(group.parse::<Mac>(), Err(InvalidMac::NotOfACard(_))), "{group}");
        }
    }
}
