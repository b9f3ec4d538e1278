//! The task of one VM: policy of a cycle at the source.

mod interrupt;
mod power;
mod report;
mod sealed;
mod transfer;

pub(super) use power::{Orders, power_of_unknown};
pub(super) use report::vm_unknown;
pub(super) use sealed::Sealed;

use self::interrupt::{Interruption, interrupted};
use self::report::snapshot_taken;
use super::Outgoing;
use super::feed::Feed;
use crate::source::{self, ChangeId, Snapshot, SnapshotName, Source};
use crate::transfer::Settings;
use migratekit::rate::Limit;
use shared::cycle::{CycleEvent, CycleRun, DesiredCycle, DesiredVm, Finding, FindingKind, Vm};
use shared::ids::{JobId, VmUuid};
use shared::progress::Register;
use shared::telemetry::adopt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::field::display;
use tracing::{Instrument as _, info, info_span};

/// What is under way at a pause gets this long to become durable; the operator is promised 5 s for all of it, on a busy
/// machine too.
const PAUSE_DEADLINE: Duration = Duration::from_secs(3);

/// Between tries of what may heal by itself: the first, and the longest, reached by doubling.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// The VM's part of the desired state, and the number of the connection it came by: what was reported over an older
/// one may be lost and has to be said again.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) vm: DesiredVm,
    pub(super) connection: u64,
}

pub(super) struct Task {
    pub(super) vm: VmUuid,
    pub(super) source: Arc<dyn Source>,
    pub(super) settings: Settings,
    /// Bytes a second of this VM.
    pub(super) limit: Arc<Limit>,
    pub(super) channel: watch::Receiver<Option<Channel>>,
    pub(super) outgoing: mpsc::Sender<Outgoing>,
    pub(super) running: watch::Sender<Option<JobId>>,
    /// Raised when the source was asked for a snapshot.
    pub(super) looked: Arc<Notify>,
    /// As its source last described it.
    pub(super) known: Arc<Mutex<Option<Vm>>>,
    pub(super) register: Arc<Register>,
    /// The cycle that the register was last told of.
    pub(super) shown: Mutex<Option<Feed>>,
    pub(super) sealed: Sealed,
    pub(super) orders: Orders,
}

/// What a reconciliation came to.
enum Next {
    /// Nothing to do until the desired state comes again.
    Wait,
    /// Try again soon, whatever the desired state.
    Retry,
}

impl Task {
    pub(super) async fn run(self, mut wanted: watch::Receiver<Option<Wanted>>, stop: CancellationToken) {
        let mut retry = RETRY.0;
        loop {
            let now = wanted.borrow_and_update().clone();
            let (pause, begun) = (CancellationToken::new(), Instant::now());
            let next = {
                // Of another target: a look that finds nothing to do is no trace.
                let migration = now.as_ref().map(|w| display(&w.vm.migration));
                let span = info_span!(target: "work", "vm", vm = %self.vm, migration_id = migration);
                let work = self.reconcile(now.as_ref(), &pause).instrument(span);
                tokio::pin!(work);
                tokio::select! {
                    next = &mut work => next,
                    interruption = interrupted(&mut wanted, now.as_ref(), &self.orders) => match interruption {
                        Some(Interruption::Drop) => continue,
                        Some(Interruption::Pause) => {
                            pause.cancel();
                            let _ = tokio::time::timeout(PAUSE_DEADLINE, work).await;
                            continue;
                        }
                        None => return,
                    },
                    () = stop.cancelled() => return,
                }
            };
            self.running.send_replace(None);
            if *wanted.borrow() != now {
                retry = RETRY.0;
                continue;
            }
            let wait = match next {
                Next::Wait => Duration::MAX,
                // What got on for a while is tried again soon.
                Next::Retry if begun.elapsed() > RETRY.1 => RETRY.0,
                Next::Retry => retry,
            };
            retry = (wait.min(RETRY.1) * 2).min(RETRY.1);
            tokio::select! {
                changed = wanted.changed() => match changed {
                    Ok(()) => retry = RETRY.0,
                    Err(_) => return,
                },
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn reconcile(&self, now: Option<&Wanted>, pause: &CancellationToken) -> Next {
        let Some(now) = now else {
            self.orders.withdraw();
            return Next::Wait;
        };
        let wanted = &now.vm;
        let job = wanted.cycle.as_ref().map(|cycle| &cycle.job);
        self.show_end_of_other_than(job);
        // Nothing is read or written, which is all that a pause asks for: it waits for no source and for no guest.
        if let Some(cycle) = wanted.cycle.as_ref().filter(|cycle| cycle.run == CycleRun::Pause) {
            self.report(&cycle.job, CycleEvent::Paused).await;
        }
        // Nor does the end of a protection wait for a guest.
        if !wanted.release {
            self.obey(now, pause).await;
            if pause.is_cancelled() {
                return Next::Wait;
            }
        }
        match self.clean_up(wanted).await {
            Ok(()) if wanted.release => {
                info!(vm = %self.vm, migration = %wanted.migration, "source released");
                self.say(Outgoing::Released { vm: self.vm.clone(), migration: wanted.migration.clone() })
                    .await;
                self.obey(now, pause).await;
                return Next::Wait;
            }
            Ok(()) => {}
            Err(error) => {
                self.waiting(job, "SOURCE_UNAVAILABLE", &error).await;
                return Next::Retry;
            }
        }
        let Some(cycle) = &wanted.cycle else { return Next::Wait };
        match cycle.run {
            CycleRun::Committing | CycleRun::Pause => Next::Wait,
            CycleRun::Run => {
                self.running.send_replace(Some(cycle.job.clone()));
                let span =
                    info_span!("cycle", migration_id = %wanted.migration, job_id = %cycle.job, vm = %self.vm);
                adopt(&span, cycle.traceparent.as_deref());
                self.cycle(wanted, cycle, pause).instrument(span).await
            }
        }
    }

    /// Removes snapshots that no cycle wants and change ids that nobody keeps.
    async fn clean_up(&self, wanted: &DesiredVm) -> Result<(), source::Error> {
        let keep_snapshot = wanted.cycle.as_ref().map(|cycle| SnapshotName::of_job(&cycle.job));
        let mut kept = Vec::new();
        for name in self.source.snapshots().await? {
            if Some(&name) == keep_snapshot.as_ref() {
                if let Some(snapshot) = self.source.find(&name).await? {
                    kept.extend(snapshot.disks.into_iter().filter_map(|d| Some((d.key, d.change_id?))));
                }
            } else {
                info!(vm = %self.vm, snapshot = %name, "removing a snapshot that is not wanted");
                self.source.delete(&name).await?;
            }
        }
        kept.extend(wanted.keep.iter().map(|(key, id)| (key.clone(), ChangeId::new(id.clone()))));
        self.source.forget_change_ids(&kept).await
    }

    async fn cycle(&self, wanted: &DesiredVm, cycle: &DesiredCycle, pause: &CancellationToken) -> Next {
        let name = SnapshotName::of_job(&cycle.job);
        let snapshot = match &cycle.snapshot {
            None => match self.take(&name).await {
                Ok(snapshot) => {
                    info!(vm = %self.vm, job_id = %cycle.job, snapshot = %name, "source snapshot taken");
                    self.report(&cycle.job, snapshot_taken(&name, snapshot)).await;
                    // The transfer begins when the OMA has it on record.
                    return Next::Wait;
                }
                Err(error) => return self.source_failed(cycle, &error).await,
            },
            Some(_) => match self.source.find(&name).await {
                Ok(Some(snapshot)) => snapshot,
                Ok(None) => {
                    let message =
                        format!("snapshot {name} of the interrupted cycle is no longer at the source");
                    let finding = Finding { kind: FindingKind::SnapshotLost, disk: None, message };
                    self.report(&cycle.job, CycleEvent::Findings(vec![finding])).await;
                    return Next::Wait;
                }
                Err(error) => return self.source_failed(cycle, &error).await,
            },
        };
        self.transfer(wanted, cycle, &snapshot, pause).await
    }

    async fn take(&self, name: &SnapshotName) -> Result<Snapshot, source::Error> {
        let span = info_span!("snapshot", snapshot = %name);
        self.source.snapshot(name).instrument(span).await.inspect(|_| self.looked.notify_one())
    }

    /// Whoever asks about a cycle that is over learns that it is.
    fn show_end_of_other_than(&self, job: Option<&JobId>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_some_and(|feed| Some(feed.job()) != job)
            && let Some(feed) = shown.take()
        {
            feed.end();
        }
    }
}
