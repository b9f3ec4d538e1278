//! What a cycle and a switch will take, from what cycles took: pure arithmetic.
//!
//! ```text
//!  time of a cycle = overhead + bytes / copy rate          (a line through the measured cycles)
//!  bytes of the next = dirty rate × age of the last snapshot
//!  downtime = the time of the final cycle, were the VM powered off now
//! ```
//!
//! Cycles that follow each other get shorter as long as the dirty rate is below the copy rate: each has only to bring
//! what was written during the one before. What the target needs to start the VM is not part of it.

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// A committed cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// It brought what had changed, of every disk: none was copied whole.
    pub incremental: bool,
    /// Bytes of all disks that it covered; 0: not known.
    pub size: u64,
    /// Bytes of data.
    pub bytes: u64,
    pub started_at: Timestamp,
    /// The source's snapshot.
    pub taken_at: Timestamp,
    pub finished_at: Timestamp,
    /// Neither paused nor interrupted: what passed is what its bytes took.
    pub whole: bool,
}

/// What an estimate rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// This migration's own cycles.
    Measured,
    /// Cycles of other VMs of its agent.
    AgentHistory,
    /// Nothing was measured: a guess.
    Default,
}

impl Basis {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::AgentHistory => "agent_history",
            Self::Default => "default",
        }
    }
}

/// Whether cycles that follow each other get shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    Converging,
    /// The VM writes faster than is copied.
    NonConverging,
    /// Its dirty rate was not measured.
    Unknown,
}

impl Trend {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Converging => "converging",
            Self::NonConverging => "non_converging",
            Self::Unknown => "unknown",
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    pub basis: Basis,
    /// Bytes of all disks.
    pub size: u64,
    /// Bytes that the next cycle will bring; of a first one at most. `None`: not measured, it takes two cycles.
    pub next: Option<u64>,
    /// Of the next cycle.
    pub eta: Option<Duration>,
    /// Bytes a second.
    pub copy_rate: u64,
    /// Bytes a second; `None`: not measured.
    pub dirty_rate: Option<u64>,
    /// Were the VM powered off now; `None`: not measured.
    pub downtime: Option<Duration>,
    pub trend: Trend,
}

/// Cycles that were committed.
#[derive(Clone, Copy, Debug, Default)]
pub struct History<'a> {
    /// Newest first.
    pub newest: &'a [Measured],
    /// The whole one with the most bytes of all: among small cycles that are alike it alone tells what a byte takes.
    pub largest: Option<&'a Measured>,
}

/// What it is made from.
#[derive(Clone, Debug)]
pub struct Basics<'a> {
    pub size: u64,
    /// A disk is to be copied or compared as a whole, as no cycle before the next one was.
    pub unsettled: bool,
    /// This migration's.
    pub own: History<'a>,
    /// Of others of its agent.
    pub agents: History<'a>,
    /// Bytes a second that it may take; 0: no limit.
    pub limit: u64,
    pub now: Timestamp,
}

/// A guess, when nothing was measured: a link of one gigabit that is not empty.
const GUESS: f64 = 100e6;
const GUESSED_OVERHEAD: f64 = 2.0;

/// The newest cycles that count for rates: what a VM does changes.
const NEWEST: usize = 8;
const NEWEST_DIRTY: usize = 3;

/// # Panics
/// Never: what cannot be computed is unknown.
pub fn estimate(of: &Basics<'_>) -> Estimate {
    let (own, agents) = (line(of.own, of.size), line(of.agents, 0));
    let of_agents = agents.and_then(|line| Some((line, line.rate?)));
    let (line, basis) = match (own, of_agents) {
        (Some(Known { overhead, rate: Some(rate) }), _) => (Line { overhead, rate }, Basis::Measured),
        // It is known what its cycles take, and not what a byte does.
        (Some(Known { overhead, rate: None }), Some((_, rate))) => {
            (Line { overhead, rate }, Basis::AgentHistory)
        }
        (Some(Known { overhead, rate: None }), None) => (Line { overhead, rate: GUESS }, Basis::Default),
        (None, Some((Known { overhead, .. }, rate))) => (Line { overhead, rate }, Basis::AgentHistory),
        (None, None) => (Line { overhead: GUESSED_OVERHEAD, rate: GUESS }, Basis::Default),
    };
    let line = match of.limit {
        0 => line,
        limit => Line { rate: line.rate.min(limit as f64), ..line },
    };
    let dirty = dirty_rate(of.own.newest);
    let age = of.own.newest.first().map(|last| seconds(of.now.duration_since(last.taken_at)));
    let next = match (of.own.newest.is_empty(), dirty, age) {
        (true, _, _) => Some(of.size as f64),
        (false, Some(dirty), Some(age)) if !of.unsettled => Some((dirty * age).min(of.size as f64)),
        // One full cycle, and nothing known of what is written since; or a disk that comes as a whole.
        (false, _, _) => None,
    };
    let (like, size) = if own.is_some() { (of.own.newest, of.size) } else { (of.agents.newest, 0) };
    let time = next.map(|next| line.time(next).max(quickest(like, size, next)));
    Estimate {
        basis,
        size: of.size,
        next: next.map(whole),
        eta: time.map(duration),
        copy_rate: whole(line.rate),
        dirty_rate: dirty.map(whole),
        downtime: time.filter(|_| dirty.is_some() && own.is_some()).map(duration),
        trend: match dirty {
            None => Trend::Unknown,
            Some(dirty) if dirty < line.rate => Trend::Converging,
            Some(_) => Trend::NonConverging,
        },
    }
}

/// What measured cycles say.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    /// Seconds.
    overhead: f64,
    /// Bytes a second; `None`: they brought nothing.
    rate: Option<f64>,
}

impl Measured {
    /// It read as much as one of disks of that size does: without change tracking that is what a cycle takes.
    fn covers(&self, size: u64) -> bool {
        self.size == size || self.size == 0 || size == 0
    }
}

/// Seconds of a cycle by its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    overhead: f64,
    /// Bytes a second.
    rate: f64,
}

impl Line {
    fn time(self, bytes: f64) -> f64 {
        self.overhead + bytes / self.rate
    }
}

/// Least squares through the newest cycles and the largest. Where they are too much alike to tell a slope, all of a cycle's
/// time counts as copying, which is right for cycles like them.
fn line(of: History<'_>, size: u64) -> Option<Known> {
    let newest: Vec<_> = of.newest.iter().filter(|c| c.whole && c.covers(size)).take(NEWEST).collect();
    let points: Vec<_> = newest
        .iter()
        .copied()
        .chain(of.largest.filter(|largest| !newest.is_empty() && !newest.contains(largest)))
        .map(|c| (c.bytes as f64, seconds(c.finished_at.duration_since(c.started_at))))
        .filter(|(_, time)| *time > 0.0)
        .collect();
    if points.is_empty() {
        return None;
    }
    let n = points.len() as f64;
    let (bytes, time) = points.iter().fold((0.0, 0.0), |(b, t), p| (b + p.0, t + p.1));
    if bytes <= 0.0 {
        // Nothing was written: what they took is what a cycle takes. How fast bytes would be copied they do not say.
        return Some(Known { overhead: time / n, rate: None });
    }
    let (mean_bytes, mean_time) = (bytes / n, time / n);
    let variance: f64 = points.iter().map(|p| (p.0 - mean_bytes).powi(2)).sum();
    let covariance: f64 = points.iter().map(|p| (p.0 - mean_bytes) * (p.1 - mean_time)).sum();
    // A smaller spread is noise. Any line goes through the middle, so that cycles like these are predicted right.
    if variance / n > (mean_bytes * 0.02).powi(2) && covariance > 0.0 {
        let slope = covariance / variance;
        let overhead = mean_time - slope * mean_bytes;
        let off = |p: &(f64, f64)| (p.1 - overhead - slope * p.0).powi(2);
        let noise = (points.iter().map(off).sum::<f64>() / n).sqrt();
        // Where their times differ for other reasons more than by their bytes, these do not say what a byte takes.
        if overhead >= 0.0 && slope * (variance / n).sqrt() >= noise {
            return Some(Known { overhead, rate: Some(1.0 / slope) });
        }
    }
    Some(Known { overhead: 0.0, rate: Some(bytes / time) })
}

/// Of the newest whole cycles that brought no more than `bytes`, the quickest took so long: so will this one. Cycles that
/// compare all of a disk take their time without any byte.
fn quickest(cycles: &[Measured], size: u64, bytes: f64) -> f64 {
    let no_more = cycles.iter().filter(|c| c.whole && c.covers(size) && c.bytes as f64 <= bytes).take(NEWEST);
    let least =
        no_more.map(|c| seconds(c.finished_at.duration_since(c.started_at))).fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 0.0 }
}

/// Of the newest incremental cycles: what each brought, over the time since the snapshot before.
fn dirty_rate(cycles: &[Measured]) -> Option<f64> {
    let between = cycles.windows(2).filter(|pair| pair[0].incremental).take(NEWEST_DIRTY);
    let (bytes, time) = between.fold((0.0, 0.0), |(bytes, time), pair| {
        (bytes + pair[0].bytes as f64, time + seconds(pair[0].taken_at.duration_since(pair[1].taken_at)))
    });
    (time > 0.0).then(|| bytes / time)
}

/// Not negative: a clock may have been set back.
fn seconds(time: SignedDuration) -> f64 {
    time.as_secs_f64().max(0.0)
}

/// A year at most.
fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(if seconds.is_finite() { seconds.clamp(0.0, 31_536_000.0) } else { 31_536_000.0 })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturating")]
fn whole(value: f64) -> u64 {
    value as u64
}
