//! What can go wrong with a target, by what an operator has to do about it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::nbd;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Open,
    Create,
    Write,
    Zero,
    Flush,
    Read,
    Seek,
    Clone,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Write => "write",
            Self::Zero => "zero",
            Self::Flush => "flush",
            Self::Read => "read",
            Self::Seek => "look for data in",
            Self::Clone => "clone",
        })
    }
}

impl From<nbd::Change> for Op {
    fn from(change: nbd::Change) -> Self {
        match change {
            nbd::Change::Write => Self::Write,
            nbd::Change::Zero => Self::Zero,
            nbd::Change::Flush => Self::Flush,
        }
    }
}

/// A target that cannot be used, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was written.
    #[error("{path} has {have} bytes, but the disk needs {need}: use a larger target", path = path.display())]
    TooSmall { path: PathBuf, need: u64, have: u64 },
    /// The file system, the quota or the largest file it can hold is exhausted.
    #[error("no room to {op} {path} at offset {offset}: free space on its file system or raise the quota, then run again", path = path.display())]
    NoRoom {
        op: Op,
        path: PathBuf,
        offset: u64,
        #[source]
        source: std::io::Error,
    },
    /// Somebody has cut the file: what was written is not all there.
    #[error("{path} has only {have} of its {need} bytes: something has cut it while it was written; begin again with a file of its own", path = path.display())]
    Shrunk { path: PathBuf, need: u64, have: u64 },
    /// Somebody has removed the file: nobody will find what was written.
    #[error("{path} was removed while it was written: begin again with a file of its own", path = path.display())]
    Removed { path: PathBuf },
    /// Neither a regular file nor a block device.
    #[error("{path} is neither a regular file nor a block device", path = path.display())]
    Unsuitable { path: PathBuf },
    /// The range does not lie inside the target.
    #[error("{path}: {op} of {start}..{end} is outside its {size} bytes", path = path.display())]
    Outside { op: Op, path: PathBuf, start: u64, end: u64, size: u64 },
    /// An earlier flush failed: what was written since the last good one is unknown.
    #[error("{path}: a flush failed before, so what was written since is unknown: open it again and write again", path = path.display())]
    Lost { path: PathBuf },
    /// An NBD target: its server, or the way to it.
    #[error(transparent)]
    Nbd(#[from] nbd::Error),
    /// An NBD target. Nothing was written.
    #[error(
        "{target} is exported read-only: start its server so that it may be written, or name another target"
    )]
    ReadOnly { target: String },
    /// An NBD target. Nothing was written.
    #[error(
        "{target} cannot flush, so nothing written to it is ever known to be on stable storage: use a server that can, or say --without-flush"
    )]
    NoFlush { target: String },
    /// An NBD target. Nothing was written.
    #[error(
        "{target} is written in whole blocks of {block} bytes only, which the disk of {need} bytes cannot be: use a server with smaller blocks, or a source of whole blocks"
    )]
    BlockSize { target: String, block: u64, need: u64 },
    /// An NBD target. Nothing was written.
    #[error(
        "{target} is another export on a further connection than on the first: was it resized or replaced?"
    )]
    Changed { target: String },
    /// An NBD target: it owes answers and gives none.
    #[error("{target} has not answered for {} s (the oldest request is at offset {offset}): is it or the network stuck?", after.as_secs())]
    Stalled { target: String, offset: u64, after: Duration },
    /// What was accepted before has failed, for this reason; the target does nothing more.
    #[error(transparent)]
    Ended(Arc<Self>),
    /// The system refused.
    #[error("cannot {op} {path} at offset {offset}", path = path.display())]
    Io {
        op: Op,
        path: PathBuf,
        offset: u64,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// What happened first, for who sorts errors: a target that ended gives its reason to every call after it.
    pub fn reason(&self) -> &Self {
        match self {
            Self::Ended(why) => why.reason(),
            other => other,
        }
    }

    /// Sorts an error of the system into [`NoRoom`](Self::NoRoom) or [`Io`](Self::Io).
    pub fn from_io(op: Op, path: &Path, offset: u64, source: impl Into<std::io::Error>) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let (path, source) = (path.to_owned(), source.into());
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::NoRoom { op, path, offset, source },
            _ => Self::Io { op, path, offset, source },
        }
    }
}
