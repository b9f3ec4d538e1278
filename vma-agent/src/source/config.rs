//! Which kind of source a VM has: `kind` in the configuration, and the keys of that kind beside it.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use shared::ids::VmUuid;

use super::plain::{self, PlainSource};
use super::qemu::{self, QemuSource};
use super::{Error, Source};

/// The source of one VM, as configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Config {
    /// A running VM behind QEMU: snapshots and change tracking.
    Qemu(qemu::Config),
    /// Plain NBD servers or files: neither.
    Plain(plain::Config),
}

impl Config {
    /// The source. `state_dir` is the agent's own folder. Talks to nobody yet.
    ///
    /// # Errors
    /// None of today's kinds.
    pub fn open(&self, uuid: &VmUuid, name: &str, state_dir: &Path) -> Result<Arc<dyn Source>, Error> {
        let snapshots = state_dir.join("snapshots");
        Ok(match self {
            Self::Qemu(config) => Arc::new(QemuSource::new(uuid.clone(), name, config.clone(), &snapshots)),
            Self::Plain(config) => {
                let sockets = state_dir.join("run");
                Arc::new(PlainSource::new(uuid.clone(), name, config.clone(), &snapshots, &sockets))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_decides_and_unknown_keys_are_refused() {
        let qemu = r#"{"kind": "qemu", "qmp": "/q", "nbd": "unix:/n",
            "disks": [{"key": "root", "node": "disk-root", "top": "top-root"}]}"#;
        assert!(matches!(serde_json::from_str(qemu).unwrap(), Config::Qemu(_)));
        let plain = r#"{"kind": "plain", "disks": [{"key": "root", "file": "/disk.img"}]}"#;
        assert!(matches!(serde_json::from_str(plain).unwrap(), Config::Plain(_)));
        for (good, bad) in
            [(qemu, qemu.replace("\"qmp\"", "\"qpm\"")), (qemu, qemu.replace("\"top\"", "\"tops\""))]
        {
            assert_ne!(good, bad);
            assert!(serde_json::from_str::<Config>(&bad).is_err(), "{bad}");
        }
        let bad = plain.replace("\"file\"", "\"path\"");
        assert!(serde_json::from_str::<Config>(&bad).unwrap_err().to_string().contains("path"));
        assert!(serde_json::from_str::<Config>(r#"{"kind": "vmware"}"#).is_err());
    }
}
