//! The state that session, writer and flusher share. Every change goes through here, under one lock.
//!
//! ```text
//! Open ── seal ──► Sealing ── flushed, nothing owed ──► Sealed
//!   │  ◄─ something owed ─┘
//!   └──── failure, fence, last handle dropped (from Sealing too) ──► Closed(reason)
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use shared::leaf::LeafHash;
use shared::range::{ByteRange, RangeSet};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::acks::AckCell;
use super::{Cause, Error, Prior, Sealed, Stats};

pub(super) enum Phase {
    Open,
    Sealing,
    Sealed,
    Closed(Error),
}

/// What the leaves of a range have in the manifest once they are durable.
pub(super) enum Content {
    Hashes(Vec<LeafHash>),
    Zero,
}

/// A piece that was written and waits for a flush.
pub(super) struct Written {
    pub(super) range: ByteRange,
    pub(super) content: Content,
    pub(super) stream: Arc<AckCell>,
    /// Its share of the window, given back when it is dropped.
    pub(super) permit: OwnedSemaphorePermit,
}

impl Written {
    /// What it brings the next flush nearer. Data that was found equal and not written counts as if it had been:
    /// the other side reads it again after a crash that comes before its checkpoint.
    fn weight(&self) -> u64 {
        let charge = self.permit.num_permits() as u64;
        match self.content {
            Content::Hashes(_) => charge.max(self.range.len()),
            Content::Zero => charge,
        }
    }
}

pub(super) struct Batch {
    pub(super) written: Vec<Written>,
    /// The seal before which everything accepted is in this batch or an earlier one.
    last_of: Option<u64>,
}

struct State {
    phase: Phase,
    /// Logged durably by this session.
    logged: RangeSet,
    /// Intended by anybody and not durable: the replica's content there is unknown.
    owed: RangeSet,
    durable: RangeSet,
    pending: Vec<Written>,
    pending_bytes: u64,
    pending_since: Option<Instant>,
    /// Accepted, and not yet in `pending`.
    queued: usize,
    writing: bool,
    flushing: bool,
    logging: usize,
    /// Counts attempts to seal: a flush for one that was given up says nothing about the next.
    seal: u64,
    /// The seal whose last flush succeeded.
    flushed_for: u64,
    streams: Vec<Weak<AckCell>>,
    stats: Stats,
}

pub(super) struct Core {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Bytes accepted and not checkpointed.
    pub(super) budget: Arc<Semaphore>,
    /// Bytes of data in memory: accepted and not written.
    pub(super) memory: Arc<Semaphore>,
}

impl Core {
    pub(super) fn new(prior: &Prior, window: usize, memory: usize) -> Self {
        let mut owed = prior.intended.clone();
        owed.subtract(&prior.durable);
        let state = State {
            phase: Phase::Open,
            logged: RangeSet::new(),
            owed,
            durable: prior.durable.clone(),
            pending: Vec::new(),
            pending_bytes: 0,
            pending_since: None,
            queued: 0,
            writing: false,
            flushing: false,
            logging: 0,
            seal: 0,
            flushed_for: 0,
            streams: Vec::new(),
            stats: Stats::default(),
        };
        let (changed, _) = watch::channel(());
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { state: Mutex::new(state), changed, budget: semaphore(window), memory: semaphore(memory) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let out = change(&mut self.lock());
        self.changed.send_replace(());
        out
    }

    /// Waits until `ready` has an answer.
    async fn wait<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(answer) = ready(&mut self.lock()) {
                return answer;
            }
            changes.changed().await.expect("the sender lives in self");
        }
    }

    /// `Err`: why nothing more is accepted.
    pub(super) fn check_open(&self) -> Result<(), Error> {
        check_open(&self.lock().phase)
    }

    /// How a stream of acknowledgements ends; `None`: it goes on.
    pub(super) fn end(&self) -> Option<Result<(), Error>> {
        match &self.lock().phase {
            Phase::Open | Phase::Sealing => None,
            Phase::Sealed => Some(Ok(())),
            Phase::Closed(why) => Some(Err(why.clone())),
        }
    }

    pub(super) fn add_stream(&self, cell: &Arc<AckCell>) {
        let mut state = self.lock();
        state.streams.retain(|s| s.strong_count() > 0);
        state.streams.push(Arc::downgrade(cell));
    }

    /// Ends the session; the first reason stays. What was written and not flushed is forgotten.
    pub(super) fn close(&self, why: impl Into<Error>) {
        let dropped = self.update(|state| match state.phase {
            Phase::Open | Phase::Sealing => {
                state.phase = Phase::Closed(why.into());
                wake(&state.streams);
                state.pending_bytes = 0;
                std::mem::take(&mut state.pending)
            }
            Phase::Sealed | Phase::Closed(_) => Vec::new(),
        });
        // Before the permits come back: who waits for them must be refused.
        self.budget.close();
        self.memory.close();
        drop(dropped);
    }

    /// Waits until nobody is inside the target, the manifest or the journal. Only after [`close`](Self::close).
    pub(super) async fn idle(&self) {
        self.wait(|s| (!s.writing && !s.flushing && s.logging == 0).then_some(())).await;
    }

    // --- intents

    /// Whether `ranges` still have to be logged.
    pub(super) fn unlogged(&self, ranges: &RangeSet) -> RangeSet {
        let mut rest = ranges.clone();
        rest.subtract(&self.lock().logged);
        rest
    }

    /// Before the journal is asked: from now on the outcome may be that they are logged.
    pub(super) fn logging(&self, ranges: &RangeSet) -> Result<(), Error> {
        self.update(|state| {
            check_open(&state.phase)?;
            state.logging += 1;
            state.owed.union(ranges);
            Ok(())
        })
    }

    pub(super) fn logging_ended(&self) {
        self.update(|state| state.logging -= 1);
    }

    pub(super) fn logged(&self, ranges: &RangeSet) {
        self.update(|state| state.logged.union(ranges));
    }

    // --- writer

    /// Counts a job and hands it to the writer, as one: a seal sees all of it or nothing.
    pub(super) fn enqueue(&self, send: impl FnOnce() -> bool) -> Result<(), Error> {
        let sent = self.update(|state| {
            check_open(&state.phase)?;
            state.queued += 1;
            Ok::<bool, Error>(send())
        })?;
        if !sent {
            self.close(Cause::Died { who: "writer" });
            return self.check_open();
        }
        Ok(())
    }

    /// Whether the writer may write: not once the session is closed.
    pub(super) fn write_begins(&self) -> bool {
        self.update(|state| {
            let may = !matches!(state.phase, Phase::Closed(_));
            state.writing = may;
            may
        })
    }

    pub(super) fn write_ended(&self, done: Option<Written>, count: impl FnOnce(&mut Stats)) {
        let late = self.update(|state| {
            state.writing = false;
            state.queued -= 1;
            let written = done?;
            count(&mut state.stats);
            if matches!(state.phase, Phase::Closed(_)) {
                return Some(written);
            }
            state.pending_bytes += written.weight();
            state.pending_since.get_or_insert_with(Instant::now);
            state.pending.push(written);
            None
        });
        drop(late);
    }

    // --- flusher

    /// Waits for something to flush and takes it. `None`: the session is over.
    pub(super) async fn next_batch(&self, options: &super::Options) -> Option<Batch> {
        if let Due::Since(since) = self.wait(|s| due(s, 1)).await {
            let enough = self.wait(|s| due(s, options.flush_bytes));
            // Enough or old enough: both mean the same here.
            let _ = tokio::time::timeout_at(since + options.flush_interval, enough).await;
        }
        self.update(|state| match state.phase {
            Phase::Sealed | Phase::Closed(_) => None,
            Phase::Open | Phase::Sealing => {
                state.flushing = true;
                state.pending_bytes = 0;
                state.pending_since = None;
                let last_of =
                    (matches!(state.phase, Phase::Sealing) && state.queued == 0).then_some(state.seal);
                Some(Batch { written: std::mem::take(&mut state.pending), last_of })
            }
        })
    }

    /// The batch is durable, recorded, and may be acknowledged.
    pub(super) fn checkpointed(&self, batch: Batch, ranges: &RangeSet) {
        // First of all: once the session is sealed, a stream without acknowledgements has ended.
        for written in &batch.written {
            written.stream.add(written.range);
        }
        self.update(|state| {
            state.flushing = false;
            state.durable.union(ranges);
            state.owed.subtract(ranges);
            state.stats.flushes += 1;
            state.flushed_for = batch.last_of.unwrap_or(state.flushed_for);
        });
    }

    pub(super) fn flush_ended(&self) {
        self.update(|state| state.flushing = false);
    }

    // --- seal

    pub(super) async fn seal(&self) -> Result<Sealed, Error> {
        let seal = self.update(|state| {
            if matches!(state.phase, Phase::Sealed) {
                return Ok(None);
            }
            check_open(&state.phase)?;
            state.phase = Phase::Sealing;
            state.seal += 1;
            Ok::<_, Error>(Some(state.seal))
        })?;
        let Some(seal) = seal else { return Ok(self.sealed()) };
        // Somebody who gives up waiting must not leave the session half sealed.
        let _guard = Unseal(self);
        let flushed = self.wait(|s| match &s.phase {
            Phase::Closed(why) => Some(Err(why.clone())),
            Phase::Open | Phase::Sealing | Phase::Sealed => (s.flushed_for == seal).then_some(Ok(())),
        });
        flushed.await?;
        self.update(|state| {
            if let Phase::Closed(why) = &state.phase {
                return Err(why.clone());
            }
            if let Some(first) = state.owed.iter().next() {
                let (bytes, ranges) = (state.owed.total(), state.owed.count());
                return Err(Error::Incomplete { bytes, ranges, first });
            }
            state.phase = Phase::Sealed;
            wake(&state.streams);
            Ok(())
        })?;
        Ok(self.sealed())
    }

    fn sealed(&self) -> Sealed {
        let state = self.lock();
        Sealed { durable: state.durable.clone(), stats: state.stats }
    }

    pub(super) fn durable(&self) -> RangeSet {
        self.lock().durable.clone()
    }

    pub(super) fn owed(&self) -> RangeSet {
        self.lock().owed.clone()
    }

    pub(super) fn stats(&self) -> Stats {
        self.lock().stats
    }
}

/// Opens the session again if the seal did not come through.
struct Unseal<'a>(&'a Core);

impl Drop for Unseal<'_> {
    fn drop(&mut self) {
        self.0.update(|state| {
            if matches!(state.phase, Phase::Sealing) {
                state.phase = Phase::Open;
            }
        });
    }
}

/// What the flusher has to do.
enum Due {
    /// The session is over.
    Never,
    /// At once, even with nothing written: somebody seals.
    Now,
    /// There is enough; the oldest of it was written then.
    Since(Instant),
}

fn due(state: &mut State, enough: u64) -> Option<Due> {
    match state.phase {
        Phase::Sealed | Phase::Closed(_) => Some(Due::Never),
        Phase::Sealing if state.queued == 0 && state.flushed_for != state.seal => Some(Due::Now),
        Phase::Open | Phase::Sealing if state.pending_bytes >= enough => state.pending_since.map(Due::Since),
        Phase::Open | Phase::Sealing => None,
    }
}

fn check_open(phase: &Phase) -> Result<(), Error> {
    match phase {
        Phase::Open => Ok(()),
        Phase::Sealing | Phase::Sealed => Err(Error::Sealed),
        Phase::Closed(why) => Err(why.clone()),
    }
}

fn wake(streams: &[Weak<AckCell>]) {
    streams.iter().filter_map(Weak::upgrade).for_each(|cell| cell.wake());
}
