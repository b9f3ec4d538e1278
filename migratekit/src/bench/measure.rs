//! Clocks: limits, what the processors did, how long a target took; and the speed of hashing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use shared::leaf::LeafHash;
use shared::range::{ByteRange, RangeSet};
use tokio_util::sync::CancellationToken;

use crate::manifest::{leaf_hash, leaf_hashes};
use crate::replica::{Journal, JournalError};
use crate::target::{AlignedBuf, Error, ReadPath, Target};
use shared::leaf::LEAF_LEN;

/// When a measurement ends: whichever is first, or when it is told to.
pub(super) struct Limit {
    bytes: u64,
    until: Instant,
    stop: CancellationToken,
}

impl Limit {
    pub(super) fn new(bytes: u64, seconds: u16, stop: &CancellationToken) -> Self {
        let until = Instant::now() + Duration::from_secs(u64::from(seconds));
        Self { bytes, until, stop: stop.clone() }
    }

    pub(super) fn reached(&self, bytes: u64) -> bool {
        bytes >= self.bytes || Instant::now() >= self.until || self.stop.is_cancelled()
    }
}

/// One row.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// `hash`, `read`, `wire`, `write`, `flush`, `target` (write and flush, overlapping), `together`.
    pub stage: &'static str,
    pub bytes: u64,
    pub seconds: f64,
    pub bytes_per_second: f64,
    /// Of all processors of this machine, by anybody, meanwhile.
    pub processors_percent: Option<f64>,
    /// Some of the source was read a second time and may have come from a cache.
    pub read_again: bool,
}

impl Measured {
    pub(super) fn new(stage: &'static str, bytes: u64, took: Duration, busy: Option<f64>) -> Self {
        // What took no time at all was not measured.
        let seconds = took.as_secs_f64().max(1e-9);
        let bytes_per_second = bytes as f64 / seconds;
        Self { stage, bytes, seconds, bytes_per_second, processors_percent: busy, read_again: false }
    }
}

/// A clock that knows what the processors did meanwhile.
pub(super) struct Watch {
    started: Instant,
    before: Option<(u64, u64)>,
}

impl Watch {
    pub(super) fn start() -> Self {
        Self { started: Instant::now(), before: ticks() }
    }

    pub(super) fn stop(&self, stage: &'static str, bytes: u64) -> Measured {
        let took = self.started.elapsed();
        let busy = self.before.zip(ticks()).and_then(|((busy, all), (busy_now, all_now))| {
            let all = all_now.checked_sub(all).filter(|&all| all > 0)?;
            Some(busy_now.saturating_sub(busy) as f64 * 100.0 / all as f64)
        });
        Measured::new(stage, bytes, took, busy)
    }
}

/// Ticks of all processors since the machine started: busy, and all. (user nice system idle iowait irq softirq steal)
fn ticks() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|t| t.parse().ok()).collect();
    let all = ticks.iter().take(8).sum();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

/// Data that cannot be compressed, with its hashes, in chunks as a reader makes them.
pub(super) struct Noise(Vec<(Bytes, Vec<LeafHash>)>);

impl Noise {
    pub(super) const CHUNK: usize = 4 * LEAF_LEN;
    /// More than a processor's own cache.
    const CHUNKS: usize = 64;

    pub(super) fn new() -> Self {
        let mut bytes = vec![0; Self::CHUNK * Self::CHUNKS];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let bytes = Bytes::from(bytes);
        let chunk = |at| bytes.slice(at..at + Self::CHUNK);
        let chunks = (0..bytes.len()).step_by(Self::CHUNK).map(chunk);
        Self(chunks.map(|chunk| (chunk.clone(), leaf_hashes(&chunk))).collect())
    }

    /// Over and over.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (Bytes, Vec<LeafHash>)> + '_ {
        self.0.iter().cycle().cloned()
    }
}

/// One processor, for a second at most.
pub(super) fn hash(noise: &Noise, bytes: u64) -> Measured {
    let limit = Limit::new(bytes, 1, &CancellationToken::new());
    let watch = Watch::start();
    let mut done = 0;
    for (chunk, _) in noise.chunks() {
        for leaf in chunk.chunks(LEAF_LEN) {
            // Seen by the compiler as used, or it would not be made.
            std::hint::black_box(leaf_hash(leaf));
        }
        done += chunk.len() as u64;
        if limit.reached(done) {
            break;
        }
    }
    watch.stop("hash", done)
}

/// A target that knows how long its writes and flushes took.
pub(super) struct Timed {
    inner: Arc<dyn Target>,
    write: AtomicU64,
    flush: AtomicU64,
}

impl Timed {
    pub(super) fn new(inner: Arc<dyn Target>) -> Self {
        Self { inner, write: AtomicU64::new(0), flush: AtomicU64::new(0) }
    }

    /// In writes and in flushes, so far.
    pub(super) fn took(&self) -> (Duration, Duration) {
        let read = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed));
        (read(&self.write), read(&self.flush))
    }
}

fn timed<T>(nanos: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    nanos.fetch_add(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    done
}

impl Target for Timed {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn write_at(&self, offset: u64, data: &[Bytes]) -> Result<(), Error> {
        timed(&self.write, || self.inner.write_at(offset, data))
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        timed(&self.write, || self.inner.zero(range))
    }

    fn flush(&self) -> Result<(), Error> {
        timed(&self.flush, || self.inner.flush())
    }

    fn read_direct(&self, offset: u64, buf: &mut AlignedBuf) -> Result<ReadPath, Error> {
        self.inner.read_direct(offset, buf)
    }

    fn next_data(&self, offset: u64) -> Result<Option<ByteRange>, Error> {
        self.inner.next_data(offset)
    }

    fn end(&self) {
        self.inner.end();
    }
}

/// Nothing of a measurement is gone on with.
pub(super) struct NoJournal;

#[async_trait]
impl Journal for NoJournal {
    async fn intend(&self, _: &RangeSet) -> Result<(), JournalError> {
        Ok(())
    }

    async fn checkpoint(&self, _: &RangeSet) -> Result<(), JournalError> {
        Ok(())
    }
}
