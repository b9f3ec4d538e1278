//! What can go wrong at a source, one variant per thing to act on.

use std::io;
use std::path::PathBuf;

use shared::cycle::{Finding, FindingKind};
use shared::ids::DiskKey;

use super::{ChangeId, SnapshotName, qemu::qmp};
use crate::child;

/// A failure at a source. Those with a [`finding`](Self::finding) say something about the VM; the others about the way
/// to it, and may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Asked about a disk that the snapshot or the VM does not have.
    #[error("there is no disk {disk} in this snapshot")]
    DiskUnknown { disk: DiskKey },
    /// The agent's configuration has a disk that the source does not.
    #[error(
        "disk {disk} is configured as {what}, which the source does not have: was it removed from the VM, or is the configuration wrong?"
    )]
    DiskMissing { disk: DiskKey, what: String },
    /// The snapshot is not there any more, or no longer shows its point in time.
    #[error("snapshot {name} is lost: {why}")]
    SnapshotLost { name: SnapshotName, why: String },
    /// A VM has one snapshot of ours at a time.
    #[error("snapshot {wanted} cannot be made while there is {existing}: delete that one first")]
    SnapshotExists { wanted: SnapshotName, existing: SnapshotName },
    /// The disk changed its size while it was being snapshotted. Trying again helps.
    #[error("disk {disk} went from {before} to {after} bytes while snapshot {name} was being made")]
    ResizedMeanwhile { name: SnapshotName, disk: DiskKey, before: u64, after: u64 },
    /// The change id is of no use.
    #[error("the source does not know what changed on disk {disk} since {since}: {why}")]
    ChangeIdUnknown { disk: DiskKey, since: ChangeId, why: String },
    /// The source knows the change id and does not answer the query.
    #[error("the source refused to say what changed on disk {disk} since {since}")]
    ChangeQueryRefused { disk: DiskKey, since: ChangeId, source: Box<dyn std::error::Error + Send + Sync> },
    /// The source never can.
    #[error("the source of disk {disk} has no change tracking")]
    NoChangeTracking { disk: DiskKey },
    /// DESIGN §6 rule 4: never asked at capacity.
    #[error("asked for changed areas of disk {disk} at {offset}, but it has {size} bytes")]
    OffsetAtEnd { disk: DiskKey, offset: u64, size: u64 },
    /// The monitor of the VM.
    #[error("the monitor of the VM did not do as asked")]
    Qmp(#[from] qmp::Error),
    /// The NBD server of the source.
    #[error("cannot read from the source")]
    Nbd(#[from] migratekit::nbd::Error),
    /// The agent's own folder for this VM.
    #[error("cannot {what} {}", path.display())]
    Folder { what: &'static str, path: PathBuf, source: io::Error },
    /// A record of ours that is not as we write it.
    #[error("{} is not a snapshot record: delete the folder it is in", path.display())]
    BadRecord { path: PathBuf, source: serde_json::Error },
    /// A server of ours.
    #[error("cannot serve disk {disk}")]
    Child { disk: DiskKey, source: child::Error },
    /// There is nowhere to keep what the guest overwrites.
    #[error("cannot make a scratch image for disk {disk}: {why}")]
    Scratch { disk: DiskKey, why: String },
    /// Something of ours is still there after its time.
    #[error("{what} of snapshot {name} is still there after {seconds} s")]
    NotGone { name: SnapshotName, what: String, seconds: u64 },
    /// The source cannot tell or switch the power of its VM. Asking again does not help.
    #[error("this source cannot switch the power of its VM: {why}; switch it by hand where the VM runs")]
    PowerUnsupported { why: String },
    /// A thread of the runtime is gone; the agent is ending.
    #[error("the agent is shutting down")]
    ShuttingDown,
}

impl Error {
    /// What the control plane should be told about the VM; `None` when this says nothing about it.
    pub fn finding(&self) -> Option<Finding> {
        let (kind, disk) = match self {
            Self::DiskMissing { disk, .. } => (FindingKind::DiskRemoved, Some(disk)),
            Self::ResizedMeanwhile { disk, .. } => (FindingKind::DiskResized, Some(disk)),
            Self::SnapshotLost { .. } => (FindingKind::SnapshotLost, None),
            Self::ChangeIdUnknown { disk, .. } => (FindingKind::ChangeIdUnknown, Some(disk)),
            Self::ChangeQueryRefused { disk, .. } => (FindingKind::ChangeQueryRefused, Some(disk)),
            Self::NoChangeTracking { disk } => (FindingKind::NoChangeTracking, Some(disk)),
            Self::DiskUnknown { .. }
            | Self::SnapshotExists { .. }
            | Self::OffsetAtEnd { .. }
            | Self::Qmp(_)
            | Self::Nbd(_)
            | Self::Folder { .. }
            | Self::BadRecord { .. }
            | Self::Child { .. }
            | Self::Scratch { .. }
            | Self::NotGone { .. }
            | Self::PowerUnsupported { .. }
            | Self::ShuttingDown => return None,
        };
        let mut message = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Some(Finding { kind, disk: disk.cloned(), message })
    }
}
