//! Why a copy was not made, in words for the terminal.

use std::io;
use std::path::PathBuf;

use crate::{manifest, nbd, plan, read, replica, target, verify};

/// A copy that was not made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was touched.
    #[error(transparent)]
    Uri(nbd::Error),
    #[error(transparent)]
    Source(#[from] read::Error),
    #[error("the copy cannot be planned")]
    Plan(#[from] plan::Error),
    #[error(transparent)]
    Target(#[from] target::Error),
    #[error("the hashes of the copy cannot be kept: is there room in the folder of --resume, or in TMPDIR?")]
    Manifest(#[from] manifest::Error),
    #[error("the copy cannot be written")]
    Replica(#[from] replica::Error),
    #[error("the copy was written and flushed, but cannot be verified")]
    Verify(#[from] verify::Error),
    #[error(
        "{target} does not hold what was written to it: {bytes} bytes differ, the first at offset {offset}: its storage or memory is faulty, or somebody else wrote to it{}",
        if *resumable { "; run it again with the same --resume to copy them again" } else { "" }
    )]
    Different { target: String, bytes: u64, offset: u64, resumable: bool },
    #[error("--progress-url {url} cannot be used: write http://HOST:PORT, such as http://localhost:8081")]
    ProgressUrl { url: String },
    #[error("--bitmap needs an NBD server that has one; {path} is no NBD URI")]
    BitmapOfFile { path: String },
    #[error("--without-flush is for NBD targets; {path} is none, and is always flushed", path = path.display())]
    WithoutFlush { path: PathBuf },
    #[error("{path} does not exist, but --bitmap copies changes only: make a full copy first", path = path.display())]
    NothingToUpdate { path: PathBuf },
    #[error("{path} is the source, too: name another target", path = path.display())]
    SameFile { path: PathBuf },
    #[error("{path} is mounted or in use: unmount it, or stop what uses it", path = path.display())]
    InUse { path: PathBuf },
    #[error("{path} was made for another copy ({what} was {had}, and is {have} now): remove it to start anew, or name another file", path = path.display())]
    OtherCopy { path: PathBuf, what: &'static str, had: String, have: String },
    #[error("{path} is no resume file of migratekit copy: name another file", path = path.display())]
    NoResumeFile { path: PathBuf },
    #[error("{path} is used by another copy that still runs", path = path.display())]
    Running { path: PathBuf },
    #[error("{target} is gone, but {path} says that part of it was copied: remove {path} to start anew", target = target.display(), path = path.display())]
    TargetGone { target: PathBuf, path: PathBuf },
    #[error("{target} is not the file that the copy of {path} was begun in: put that one back, or remove {path} to start anew", target = target.display(), path = path.display())]
    OtherTarget { target: PathBuf, path: PathBuf },
    #[error("cannot {action} {path}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("interrupted{}", if *resumable { ": run it again with the same --resume to go on" } else { "" })]
    Interrupted { resumable: bool },
    #[error("the summary cannot be written")]
    Output(#[source] io::Error),
    #[error("the {who} ended unexpectedly: this is a defect, see the log")]
    Died { who: &'static str },
}

impl Error {
    /// 64 for arguments that cannot be used, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Uri(_)
            | Self::ProgressUrl { .. }
            | Self::BitmapOfFile { .. }
            | Self::WithoutFlush { .. }
            | Self::SameFile { .. } => 64,
            Self::Source(_)
            | Self::Plan(_)
            | Self::Target(_)
            | Self::Manifest(_)
            | Self::Replica(_)
            | Self::Verify(_)
            | Self::Different { .. }
            | Self::NothingToUpdate { .. }
            | Self::InUse { .. }
            | Self::OtherCopy { .. }
            | Self::NoResumeFile { .. }
            | Self::Running { .. }
            | Self::TargetGone { .. }
            | Self::OtherTarget { .. }
            | Self::Io { .. }
            | Self::Interrupted { .. }
            | Self::Output(_)
            | Self::Died { .. } => 1,
        }
    }

    /// Whether it says only that the reader ended, and somebody else knows why.
    pub(super) fn is_closed_reader(&self) -> bool {
        let closed = |e: &(dyn std::error::Error + 'static)| {
            matches!(e.downcast_ref::<read::Error>(), Some(read::Error::Closed { .. }))
        };
        match self {
            Self::Source(error) => closed(error),
            Self::Plan(plan::Error::Changed { source, .. } | plan::Error::Extents { source, .. }) => {
                closed(source.as_ref())
            }
            _ => false,
        }
    }
}
