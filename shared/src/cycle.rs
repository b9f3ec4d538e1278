//! What the control plane wants of an agent, and what the agent says back.
//!
//! [`DesiredState`] is sent whole, on connect and on every change; the agent reconciles towards it, so a lost or
//! repeated message changes nothing. [`Report`]s may be repeated as well.

mod compare;
mod power;
pub mod tally;

pub use compare::compare_disks;
pub use power::{How, PowerFailure, PowerOrder, PowerReport, PowerWish};

use crate::ids::{AgentId, DiskId, DiskKey, Epoch, JobId, MigrationId, VmUuid};
use crate::vm::Configuration;
use jiff::Timestamp;
use std::time::Duration;

/// Newest version of the agent protocol that this build speaks.
///
/// 1: the first.
pub const PROTOCOL_VERSIONS: &[u32] = &[1];

/// What this build can do beyond the protocol's version. Unknown ones of the other side are ignored.
pub const CAPABILITIES: &[&str] = &["hash-diff", "verify-source", "power"];

/// First message of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    pub agent: AgentId,
    pub software_version: String,
    pub protocol_versions: Vec<u32>,
    pub capabilities: Vec<String>,
    pub inventory: Vec<Vm>,
}

/// The answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub protocol_version: u32,
    pub software_version: String,
    pub capabilities: Vec<String>,
    pub session_id: String,
    pub heartbeat: Duration,
}

/// A VM as its source describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    pub uuid: VmUuid,
    pub name: String,
    pub disks: Vec<VmDisk>,
    /// `None`: an agent that does not tell it.
    pub configuration: Option<Configuration>,
}

/// A disk of a VM, in the VM's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmDisk {
    pub key: DiskKey,
    /// Bytes.
    pub size: u64,
}

/// Everything an agent should be doing. VMs it does not name are left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredState {
    pub revision: u64,
    pub vms: Vec<DesiredVm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredVm {
    pub vm: VmUuid,
    pub migration: MigrationId,
    /// The protection ended: remove what is ours, report it.
    pub release: bool,
    /// Change ids to keep, by disk.
    pub keep: Vec<(DiskKey, String)>,
    /// Bytes a second to the OMA, of all disks together; 0: no limit.
    pub rate: u64,
    pub cycle: Option<DesiredCycle>,
    /// `None`: its power is left alone.
    pub power: Option<PowerOrder>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCycle {
    pub job: JobId,
    pub kind: CycleKind,
    pub run: CycleRun,
    pub disks: Vec<DesiredDisk>,
    /// The snapshot this job copies from, once reported; it must exist.
    pub snapshot: Option<String>,
    /// The trace in which it was begun.
    pub traceparent: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CycleKind {
    Sync,
    /// Compare the source with the manifest; write nothing.
    VerifySource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CycleRun {
    Run,
    /// Stop at a durable point, keep the snapshot.
    Pause,
    /// The commit is being made: keep the snapshot, do nothing.
    Committing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredDisk {
    pub disk: DiskId,
    pub key: DiskKey,
    pub epoch: Epoch,
    /// Bytes, as of the last commit; `None` before the first.
    pub size: Option<u64>,
    pub strategy: Strategy,
    /// Sealed already: nothing to send.
    pub finished: bool,
}

/// How a disk is brought up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Every allocated block.
    Full,
    /// What changed since this change id.
    Changed { since: String },
    /// What differs from the replica as it reads back.
    HashDiff,
}

/// Something that happened to a cycle at the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub job: JobId,
    pub event: CycleEvent,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CycleEvent {
    SnapshotTaken {
        snapshot: String,
        taken_at: Timestamp,
        disks: Vec<SnapshotDisk>,
    },
    Progress(Vec<DiskProgress>),
    /// All disks are sealed.
    Sent,
    Paused,
    Failed {
        reason: String,
        message: String,
    },
    /// It cannot go on now and tries again.
    Waiting {
        reason: String,
        message: String,
    },
    Findings(Vec<Finding>),
}

/// A disk as its snapshot shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotDisk {
    pub key: DiskKey,
    /// Bytes.
    pub size: u64,
    /// "Everything changed since this snapshot"; `None` where the source has no change tracking.
    pub change_id: Option<String>,
}

/// Counters of one disk in this attempt, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskProgress {
    pub disk: Option<DiskId>,
    pub size: u64,
    /// Planned so far; final when `plan_complete`.
    pub planned: u64,
    /// Of the planned: known durable.
    pub done: u64,
    /// Read from the source.
    pub read: u64,
    /// Handed to the transport.
    pub wire: u64,
    /// Of the planned: data that is not zero.
    pub data: u64,
    /// Found durable from an earlier attempt.
    pub resumed: u64,
    pub plan_complete: bool,
    /// Under which this attempt sends. `None`: of all attempts, or of an agent that does not say.
    pub epoch: Option<Epoch>,
}

/// What a source said about its disks that a silent delta would have hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    pub disk: Option<DiskKey>,
    /// For a person.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    DiskAdded,
    DiskRemoved,
    DiskResized,
    ChangeIdUnknown,
    ChangeQueryRefused,
    NoChangeTracking,
    VmUnknown,
    SnapshotLost,
    /// A newer agent's word; never taken for success.
    Unknown,
}

impl FindingKind {
    /// Whether a hash-diff makes the disk right again without an operator.
    pub fn heals_by_hash_diff(self) -> bool {
        match self {
            Self::ChangeIdUnknown | Self::ChangeQueryRefused | Self::NoChangeTracking => true,
            Self::DiskAdded
            | Self::DiskRemoved
            | Self::DiskResized
            | Self::VmUnknown
            | Self::SnapshotLost
            | Self::Unknown => false,
        }
    }

    /// Upper snake case, as errors and logs say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskAdded => "DISK_ADDED",
            Self::DiskRemoved => "DISK_REMOVED",
            Self::DiskResized => "DISK_RESIZED",
            Self::ChangeIdUnknown => "CHANGE_ID_UNKNOWN",
            Self::ChangeQueryRefused => "CHANGE_QUERY_REFUSED",
            Self::NoChangeTracking => "NO_CHANGE_TRACKING",
            Self::VmUnknown => "VM_UNKNOWN",
            Self::SnapshotLost => "SNAPSHOT_LOST",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// The newest version both sides speak.
pub fn negotiate(theirs: &[u32]) -> Option<u32> {
    PROTOCOL_VERSIONS.iter().copied().filter(|v| theirs.contains(v)).max()
}
