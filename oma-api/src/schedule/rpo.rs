//! How old the last restore point is, against how old it may be.

use jiff::Timestamp;
use std::time::Duration;

/// How a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rpo {
    /// Since the source's snapshot of the last restore point; `None` before the first.
    pub age: Option<Duration>,
    pub target: Option<Duration>,
    /// Older than the target; where there is no restore point, the time since the target was set counts.
    pub breached: bool,
}

/// `taken_at` is the time of the source's snapshot, not of its commit: what the VM wrote in between would be lost.
pub fn state(target: Option<(Duration, Timestamp)>, taken_at: Option<Timestamp>, now: Timestamp) -> Rpo {
    // A source whose clock is ahead is no reason to fail.
    let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
    let age = taken_at.map(since);
    let breached = target.is_some_and(|(most, set_at)| age.unwrap_or_else(|| since(set_at)) > most);
    Rpo { age, target: target.map(|(most, _)| most), breached }
}
