//! A failover as it is kept: what it is about. How it stands is its workflow job's.

use crate::workflow::{Job, JobState, WorkflowId};
use jiff::Timestamp;
use serde_json::Value;
use shared::ids::{MigrationId, RestorePointId, VmUuid};
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
    /// How long a test is kept then.
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
}

impl Failover {
    /// Something of it may be there: clones, snapshots, a machine.
    pub fn is_there(&self) -> bool {
        is_there(self.job.state, self.cleanup.as_ref().map(|job| job.state))
    }

    /// When it is cleaned up by itself.
    pub fn expires(&self) -> Option<Timestamp> {
        let ended = self.job.ended_at.filter(|_| self.record.auto_cleanup && self.is_there())?;
        ended.checked_add(self.record.keep).ok()
    }
}

/// The same by the states of its job and of its clean-up.
pub fn is_there(job: JobState, cleanup: Option<JobState>) -> bool {
    job != JobState::RolledBack && cleanup != Some(JobState::Succeeded)
}
