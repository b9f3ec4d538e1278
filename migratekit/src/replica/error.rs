//! Why a session takes no piece, or this piece.

use std::sync::Arc;

use shared::range::ByteRange;

use super::JournalError;
use crate::{manifest, target};

/// Every call after a failure gets the same reason, so it can be cloned.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Only this piece; the session goes on.
    #[error("bytes {range:?} refused")]
    Refused {
        range: ByteRange,
        #[source]
        why: Refusal,
    },
    /// Nothing since the last checkpoint is known. Open the target again and send again.
    #[error(
        "writing the replica failed; what was sent since its last checkpoint is unknown and must be sent again"
    )]
    Failed(#[source] Arc<Cause>),
    /// Somebody else may write the replica now.
    #[error("this transfer of the disk was ended: {reason}")]
    Fenced { reason: Arc<str> },
    /// No write is accepted any more.
    #[error("the disk is sealed or being sealed; nothing more can be written by this transfer")]
    Sealed,
    /// Not everything that was announced was sent. The session goes on.
    #[error(
        "cannot seal: {bytes} bytes in {ranges} ranges were announced but are not durable, the first is {first:?}; send them"
    )]
    Incomplete { bytes: u64, ranges: usize, first: ByteRange },
}

/// What is wrong with a piece.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is empty")]
    Empty,
    #[error("it is not whole 64 KiB leaves of the disk of {disk_size} bytes")]
    NotWholeLeaves { disk_size: u64 },
    #[error("{bytes} bytes of data are more than the {most} of one piece")]
    TooLarge { bytes: usize, most: usize },
    #[error("it carries {have} leaf hashes instead of {need}")]
    HashCount { have: usize, need: usize },
    #[error("the data of the leaf at {offset} does not have the hash that came with it")]
    HashMismatch { offset: u64 },
}

/// What ended a session.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("the target failed")]
    Target(#[from] target::Error),
    #[error("the manifest failed")]
    Manifest(#[from] manifest::Error),
    #[error("the intent to write could not be recorded")]
    Intent(#[source] JournalError),
    #[error("the checkpoint could not be recorded")]
    Checkpoint(#[source] JournalError),
    #[error("{target} has {have} bytes, fewer than the {need} of the disk")]
    TargetTooSmall { target: String, have: u64, need: u64 },
    #[error("the thread that writes could not be started")]
    Thread(#[source] std::io::Error),
    #[error("the {who} ended unexpectedly: this is a defect, see the log")]
    Died { who: &'static str },
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self::Failed(Arc::new(cause))
    }
}
