//! What a VM is made of at its source: processors, memory, firmware, controllers, NICs, guest.
//!
//! The agent tells it with its inventory; `begin` keeps it with the migration, because the source may have changed, or be
//! gone, when the VM is made anew. All of it may be unknown: what nobody said is `None`, [`Unknown`](Firmware::Unknown)
//! or empty, and never a guess. Sizes of disks are not here: they are [`VmDisk`](crate::cycle::VmDisk)'s.

mod bounds;
mod compare;
mod mac;
mod words;

pub use bounds::{MOST_JSON, Unusable};
pub use compare::{Difference, differences};
pub use mac::{InvalidMac, Mac};
pub use words::{ControllerKind, Firmware, InvalidWord, NicModel, Power, Tools};

use crate::ids::{DeviceKey, DiskKey};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// The VM's configuration. Serialised it is what the database keeps; keys of a newer version are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = VmConfiguration)]
pub struct Configuration {
    /// Virtual processors, all cores counted.
    pub cpus: Option<u32>,
    pub cores_per_socket: Option<u32>,
    /// Bytes.
    pub memory_bytes: Option<u64>,
    #[schema(value_type = String, example = "efi")]
    pub firmware: Firmware,
    pub secure_boot: Option<bool>,
    /// It has a virtual TPM.
    pub tpm: Option<bool>,
    pub controllers: Vec<Controller>,
    /// In the VM's order; the first is the one it boots from.
    pub disks: Vec<DiskPlace>,
    /// In the VM's order.
    pub nics: Vec<Nic>,
    /// As the source names it, such as VMware's `debian12_64Guest`.
    pub guest_id: Option<String>,
    /// For people.
    pub guest_name: Option<String>,
    #[schema(value_type = String, example = "on")]
    pub power: Power,
    pub tags: Vec<String>,
    pub notes: Option<String>,
    /// The source's tools in the guest.
    #[schema(value_type = String, example = "running")]
    pub tools: Tools,
    /// Whether the source can tell what changed between two cycles.
    pub change_tracking: Option<bool>,
}

/// What disks hang on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = VmController)]
pub struct Controller {
    #[schema(value_type = String)]
    pub key: DeviceKey,
    #[serde(default)]
    #[schema(value_type = String, example = "pvscsi")]
    pub kind: ControllerKind,
}

/// Where a disk hangs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = VmDiskPlace)]
pub struct DiskPlace {
    #[schema(value_type = String)]
    pub key: DiskKey,
    #[schema(value_type = Option<String>)]
    pub controller: Option<DeviceKey>,
    /// On that controller.
    pub unit: Option<u32>,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = VmNic)]
pub struct Nic {
    #[schema(value_type = String)]
    pub key: DeviceKey,
    #[schema(value_type = Option<String>, example = "00:50:56:8a:01:02")]
    pub mac: Option<Mac>,
    #[serde(default)]
    #[schema(value_type = String, example = "vmxnet3")]
    pub model: NicModel,
    /// The network's name at the source.
    pub network: Option<String>,
    /// That the guest is known to have had on it.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
}
