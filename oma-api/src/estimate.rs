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

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// A committed cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Not the first: it brought what had changed.
    pub incremental: bool,
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
    let (own, agents) = (line(of.own), line(of.agents));
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
        (false, Some(dirty), Some(age)) => Some((dirty * age).min(of.size as f64)),
        // One full cycle, and nothing known of what is written since.
        (false, _, _) => None,
    };
    let like = if own.is_some() { of.own.newest } else { of.agents.newest };
    let time = next.map(|next| line.time(next).max(quickest(like, next)));
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
fn line(of: History<'_>) -> Option<Known> {
    let newest: Vec<_> = of.newest.iter().filter(|c| c.whole).take(NEWEST).collect();
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
        if overhead >= 0.0 {
            return Some(Known { overhead, rate: Some(1.0 / slope) });
        }
    }
    Some(Known { overhead: 0.0, rate: Some(bytes / time) })
}

/// Of the newest whole cycles that brought no more than `bytes`, the quickest took so long: so will this one. Cycles that
/// compare all of a disk take their time without any byte.
fn quickest(cycles: &[Measured], bytes: f64) -> f64 {
    let no_more = cycles.iter().filter(|c| c.whole && c.bytes as f64 <= bytes).take(NEWEST);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(1e9 + seconds)
    }

    /// A VM that writes `dirty` bytes a second, cycles on end, newest first: what `copy` bytes a second and `overhead` a
    /// cycle make of it.
    fn cycles(dirty: f64, copy: f64, overhead: f64, count: usize) -> Vec<Measured> {
        let (mut now, mut age, mut all) = (0.0, 0.0, Vec::new());
        for number in 0..count {
            let bytes = if number == 0 { 2e9 } else { dirty * age };
            let time = overhead + bytes / copy;
            all.push(Measured {
                incremental: number > 0,
                bytes: whole(bytes),
                started_at: at(now),
                taken_at: at(now),
                finished_at: at(now + time),
                whole: true,
            });
            (now, age) = (now + time, time);
        }
        all.reverse();
        all
    }

    fn of_newest(newest: &[Measured]) -> History<'_> {
        History { newest, largest: None }
    }

    fn of<'a>(own: &'a [Measured], agents: &'a [Measured]) -> Basics<'a> {
        let now = own.first().map_or(at(0.0), |last| last.finished_at);
        Basics { size: 2_000_000_000, own: of_newest(own), agents: of_newest(agents), limit: 0, now }
    }

    #[test]
    fn what_was_measured_goes_before_a_guess() {
        let guess = estimate(&of(&[], &[]));
        assert_eq!((guess.basis, guess.next, guess.downtime), (Basis::Default, Some(2_000_000_000), None));
        assert_eq!((guess.eta, guess.trend), (Some(Duration::from_secs(22)), Trend::Unknown));
        let others = cycles(10e6, 50e6, 1.0, 3);
        let from_others = estimate(&of(&[], &others));
        assert_eq!((from_others.basis, from_others.downtime), (Basis::AgentHistory, None));
        assert!((49_000_000..51_000_000).contains(&from_others.copy_rate), "{from_others:?}");
        let own = cycles(20e6, 50e6, 1.0, 1);
        let first = estimate(&of(&own, &others));
        assert_eq!((first.basis, first.dirty_rate, first.downtime), (Basis::Measured, None, None));
        assert_eq!((first.next, first.eta), (None, None), "what is written since is not known");
    }

    #[test]
    fn a_limit_bounds_the_rate() {
        let own = cycles(20e6, 50e6, 1.0, 3);
        let limited = estimate(&Basics { limit: 10_000_000, ..of(&own, &[]) });
        assert_eq!((limited.copy_rate, limited.trend), (10_000_000, Trend::NonConverging));
    }

    /// Red when the fixed part of small cycles counts as copying: an hour's changes would seem to take half an hour.
    #[test]
    fn small_cycles_that_are_alike_do_not_say_what_a_byte_takes() {
        let all = cycles(1e6, 50e6, 1.0, 30);
        let (own, first) = (&all[..20], &all[29]);
        let of = Basics { own: History { newest: own, largest: Some(first) }, ..of(own, &[]) };
        let hour = Basics { now: of.now + SignedDuration::from_hours(1), ..of };
        let said = estimate(&hour);
        assert_eq!((said.size, said.next), (2_000_000_000, Some(2_000_000_000)));
        assert!((40.0..42.0).contains(&said.eta.expect("known").as_secs_f64()), "{said:?}");
    }

    /// Red when the hours for which a cycle was paused count as copying.
    #[test]
    fn a_paused_cycle_tells_what_was_written_and_not_how_fast_it_is_copied() {
        let mut own = cycles(1e6, 50e6, 1.0, 4);
        let expected = estimate(&of(&own, &[]));
        own[1].started_at -= SignedDuration::from_hours(3);
        own[1].whole = false;
        let said = estimate(&of(&own, &[]));
        assert_eq!(said.dirty_rate, expected.dirty_rate);
        assert!(said.copy_rate.abs_diff(expected.copy_rate) < 500_000, "{said:?}");
        own.truncate(2);
        own.remove(0);
        assert_eq!(estimate(&of(&own, &[])).basis, Basis::Default);
    }

    /// Red when a cycle that compares all of a disk and finds nothing is taken for one of no time.
    #[test]
    fn cycles_that_bring_nothing_take_their_time_all_the_same() {
        let mut own = cycles(1e6, 50e6, 0.0, 3);
        for (n, cycle) in own.iter_mut().take(2).enumerate() {
            cycle.bytes = n as u64 * 1000;
            cycle.finished_at = cycle.started_at + SignedDuration::from_secs(60);
        }
        let said = estimate(&of(&own, &[]));
        assert_eq!((said.eta, said.downtime), (Some(Duration::from_secs(60)), Some(Duration::from_secs(60))));
        // Its full cycle was paused, and nothing is written any more.
        let mut idle = own;
        idle[2].whole = false;
        idle[1].bytes = 0;
        let said = estimate(&of(&idle, &[]));
        assert_eq!((said.basis, said.downtime), (Basis::Default, Some(Duration::from_secs(60))));
        assert_eq!(said.trend, Trend::Converging);
    }

    proptest! {
        /// The prediction is what the model does next; whether it converges is the comparison of the two rates.
        #[test]
        fn the_next_cycle_is_predicted(dirty in 1e6f64..90e6, copy in 20e6f64..200e6, overhead in 0.0f64..3.0) {
            let all = cycles(dirty, copy, overhead, 5);
            let (real, known) = (&all[0], &all[1..]);
            // A disk on which everything that is written is new.
            let guess = estimate(&Basics { size: 1 << 60, ..of(known, &[]) });
            let took = real.finished_at.duration_since(real.started_at).as_secs_f64();
            let said = guess.downtime.expect("measured").as_secs_f64();
            prop_assert!((said - took).abs() <= took * 0.15 + 0.01, "said {said}, took {took}");
            if (dirty / copy - 1.0).abs() > 0.2 {
                let expected = if dirty < copy { Trend::Converging } else { Trend::NonConverging };
                prop_assert_eq!(guess.trend, expected);
            }
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u64>(), 0..6), gap in -1e6f64..1e6, limit in any::<u64>()) {
            let own: Vec<_> = bytes.iter().zip(0i32..).map(|(&bytes, n)| Measured {
                incremental: true, bytes,
                started_at: at(f64::from(n) * gap), taken_at: at(f64::from(n) * gap * 2.0), finished_at: at(gap), whole: n != 1,
            }).collect();
            let said = estimate(&Basics { size: u64::MAX, own: History { newest: &own, largest: own.last() }, agents: History::default(), limit, now: at(-gap) });
            prop_assert!(said.eta.is_none_or(|eta| eta <= Duration::from_secs(31_536_000)));
        }
    }
}
