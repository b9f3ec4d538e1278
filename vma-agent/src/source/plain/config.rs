//! What the agent is told about a VM whose disks stand still.

use std::path::PathBuf;

use migratekit::nbd::NbdUri;
use serde::Deserialize;
use shared::ids::DiskKey;

/// A VM behind plain NBD servers, or in files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The disks in order; the first is the one the VM boots from.
    pub disks: Vec<DiskConfig>,
}

/// One disk: `key` and either `uri` or `file`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Raw")]
pub struct DiskConfig {
    /// The name of the disk in all that MigrateKit says.
    pub key: DiskKey,
    /// Where its bytes are.
    pub origin: Origin,
}

/// Where the bytes of a disk are.
#[derive(Clone, Debug)]
pub enum Origin {
    /// An NBD server that somebody else runs.
    Uri(NbdUri),
    /// A raw image or a block device, served by an nbdkit of the agent's.
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    key: String,
    uri: Option<String>,
    file: Option<PathBuf>,
}

impl TryFrom<Raw> for DiskConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let key = DiskKey::parse(raw.key).map_err(|error| error.to_string())?;
        let origin = match (raw.uri, raw.file) {
            (Some(uri), None) => {
                Origin::Uri(uri.parse().map_err(|error: migratekit::nbd::Error| error.to_string())?)
            }
            (None, Some(file)) => Origin::File(file),
            (Some(_), Some(_)) => return Err(format!("disk {key} has both uri and file: leave one out")),
            (None, None) => {
                return Err(format!("disk {key} has neither uri nor file: say where its bytes are"));
            }
        };
        Ok(Self { key, origin })
    }
}
