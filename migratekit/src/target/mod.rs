//! What a disk is written to: a file, a block device, or an NBD export.
//!
//! A [`Target`] writes whole buffers at an offset, makes ranges read back as zero, flushes, and reads
//! past the page cache. It does not know leaves, hashes, checkpoints or who may write: that is
//! [`crate::replica`]. It neither makes nor removes volumes for a control plane: that is the OMA's storage.
//!
//! All calls block. They are made from threads of their own, never from an async task.

mod buffer;
mod clone;
mod error;
#[cfg(any(test, feature = "test-faults"))]
pub mod fault;
mod file;
mod nbd;
mod outstanding;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use shared::range::ByteRange;

pub use buffer::AlignedBuf;
pub use clone::{CloneKind, clone_file, sync_parent};
pub use error::{Error, Op};
pub use file::FileTarget;
pub use nbd::{Flushing, NbdOptions, NbdTarget};

/// How a read got past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPath {
    /// `O_DIRECT`: from the storage itself.
    Direct,
    /// The file system refuses `O_DIRECT` (tmpfs): flushed and dropped from the cache first, as far as it can be.
    CacheDropped,
    /// By asking an NBD server, which may answer from a cache of its own.
    Server,
}

/// A replica's bytes. One at a time may write; anyone may read.
pub trait Target: Send + Sync {
    /// Names it in messages.
    fn name(&self) -> String;

    /// Usable bytes; never changes while it is open. May be more than the disk it replicates.
    fn size(&self) -> u64;

    /// Writes all of `data`, one piece after the other, from `offset` on, or fails.
    ///
    /// It may return before it has begun: what fails is told by a later call. Of two that overlap, the later one stays.
    /// Written is not durable: only [`flush`](Self::flush) makes it so, and only it tells of a failure for certain.
    fn write_at(&self, offset: u64, data: &[Bytes]) -> Result<(), Error>;

    /// Makes `range` read back as zeros, for certain, keeping or making holes where that can be had.
    fn zero(&self, range: ByteRange) -> Result<(), Error>;

    /// Returns when all that was written before the call is on stable storage.
    ///
    /// An error is final: what was written since the last success is unknown (the kernel reports a lost
    /// write once and forgets it), so the target must be opened again and written again (DESIGN §6 rule 1).
    fn flush(&self) -> Result<(), Error>;

    /// Fills `buf` from `offset` on, past the page cache. `offset` is a multiple of [`AlignedBuf::ALIGN`].
    fn read_direct(&self, offset: u64, buf: &mut AlignedBuf) -> Result<ReadPath, Error>;

    /// The first range at or after `offset` that may hold data; what lies before it reads as zeros.
    /// `None`: nothing but zeros follows. A target that cannot tell answers everything.
    fn next_data(&self, offset: u64) -> Result<Option<ByteRange>, Error>;

    /// Begins nothing more, and returns when nothing is under way that could still change a byte: whoever opens the same
    /// place afterwards is alone there. What was not flushed is lost; every further call fails.
    fn end(&self);
}
