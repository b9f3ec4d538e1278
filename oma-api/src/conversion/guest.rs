//! What is known of a guest, and what became of it. Kept by whoever asked: every type here can be stored.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A raw image or a block device. A VM's disks are named in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub path: PathBuf,
}

/// What runs in a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    Linux,
    Windows,
    /// One that libguestfs knows and virt-v2v cannot convert (`freebsd`).
    Other(String),
    /// None that libguestfs knows: an appliance of its own making, encrypted disks, or no system at all.
    Unrecognised,
}

/// Whether a guest finds its disks when they hang on virtio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Virtio {
    Ready {
        why: String,
    },
    Missing {
        why: String,
    },
    /// It could not be found out.
    Unknown {
        why: String,
    },
}

impl Virtio {
    /// What the verdict rests on, for people.
    pub fn why(&self) -> &str {
        match self {
            Self::Ready { why } | Self::Missing { why } | Self::Unknown { why } => why,
        }
    }
}

impl fmt::Display for Virtio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self {
            Self::Ready { .. } => "ready for virtio",
            Self::Missing { .. } => "not ready for virtio",
            Self::Unknown { .. } => "perhaps not ready for virtio",
        };
        write!(f, "{verdict}: {}", self.why())
    }
}

/// A guest as its disks show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    pub system: System,
    /// For people: "Debian GNU/Linux 12 (bookworm)"; empty if it is unknown.
    pub name: String,
    /// The number of the disk that it boots from, from 0; `None` if none of them looks like it.
    pub boot_disk: Option<usize>,
    pub virtio: Virtio,
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = match &self.system {
            System::Linux => "a Linux",
            System::Windows => "a Windows",
            System::Other(name) => name,
            System::Unrecognised => "an unknown system",
        };
        f.write_str(if self.name.is_empty() { system } else { &self.name })
    }
}

/// What a conversion came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The guest is ready as it is. Nothing was written.
    NotNeeded(Guest),
    /// What it is, or how to convert it, is not known. Nothing was written; it may boot or not.
    NotRecognised(Guest),
    /// It was converted and looked at again, and is ready now. All is durable.
    Converted { before: Guest, after: Guest, log_tail: Vec<String> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_reads_back() {
        let guest = |system, virtio| Guest { system, name: "x".into(), boot_disk: Some(1), virtio };
        let why = || "because".to_owned();
        let before = guest(System::Windows, Virtio::Missing { why: why() });
        let after = guest(System::Windows, Virtio::Ready { why: why() });
        let outcomes = [
            Outcome::NotNeeded(guest(System::Linux, Virtio::Ready { why: why() })),
            Outcome::NotRecognised(guest(System::Other("freebsd".into()), Virtio::Unknown { why: why() })),
            Outcome::NotRecognised(guest(System::Unrecognised, Virtio::Unknown { why: why() })),
            Outcome::Converted { before, after, log_tail: vec!["Finishing off".into()] },
        ];
        for outcome in outcomes {
            let text = serde_json::to_string(&outcome).expect("it can be written");
            assert_eq!(serde_json::from_str::<Outcome>(&text).expect("it can be read"), outcome);
        }
        let text = serde_json::to_string(&System::Unrecognised).expect("it can be written");
        assert_eq!(text, "\"unrecognised\"");
    }
}
