//! A client of NBD servers: the system's libnbd behind a safe wrapper.
//!
//! [`Handle`] is one connection, driven by the thread that owns it: it starts requests, waits for the socket or for a
//! wake-up, and hands back what has ended. Buffers are moved in and handed back, so nothing can free or look at one
//! while the library writes into it; what is written is shared, not copied.
//!
//! Deliberately not here: threads, queues and retries (see [`read`](crate::read) and [`target`](crate::target)), and any
//! choice of what to read (see [`plan`](crate::plan)).

mod buffer;
mod error;
mod ffi;
mod patience;
mod uri;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use shared::range::ByteRange;

pub use buffer::Buffer;
pub use error::Error;
pub use ffi::{Completed, Handle};
pub(crate) use patience::{Patience, part};
pub use uri::NbdUri;

/// The metadata context that tells data from zeros.
pub const BASE_ALLOCATION: &str = "base:allocation";

/// Flag of `base:allocation`: the range reads as zeros. (A hole without it may read as anything.)
pub const STATE_ZERO: u32 = 2;

/// Flag of `qemu:dirty-bitmap:NAME`: the range has changed.
pub const STATE_DIRTY: u32 = 1;

/// The metadata context of a dirty bitmap of a QEMU server.
pub fn dirty_bitmap_context(name: &str) -> String {
    format!("qemu:dirty-bitmap:{name}")
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Metadata contexts to ask for. What the server does not have is left out of [`Export::contexts`].
    pub contexts: Vec<String>,
    /// The longest that connecting and the handshake may take. (Looking up a host name is the system resolver's own
    /// time and is not covered.)
    pub timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { contexts: vec![BASE_ALLOCATION.to_owned()], timeout: Duration::from_secs(20) }
    }
}

/// What the server said about the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Bytes.
    pub size: u64,
    /// Requests must start and end at multiples of this (except at the end of the export), in bytes.
    pub block_min: u64,
    /// Bytes the server likes best; at least `block_min`.
    pub block_preferred: u64,
    /// Most bytes of one request.
    pub block_max: u64,
    /// Several connections see the same content.
    pub multi_conn: bool,
    /// The server refuses writes.
    pub read_only: bool,
    /// The server can make what was written durable.
    pub can_flush: bool,
    /// The server can make zeros without being sent them.
    pub can_zero: bool,
    /// The metadata contexts that were asked for and granted.
    pub contexts: Vec<String>,
}

impl Export {
    /// Whether the metadata context was granted.
    pub fn has_context(&self, name: &str) -> bool {
        self.contexts.iter().any(|c| c == name)
    }

    /// Widens `range` to what the server's smallest block allows, never past the export.
    pub fn round_out(&self, range: ByteRange) -> ByteRange {
        let min = self.block_min.max(1);
        let end = range.end.div_ceil(min).saturating_mul(min).min(self.size);
        ByteRange::new((range.start / min * min).min(end), end)
    }
}

/// A request that changes the export, or makes changes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Write,
    Zero,
    Flush,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Zero => "zero",
            Self::Flush => "flush",
        })
    }
}

/// What a block status query said for one metadata context: ranges in order, with the context's flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Name of the metadata context.
    pub context: String,
    /// May end before the queried range does, or after it.
    pub extents: Vec<(ByteRange, u32)>,
}
