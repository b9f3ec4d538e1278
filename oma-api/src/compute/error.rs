//! What could not be done with a machine.

use super::{Bus, MachineName};
use crate::storage::{self, VolumeId};
use crate::{cloudstack, linstor};

/// The cause of a failure below, whichever backend it is.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// What the backend could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no machine {name}: define it first")]
    NoMachine { name: MachineName },
    /// `what` differs, each as "X is A, not B".
    #[error(
        "machine {name} is there already, and is another one ({what}): remove it first, or use another name"
    )]
    OtherMachine { name: MachineName, what: String },
    #[error(
        "machine {name} has volume {have} as disk {position}, not {asked}: remove the machine, and define it again"
    )]
    OtherDisk { name: MachineName, position: usize, have: VolumeId, asked: VolumeId },
    #[error("volume {volume} is disk {position} of machine {name} already: each volume is one disk")]
    AttachedAlready { name: MachineName, volume: VolumeId, position: usize },
    #[error(
        "machine {name} has {disks} disks, so disk {position} cannot be next: attach them in their order"
    )]
    OutOfOrder { name: MachineName, position: usize, disks: usize },
    #[error("machine {name} cannot have more than {most} disks on {bus}: define it with another bus")]
    TooManyDisks { name: MachineName, bus: Bus, most: usize },
    #[error("machine {name} runs: stop it first")]
    Running { name: MachineName },
    #[error("machine {name} does not run: start it first")]
    NotRunning { name: MachineName },
    /// No such machine can be made anywhere.
    #[error("no machine can be made with {what}")]
    Unusable { what: String },
    #[error("{what} is missing on this host: install {install}, then try again")]
    Missing { what: String, install: &'static str },
    #[error("machine {name} was not started: {why}")]
    Start { name: MachineName, why: String },
    /// It has its volumes open, and its guest does nothing.
    #[error(
        "machine {name} is there, but its guest does not run ({status}): look at its console, or stop it and start it again"
    )]
    Stuck { name: MachineName, status: String },
    #[error("machine {name} was told to stop and then killed, and is still there{}: look at that process on the host (waiting for its disks?)", .process.map_or(String::new(), |id| format!(" as process {id}")))]
    StillRuns { name: MachineName, process: Option<u32> },
    #[error(
        "volume {volume} of machine {name} is in use by another process: stop whatever has it open, then try again"
    )]
    VolumeInUse { name: MachineName, volume: VolumeId },
    /// Nothing else is known about what happened to the text.
    #[error(
        "the guest of machine {name} did not take all of the text from its serial console: what it took is not known"
    )]
    NotTaken { name: MachineName },
    /// The command may have been carried out.
    #[error("machine {name} cannot be asked")]
    Monitor {
        name: MachineName,
        #[source]
        source: Source,
    },
    #[error(
        "what is written in {place} is not what this version writes: put it right, or stop the machine and remove its folder"
    )]
    Unreadable {
        place: String,
        #[source]
        source: Source,
    },
    /// What is to be made, or what it is made of, is not to be had there.
    #[error("{what}")]
    Unfit { what: String },
    /// It has been looked at after a call, and is not as that was to make it. No machine starts on it.
    #[error("{what} is not as it should be ({why}): nothing was started on it")]
    NotAsMeant { what: String, why: String },
    /// Its record cannot be used any more.
    #[error(
        "volume {volume} cannot be handed over: {why}; begin the failover anew, which makes another clone"
    )]
    VolumeStuck { volume: VolumeId, why: String },
    #[error("volume {volume} cannot be moved: {why}")]
    VolumeHeld { volume: VolumeId, why: String },
    #[error("{what} cannot be had from this compute backend")]
    Unsupported { what: &'static str },
    #[error(transparent)]
    CloudStack(Box<cloudstack::Error>),
    #[error(transparent)]
    Linstor(#[from] Box<linstor::Fault>),
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error("cannot {what} {place}")]
    Io {
        what: &'static str,
        place: String,
        #[source]
        source: std::io::Error,
    },
    #[error("a call of the compute backend ended unexpectedly: this is a defect, see the log")]
    Died,
}

impl From<cloudstack::Error> for Error {
    fn from(error: cloudstack::Error) -> Self {
        Self::CloudStack(Box::new(error))
    }
}

impl From<linstor::Fault> for Error {
    fn from(fault: linstor::Fault) -> Self {
        Self::Linstor(Box::new(fault))
    }
}
