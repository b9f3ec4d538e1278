//! Counters of the disks of a running cycle, and their reports.

use super::Outgoing;
use super::feed::Feed;
use crate::metrics::Counted;
use shared::cycle::{CycleEvent, DiskProgress, Report};
use shared::ids::JobId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Often enough for a bar, rare enough for a hundred disks.
const PERIOD: Duration = Duration::from_millis(500);

/// One disk's counters; the transfer writes, the report reads.
#[derive(Clone, Default)]
pub(crate) struct Counters {
    disk: Arc<Mutex<DiskProgress>>,
    counted: Counted,
}

impl Counters {
    /// `counted` is what all disks together come to.
    pub(crate) fn new(progress: DiskProgress, counted: Counted) -> Self {
        Self { disk: Arc::new(Mutex::new(progress)), counted }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut DiskProgress)) {
        let mut disk = self.lock();
        let before = disk.clone();
        change(&mut disk);
        self.counted.moved(&before, &disk);
    }

    pub(crate) fn get(&self) -> DiskProgress {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, DiskProgress> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports the counters until it is dropped. Nothing is said before something has come from a source: an attempt that hangs
/// like the one before would take that one's reason away.
pub(super) async fn report(job: &JobId, disks: &[Counters], outgoing: &mpsc::Sender<Outgoing>, feed: &Feed) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        if !all(disks).iter().any(has_begun) {
            continue;
        }
        send(job, disks, outgoing);
        feed.update(&all(disks));
    }
}

fn has_begun(disk: &DiskProgress) -> bool {
    disk.plan_complete || disk.planned > disk.resumed || disk.read > 0
}

/// Copies of the counters, as of now.
pub(super) fn all(disks: &[Counters]) -> Vec<DiskProgress> {
    disks.iter().map(Counters::get).collect()
}

/// Once. Progress is not worth waiting for: the next report has it.
pub(super) fn send(job: &JobId, disks: &[Counters], outgoing: &mpsc::Sender<Outgoing>) {
    let event = CycleEvent::Progress(all(disks));
    let _ = outgoing.try_send(Outgoing::Report(Report { job: job.clone(), event }));
}
