//! The disks of one cycle: all at once, and what becomes of it.

use super::{Next, Task};
use crate::cycle::feed::Feed;
use crate::cycle::progress::{self, Counters};
use crate::source::Snapshot;
use crate::transfer::{self, DiskJob, Mode, Outcome, PushError, TransferError};
use futures::future::join_all;
use shared::cycle::{
    CycleEvent, CycleKind, DesiredCycle, DesiredDisk, DesiredVm, DiskProgress, Finding, FindingKind, Strategy,
};
use shared::error::chain;
use shared::ids::JobId;
use shared::progress::Registration;
use std::sync::{Arc, PoisonError};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span};

impl Task {
    /// All disks at once; the cycle is sent when every one of them is sealed.
    pub(super) async fn transfer(
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
            let progress = DiskProgress {
                disk: Some(disk.disk.clone()),
                size: found.size,
                epoch: Some(disk.epoch),
                ..DiskProgress::default()
            };
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
                counters: Counters::new(progress, self.settings.counted.clone()),
            });
        }
        let sealed = self.sealed.of(&cycle.job);
        let is_finished =
            |disk: &DesiredDisk| disk.finished || sealed.contains(&(disk.disk.clone(), disk.epoch));
        let unfinished: Vec<_> = jobs.into_iter().filter(|job| !is_finished(&job.disk)).collect();
        if unfinished.is_empty() && self.has_shown(&cycle.job) {
            // Said before, and perhaps lost.
            self.report(&cycle.job, CycleEvent::Sent).await;
            return Next::Wait;
        }
        let counters: Vec<_> = unfinished.iter().map(|job| job.counters.clone()).collect();
        // What one disk found ends the cycle: the others stop at a durable point instead of going on for hours.
        let stop = pause.child_token();
        let work = join_all(unfinished.iter().map(async |job| {
            let span =
                info_span!("disk", disk_id = %job.disk.disk, disk = %job.disk.key, epoch = job.disk.epoch.0);
            let outcome = match transfer::run(job, &stop).instrument(span).await {
                // The state that wants it is older than its seal.
                Err(TransferError::Push(PushError::Finished)) => Ok(Outcome::Finished),
                outcome => outcome,
            };
            if let Ok(Outcome::Finished) = outcome {
                self.sealed.add(&job.job, (job.disk.disk.clone(), job.disk.epoch));
            }
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

    fn has_shown(&self, job: &JobId) -> bool {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.as_ref().is_some_and(|feed| feed.job() == job)
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
                    info!(vm = %self.vm, job_id = %cycle.job, why = %message, "transfer overtaken");
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
}
