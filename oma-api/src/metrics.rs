//! What the control plane counts while it runs. What the database or the hub knows is read for each scrape instead
//! ([`crate::service::metrics`]).
//!
//! Counters begin at zero with the process, as Prometheus expects; nothing decides by them.

use crate::service::metrics::Last;
use crate::store::{JobKind, JobStatus};
use jiff::Timestamp;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};
use shared::cycle::DiskProgress;
use std::sync::Arc;

const CONSTANT: &str = "names, labels and help are constants of this program and fit together";

/// Of cycles: from a second to a day.
const CYCLE_SECONDS: &[f64] =
    &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0];

/// See the module; clones count together.
#[derive(Clone)]
pub struct Metrics {
    /// What every daemon has.
    pub common: shared::metrics::Metrics,
    finished: IntCounterVec,
    lasted: HistogramVec,
    bytes: IntCounterVec,
    pub(crate) last: Arc<Last>,
}

impl Default for Metrics {
    fn default() -> Self {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect(CONSTANT)
        };
        let finished = counters(
            "migratekit_cycles_finished_total",
            "Cycles that ended since the start of the process, by kind and outcome.",
            &["kind", "outcome"],
        );
        let lasted = HistogramOpts::new(
            "migratekit_cycle_duration_seconds",
            "Time from the beginning of a cycle to its end, pauses included.",
        );
        let lasted = HistogramVec::new(lasted.buckets(CYCLE_SECONDS.to_vec()), &["kind", "outcome"]);
        let bytes = counters(
            "migratekit_transferred_bytes_total",
            "Bytes of cycles since the start of the process: read at the source, data of the disks, sent on the wire.",
            &["kind"],
        );
        let made = Self {
            common: shared::metrics::Metrics::new("oma-api"),
            finished,
            lasted: lasted.expect(CONSTANT),
            bytes,
            last: Arc::default(),
        };
        // There from the start, so that the first one is an increase.
        for kind in [JobKind::Full, JobKind::Incremental, JobKind::VerifySource] {
            for outcome in [JobStatus::Completed, JobStatus::Failed, JobStatus::Aborted] {
                made.finished.with_label_values(&[kind.as_str(), outcome.as_str()]);
            }
        }
        made.moved(Bytes::default());
        made.common.register(made.finished.clone());
        made.common.register(made.lasted.clone());
        made.common.register(made.bytes.clone());
        made
    }
}

/// What a cycle has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    read: u64,
    data: u64,
    wire: u64,
}

impl Bytes {
    /// Of all these disks.
    pub fn of<'a>(disks: impl Iterator<Item = &'a DiskProgress>) -> Self {
        disks.fold(Self::default(), |sum, disk| Self {
            read: sum.read.saturating_add(disk.read),
            data: sum.data.saturating_add(disk.data),
            wire: sum.wire.saturating_add(disk.wire),
        })
    }

    /// What came since `before`, which becomes what there is now. A number that ran backwards adds nothing until it is
    /// where it was.
    pub fn since(self, before: &mut Self) -> Self {
        let step = |now: u64, before: &mut u64| {
            let more = now.saturating_sub(*before);
            *before = now.max(*before);
            more
        };
        Self {
            read: step(self.read, &mut before.read),
            data: step(self.data, &mut before.data),
            wire: step(self.wire, &mut before.wire),
        }
    }
}

impl Metrics {
    /// A cycle that began at that time ended.
    pub fn cycle_ended(&self, kind: JobKind, outcome: JobStatus, started: Timestamp, now: Timestamp) {
        let labels = [kind.as_str(), outcome.as_str()];
        self.finished.with_label_values(&labels).inc();
        // The clock may have been set back.
        let seconds = now.duration_since(started).as_secs_f64().max(0.0);
        self.lasted.with_label_values(&labels).observe(seconds);
    }

    /// Cycles moved so much more.
    pub fn moved(&self, more: Bytes) {
        self.bytes.with_label_values(&["read"]).inc_by(more.read);
        self.bytes.with_label_values(&["data"]).inc_by(more.data);
        self.bytes.with_label_values(&["wire"]).inc_by(more.wire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_backwards_is_not_counted_again() {
        let disk = |read, data, wire| DiskProgress { read, data, wire, ..DiskProgress::default() };
        let mut before = Bytes::default();
        let of = |disk: DiskProgress| Bytes::of([disk].iter());
        assert_eq!(of(disk(10, 5, 7)).since(&mut before), Bytes { read: 10, data: 5, wire: 7 });
        assert_eq!(of(disk(4, 5, 9)).since(&mut before), Bytes { read: 0, data: 0, wire: 2 });
        assert_eq!(of(disk(12, 6, 9)).since(&mut before), Bytes { read: 2, data: 1, wire: 0 });
    }
}
