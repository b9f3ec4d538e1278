//! Where the machines run that a failover makes, behind one trait.
//!
//! A backend defines a machine, hangs volumes on it, starts and stops it, and shows what it says. It knows no
//! migrations and no restore points, and makes no volumes: whoever calls it hands over volumes that nobody else writes,
//! and never a replica (DESIGN §6 rule 7).
//!
//! ```text
//!             define              attach 0, 1, …             start
//!  (nothing) ───────► Stopped ───────────────────► Stopped ─────────► Running
//!      ▲                 │ remove                     ▲                  │ stop, the guest's own power-off,
//!      └─────────────────┘                            └──────────────────┘ or the end of its process
//! ```
//!
//! Every call may be repeated after an unknown outcome: names are the caller's and deterministic, what is there
//! already is found, what was half-made is thrown away and made again (DESIGN §6 rule 11).

pub mod cloudstack;
mod error;
mod hand_over;
#[cfg(any(test, feature = "test-compute"))]
mod instant;
mod local;
mod name;
mod turns;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shared::vm::Mac;
use uuid::Uuid;

use crate::outbound::Standing;
use crate::storage::VolumeId;

pub use cloudstack::CloudStackCompute;
pub use error::{Error, Source};
pub use hand_over::{Guard, HandOver, Method};
#[cfg(any(test, feature = "test-compute"))]
pub use instant::Machines;
pub use local::{Accel, LocalCompute, Programs};
pub use name::{InvalidName, MachineName};

/// What a machine is made of, its disks apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// What the guest sees as the machine's.
    pub uuid: Uuid,
    /// The VM's name, for people.
    pub title: String,
    pub cpus: u32,
    /// Rounded up to whole MiB.
    pub memory_bytes: u64,
    pub firmware: Firmware,
    /// What all disks hang on.
    pub bus: Bus,
    /// In the VM's order.
    pub nics: Vec<Nic>,
    /// The guest as its source names it, such as VMware's `debian12_64Guest`; some backends tune a machine to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_id: Option<String>,
}

impl Definition {
    /// The same for the same definition only: what a backend keeps of it that has no room for the whole.
    ///
    /// # Panics
    /// Never: it is plain texts and numbers.
    pub fn fingerprint(&self) -> Fingerprint {
        let text = serde_json::to_vec(self).expect("plain texts and numbers");
        Fingerprint(blake3::hash(&text).to_hex()[..32].to_owned())
    }
}

/// See [`Definition::fingerprint`]: 32 hexadecimal digits, or what somebody wrote in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// As it was read.
    pub fn read(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What starts the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    Bios,
    Efi,
}

/// What disks hang on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    VirtioBlk,
    VirtioScsi,
    Sata,
    Ide,
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::VirtioBlk => "virtio-blk",
            Self::VirtioScsi => "virtio-scsi",
            Self::Sata => "sata",
            Self::Ide => "ide",
        })
    }
}

/// A network card, of the model virtio-net.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    pub mac: Mac,
    /// The target's name of the network. A backend that has no networks keeps it for people.
    pub network: String,
    pub isolation: Isolation,
}

/// Whom a card can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Nothing outside of its network: for tests, whose machine believes to be the production one.
    Isolated,
    Connected,
}

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It has no process and nothing open.
    Stopped,
    /// Its guest runs.
    Running,
    /// Cannot be told, or neither: a guest that its process holds still, a monitor that does not answer. Never success.
    Unknown,
}

/// A machine as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub name: MachineName,
    /// Of what it was defined as.
    pub fingerprint: Fingerprint,
    /// Network cards that it has.
    pub cards: usize,
    /// In order.
    pub disks: Vec<VolumeId>,
    pub state: State,
}

/// What an inventory knows of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub name: MachineName,
    pub disks: Vec<VolumeId>,
    pub state: State,
}

impl From<Machine> for Held {
    fn from(Machine { name, fingerprint: _, cards: _, disks, state }: Machine) -> Self {
        Self { name, disks, state }
    }
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// By the power button (ACPI); when `patience` is over, the power is cut.
    Graceful { patience: Duration },
    /// The power is cut.
    Now,
}

/// A part of what a machine wrote to its serial console, over all of its starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Of the first byte in `data`.
    pub offset: u64,
    pub data: Vec<u8>,
    /// How long the whole log is now.
    pub end: u64,
}

/// What of a guest can be seen besides its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sees {
    pub console: bool,
    pub guest_agent: bool,
}

/// One backend.
#[async_trait]
pub trait Compute: Send + Sync {
    /// Finds out what takes its time, before the first machine is wanted. Nothing depends on it.
    async fn prepare(&self);

    /// What keeps such a machine from being made here: a program or firmware that is missing, with what to install.
    async fn check(&self, machine: &Definition) -> Result<(), Error>;

    /// Makes it, stopped and without disks, durably. The same that is there already is success, with the disks it has;
    /// another is [`Error::OtherMachine`].
    async fn define(&self, name: &MachineName, machine: &Definition) -> Result<(), Error>;

    /// Makes a volume that exists its disk, durably. Positions count from 0 and are filled in order. The same volume
    /// at the same position already is success, even while it runs; otherwise a running machine is refused.
    async fn attach(&self, name: &MachineName, position: usize, volume: &VolumeId) -> Result<(), Error>;

    /// Returns when its guest runs. One that runs already is success.
    async fn start(&self, name: &MachineName) -> Result<(), Error>;

    /// Returns when it is read back as stopped and has nothing open any more. Stopped already, or no machine, is success.
    async fn stop(&self, name: &MachineName, how: Stop) -> Result<(), Error>;

    /// Removes it with its console's log; its volumes stay. One that runs is refused ([`Error::Running`]); nothing
    /// to remove is success.
    async fn remove(&self, name: &MachineName) -> Result<(), Error>;

    /// `None`: there is none.
    async fn find(&self, name: &MachineName) -> Result<Option<Machine>, Error>;

    /// All, in the order of their names.
    async fn list(&self) -> Result<Vec<Machine>, Error>;

    /// The same, and what runs without being known to it any more: [`stop`](Self::stop) ends that, too.
    async fn inventory(&self) -> Result<Vec<Held>, Error> {
        Ok(self.list().await?.into_iter().map(Held::from).collect())
    }

    /// The serial console's log from byte `from`, at most `most` bytes. Behind its end there is nothing, from there.
    async fn console(&self, name: &MachineName, from: u64, most: usize) -> Result<Console, Error>;

    /// Types into the serial console; returns when the guest has taken all of it. Not to be repeated blindly: after an
    /// unknown outcome, the console shows what arrived.
    async fn type_text(&self, name: &MachineName, text: &str) -> Result<(), Error>;

    /// What its screen shows, as PNG. `None`: it has none, or does not run.
    async fn screenshot(&self, name: &MachineName) -> Result<Option<Vec<u8>>, Error>;

    /// Where a TCP port of its guest is reached from this host, if the guest takes connections there now. `None`: it does
    /// not, within a second or two; or there is no card, no machine that runs, nobody who answers.
    async fn reach(&self, name: &MachineName, port: u16) -> Result<Option<SocketAddr>, Error>;

    /// Which of a guest's signs can be seen from here.
    fn sees(&self) -> Sees {
        Sees { console: true, guest_agent: true }
    }

    /// How it stands with the server that it asks. `None`: it asks none.
    fn standing(&self) -> Option<Standing> {
        None
    }

    /// `None`: volumes are opened where they are, and nothing has to be handed over.
    fn hand_over(&self) -> Option<&dyn HandOver> {
        None
    }

    /// Whether the QEMU guest agent in it answers now, within a second or two.
    async fn guest_agent(&self, name: &MachineName) -> Result<bool, Error>;
}
