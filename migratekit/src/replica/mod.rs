//! Writing a replica so that what is called durable is (DESIGN §6, rules 1, 2, 6 and 15).
//!
//! ```text
//! stream ─ write ─┐                        ┌ pending ┐
//! stream ─ write ─┼─ budget ─ intent ─ queue ─ writer ─ flusher: target flush → manifest, flush → checkpoint → acks
//! stream ─ write ─┘  (window)  (journal)        (one thread)       (overlaps the writer)
//! ```
//!
//! A [`ReplicaSession`] is one disk under one epoch. Pieces come in any order, any number of times, over any
//! number of streams, but *within one session a leaf always has the same content* (one source snapshot): the
//! session does not order two different contents of a leaf. After any failed write, flush or journal call the
//! session is over: nothing since the last checkpoint is acknowledged, every call gets the same reason, and the
//! next session must open the target again and be sent everything since.
//!
//! It does not allocate epochs, talk to agents or make snapshots; whoever starts a session with a higher epoch
//! ends this one with [`ReplicaSession::fence`] first.

mod acks;
mod core;
mod error;
mod flusher;
mod session;
#[cfg(test)]
mod tests;
mod writer;

use std::time::Duration;

use async_trait::async_trait;
use shared::range::RangeSet;

pub use acks::Acks;
pub use error::{Cause, Error, Refusal};
pub use session::{ReplicaSession, ReplicaStream};

/// What a journal could not do, in its own words.
pub type JournalError = Box<dyn std::error::Error + Send + Sync>;

/// Where a session records what it is about to write and what is durable. Each call is for this session's disk,
/// job and epoch, and must fail when that epoch is no longer the disk's.
#[async_trait]
pub trait Journal: Send + Sync {
    /// These ranges are about to be written. Durable when it returns: no byte of them is written before.
    async fn intend(&self, ranges: &RangeSet) -> Result<(), JournalError>;

    /// These ranges are on stable storage, and so are their hashes in the manifest. Durable when it returns.
    async fn checkpoint(&self, ranges: &RangeSet) -> Result<(), JournalError>;
}

/// Whether the target is known to read back zeros where nothing was ever written (DESIGN §6 rule 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadsZero {
    /// A thin volume, fresh from creation by us.
    Yes,
    Unknown,
}

/// What is known of the replica before the session.
#[derive(Clone, Debug)]
pub struct Prior {
    /// Intents of earlier attempts of this job and of older jobs that never committed.
    pub intended: RangeSet,
    /// Checkpoints of earlier attempts of *this* job (they hold the same snapshot's content).
    pub durable: RangeSet,
    pub reads_zero: ReadsZero,
}

/// Who makes the leaf hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashes {
    /// As sent; made here only where they are missing. TLS has authenticated them.
    TrustSender,
    /// Made here from what arrived, and compared with what was sent.
    VerifyHere,
}

/// Sizes and times of a session.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Written but not flushed bytes at which a flush begins.
    pub flush_bytes: u64,
    /// Oldest a written piece gets before a flush begins.
    pub flush_interval: Duration,
    /// Most bytes accepted and not yet checkpointed.
    pub window: u64,
    /// Most bytes of data that wait for the writer: what a session costs in memory. A writer that is fed just in
    /// time also finds the data still in the processor's caches.
    pub memory: u64,
    pub hashes: Hashes,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flush_bytes: 16 << 20,
            flush_interval: Duration::from_secs(1),
            window: 64 << 20,
            memory: 2 << 20,
            hashes: Hashes::TrustSender,
        }
    }
}

/// What a session did so far. Bytes of this session only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Data given to the target; a piece sent twice counts twice.
    pub written_bytes: u64,
    /// Ranges that were really zeroed.
    pub zeroed_bytes: u64,
    /// Zeros left out because the target reads as zero there.
    pub skipped_bytes: u64,
    /// Found equal by a hash-diff and not written.
    pub confirmed_bytes: u64,
    /// Flushes of the target that succeeded.
    pub flushes: u64,
}

/// The disk is whole: everything ever intended is durable, and nothing is written any more.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Everything durable, earlier attempts of the job included.
    pub durable: RangeSet,
    pub stats: Stats,
}
