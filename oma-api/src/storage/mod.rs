//! Where replicas and their restore points live, behind one trait.
//!
//! A backend makes volumes, opens them, takes snapshots of several at one point, and clones a snapshot into a new
//! volume. It knows no migrations, cycles or owners; whoever calls it has made sure that nothing is being written
//! between the flush of the volumes and the end of [`Storage::snapshot`] (DESIGN §6 rule 2).
//!
//! Every call may be repeated after an unknown outcome: names are the caller's and deterministic, what is there
//! already is found, what was half-made is thrown away and made again (DESIGN §6 rule 11).

mod floor;
mod label;
mod linstor;
mod local;
mod name;
mod openers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::outbound::Standing;
use async_trait::async_trait;
use migratekit::replica::ReadsZero;
use migratekit::target::{self, Target};

pub use floor::{Floor, Space};
pub use label::{Label, Listed};
pub use linstor::{LinstorStorage, Settings as LinstorSettings};
pub use local::LocalStorage;
pub use name::{InvalidName, SnapshotName, VolumeId};

pub use crate::processes::Named as Opener;

/// What is known of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Usable bytes.
    pub size: u64,
    /// Whether it reads as zero wherever nothing was ever written.
    pub reads_zero: ReadsZero,
}

/// A restore point's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub name: SnapshotName,
    /// In the order of their names.
    pub volumes: Vec<VolumeId>,
}

/// What a restore point takes when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointCost {
    /// Nothing: it shares blocks with its volumes until they are written.
    Shared,
    /// As much as its volumes hold.
    Whole,
}

/// What the storage could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no volume {volume}")]
    NoVolume { volume: VolumeId },
    #[error("there is no snapshot {snapshot} of volume {volume}")]
    NoSnapshot { snapshot: SnapshotName, volume: VolumeId },
    #[error(
        "volume {volume} is there already with {have} bytes, not {need}: delete it first, or use another id"
    )]
    OtherSize { volume: VolumeId, have: u64, need: u64 },
    #[error("volume {volume} is there already: delete it first, or use another id")]
    VolumeExists { volume: VolumeId },
    #[error("volume {volume} is open: {by} has it; close it there, then try again")]
    InUse { volume: VolumeId, by: String },
    #[error("snapshot {snapshot} is there already, of other volumes than asked for")]
    OtherVolumes { snapshot: SnapshotName },
    #[error("no room in {place}: free space there, then try again")]
    NoRoom {
        place: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {what} {place}")]
    Io {
        what: &'static str,
        place: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Target(#[from] target::Error),
    #[error(transparent)]
    Linstor(Box<crate::linstor::Fault>),
    #[error(transparent)]
    LinstorName(#[from] crate::linstor::InvalidName),
    #[error("a call of the storage ended unexpectedly: this is a defect, see the log")]
    Died,
}

/// How long what is being closed may take.
const CLOSING: Duration = Duration::from_secs(1);

impl Error {
    /// Whether what keeps the volumes is away, so that nothing is known to be wrong but that.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Linstor(fault) if fault.is_silence())
    }
}

/// One backend.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Bytes of the volume that is made for a disk of `size`: as many, or as the backend's granularity wants it (CloudStack
    /// counts in whole GiB). Behind the disk's end it reads as zero.
    fn rounded(&self, size: u64) -> u64 {
        size
    }

    /// Makes a volume of `size` bytes, [rounded](Self::rounded), durably. One of that size that is there already is taken as it is (and then
    /// nothing is known about what it reads).
    async fn create(&self, volume: &VolumeId, size: u64) -> Result<VolumeInfo, Error>;

    /// Makes a volume `size` bytes large, durably, and leaves what it holds; one that is as large already stays as it is.
    /// Nobody may have it open. What it reads behind its old end is not known.
    async fn resize(&self, volume: &VolumeId, size: u64) -> Result<(), Error>;

    /// `None`: there is none. Says `ReadsZero::Unknown` unless the backend has it on record: what
    /// [`create`](Self::create) said is the caller's to remember.
    async fn volume(&self, volume: &VolumeId) -> Result<Option<VolumeInfo>, Error>;

    /// Writes on a volume whose it is, durably, in place of what it said.
    async fn label(&self, volume: &VolumeId, label: &Label) -> Result<(), Error>;

    /// All volumes with what they say of themselves, in the order of their names.
    async fn volumes(&self) -> Result<Vec<Listed>, Error>;

    /// Opens it for writing. Who may write is decided by the caller.
    async fn open(&self, volume: &VolumeId) -> Result<Arc<dyn Target>, Error>;

    /// Where programs of this machine open it: a file or a device.
    async fn path(&self, volume: &VolumeId) -> Result<PathBuf, Error>;

    /// Another process of this machine that has it open, as far as this one may see (a mount or a loop device is none, nor
    /// is what another user's processes have open to one without the rights). No volume: nobody.
    async fn opener(&self, volume: &VolumeId) -> Result<Option<Opener>, Error>;

    /// Whether there is such a process.
    async fn in_use(&self, volume: &VolumeId) -> Result<bool, Error> {
        Ok(self.opener(volume).await?.is_some())
    }

    /// Who of this host has it open, this process included, as far as that may be seen.
    async fn holder(&self, volume: &VolumeId) -> Result<Option<String>, Error>;

    /// That nobody has: to be asked before somebody else becomes its owner. What is just being closed is waited for: a thread
    /// has it until it ends, and a child until it is what it is to be.
    ///
    /// # Errors
    /// [`Error::InUse`].
    async fn closed(&self, volume: &VolumeId) -> Result<(), Error> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.holder(volume).await? {
                None => return Ok(()),
                Some(_) if begun.elapsed() < CLOSING => tokio::time::sleep(CLOSING / 20).await,
                Some(by) => return Err(Error::InUse { volume: volume.clone(), by }),
            }
        }
    }

    /// Removes it; nothing to remove is success. Its snapshots stay where they outlive it.
    async fn delete(&self, volume: &VolumeId) -> Result<(), Error>;

    /// All of `volumes` as they are now, under one name, durably: all of it or nothing. Nobody may write them
    /// meanwhile. The same snapshot that is there already is success.
    async fn snapshot(&self, volumes: &[VolumeId], name: &SnapshotName) -> Result<(), Error>;

    /// Whole ones only, in the order of their names.
    async fn snapshots(&self) -> Result<Vec<Snapshot>, Error>;

    /// Bytes that a snapshot holds of a volume, as the storage has it now: a damaged one may hold fewer than it did.
    async fn snapshot_size(&self, name: &SnapshotName, volume: &VolumeId) -> Result<u64, Error>;

    /// Removes it; nothing to remove is success.
    async fn delete_snapshot(&self, name: &SnapshotName) -> Result<(), Error>;

    /// A new volume with a snapshot's content; both are independent from then on. A volume that is there already
    /// is refused: it may have been written.
    async fn clone_snapshot(
        &self,
        name: &SnapshotName,
        volume: &VolumeId,
        new: &VolumeId,
    ) -> Result<VolumeInfo, Error>;

    /// A volume holds again what a snapshot of it does: it is there as it was, or whole. Nobody may have it open.
    async fn reset(&self, volume: &VolumeId, to: &SnapshotName) -> Result<(), Error>;

    /// What all volumes and snapshots share.
    async fn space(&self) -> Result<Space, Error>;

    /// What a snapshot takes of that.
    async fn point_cost(&self) -> Result<PointCost, Error>;

    /// How it stands with the server that this is kept by; `None`: there is none.
    fn standing(&self) -> Option<Standing> {
        None
    }
}
