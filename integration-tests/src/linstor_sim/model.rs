//! What a controller knows: nodes, pools, groups, definitions, resources, volumes, snapshots. Written down whole.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Keys and values set by a caller or by the controller itself.
pub(super) type Props = BTreeMap<String, String>;

/// Objects by name. A name is unique whatever its case, and keeps the case that it was made with: see [`key`].
pub(super) type Named<T> = BTreeMap<String, T>;

/// By what an object of this name is found.
pub(super) fn key(name: &str) -> String {
    name.to_uppercase()
}

/// What a diskless resource's volumes are said to be on.
pub(super) const DISKLESS_POOL: &str = "DfltDisklessStorPool";
/// The group of definitions that name none.
pub(super) const DEFAULT_GROUP: &str = "DfltRscGrp";

/// All of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct World {
    pub(super) cluster: String,
    pub(super) nodes: Named<Node>,
    pub(super) groups: Named<Group>,
    pub(super) definitions: Named<Definition>,
    pub(super) props: Props,
    pub(super) stores: BTreeMap<String, Props>,
    pub(super) reports: Vec<Report>,
    /// The last number given out: for files, devices and error reports.
    pub(super) last: u64,
}

/// A machine with a satellite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    /// As it is answered: `COMBINED`, `SATELLITE`, `CONTROLLER`, `AUXILIARY`.
    pub(super) kind: String,
    pub(super) online: bool,
    /// The controller has just started, and looks for it.
    #[serde(default)]
    pub(super) connecting: bool,
    pub(super) interfaces: Vec<Value>,
    pub(super) uuid: String,
    pub(super) host: String,
    pub(super) drbd: bool,
    pub(super) pools: Named<Pool>,
    /// Of the pool that every node has for diskless resources.
    pub(super) diskless_uuid: String,
}

/// What a pool is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Provider {
    #[serde(rename = "FILE")]
    File,
    #[serde(rename = "FILE_THIN")]
    FileThin,
    #[serde(rename = "DISKLESS")]
    Diskless,
}

impl Provider {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::File => "FILE",
            Self::FileThin => "FILE_THIN",
            Self::Diskless => "DISKLESS",
        }
    }

    /// As messages of a satellite have it.
    pub(super) fn spoken(self) -> &'static str {
        match self {
            Self::File => "FILE",
            Self::FileThin => "FILE THIN",
            Self::Diskless => "DISKLESS",
        }
    }
}

/// Room on a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) provider: Provider,
    /// Where the caller wanted it. The files are below the simulator's own folder whatever this says.
    pub(super) said: String,
    pub(super) capacity_kib: u64,
    pub(super) uuid: String,
    /// Its folder is not there: registered all the same, as the real one does.
    pub(super) broken: bool,
}

/// A template for definitions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) filter: Filter,
    pub(super) uuid: String,
    pub(super) props: Props,
    /// Volume groups: their number and uuid.
    pub(super) volumes: BTreeMap<u32, String>,
}

/// Where resources may go.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Filter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) place_count: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) node_name_list: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) storage_pool_list: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) layer_stack: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) provider_list: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) diskless_on_remaining: Option<bool>,
    /// Fields that nothing here acts on.
    #[serde(flatten)]
    pub(super) rest: BTreeMap<String, Value>,
}

impl Filter {
    /// This one, with what the other says instead where it says something.
    pub(super) fn overridden(&self, by: Option<&Self>) -> Self {
        let Some(by) = by else { return self.clone() };
        let either =
            |by: &Vec<String>, own: &Vec<String>| if by.is_empty() { own.clone() } else { by.clone() };
        Self {
            place_count: by.place_count.or(self.place_count),
            node_name_list: either(&by.node_name_list, &self.node_name_list),
            storage_pool_list: either(&by.storage_pool_list, &self.storage_pool_list),
            layer_stack: either(&by.layer_stack, &self.layer_stack),
            provider_list: either(&by.provider_list, &self.provider_list),
            diskless_on_remaining: by.diskless_on_remaining.or(self.diskless_on_remaining),
            rest: self.rest.clone(),
        }
    }
}

/// What resources on several nodes have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) uuid: String,
    pub(super) group: String,
    pub(super) props: Props,
    pub(super) deleting: bool,
    /// As given or taken from the group; empty: the default, which is DRBD on storage.
    pub(super) layers: Vec<String>,
    /// They came with a restore: in force, and not shown.
    pub(super) layers_hidden: bool,
    #[serde(default)]
    pub(super) external_name: Option<String>,
    pub(super) volumes: BTreeMap<u32, VolumeDefinition>,
    pub(super) resources: Named<Resource>,
    pub(super) snapshots: Named<Snapshot>,
    /// Of the last snapshot made.
    pub(super) sequence: u64,
    /// A rollback is on its way: the name of its safety snapshot.
    pub(super) rollback: Option<String>,
    /// And the controller ended during it.
    #[serde(default)]
    pub(super) rollback_cut: bool,
    /// Who has it open, by the switchboard's word (with DRBD only).
    pub(super) in_use: BTreeSet<String>,
}

impl Definition {
    /// Whether its volumes are DRBD devices.
    pub(super) fn drbd(&self) -> bool {
        self.layers.is_empty() || self.layers.iter().any(|layer| layer == "DRBD")
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct VolumeDefinition {
    pub(super) size_kib: u64,
    pub(super) uuid: String,
    pub(super) props: Props,
    pub(super) minor: u64,
    /// Whether a deployment gave it its layers; a rollback takes them away.
    pub(super) layered: bool,
}

/// A definition on a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Resource {
    pub(super) node: String,
    pub(super) uuid: String,
    pub(super) flags: BTreeSet<Flag>,
    pub(super) props: Props,
    /// Milliseconds since 1970; none: never made.
    pub(super) created: Option<i64>,
    pub(super) volumes: BTreeMap<u32, Volume>,
}

impl Resource {
    pub(super) fn diskless(&self) -> bool {
        self.flags.contains(&Flag::Diskless)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Flag {
    Delete,
    Diskless,
    DrbdDiskless,
    RestoreFromSnapshot,
    TieBreaker,
}

/// A volume on a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Volume {
    pub(super) uuid: String,
    pub(super) pool: String,
    pub(super) provider: Provider,
    /// Where its bytes are. None: they are not there yet, or failed to come.
    pub(super) file: Option<PathBuf>,
    /// As the file was last made.
    pub(super) size_kib: u64,
    /// It is to begin as a copy. Forgotten when that fails: then the next one to touch it makes it empty.
    pub(super) restore: Option<Restore>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Restore {
    pub(super) resource: String,
    pub(super) snapshot: String,
    pub(super) file: PathBuf,
}

/// A moment of a definition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Snapshot {
    pub(super) name: String,
    pub(super) uuid: String,
    pub(super) state: SnapshotState,
    pub(super) sequence: u64,
    pub(super) definition_props: Props,
    pub(super) volumes: BTreeMap<u32, SnapshotVolume>,
    pub(super) replicas: Named<Replica>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SnapshotState {
    /// Being taken; for ever, when the controller died meanwhile.
    Making,
    Successful,
    Failed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SnapshotVolume {
    pub(super) size_kib: u64,
    pub(super) props: Props,
}

/// A snapshot on a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Replica {
    pub(super) node: String,
    pub(super) uuid: String,
    pub(super) created: Option<i64>,
    pub(super) resource_props: Props,
    pub(super) volumes: BTreeMap<u32, ReplicaVolume>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ReplicaVolume {
    pub(super) uuid: String,
    pub(super) pool: String,
    pub(super) provider: Provider,
    pub(super) file: Option<PathBuf>,
}

/// What an entry's `error_report_ids` point to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) id: String,
    pub(super) time: i64,
    pub(super) message: String,
}
