//! What a controller shows of its resources, snapshots and pools. Fields that are left out are empty; what this version does
//! not know is never taken for good.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A resource definition, with its volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Definition {
    pub name: String,
    /// Of this definition and no later one of that name.
    pub uuid: String,
    #[serde(default)]
    pub resource_group_name: String,
    #[serde(default)]
    pub props: BTreeMap<String, String>,
    #[serde(default)]
    pub flags: Vec<String>,
    #[serde(default)]
    pub volume_definitions: Vec<VolumeDefinition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VolumeDefinition {
    pub volume_number: u32,
    pub size_kib: u64,
}

impl Definition {
    /// A deletion that was accepted and waits for a node: the name stays taken until that is back.
    pub fn is_being_deleted(&self) -> bool {
        self.flags.iter().any(|flag| flag == "DELETE")
    }

    /// Of its one volume, in bytes. `None`: it has none, or several.
    pub fn size(&self) -> Option<u64> {
        size_of(&self.volume_definitions)
    }
}

fn size_of(volumes: &[VolumeDefinition]) -> Option<u64> {
    match volumes {
        [only] => only.size_kib.checked_mul(1024),
        _ => None,
    }
}

/// A resource on a node (`/v1/view/resources`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Resource {
    pub name: String,
    pub node_name: String,
    #[serde(default)]
    pub flags: Vec<String>,
    #[serde(default)]
    pub state: State,
    #[serde(default)]
    pub volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct State {
    /// With DRBD: somebody has it open there. Without, nobody knows.
    #[serde(default)]
    pub in_use: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Volume {
    pub volume_number: u32,
    #[serde(default)]
    pub storage_pool_name: String,
    #[serde(default)]
    pub provider_kind: String,
    #[serde(default)]
    pub device_path: Option<PathBuf>,
    #[serde(default)]
    pub state: VolumeState,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct VolumeState {
    /// DRBD's: `UpToDate`, `Diskless`, `Inconsistent`, … Left out without DRBD.
    #[serde(default)]
    pub disk_state: Option<String>,
}

/// Why a resource cannot be used on a node, whatever the controller answered when it was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("it is not on node {node}")]
    NotThere { node: String },
    #[error("no node has a disk of it")]
    NoDisk,
    #[error("it has no device on node {node}: see `linstor volume list`, and that node's satellite")]
    NoDevice { node: String },
    #[error("its copy on node {node} is {state}, not UpToDate")]
    NotUpToDate { node: String, state: String },
    #[error("it is marked {flag} on node {node}")]
    Flagged { node: String, flag: String },
    #[error("it has {volumes} volumes, not one")]
    Volumes { volumes: usize },
}

/// Flags of a resource that is whole. Any other, also one that this version does not know, is none to open.
const HARMLESS: &[&str] = &["DISKLESS", "DRBD_DISKLESS", "TIE_BREAKER"];

impl Resource {
    /// Where it is opened on its node. Judged by its state alone: `make-available` says yes to a resource without a device, and a
    /// restore that failed within a rollback leaves one that looks like any other (`contracts/LINSTOR.md`, 2 and 8).
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn device(&self) -> Result<&Path, Unusable> {
        let node = || self.node_name.clone();
        if let Some(flag) = self.flags.iter().find(|flag| !HARMLESS.contains(&flag.as_str())) {
            return Err(Unusable::Flagged { node: node(), flag: flag.clone() });
        }
        let [volume] = self.volumes.as_slice() else {
            return Err(Unusable::Volumes { volumes: self.volumes.len() });
        };
        let path = volume.device_path.as_deref().filter(|path| !path.as_os_str().is_empty());
        let path = path.ok_or_else(|| Unusable::NoDevice { node: node() })?;
        match volume.state.disk_state.as_deref() {
            // A diskless one reads and writes through the others.
            None | Some("UpToDate") => Ok(path),
            Some("Diskless") if self.is_diskless() => Ok(path),
            Some(state) => Err(Unusable::NotUpToDate { node: node(), state: state.to_owned() }),
        }
    }

    pub fn is_diskless(&self) -> bool {
        self.flags.iter().any(|flag| HARMLESS.contains(&flag.as_str()))
    }
}

/// A snapshot of one resource (`/v1/view/snapshots`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    pub name: String,
    pub resource_name: String,
    #[serde(default)]
    pub flags: Vec<String>,
    #[serde(default)]
    pub nodes: Vec<String>,
    #[serde(default)]
    pub volume_definitions: Vec<VolumeDefinition>,
}

/// How far a snapshot got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It may be restored.
    Whole,
    /// A tool failed. It keeps its name until it is deleted.
    Failed,
    /// It is being made, or a crash left it: it keeps its name, too.
    Unknown,
}

impl Snapshot {
    /// Of its one volume, in bytes. `None`: it has none, or several.
    pub fn size(&self) -> Option<u64> {
        size_of(&self.volume_definitions)
    }

    pub fn made(&self) -> Made {
        let has = |flag: &str| self.flags.iter().any(|f| f == flag);
        match (has("SUCCESSFUL"), has("FAILED_DEPLOYMENT") || has("DELETE") || has("FAILED_DISCONNECT")) {
            (true, false) => Made::Whole,
            (_, true) => Made::Failed,
            (false, false) => Made::Unknown,
        }
    }
}

/// A storage pool on a node (`/v1/view/storage-pools`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Pool {
    pub storage_pool_name: String,
    pub node_name: String,
    pub provider_kind: String,
    /// KiB. Left out while the node is off: not nothing.
    #[serde(default)]
    pub free_capacity: Option<u64>,
    #[serde(default)]
    pub total_capacity: Option<u64>,
    #[serde(default)]
    pub supports_snapshots: bool,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Node {
    pub name: String,
    #[serde(default)]
    pub connection_status: String,
    #[serde(default)]
    pub props: BTreeMap<String, String>,
    #[serde(default)]
    pub net_interfaces: Vec<NetInterface>,
}

/// One of a node's ways to be reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NetInterface {
    #[serde(default)]
    pub address: String,
}

/// What a controller says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    pub version: String,
    #[serde(default)]
    pub rest_api_version: String,
}

impl Node {
    pub fn is_online(&self) -> bool {
        self.connection_status == "ONLINE"
    }

    /// As its satellite's host calls itself; left out until it was connected once.
    pub fn host(&self) -> Option<&str> {
        self.props.get("NodeUname").map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn resource(more: &Value) -> anyhow::Result<Resource> {
        let mut of = json!({
            "name": "mk-x", "node_name": "oma",
            "volumes": [{"volume_number": 0, "provider_kind": "LVM_THIN", "device_path": "/dev/drbd1000"}],
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            of[key] = value.clone();
        }
        Ok(serde_json::from_value(of)?)
    }

    #[test]
    fn a_resource_is_judged_by_its_state() -> anyhow::Result<()> {
        let volume = |state: &str| json!([{"volume_number": 0, "device_path": "/dev/drbd1000", "state": {"disk_state": state}}]);
        for good in [
            json!({}),
            json!({"state": {"in_use": false}, "volumes": volume("UpToDate")}),
            json!({"flags": ["DISKLESS"], "volumes": volume("Diskless")}),
        ] {
            assert_eq!(resource(&good)?.device(), Ok(Path::new("/dev/drbd1000")), "{good}");
        }
        for (bad, said) in [
            (json!({"volumes": [{"volume_number": 0}]}), "no device"),
            (json!({"volumes": [{"volume_number": 0, "device_path": ""}]}), "no device"),
            (json!({"volumes": volume("Inconsistent")}), "is Inconsistent"),
            // Its disk is lost.
            (json!({"volumes": volume("Diskless")}), "is Diskless"),
            (json!({"volumes": volume("SomethingNew")}), "is SomethingNew"),
            (json!({"flags": ["RESTORE_FROM_SNAPSHOT"]}), "marked RESTORE_FROM_SNAPSHOT"),
            (json!({"flags": ["SOMETHING_NEW"]}), "marked SOMETHING_NEW"),
            (json!({"volumes": []}), "has 0 volumes"),
        ] {
            let error = resource(&bad)?.device().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(said), "{bad}: {error}");
        }
        Ok(())
    }

    #[test]
    fn only_a_snapshot_that_says_so_is_whole() -> anyhow::Result<()> {
        for (flags, made) in [
            (json!(["SUCCESSFUL"]), Made::Whole),
            (json!([]), Made::Unknown),
            (json!(["FAILED_DEPLOYMENT"]), Made::Failed),
            (json!(["SUCCESSFUL", "DELETE"]), Made::Failed),
            (json!(["SOMETHING_NEW"]), Made::Unknown),
        ] {
            let of: Snapshot =
                serde_json::from_value(json!({"name": "s", "resource_name": "mk-x", "flags": flags}))?;
            assert_eq!(of.made(), made, "{flags}");
        }
        Ok(())
    }

    /// Every resource, snapshot, pool, node and definition that real controllers showed can be read.
    #[test]
    fn what_real_controllers_show_is_read() -> anyhow::Result<()> {
        use integration_tests::recordings::{Recording, exchanges};
        let mut read = [0; 5];
        for of in [Recording::Linstor, Recording::LinstorNext] {
            for exchange in exchanges(of)? {
                let (Some("GET"), Some(200)) = (exchange["method"].as_str(), exchange["status"].as_u64())
                else {
                    continue;
                };
                let path = exchange["path"].as_str().unwrap_or_default();
                // Some bodies were not kept.
                let Some(body) = exchange.get("body").filter(|body| body.is_array()).cloned() else {
                    continue;
                };
                match path.split('?').next().unwrap_or_default() {
                    "/v1/view/resources" => read[0] += serde_json::from_value::<Vec<Resource>>(body)?.len(),
                    "/v1/view/snapshots" => read[1] += serde_json::from_value::<Vec<Snapshot>>(body)?.len(),
                    "/v1/view/storage-pools" => read[2] += serde_json::from_value::<Vec<Pool>>(body)?.len(),
                    "/v1/nodes" => read[3] += serde_json::from_value::<Vec<Node>>(body)?.len(),
                    "/v1/resource-definitions" => {
                        read[4] += serde_json::from_value::<Vec<Definition>>(body)?.len()
                    }
                    _ => {}
                }
            }
        }
        assert!(read.iter().all(|read| *read > 20), "{read:?}");
        Ok(())
    }
}
