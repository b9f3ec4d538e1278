//! Where a VM's disks come from: snapshots, what changed between them, and an NBD address to read them at.
//!
//! ```text
//!  describe ─► snapshot(mk-JOB) ─► changed(snapshot, disk, id of the last commit) ─┐
//!                    │                                                             ├─► read ─► confirm ─► delete
//!                    └───────────► open(snapshot, disk) ─► NBD URI ────────────────┘
//! ```
//!
//! Order is DESIGN §6 rule 3: a new snapshot, its change ids, the changes between the committed ids and it, the copy,
//! the commit, and only then the end of the snapshot. Change ids persist, snapshots do not.
//!
//! A source keeps nothing that the control plane relies on: what it knows it finds again by deterministic names, so
//! that an agent killed at any moment can be started again and go on ([`Source::find`], or [`Source::delete`] and
//! again [`Source::snapshot`]). Deliberately not here: when a cycle runs, what a finding leads to, and reading (that
//! is [`migratekit::read`]).

mod error;
mod names;
pub mod plain;
pub mod qemu;
mod record;

use std::sync::Arc;

use async_trait::async_trait;
use migratekit::nbd::NbdUri;
use shared::cycle::Vm;
use shared::ids::DiskKey;

pub use error::Error;
pub use migratekit::plan::ChangedPage;
pub use names::{ChangeId, InvalidName, SnapshotName};

use crate::child::Child;

/// A point in time of all disks of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Deterministic: the cycle's.
    pub name: SnapshotName,
    /// A moment just before the point in time.
    pub taken_at: jiff::Timestamp,
    /// In the order of the VM's disks.
    pub disks: Vec<SnapshotDisk>,
}

impl Snapshot {
    /// The disk with this key.
    pub fn disk(&self, key: &DiskKey) -> Result<&SnapshotDisk, Error> {
        self.disks
            .iter()
            .find(|disk| disk.key == *key)
            .ok_or_else(|| Error::DiskUnknown { disk: key.clone() })
    }

    /// [`Error::SnapshotLost`] when the disk, which has `size` bytes now, had another size in the snapshot.
    pub fn still_has(&self, key: &DiskKey, size: u64) -> Result<(), Error> {
        let had = self.disk(key)?.size;
        if had == size {
            return Ok(());
        }
        let why = format!("disk {key} had {had} bytes in it, and has {size} now");
        Err(Error::SnapshotLost { name: self.name.clone(), why })
    }
}

/// A disk of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotDisk {
    /// The disk's key.
    pub key: DiskKey,
    /// Bytes, at the point in time.
    pub size: u64,
    /// "Everything changed since this snapshot"; `None` where the source has no change tracking.
    pub change_id: Option<ChangeId>,
}

/// A disk of a snapshot, ready to be read.
#[derive(Clone, Debug)]
pub struct OpenDisk {
    /// The read-only export.
    pub uri: NbdUri,
    /// What serves it, where that is a process of ours; it runs as long as somebody holds it.
    pub server: Option<Arc<Child>>,
}

/// Whether the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerState {
    /// It runs, or is paused with its state in memory.
    Running,
    /// It does not run and holds nothing unwritten, and stays so until somebody switches it on.
    Off,
    /// The source cannot tell. Never to be taken for [`Off`](Self::Off).
    Unknown,
}

/// One VM at its source. Calls may be repeated; those that change something are serialised inside.
#[async_trait]
pub trait Source: Send + Sync {
    /// The VM and its disks as they are now. A configured disk that the source does not have is
    /// [`Error::DiskMissing`], never left out.
    async fn describe(&self) -> Result<Vm, Error>;

    /// Makes the snapshot, or gives back the one of this name. A half-made one is removed and made again.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`] while there is another one of ours: a VM has one at a time.
    async fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, Error>;

    /// The snapshot of this name if it is whole, with the sizes, time and change ids that were given back when it was
    /// made. One that is half-made or broken is `None`.
    async fn find(&self, name: &SnapshotName) -> Result<Option<Snapshot>, Error>;

    /// All snapshots of ours, half-made and broken ones too.
    async fn snapshots(&self) -> Result<Vec<SnapshotName>, Error>;

    /// One page of what changed between `since` and the snapshot, from `offset` on. More may be reported than
    /// changed, never less. Pages are asked for until the disk's size is reached; an empty one is not the end.
    ///
    /// # Errors
    /// [`Error::ChangeIdUnknown`], [`Error::ChangeQueryRefused`] and [`Error::NoChangeTracking`] are findings: a
    /// hash-diff follows, never a delta. [`Error::OffsetAtEnd`] when asked at the disk's size or beyond.
    async fn changed(
        &self,
        snapshot: &Snapshot,
        disk: &DiskKey,
        since: &ChangeId,
        offset: u64,
    ) -> Result<ChangedPage, Error>;

    /// Where to read a disk of the snapshot.
    async fn open(&self, snapshot: &Snapshot, disk: &DiskKey) -> Result<OpenDisk, Error>;

    /// Whether everything that has been read of a disk of the snapshot so far was its point in time.
    ///
    /// To be asked after the last read and before the cycle is called sent: a snapshot that ran out of room may go
    /// on answering, with newer data. Otherwise [`Error::SnapshotLost`].
    async fn confirm(&self, snapshot: &Snapshot, disk: &DiskKey) -> Result<(), Error>;

    /// Removes the snapshot and waits until nothing of it is left; its change ids stay. Nothing there is success.
    async fn delete(&self, name: &SnapshotName) -> Result<(), Error>;

    /// Removes all change tracking of ours but `keep` and what belongs to a snapshot that exists.
    async fn forget_change_ids(&self, keep: &[(DiskKey, ChangeId)]) -> Result<(), Error>;

    /// Whether the guest runs.
    async fn power(&self) -> Result<PowerState, Error>;

    /// Asks the guest to power itself off, as its power button does. Returns at once, whether or not the guest obeys or
    /// hears it; one that is off is left so. Its disks can be read on.
    ///
    /// # Errors
    /// [`Error::PowerUnsupported`] where the source has no power to switch; of the other two as well.
    async fn shut_down(&self) -> Result<(), Error>;

    /// Cuts the power: the guest is not asked, what it did not write is lost. It may be off a little later only.
    async fn power_off(&self) -> Result<(), Error>;

    /// Switches the power on, and does not wait for the guest. On already is success.
    async fn power_on(&self) -> Result<(), Error>;
}

/// Runs what may block where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::ShuttingDown)?
}
