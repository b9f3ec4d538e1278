//! Volumes handed over to a backend that has a record of its own of each.
//!
//! ```text
//!              adopt                     attach                      start
//!  (no record) ──────► recorded, nowhere ──────► recorded, a disk's ───────► …
//!       ▲                    │ release                 │ detach
//!       └────────────────────┴─────────────────────────┘
//! ```
//!
//! Such a backend would rather make volumes itself, and does so where it finds none: what is handed over is looked at before
//! each call and read back after it. It also makes machines with a disk of its own choice, which is shed.

use super::{Error, MachineName};
use crate::storage::VolumeId;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// In which way the backend takes a volume that it has not made: which sub-steps that has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A record is made under the volume's own id; being attached, it is found on the storage.
    Attach,
}

/// Whether others may delete a volume there while it is in our hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    Deletable,
    /// Where the backend can keep them from it.
    Protected,
}

/// What such a backend can do besides. Every call may be repeated after an unknown outcome.
#[async_trait]
pub trait HandOver: Send + Sync {
    /// The way that this backend takes, as it is now.
    fn method(&self) -> Method;

    /// Disks of a machine that were made with it and that nobody asked for, by the backend's own ids.
    async fn surplus(&self, name: &MachineName) -> Result<Vec<String>, Error>;

    /// Takes such a disk from the machine, and removes it. One that is gone already is success; one that could be somebody's data
    /// is refused.
    async fn shed(&self, name: &MachineName, surplus: &str) -> Result<(), Error>;

    /// Makes the backend's record of a volume, which is there. The same record there already is success.
    async fn adopt(
        &self,
        name: &MachineName,
        position: usize,
        volume: &VolumeId,
        guard: Guard,
    ) -> Result<(), Error>;

    /// It is production from now on: whoever owns it there may delete it as anything else. No record is success.
    async fn let_go(&self, volume: &VolumeId) -> Result<(), Error>;

    /// Whether there is a record of it.
    async fn is_adopted(&self, volume: &VolumeId) -> Result<bool, Error>;

    /// Takes it from whichever machine has it, which is stopped. Attached to none, or no record of it, is success.
    async fn detach(&self, volume: &VolumeId) -> Result<(), Error>;

    /// Removes the record; what the volume holds stays where it is. No record is success; one that is attached is refused.
    async fn release(&self, volume: &VolumeId) -> Result<(), Error>;
}
