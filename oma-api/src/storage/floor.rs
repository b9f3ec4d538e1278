//! How much of the storage that replicas share has to stay free.
//!
//! A thin pool that is full fails the writes of everything on it, and what runs there goes with it. So cycles stop before,
//! by a floor and a reserve for what is under way, and go on when there is more than that again.

use serde::{Deserialize, Deserializer};
use shared::config::ByteSize;
use std::fmt;
use std::str::FromStr;

/// Bytes of what replicas share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free: u64,
    pub total: u64,
}

/// Percent of the whole and bytes; the larger counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    percent: u8,
    bytes: u64,
}

impl Default for Floor {
    fn default() -> Self {
        Self { percent: 5, bytes: 0 }
    }
}

/// A text that is no floor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no floor: write a percentage up to 90 %, a size, or both, such as \"5%\", \"20GiB\" or \"5% 20GiB\""
)]
pub struct InvalidFloor(String);

impl Floor {
    /// Of a whole of `total` bytes.
    pub fn of(self, total: u64) -> u64 {
        (total / 100).saturating_mul(u64::from(self.percent)).max(self.bytes)
    }

    /// Whether cycles have to stop: below the floor and `reserve`, what can still be written before they have. Once
    /// they have, they go on with a fifth of the floor more: on the line they would stop and go for ever.
    pub fn is_low(self, space: Space, reserve: u64, was_low: bool) -> bool {
        let floor = self.of(space.total);
        // Switched off: a full target is then said by what cannot be written.
        if floor == 0 {
            return false;
        }
        let more = if was_low { floor / 5 } else { 0 };
        space.free < floor.saturating_add(reserve).saturating_add(more)
    }
}

impl FromStr for Floor {
    type Err = InvalidFloor;

    fn from_str(text: &str) -> Result<Self, InvalidFloor> {
        let invalid = || InvalidFloor(text.to_owned());
        let (mut percent, mut bytes) = (None, None);
        for word in text.split_whitespace() {
            match word.strip_suffix('%') {
                Some(number) if percent.is_none() => {
                    let number: u8 = number.parse().map_err(|_| invalid())?;
                    percent = Some(number).filter(|n| *n <= 90);
                    percent.ok_or_else(invalid)?;
                }
                None if bytes.is_none() => {
                    bytes = Some(word.parse::<ByteSize>().map_err(|_| invalid())?.bytes())
                }
                Some(_) | None => return Err(invalid()),
            }
        }
        match (percent, bytes) {
            (None, None) => Err(invalid()),
            (percent, bytes) => Ok(Self { percent: percent.unwrap_or(0), bytes: bytes.unwrap_or(0) }),
        }
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.percent, self.bytes) {
            (percent, 0) => write!(f, "{percent}%"),
            (0, bytes) => write!(f, "{}", ByteSize(bytes)),
            (percent, bytes) => write!(f, "{percent}% {}", ByteSize(bytes)),
        }
    }
}

impl<'de> Deserialize<'de> for Floor {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn reads_what_people_write() {
        for (text, total, floor) in [
            ("5%", 100 * GIB, 5 * GIB),
            ("20GiB", 100 * GIB, 20 * GIB),
            ("5% 20GiB", 100 * GIB, 20 * GIB),
            ("20GiB 5%", 1000 * GIB, 50 * GIB),
            ("0%", GIB, 0),
        ] {
            let read: Floor = text.parse().expect("a floor");
            assert!(read.of(total).abs_diff(floor) < 100, "{text}: {}", read.of(total));
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for bad in ["", "5", "five", "91%", "-1%", "5% 5%", "1GiB 1GiB", "5 %", "300%"] {
            // A bare number is bytes, as everywhere.
            assert_eq!(bad.parse::<Floor>().is_err(), bad != "5", "{bad}");
        }
    }

    #[test]
    fn who_stopped_needs_more_to_go_on() {
        let floor: Floor = "10%".parse().expect("a floor");
        let low = |free, was_low| floor.is_low(Space { free, total: 1000 }, 50, was_low);
        assert!(!low(150, false) && low(149, false));
        assert!(low(169, true) && !low(170, true));
    }

    proptest! {
        /// What goes on does not stop at the same moment.
        #[test]
        fn the_two_lines_do_not_cross(free in any::<u64>(), total in any::<u64>(), reserve in any::<u64>(), percent in 0u8..=90) {
            let floor = Floor { percent, bytes: 0 };
            let space = Space { free, total };
            prop_assert!(floor.is_low(space, reserve, true) || !floor.is_low(space, reserve, false));
        }
    }
}
