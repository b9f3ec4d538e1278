//! The wall clock, which tests can let follow tokio's.

use jiff::Timestamp;
use tokio::time::Instant;

/// See the module; a cheap handle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock(Option<(Timestamp, Instant)>);

impl Clock {
    /// The machine's.
    pub const fn wall() -> Self {
        Self(None)
    }

    /// Shows `start` now and moves as tokio's time does: a test that advances that one advances this one too.
    pub fn from(start: Timestamp) -> Self {
        Self(Some((start, Instant::now())))
    }

    pub fn now(self) -> Timestamp {
        match self.0 {
            None => Timestamp::now(),
            Some((start, then)) => start.checked_add(then.elapsed()).unwrap_or(Timestamp::MAX),
        }
    }
}
