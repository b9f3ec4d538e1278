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
    #[error(
        "{scheme}:// is no kind of address that a disk has here: write nbd://, nbds://, nbd+unix:// or nbds+unix://, or ./{scheme}://… for a file of that name"
    )]
    UnknownScheme { scheme: String },
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
    #[error("{path} is written by another copy or measurement that still runs, and two would spoil it: wait until that one has ended, or name another target", path = path.display())]
    Written { path: PathBuf },
    #[error("{path} was not there a moment ago and is now, maybe made by another copy: run again to write over it, or name another target", path = path.display())]
    Appeared { path: PathBuf },
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
    #[error("{manifest}, which holds the hashes of what the copy of {path} wrote, {why}: put it back, or remove {path} to start anew", manifest = manifest.display(), path = path.display())]
    ManifestLost { manifest: PathBuf, path: PathBuf, why: String },
    #[error("{source_name} was written to or replaced since the copy of {path} was begun, so what was copied does not fit the rest: remove {path} to start anew", path = path.display())]
    SourceChanged { source_name: String, path: PathBuf },
    #[error("{target} has {have} bytes, but had at least {need} when the copy of {path} was begun: it was made shorter, and what was copied may be lost: remove {path} to start anew in a target that is large enough", target = target.display(), path = path.display())]
    TargetShrunk { target: PathBuf, have: u64, need: u64, path: PathBuf },
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
            | Self::UnknownScheme { .. }
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
            | Self::Written { .. }
            | Self::Appeared { .. }
            | Self::OtherCopy { .. }
            | Self::NoResumeFile { .. }
            | Self::Running { .. }
            | Self::TargetGone { .. }
            | Self::OtherTarget { .. }
            | Self::ManifestLost { .. }
            | Self::SourceChanged { .. }
            | Self::TargetShrunk { .. }
            | Self::Io { .. }
            | Self::Interrupted { .. }
            | Self::Output(_)
            | Self::Died { .. } => 1,
        }
    }

    /// Whether another copy runs in this one's place.
    pub(super) fn is_for_another(&self) -> bool {
        matches!(self, Self::Written { .. } | Self::InUse { .. } | Self::Running { .. })
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
