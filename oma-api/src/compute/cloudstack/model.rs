//! What a management server shows, as far as it matters here. What is left out is empty; a state that this version does not know
//! is never taken for a good one.

use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Vm {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) details: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) nic: Vec<Nic>,
    #[serde(default)]
    pub(super) ostypeid: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Nic {
    pub(super) networkid: String,
    #[serde(default)]
    pub(super) macaddress: Option<String>,
    #[serde(default)]
    pub(super) ipaddress: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Volume {
    pub(super) id: String,
    /// `ROOT` or `DATADISK`.
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) state: String,
    /// Bytes.
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) virtualmachineid: Option<String>,
    #[serde(default)]
    pub(super) deviceid: Option<u64>,
    /// On its pool; none while it is only a record.
    #[serde(default)]
    pub(super) path: Option<String>,
    #[serde(default)]
    pub(super) storageid: Option<String>,
    #[serde(default)]
    pub(super) templateid: Option<String>,
    #[serde(default)]
    pub(super) deleteprotection: bool,
}

/// Anything that is chosen by its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Named {
    pub(super) id: String,
    pub(super) name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Network {
    pub(super) id: String,
    pub(super) name: String,
    /// `Isolated`, `L2` or `Shared`.
    #[serde(rename = "type", default)]
    pub(super) kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Template {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) hypervisor: String,
    #[serde(default)]
    pub(super) isready: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Offering {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) iscustomized: bool,
    /// None where it leaves that open.
    #[serde(default)]
    pub(super) cpunumber: Option<u32>,
    /// MHz.
    #[serde(default)]
    pub(super) cpuspeed: Option<u32>,
    /// MiB.
    #[serde(default)]
    pub(super) memory: Option<u64>,
    #[serde(default)]
    pub(super) state: Option<String>,
    #[serde(default)]
    pub(super) serviceofferingdetails: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct DiskOffering {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) iscustomized: bool,
    /// With commas.
    #[serde(default)]
    pub(super) tags: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Pool {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) scope: String,
    #[serde(default)]
    pub(super) provider: String,
    /// Of LINSTOR: its resource group.
    #[serde(default)]
    pub(super) path: Option<String>,
    #[serde(default)]
    pub(super) tags: Option<String>,
    #[serde(default)]
    pub(super) details: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Host {
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) resourcestate: String,
    #[serde(default)]
    pub(super) hypervisor: String,
    #[serde(default)]
    pub(super) ueficapability: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct OsType {
    pub(super) id: String,
    /// Its name.
    #[serde(default)]
    pub(super) description: String,
}

/// What an account may have of something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Limit {
    #[serde(rename = "resourcetypename", default)]
    pub(super) of: String,
    /// −1: as much as there is.
    pub(super) max: i64,
}

impl Volume {
    /// It has a place on a storage, or had one.
    pub(super) fn is_placed(&self) -> bool {
        self.path.is_some() || self.storageid.is_some()
    }
}

impl Pool {
    /// The resource group that its volumes are spawned from.
    pub(super) fn group(&self) -> Option<&str> {
        self.details.get("resourceGroup").or(self.path.as_ref()).map(String::as_str)
    }

    pub(super) fn has_tags(&self, wanted: &str) -> bool {
        let has: Vec<_> = self.tags.as_deref().unwrap_or_default().split(',').map(str::trim).collect();
        wanted.split(',').map(str::trim).all(|tag| has.contains(&tag))
    }
}

impl Host {
    /// It takes machines.
    pub(super) fn is_up(&self) -> bool {
        self.state == "Up" && matches!(self.resourcestate.as_str(), "" | "Enabled")
    }
}

/// What became of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known<T> {
    There(T),
    /// It was there, and is not any more: its id is used up.
    Removed,
    /// Nothing ever had it.
    Never,
}

impl<T> Known<T> {
    pub(super) fn there(self) -> Option<T> {
        match self {
            Self::There(it) => Some(it),
            Self::Removed | Self::Never => None,
        }
    }
}
