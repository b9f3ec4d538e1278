//! A replica's surroundings in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use shared::leaf::LEAF;
use shared::range::{ByteRange, RangeSet};

use crate::manifest::{Manifest, leaf_hashes};
use crate::piece::Piece;
use crate::replica::*;
use crate::target::Target;
use crate::target::fault::{Call, FaultTarget};

pub(super) const LEAF_USIZE: usize = 65_536;

/// Records, and fails when told. Knows the disk, to check the rules at the moment they must hold.
#[derive(Default)]
pub(super) struct MemoryJournal {
    pub(super) intended: Mutex<RangeSet>,
    pub(super) durable: Mutex<RangeSet>,
    pub(super) fail_intent: AtomicBool,
    pub(super) fail_checkpoint: AtomicBool,
    /// What the source holds: at each checkpoint, what it names must be stable on this disk.
    pub(super) check: Mutex<Option<(FaultTarget, Vec<u8>)>>,
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn intend(&self, ranges: &RangeSet) -> Result<(), JournalError> {
        // Somewhere else than at once, as a database is.
        tokio::task::yield_now().await;
        if self.fail_intent.load(Ordering::Relaxed) {
            return Err("the database is gone".into());
        }
        self.intended.lock().expect("unpoisoned").union(ranges);
        Ok(())
    }

    async fn checkpoint(&self, ranges: &RangeSet) -> Result<(), JournalError> {
        if let Some((disk, source)) = &*self.check.lock().expect("unpoisoned") {
            let stable = disk.stable();
            for r in ranges.iter() {
                let at = usize::try_from(r.start).expect("small")..usize::try_from(r.end).expect("small");
                assert!(
                    stable[at.clone()] == source[at],
                    "checkpoint {r:?} names what is not on stable storage"
                );
            }
        }
        if self.fail_checkpoint.load(Ordering::Relaxed) {
            return Err("the database is gone".into());
        }
        self.durable.lock().expect("unpoisoned").union(ranges);
        Ok(())
    }
}

pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) disk: FaultTarget,
    pub(super) manifest: Arc<Manifest>,
    pub(super) journal: Arc<MemoryJournal>,
    pub(super) reads_zero: ReadsZero,
}

impl World {
    pub(super) fn holding(content: Vec<u8>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let manifest = Manifest::create(&dir.path().join("m"), content.len() as u64).expect("made");
        let journal = Arc::new(MemoryJournal::default());
        let disk = FaultTarget::holding(content);
        Self { dir, disk, manifest: Arc::new(manifest), journal, reads_zero: ReadsZero::Unknown }
    }

    pub(super) fn zeroed(leaves: usize) -> Self {
        Self::holding(vec![0; leaves * LEAF_USIZE])
    }

    pub(super) fn open(&self, options: Options) -> ReplicaSession {
        let prior = Prior {
            intended: self.journal.intended.lock().expect("unpoisoned").clone(),
            durable: self.journal.durable.lock().expect("unpoisoned").clone(),
            reads_zero: self.reads_zero,
        };
        let target: Arc<dyn Target> = Arc::new(self.disk.clone());
        ReplicaSession::open(target, self.manifest.clone(), self.journal.clone(), prior, options)
            .expect("open")
    }

    pub(super) fn writes(&self) -> usize {
        self.disk.calls().iter().filter(|c| !matches!(c, Call::Flush)).count()
    }

    pub(super) fn durable(&self) -> RangeSet {
        self.journal.durable.lock().expect("unpoisoned").clone()
    }
}

/// Flushes soon, and small windows.
pub(super) fn quick() -> Options {
    Options {
        flush_bytes: 4 * LEAF,
        flush_interval: Duration::from_millis(20),
        window: 16 * LEAF,
        ..Options::default()
    }
}

/// Flushes only when it is sealed.
pub(super) fn patient() -> Options {
    Options { flush_bytes: 1 << 29, flush_interval: Duration::from_secs(3600), ..Options::default() }
}

pub(super) fn leaves(from: usize, count: usize) -> ByteRange {
    ByteRange::new((from * LEAF_USIZE) as u64, ((from + count) * LEAF_USIZE) as u64)
}

pub(super) fn data(from: usize, count: usize, byte: u8) -> Piece {
    let data = Bytes::from(vec![byte; count * LEAF_USIZE]);
    Piece::Data { offset: leaves(from, count).start, hashes: leaf_hashes(&data), data }
}

/// The piece of `source` at `range`.
pub(super) fn piece(source: &[u8], range: ByteRange) -> Piece {
    let at = usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small");
    let data = Bytes::copy_from_slice(&source[at]);
    match data.iter().all(|b| *b == 0) {
        true => Piece::Zero(range),
        false => Piece::Data { offset: range.start, hashes: leaf_hashes(&data), data },
    }
}

/// Waits for what happens on another thread; fails the test when it does not.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
