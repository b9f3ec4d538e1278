//! The one thread that writes: pieces reach the target in the order in which they were accepted.

use std::sync::Arc;

use bytes::Bytes;
use shared::leaf::{LEAF, LeafHash};
use shared::range::{ByteRange, RangeSet};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;

use super::acks::AckCell;
use super::core::{Content, Core, Written};
use super::{Cause, ReadsZero};
use crate::manifest::Manifest;
use crate::target::Target;

/// What is to be done with a range, checked.
pub(super) enum Work {
    Data(Bytes, Vec<LeafHash>),
    Zero,
    /// The replica reads back what has these hashes; `None`: zeros.
    Confirm(Option<Vec<LeafHash>>),
}

pub(super) struct Job {
    pub(super) range: ByteRange,
    pub(super) work: Work,
    pub(super) stream: Arc<AckCell>,
    pub(super) permit: OwnedSemaphorePermit,
    /// Its share of the memory, given back when it is written.
    pub(super) memory: OwnedSemaphorePermit,
}

pub(super) struct Writer {
    pub(super) core: Arc<Core>,
    pub(super) target: Arc<dyn Target>,
    pub(super) manifest: Arc<Manifest>,
    pub(super) reads_zero: ReadsZero,
    /// Where something may have been written since the manifest was committed.
    pub(super) touched: RangeSet,
}

enum Done {
    Written,
    Zeroed,
    Skipped,
    Confirmed,
}

impl Writer {
    /// Until the last handle of the session is gone.
    pub(super) fn run(mut self, mut jobs: Receiver<Job>) {
        let guard = Guard(self.core.clone());
        while let Some(job) = jobs.blocking_recv() {
            if self.core.write_begins() {
                self.job(job);
            } else {
                drop(job);
                self.core.write_ended(None, |_| {});
            }
        }
        drop(guard);
    }

    fn job(&mut self, job: Job) {
        let Job { range, work, stream, permit, memory } = job;
        let applied = self.apply(range, work);
        drop(memory);
        match applied {
            Ok((done, content)) => {
                let bytes = range.len();
                let written = Written { range, content, stream, permit };
                self.core.write_ended(Some(written), |stats| match done {
                    Done::Written => stats.written_bytes += bytes,
                    Done::Zeroed => stats.zeroed_bytes += bytes,
                    Done::Skipped => stats.skipped_bytes += bytes,
                    Done::Confirmed => stats.confirmed_bytes += bytes,
                });
            }
            Err(cause) => {
                self.core.close(cause);
                self.core.write_ended(None, |_| {});
            }
        }
    }

    fn apply(&mut self, range: ByteRange, work: Work) -> Result<(Done, Content), Cause> {
        match work {
            Work::Data(data, hashes) => {
                // Before the write: one that failed half-way has touched the range too.
                self.touched.insert(range);
                self.target.write_at(range.start, &[data])?;
                Ok((Done::Written, Content::Hashes(hashes)))
            }
            Work::Zero if self.reads_as_zero(range)? => Ok((Done::Skipped, Content::Zero)),
            Work::Zero => {
                self.touched.insert(range);
                self.target.zero(range)?;
                Ok((Done::Zeroed, Content::Zero))
            }
            Work::Confirm(Some(hashes)) => {
                self.touched.insert(range);
                Ok((Done::Confirmed, Content::Hashes(hashes)))
            }
            Work::Confirm(None) => Ok((Done::Confirmed, Content::Zero)),
        }
    }

    /// DESIGN §6 rule 6: the target reads zero where nothing was written, and nothing was written here: neither by
    /// this session, nor by anybody who did not commit, nor by anybody who did (the manifest would show it).
    fn reads_as_zero(&self, range: ByteRange) -> Result<bool, Cause> {
        if self.reads_zero != ReadsZero::Yes || self.touched.within(range).next().is_some() {
            return Ok(false);
        }
        let mut at = range.start;
        let mut hashes = Vec::new();
        while let Some(data) = self.manifest.next_data(at)?.filter(|d| d.start < range.end) {
            // 64 KiB of manifest at a time, whatever the length of the range.
            let end = data.end.min(range.end).min(data.start + 4096 * LEAF);
            let leaves = usize::try_from((end - data.start).div_ceil(LEAF)).expect("at most 4096");
            hashes.resize(leaves, LeafHash::ZERO);
            self.manifest.read(data.start, &mut hashes)?;
            if hashes.iter().any(|h| *h != LeafHash::ZERO) {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }
}

/// A writer that panicked must not leave a session that waits for it.
struct Guard(Arc<Core>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close(Cause::Died { who: "writer" });
            self.0.write_ended(None, |_| {});
        }
    }
}
