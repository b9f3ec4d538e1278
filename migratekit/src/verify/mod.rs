//! The replica's arm of verification: does it hold what the manifest says (DESIGN §6 rule 10)?
//!
//! Reads past the page cache, so that it is the storage that answers. What neither side has data for is not read:
//! it costs the same for a sparse TiB as for what is in it. It changes nothing; the manifest is not healed from
//! the replica, ever. The source's arm compares in the same way through [`compare_manifest`].

mod block;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Mutex;
use std::sync::PoisonError;

use shared::range::{ByteRange, RangeSet};
use tokio_util::sync::CancellationToken;

pub use block::{Expected, compare_block, compare_manifest};

use crate::manifest::{self, Manifest};
use crate::target::{self, AlignedBuf, ReadPath, Target};
use walk::{Step, Walk};

/// Bytes of one read.
const REQUEST: usize = 2 << 20;

/// Reads under way at once: enough that the storage is busy while hashes are made.
const THREADS: usize = 2;

/// Ranges that a report names; the count goes on beyond.
pub const MOST_RANGES: usize = 1024;

/// Why no verdict was reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the replica cannot be read back")]
    Target(#[from] target::Error),
    #[error("the manifest cannot be read")]
    Manifest(#[from] manifest::Error),
    #[error("{target} has {have} bytes, fewer than the {need} of the manifest's disk")]
    TooSmall { target: String, have: u64, need: u64 },
    /// The caller asked for something that is not whole leaves inside the disk, or gave another number of hashes.
    #[error("{range:?} with {hashes} hashes is not whole leaves of a disk of {size} bytes")]
    Range { range: ByteRange, hashes: usize, size: u64 },
    #[error("stopped before the end")]
    Cancelled,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Compared or skipped, holes included.
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// What a verification found. Equal means: `different_bytes` is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes known to be equal or different; zeros by holes on both sides included.
    pub compared_bytes: u64,
    /// Of those: read from storage.
    pub read_bytes: u64,
    /// Whole leaves that do not hold what the manifest says; the first [`MOST_RANGES`] ranges found.
    pub different: RangeSet,
    /// All of them.
    pub different_bytes: u64,
    /// Left out because the caller said so.
    pub skipped_bytes: u64,
    /// Some read could only drop the cache first, or ask a server that has one, not go around it.
    pub cache_dropped: bool,
}

/// Compares the first `manifest.disk_size()` bytes of `target` with the manifest, leaf by leaf, except in `skip`
/// (whole leaves: what a cycle that has not committed may have written).
///
/// Blocks; runs two threads of its own. `progress` is called from them, about every 2 MiB that are read.
pub fn verify_replica(
    target: &dyn Target,
    manifest: &Manifest,
    skip: &RangeSet,
    progress: &(dyn Fn(Progress) + Sync),
    cancel: &CancellationToken,
) -> Result<Report, Error> {
    let size = manifest.disk_size();
    if target.size() < size {
        return Err(Error::TooSmall { target: target.name(), have: target.size(), need: size });
    }
    let shared = Shared {
        walk: Mutex::new(Walk::new(target, manifest, skip, REQUEST as u64)),
        report: Mutex::new(Report::default()),
        progress,
        size,
    };
    let results: Vec<Result<(), Error>> = std::thread::scope(|scope| {
        let run = || shared.run(target, manifest, cancel);
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    });
    results.into_iter().collect::<Result<(), Error>>()?;
    Ok(shared.report.into_inner().unwrap_or_else(PoisonError::into_inner))
}

struct Shared<'a> {
    walk: Mutex<Walk<'a>>,
    report: Mutex<Report>,
    progress: &'a (dyn Fn(Progress) + Sync),
    size: u64,
}

impl Shared<'_> {
    fn run(&self, target: &dyn Target, manifest: &Manifest, cancel: &CancellationToken) -> Result<(), Error> {
        let mut buffer = AlignedBuf::new(REQUEST);
        loop {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            // The lock is held while the next piece is looked for, not while it is read.
            let step = self.walk.lock().unwrap_or_else(PoisonError::into_inner).next();
            match step {
                Err(e) => {
                    // The other thread ends at its next piece, not at the end of the disk.
                    self.walk.lock().unwrap_or_else(PoisonError::into_inner).stop();
                    return Err(e);
                }
                Ok(Step::End) => return Ok(()),
                Ok(Step::Holes(range)) => self.count(|r| r.compared_bytes += range.len()),
                Ok(Step::Skip(range)) => self.count(|r| r.skipped_bytes += range.len()),
                Ok(Step::Compare(range)) => {
                    let found = block::compare_with_manifest(target, manifest, range, &mut buffer);
                    let (different, path) = found.inspect_err(|_| {
                        self.walk.lock().unwrap_or_else(PoisonError::into_inner).stop();
                    })?;
                    self.count(|r| {
                        r.compared_bytes += range.len();
                        r.read_bytes += range.len();
                        r.cache_dropped |= path != ReadPath::Direct;
                        for range in different {
                            r.different_bytes += range.len();
                            if r.different.count() < MOST_RANGES {
                                r.different.insert(range);
                            }
                        }
                    });
                }
            }
        }
    }

    fn count(&self, change: impl FnOnce(&mut Report)) {
        let done_bytes = {
            let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut report);
            report.compared_bytes + report.skipped_bytes
        };
        (self.progress)(Progress { done_bytes, total_bytes: self.size });
    }
}
