//! What the task of a VM tells the OMA.

use super::{Next, Task};
use crate::cycle::Outgoing;
use crate::metrics::Cause;
use crate::source::{self, Snapshot, SnapshotName};
use shared::cycle::{CycleEvent, DesiredCycle, Finding, FindingKind, Report, SnapshotDisk};
use shared::error::chain;
use shared::ids::{JobId, VmUuid};
use tracing::warn;

impl Task {
    pub(super) async fn source_failed(&self, cycle: &DesiredCycle, error: &source::Error) -> Next {
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

    pub(super) async fn waiting(
        &self,
        job: Option<&JobId>,
        reason: &str,
        error: &(dyn std::error::Error + Sync),
    ) {
        let source = reason.starts_with("SOURCE_");
        self.settings.counted.retried(if source { Cause::Source } else { Cause::Transfer });
        let message = chain(error);
        warn!(vm = %self.vm, reason, error = %message, "the cycle cannot go on now; it is tried again");
        if let Some(job) = job {
            self.report(job, CycleEvent::Waiting { reason: reason.to_owned(), message }).await;
        }
    }

    pub(super) async fn report(&self, job: &JobId, event: CycleEvent) {
        if let CycleEvent::Findings(findings) = &event {
            findings.iter().for_each(|finding| self.settings.counted.found(finding.kind.as_str()));
        }
        self.say(Outgoing::Report(Report { job: job.clone(), event })).await;
    }

    /// While no connection takes it, the report waits here; the next desired state makes it superfluous.
    pub(super) async fn say(&self, outgoing: Outgoing) {
        let _ = self.outgoing.send(outgoing).await;
    }
}

pub(super) fn snapshot_taken(name: &SnapshotName, snapshot: Snapshot) -> CycleEvent {
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
pub(in crate::cycle) fn vm_unknown(vm: &VmUuid, job: JobId) -> Report {
    let message = format!("VM {vm} is not in the inventory of this agent's configuration");
    let finding = Finding { kind: FindingKind::VmUnknown, disk: None, message };
    Report { job, event: CycleEvent::Findings(vec![finding]) }
}
