//! A failover as it is kept: what it is about. How it stands is its workflow job's.

use crate::workflow::{Job, JobState, WorkflowId};
use jiff::Timestamp;
use serde_json::Value;
use shared::ids::{JobId, MigrationId, RestorePointId, VmUuid};
use shared::words;
use std::time::Duration;
use uuid::Uuid;

words!(
    /// What a failover is for.
    Kind, "type of failover", {
        /// A second copy of the VM, in a network of its own, for a time.
        Test = "test",
        /// The VM itself moves.
        Live = "live",
    }
);

/// What is recorded of a failover when it is asked for; never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub job: WorkflowId,
    pub kind: Kind,
    pub migration: MigrationId,
    pub vm: VmUuid,
    pub vm_name: String,
    /// What it starts from.
    pub restore_point: RestorePointId,
    /// Of the machine, and of the snapshot of its clones.
    pub name: String,
    /// Whether the clones are to be snapshotted before anything changes them.
    pub protected: bool,
    pub machine: Uuid,
    /// For the API, as JSON.
    pub source_vm_spec: Value,
    /// By name at the source; the target's network of each.
    pub network_mappings: Value,
    pub custom_config: Option<Value>,
    pub notification_config: Option<Value>,
    pub auto_cleanup: bool,
    /// How long a test is kept then, and what a live one that was rolled back has left.
    pub keep: Duration,
    /// As it was asked for.
    pub test_duration: Option<String>,
    pub requested_by: String,
}

/// A failover and how it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Failover {
    pub record: Record,
    pub job: Job,
    /// The job that removes what is there of it.
    pub cleanup: Option<Job>,
    /// Of a live one: the job that takes it back.
    pub rollback: Option<Job>,
    /// Of a planned one: the cycle of its final delta.
    pub final_job: Option<JobId>,
    /// Of a live one: since when there is no way back.
    pub committed_at: Option<Timestamp>,
}

words!(
    /// What there is of a failover.
    Standing, "standing of a failover", {
        /// Nothing.
        Gone = "gone",
        /// Clones, snapshots or a machine, or they are being made or removed. A live one owns its replica.
        There = "there",
        /// It was rolled back: what its machine wrote is kept for a time.
        Kept = "kept",
        /// It was committed: its machine and volumes are production.
        HandedOver = "handed_over",
    }
);

impl Failover {
    pub fn standing(&self) -> Standing {
        let state = |job: &Option<Job>| job.as_ref().map(|job| job.state);
        standing(self.job.state, state(&self.cleanup), state(&self.rollback), self.committed_at.is_some())
    }

    /// Something of it may be there that is still ours: clones, snapshots, a machine.
    pub fn is_there(&self) -> bool {
        matches!(self.standing(), Standing::There | Standing::Kept)
    }

    /// When it is cleaned up by itself: a test after its time, a live one so long after it was rolled back.
    pub fn expires(&self) -> Option<Timestamp> {
        let ended = match (self.record.kind, self.standing()) {
            (Kind::Test, Standing::There) if self.record.auto_cleanup => self.job.ended_at,
            (Kind::Live, Standing::Kept) => self.rollback.as_ref().and_then(|job| job.ended_at),
            (Kind::Test | Kind::Live, _) => None,
        };
        ended?.checked_add(self.record.keep).ok()
    }

    /// The job that something can be asked of: the last that was made.
    pub fn newest_job(&self) -> &Job {
        self.cleanup.as_ref().or(self.rollback.as_ref()).unwrap_or(&self.job)
    }
}

/// The same by the states of its jobs.
pub fn standing(
    job: JobState,
    cleanup: Option<JobState>,
    rollback: Option<JobState>,
    is_committed: bool,
) -> Standing {
    if job == JobState::RolledBack || cleanup == Some(JobState::Succeeded) {
        Standing::Gone
    } else if is_committed {
        Standing::HandedOver
    } else if rollback == Some(JobState::Succeeded) {
        Standing::Kept
    } else {
        Standing::There
    }
}
