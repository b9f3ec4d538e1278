//! The task of one VM: policy of a cycle at the source.

use super::Outgoing;
use super::feed::Feed;
use super::progress::{self, Counters};
use crate::source::{self, ChangeId, Snapshot, SnapshotName, Source};
use crate::transfer::{self, DiskJob, Mode, Outcome, Settings, TransferError};
use futures::future::join_all;
use migratekit::rate::Limit;
use shared::cycle::{
    CycleEvent, CycleKind, CycleRun, DesiredCycle, DesiredDisk, DesiredVm, DiskProgress, Finding,
    FindingKind, Report, SnapshotDisk, Strategy, Vm,
};
use shared::error::chain;
use shared::ids::{JobId, VmUuid};
use shared::progress::{Register, Registration};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

/// What is under way at a pause gets this long to become durable; the operator is promised 5 s for all of it.
const PAUSE_DEADLINE: Duration = Duration::from_secs(4);

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
}

/// What a reconciliation came to.
enum Next {
    /// Nothing to do until the desired state comes again.
    Wait,
    /// Try again soon, whatever the desired state.
    Retry,
}

/// What a newer desired state does to the work for an older one.
#[derive(Debug, PartialEq, Eq)]
enum Interruption {
    Pause,
    Drop,
}

impl Task {
    pub(super) async fn run(self, mut wanted: watch::Receiver<Option<Wanted>>, stop: CancellationToken) {
        let mut retry = RETRY.0;
        loop {
            let now = wanted.borrow_and_update().clone();
            let (pause, begun) = (CancellationToken::new(), Instant::now());
            let next = {
                let work = self.reconcile(now.as_ref().map(|w| &w.vm), &pause);
                tokio::pin!(work);
                tokio::select! {
                    next = &mut work => next,
                    interruption = interrupted(&mut wanted, now.as_ref()) => match interruption {
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

    async fn reconcile(&self, wanted: Option<&DesiredVm>, pause: &CancellationToken) -> Next {
        let Some(wanted) = wanted else { return Next::Wait };
        let job = wanted.cycle.as_ref().map(|cycle| &cycle.job);
        self.show_end_of_other_than(job);
        match self.clean_up(wanted).await {
            Ok(()) if wanted.release => {
                info!(vm = %self.vm, migration = %wanted.migration, "source released");
                self.say(Outgoing::Released { vm: self.vm.clone(), migration: wanted.migration.clone() })
                    .await;
                return Next::Wait;
            }
            Ok(()) => {}
            Err(error) => {
                // Nothing is read or written, which is all that a pause asks for: it does not wait for the source.
                if let Some(cycle) = wanted.cycle.as_ref().filter(|cycle| cycle.run == CycleRun::Pause) {
                    self.report(&cycle.job, CycleEvent::Paused).await;
                }
                self.waiting(job, "SOURCE_UNAVAILABLE", &error).await;
                return Next::Retry;
            }
        }
        let Some(cycle) = &wanted.cycle else { return Next::Wait };
        match cycle.run {
            CycleRun::Committing => Next::Wait,
            CycleRun::Pause => {
                self.report(&cycle.job, CycleEvent::Paused).await;
                Next::Wait
            }
            CycleRun::Run => {
                self.running.send_replace(Some(cycle.job.clone()));
                self.cycle(wanted, cycle, pause).await
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
            None => match self.source.snapshot(&name).await.inspect(|_| self.looked.notify_one()) {
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

    /// All disks at once; the cycle is sent when every one of them is sealed.
    async fn transfer(
        &self,
        wanted: &DesiredVm,
        cycle: &DesiredCycle,
        snapshot: &Snapshot,
        pause: &CancellationToken,
    ) -> Next {
        let Some(channel) = self.channel.borrow().clone() else { return Next::Retry };
        let mut jobs = Vec::new();
        for disk in &cycle.disks {
            let Some(found) = snapshot.disks.iter().find(|d| d.key == disk.key) else {
                let message = format!("disk {} is not in snapshot {}", disk.key, snapshot.name);
                let finding =
                    Finding { kind: FindingKind::DiskRemoved, disk: Some(disk.key.clone()), message };
                self.report(&cycle.job, CycleEvent::Findings(vec![finding])).await;
                return Next::Wait;
            };
            let progress =
                DiskProgress { disk: Some(disk.disk.clone()), size: found.size, ..DiskProgress::default() };
            let mode = match cycle.kind {
                CycleKind::Sync => Mode::Sync(disk.strategy.clone()),
                // What changed since the commit may differ; all else must not.
                CycleKind::VerifySource => Mode::Verify {
                    since: wanted.keep.iter().find(|(key, _)| *key == disk.key).map(|(_, id)| id.clone()),
                },
            };
            jobs.push(DiskJob {
                job: cycle.job.clone(),
                disk: disk.clone(),
                size: found.size,
                mode,
                source: Arc::clone(&self.source),
                snapshot: snapshot.clone(),
                channel: channel.clone(),
                settings: self.settings.clone(),
                limit: Arc::clone(&self.limit),
                disks: cycle.disks.len(),
                counters: Counters::new(progress),
            });
        }
        let unfinished: Vec<_> = jobs.into_iter().filter(|job| !job.disk.finished).collect();
        let counters: Vec<_> = unfinished.iter().map(|job| job.counters.clone()).collect();
        // What one disk found ends the cycle: the others stop at a durable point instead of going on for hours.
        let stop = pause.child_token();
        let work = join_all(unfinished.iter().map(async |job| {
            let outcome = transfer::run(job, &stop).await;
            if outcome.as_ref().is_err_and(|error| error.finding().is_some()) {
                stop.cancel();
            }
            outcome
        }));
        let feed = self.feed(cycle, snapshot);
        let outcomes = tokio::select! {
            outcomes = work => outcomes,
            () = progress::report(&cycle.job, &counters, &self.outgoing, &feed) => return Next::Retry,
        };
        progress::send(&cycle.job, &counters, &self.outgoing);
        let counted = progress::all(&counters);
        match outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
            Some(error) => feed.complain(&chain(error)),
            None if outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::Finished))) => {
                feed.completed(&counted);
            }
            // Paused: it is where it is.
            None => feed.update(&counted),
        }
        self.conclude(cycle, outcomes).await
    }

    fn feed(&self, cycle: &DesiredCycle, snapshot: &Snapshot) -> Feed {
        let about = Registration {
            sync_type: match cycle.disks.iter().all(|disk| matches!(disk.strategy, Strategy::Full)) {
                true => "full".to_owned(),
                false => "incremental".to_owned(),
            },
            vm_name: self.name(),
            cbt_enabled: snapshot.disks.iter().all(|disk| disk.change_id.is_some()),
            ..Registration::default()
        };
        let size =
            |disk: &DesiredDisk| snapshot.disks.iter().find(|d| d.key == disk.key).map_or(0, |d| d.size);
        let disks = cycle.disks.iter().map(|disk| (disk.disk.clone(), size(disk)));
        let feed = Feed::begin(&self.register, &cycle.job, &about, disks);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(feed.clone());
        feed
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

    fn name(&self) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map_or_else(|| self.vm.to_string(), |vm| vm.name.clone())
    }

    async fn conclude(&self, cycle: &DesiredCycle, outcomes: Vec<Result<Outcome, TransferError>>) -> Next {
        let mut findings = Vec::new();
        let mut next = Next::Wait;
        let mut paused = false;
        for outcome in outcomes {
            match outcome {
                Ok(Outcome::Finished) => {}
                Ok(Outcome::Paused) => paused = true,
                // The new owner's epoch comes with the desired state.
                Err(TransferError::Push(transfer::PushError::Overtaken { message })) => {
                    info!(vm = %self.vm, job_id = %cycle.job, %message, "transfer overtaken");
                    paused = true;
                }
                Err(error) => match error.finding() {
                    Some(finding) => findings.push(finding),
                    None => {
                        self.waiting(Some(&cycle.job), error.reason(), &error).await;
                        next = Next::Retry;
                    }
                },
            }
        }
        match (findings.is_empty(), &next, paused) {
            (false, _, _) => {
                self.report(&cycle.job, CycleEvent::Findings(findings)).await;
                Next::Wait
            }
            (true, Next::Wait, false) => {
                info!(vm = %self.vm, job_id = %cycle.job, "all disks are sent and durable");
                self.report(&cycle.job, CycleEvent::Sent).await;
                Next::Wait
            }
            (true, _, _) => next,
        }
    }

    async fn source_failed(&self, cycle: &DesiredCycle, error: &source::Error) -> Next {
        match error.finding() {
            Some(finding) => {
                self.looked.notify_one();
                self.report(&cycle.job, CycleEvent::Findings(vec![finding])).await;
                Next::Wait
            }
            None => {
                self.waiting(Some(&cycle.job), "SOURCE_UNAVAILABLE", error).await;
                Next::Retry
            }
        }
    }

    async fn waiting(&self, job: Option<&JobId>, reason: &str, error: &(dyn std::error::Error + Sync)) {
        let message = chain(error);
        warn!(vm = %self.vm, reason, error = %message, "the cycle cannot go on now; it is tried again");
        if let Some(job) = job {
            self.report(job, CycleEvent::Waiting { reason: reason.to_owned(), message }).await;
        }
    }

    async fn report(&self, job: &JobId, event: CycleEvent) {
        self.say(Outgoing::Report(Report { job: job.clone(), event })).await;
    }

    /// While no connection takes it, the report waits here; the next desired state makes it superfluous.
    async fn say(&self, outgoing: Outgoing) {
        let _ = self.outgoing.send(outgoing).await;
    }
}

fn snapshot_taken(name: &SnapshotName, snapshot: Snapshot) -> CycleEvent {
    let disk = |d: source::SnapshotDisk| SnapshotDisk {
        key: d.key,
        size: d.size,
        change_id: d.change_id.map(|id| id.as_str().to_owned()),
    };
    CycleEvent::SnapshotTaken {
        snapshot: name.to_string(),
        taken_at: snapshot.taken_at,
        disks: snapshot.disks.into_iter().map(disk).collect(),
    }
}

/// For a VM that only the OMA knows.
pub(super) fn vm_unknown(vm: &VmUuid, job: JobId) -> Report {
    let message = format!("VM {vm} is not in the inventory of this agent's configuration");
    let finding = Finding { kind: FindingKind::VmUnknown, disk: None, message };
    Report { job, event: CycleEvent::Findings(vec![finding]) }
}

/// Waits for a desired state that the work for `now` must not outlive; `None` when the manager is gone.
async fn interrupted(
    wanted: &mut watch::Receiver<Option<Wanted>>,
    now: Option<&Wanted>,
) -> Option<Interruption> {
    loop {
        wanted.changed().await.ok()?;
        let newer = wanted.borrow_and_update().clone();
        if let Some(interruption) = interrupts(now.map(|w| &w.vm), newer.as_ref().map(|w| &w.vm)) {
            return Some(interruption);
        }
    }
}

/// Pure: whether work for `old` may go on under `new`.
fn interrupts(old: Option<&DesiredVm>, new: Option<&DesiredVm>) -> Option<Interruption> {
    let key = |vm: &DesiredVm| {
        let cycle = vm.cycle.as_ref()?;
        let disks: Vec<_> =
            cycle.disks.iter().map(|d| (d.disk.clone(), d.epoch, d.strategy.clone())).collect();
        Some((cycle.job.clone(), cycle.kind, disks))
    };
    let run = |vm: &DesiredVm| vm.cycle.as_ref().map(|cycle| cycle.run);
    match (old, new) {
        (None, _) => None,
        (Some(old), Some(new)) if key(old) == key(new) && old.release == new.release => {
            match (run(old), run(new)) {
                (Some(CycleRun::Run), Some(CycleRun::Pause)) => Some(Interruption::Pause),
                (Some(CycleRun::Run), Some(CycleRun::Committing)) => Some(Interruption::Drop),
                _ => None,
            }
        }
        (Some(_), _) => Some(Interruption::Drop),
    }
}
