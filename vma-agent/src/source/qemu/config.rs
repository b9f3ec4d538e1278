//! What the agent is told about a VM behind QEMU.

use std::path::PathBuf;
use std::str::FromStr;

use migratekit::nbd::{self, NbdUri};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use shared::ids::DiskKey;

/// A VM behind QEMU (`qemu-storage-daemon`, `qemu-system-*`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Unix socket of a QMP monitor that nobody else uses.
    pub qmp: PathBuf,
    /// Where QEMU's own NBD server listens, as the agent reaches it: `unix:/path` or `tcp:host:port`. It must be
    /// running; the agent adds and removes exports.
    pub nbd: NbdServer,
    /// Folder for what the guest overwrites while a snapshot is there; QEMU writes to it, so it must be able to. By
    /// default in the agent's `state_dir`. When its file system is full, the snapshot is lost, never a write of the
    /// guest.
    pub scratch: Option<PathBuf>,
    /// The disks in order; the first is the one the VM boots from.
    pub disks: Vec<DiskConfig>,
}

/// One disk: two nodes of QEMU's block graph.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Raw")]
pub struct DiskConfig {
    /// The name of the disk in all that MigrateKit says.
    pub key: DiskKey,
    /// Where it is in the block graph.
    pub nodes: Nodes,
}

/// As it stands in the file: `key`, `node`, `top`, `top_options` beside each other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(deserialize_with = "disk_key")]
    key: DiskKey,
    node: String,
    top: String,
    #[serde(default = "default_top_options")]
    top_options: Map<String, Value>,
}

impl From<Raw> for DiskConfig {
    fn from(Raw { key, node, top, top_options }: Raw) -> Self {
        Self { key, nodes: Nodes { node, top, top_options } }
    }
}

/// The nodes of a disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    /// Node name of the qcow2 image, which holds the dirty bitmaps.
    pub node: String,
    /// Node name of the `raw` node between the guest's device and `node`; a snapshot swaps its child.
    pub top: String,
    /// Options of `top` besides `driver`, `node-name` and `file`. QEMU forgets those that are not repeated.
    pub top_options: Map<String, Value>,
}

fn default_top_options() -> Map<String, Value> {
    Map::from_iter([("discard".to_owned(), Value::from("unmap"))])
}

impl Nodes {
    /// With the usual options.
    pub fn new(node: impl Into<String>, top: impl Into<String>) -> Self {
        Self { node: node.into(), top: top.into(), top_options: default_top_options() }
    }
}

/// Address of QEMU's NBD server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum NbdServer {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`, in clear: for a network that nobody else is on.
    Tcp(String),
}

impl NbdServer {
    pub(super) fn uri(&self, export: &str) -> Result<NbdUri, nbd::Error> {
        match self {
            Self::Unix(path) => NbdUri::unix_export(path, export),
            // Names of exports are of ours: letters, digits and `-_.`, which stand for themselves.
            Self::Tcp(address) => format!("nbd://{address}/{export}").parse(),
        }
    }
}

impl FromStr for NbdServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) if address.contains(':') => Ok(Self::Tcp(address.to_owned())),
            Some(_) | None => Err(format!("{text:?} is no NBD server: expected unix:/path or tcp:host:port")),
        }
    }
}

impl TryFrom<String> for NbdServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

fn disk_key<'de, D: Deserializer<'de>>(input: D) -> Result<DiskKey, D::Error> {
    DiskKey::parse(String::deserialize(input)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_examples_show() {
        let text = r#"{"qmp": "/run/vm/agent.qmp", "nbd": "unix:/run/vm/nbd.sock",
            "disks": [{"key": "root", "node": "disk-root", "top": "top-root"}]}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.nbd, NbdServer::Unix("/run/vm/nbd.sock".into()));
        assert_eq!(config.disks[0].nodes, Nodes::new("disk-root", "top-root"));
        assert_eq!("tcp:10.0.0.1:10809".parse(), Ok(NbdServer::Tcp("10.0.0.1:10809".into())));
        for bad in ["/run/nbd.sock", "unix:relative", "tcp:host"] {
            assert!(bad.parse::<NbdServer>().is_err(), "{bad}");
        }
    }
}
