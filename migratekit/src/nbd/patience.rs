//! How long a server may owe an answer, and how long a good-bye may take.

use std::time::{Duration, Instant};

use super::Handle;

/// While nothing is owed, waking up is left to others.
const IDLE: Duration = Duration::from_secs(3600);

/// Counts the time in which a server owes an answer and gives none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    limit: Duration,
    since: Instant,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, since: Instant::now() }
    }

    /// How long it lasts at most.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// An answer came, or the first request is about to go out.
    pub(crate) fn renew(&mut self) {
        self.since = Instant::now();
    }

    /// How long to wait for the next answer; `None` when it has been too long.
    pub(crate) fn left<T>(&self, handle: &Handle<T>) -> Option<Duration> {
        if handle.in_flight() == 0 {
            return Some(IDLE);
        }
        Some(self.limit.saturating_sub(self.since.elapsed())).filter(|left| !left.is_zero())
    }
}

/// Lets requests in flight end and tells the server good-bye, both together within `patience`: one that is busy would
/// otherwise log a broken connection.
pub(crate) fn part<T>(mut handle: Handle<T>, patience: Duration) {
    let deadline = Instant::now() + patience;
    while handle.in_flight() > 0 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || handle.wait(None, left).is_err() {
            return;
        }
        while handle.completed().is_some() {}
    }
    handle.disconnect(deadline.saturating_duration_since(Instant::now()));
}
