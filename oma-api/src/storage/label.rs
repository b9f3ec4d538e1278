//! What a volume says of itself: without it, a volume whose database is lost is anybody's.

use super::VolumeId;
use serde::{Deserialize, Serialize};
use shared::ids::{DiskKey, MigrationId, VmUuid};

/// Whose replica a volume is. It lies beside the volume's data, never in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub vm: VmUuid,
    /// As its source had it when it was written; for people.
    pub vm_name: String,
    pub disk: DiskKey,
    /// Bytes of the source disk then.
    pub size: u64,
    /// That wrote it.
    pub migration: MigrationId,
}

/// A volume of the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub volume: VolumeId,
    /// Usable bytes.
    pub size: u64,
    /// `None`: it says nothing, or nothing that can be read.
    pub label: Option<Label>,
}
