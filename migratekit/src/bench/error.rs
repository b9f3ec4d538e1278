//! Why nothing was measured.

use std::io;
use std::path::PathBuf;

use crate::{copy, manifest, nbd, plan, read, replica, target};

/// A measurement that was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Uri(nbd::Error),
    #[error(transparent)]
    Source(#[from] read::Error),
    #[error("the source cannot be measured")]
    Plan(#[from] plan::Error),
    #[error("{source_name} has no data to measure with, only zeros: name another source")]
    NoData { source_name: String },
    #[error("{path} is there already and would be overwritten: name a folder, or say --overwrite if its content may be lost", path = path.display())]
    Exists { path: PathBuf },
    #[error("{path} does not exist: name a folder that does, or with --overwrite a file or a device that does", path = path.display())]
    Missing { path: PathBuf },
    #[error("{name} has {have} bytes, too few to measure with: {need} are needed")]
    TooSmall { name: String, have: u64, need: u64 },
    #[error("half of the {free} bytes free in {path} is too little to measure with: free some, or name another folder", path = path.display())]
    NoRoom { path: PathBuf, free: u64 },
    /// A device in use, or the source itself.
    #[error(transparent)]
    Device(#[from] copy::Error),
    #[error(transparent)]
    Target(#[from] target::Error),
    #[error("the target cannot be written")]
    Replica(#[from] replica::Error),
    #[error("the hashes cannot be kept: is there room in TMPDIR?")]
    Manifest(#[from] manifest::Error),
    #[error("the loopback connection cannot be made: {why}")]
    Wire { why: String },
    #[error("cannot {action} {path}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("interrupted")]
    Interrupted,
    #[error("a thread of the measurement ended unexpectedly: this is a defect, see the log")]
    Died,
    #[error("the result cannot be written")]
    Output(#[source] io::Error),
}

impl Error {
    /// 64 for arguments that cannot be used, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Uri(_) | Self::Exists { .. } | Self::Missing { .. } => 64,
            Self::Device(error) => error.exit_code(),
            Self::Source(_)
            | Self::Plan(_)
            | Self::NoData { .. }
            | Self::TooSmall { .. }
            | Self::NoRoom { .. }
            | Self::Target(_)
            | Self::Replica(_)
            | Self::Manifest(_)
            | Self::Wire { .. }
            | Self::Io { .. }
            | Self::Interrupted
            | Self::Died
            | Self::Output(_) => 1,
        }
    }
}
