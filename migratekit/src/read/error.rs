//! What can go wrong while a source is read. Names of sources carry no secrets.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use shared::range::ByteRange;

use crate::nbd;

/// A failure of a source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The NBD server or the way to it.
    #[error(transparent)]
    Nbd(#[from] nbd::Error),
    /// A source file or device.
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// A source file that ended while it was read.
    #[error("{} ended at or after offset {offset}, before its size when it was opened: was it truncated?", path.display())]
    Truncated { path: PathBuf, offset: u64 },
    /// The server owes answers and gives none.
    #[error("{source_name} has not answered for {} s (the oldest request is at offset {offset}): is it or the network stuck?", after.as_secs())]
    Stalled { source_name: String, offset: u64, after: Duration },
    /// A request beyond the source.
    #[error("{range:?} is past the end of {source_name}, which has {size} bytes")]
    PastEnd { source_name: String, range: ByteRange, size: u64 },
    /// A request that does not start at a leaf.
    #[error("{range:?} of {source_name} does not start at a leaf")]
    Unaligned { source_name: String, range: ByteRange },
    /// Connections of one server see different disks.
    #[error(
        "{source_name} had {first} bytes on the first connection and has {now} on another: was it resized?"
    )]
    SizeChanged { source_name: String, first: u64, now: u64 },
    /// Less than a leaf in one request.
    #[error("{source_name} takes at most {most} bytes in one request; 65536 are needed")]
    BlockSize { source_name: String, most: u64 },
    /// The server has no such dirty bitmap.
    #[error("{source_name} has no dirty bitmap {name}: see what it has with nbdinfo --map")]
    NoBitmap { source_name: String, name: String },
    /// The server left out what it had promised to tell.
    #[error("{source_name} said nothing about {context} at offset {offset}, though it offers it")]
    NoStatus { source_name: String, context: String, offset: u64 },
    /// Reading has ended; the reason went to the receiver of pieces.
    #[error("reading {source_name} has ended")]
    Closed { source_name: String },
    /// The system has no more descriptors or threads.
    #[error("cannot set up reading: {action}")]
    Setup { action: &'static str, source: io::Error },
}
