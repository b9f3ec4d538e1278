//! Writes that return before they are done: aligned buffers, several of them under way.
//!
//! ```text
//! write ─ copied ─► buffer being filled ─ full, or not continued ─► queue ─┬► thread ─► Store::write
//! settle, flush ───── what is being filled, too ──────────────────────────┴► thread ─► Store::write
//! ```
//!
//! `O_DIRECT` has neither cache nor read-ahead: each write takes as long as the storage does, over a network for
//! LINSTOR. So several are under way, and small ones that continue each other become one. Two that overlap never are
//! under way together. The first failure ends it all: the write that failed has returned long since, so what comes next
//! is told, a flush at the latest.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::range::ByteRange;

use crate::target::outstanding::Outstanding;
use crate::target::{AlignedBuf, Error, Op};

/// Of one write, at most.
const BUFFER: usize = 512 * 1024;

/// Writes under way at a time: enough for 1 GiB/s at a round trip of 2 ms.
const THREADS: usize = 4;

/// One is filled while all threads write: what a target costs in memory, 2.5 MiB.
const BUFFERS: usize = THREADS + 1;

/// Where the buffers go.
pub(super) trait Store: Send + Sync + 'static {
    /// Writes all of `data` at `offset`, both multiples of [`AlignedBuf::ALIGN`].
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
}

/// See the module.
pub(super) struct Behind {
    shared: Arc<Shared>,
    /// Locked before the state, never after it.
    filling: Mutex<Option<Filled>>,
}

/// A buffer and where its bytes go.
struct Filled {
    offset: u64,
    buffer: AlignedBuf,
}

impl Filled {
    fn range(&self) -> ByteRange {
        ByteRange::new(self.offset, self.offset + self.buffer.as_slice().len() as u64)
    }
}

struct Shared {
    path: PathBuf,
    store: Box<dyn Store>,
    state: Mutex<State>,
    /// For the threads: something was queued.
    queued: Condvar,
    /// For the callers: something is done.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(u64, Filled)>,
    /// Queued or under way.
    outstanding: Outstanding,
    /// Taken by a thread.
    under_way: usize,
    free: Vec<AlignedBuf>,
    made: usize,
    threads: usize,
    idle: usize,
    closed: bool,
    failed: Option<Arc<Error>>,
}

impl Behind {
    /// `path` names the target in messages. No thread is started before there is something to write.
    pub(super) fn new(path: &Path, store: impl Store) -> Self {
        let shared = Shared {
            path: path.to_owned(),
            store: Box::new(store),
            state: Mutex::default(),
            queued: Condvar::new(),
            changed: Condvar::new(),
        };
        Self { shared: Arc::new(shared), filling: Mutex::default() }
    }

    /// Copies `data`, to be written from `offset` on. `offset` and the length of all of it are multiples of
    /// [`AlignedBuf::ALIGN`]. Waits for a buffer where all are in use.
    pub(super) fn write(&self, offset: u64, data: &[Bytes]) -> Result<(), Error> {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = offset;
        for mut piece in data.iter().map(|data| &data[..]) {
            while !piece.is_empty() {
                if let Some(full) =
                    filling.take_if(|f| f.range().end != at || f.range().len() == BUFFER as u64)
                {
                    self.shared.submit(full)?;
                }
                let filled = match filling.as_mut() {
                    Some(filled) => filled,
                    None => filling.insert(Filled { offset: at, buffer: self.shared.buffer()? }),
                };
                let have = filled.buffer.as_slice().len();
                let (now, later) = piece.split_at(piece.len().min(BUFFER - have));
                filled.buffer.set_len(have + now.len());
                filled.buffer.as_mut_slice()[have..].copy_from_slice(now);
                piece = later;
                at += now.len() as u64;
            }
        }
        Ok(())
    }

    /// Waits until all that was written before the call in `range` has reached the store.
    pub(super) fn settle(&self, range: ByteRange) -> Result<(), Error> {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(touched) = filling.take_if(|f| f.offset < range.end && range.start < f.range().end) {
            self.shared.submit(touched)?;
        }
        drop(filling);
        self.shared.settle(range)
    }

    /// Waits until all that was written before the call has reached the store.
    pub(super) fn settle_all(&self) -> Result<(), Error> {
        self.settle(ByteRange::new(0, u64::MAX))
    }

    /// Begins nothing more, and returns when nothing is under way.
    pub(super) fn end(&self) {
        self.shared.close();
        let mut state = self.shared.lock();
        while state.under_way > 0 {
            state = self.shared.wait(state);
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        // Not waited for here, which may be an async task: `end` does that.
        self.shared.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// `Err`: why nothing is accepted any more.
    fn check(&self, state: &State) -> Result<(), Error> {
        match &state.failed {
            Some(why) => Err(Error::Ended(Arc::clone(why))),
            None if state.closed => Err(Error::Lost { path: self.path.clone() }),
            None => Ok(()),
        }
    }

    /// An empty one.
    fn buffer(&self) -> Result<AlignedBuf, Error> {
        let mut state = self.lock();
        loop {
            self.check(&state)?;
            if let Some(mut buffer) = state.free.pop() {
                buffer.set_len(0);
                return Ok(buffer);
            }
            if state.made < BUFFERS {
                state.made += 1;
                drop(state);
                let mut buffer = AlignedBuf::new(BUFFER);
                buffer.set_len(0);
                return Ok(buffer);
            }
            state = self.wait(state);
        }
    }

    fn submit(self: &Arc<Self>, filled: Filled) -> Result<(), Error> {
        let range = filled.range();
        let mut state = self.lock();
        loop {
            self.check(&state)?;
            if state.outstanding.free(range) {
                break;
            }
            state = self.wait(state);
        }
        let id = state.outstanding.add(range);
        state.queue.push_back((id, filled));
        if state.idle == 0 && state.threads < THREADS {
            self.start_thread(&mut state)?;
        }
        self.queued.notify_one();
        Ok(())
    }

    fn start_thread(self: &Arc<Self>, state: &mut State) -> Result<(), Error> {
        let shared = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("direct-write".to_owned()).spawn(move || shared.run());
        match spawned {
            Ok(_) => state.threads += 1,
            // Slower, but those that there are write it.
            Err(_) if state.threads > 0 => {}
            Err(e) => return Err(Error::from_io(Op::Write, &self.path, 0, e)),
        }
        Ok(())
    }

    fn settle(&self, range: ByteRange) -> Result<(), Error> {
        let mut state = self.lock();
        let mark = state.outstanding.mark();
        loop {
            self.check(&state)?;
            if state.outstanding.settled(range, mark) {
                return Ok(());
            }
            state = self.wait(state);
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queue.clear();
        drop(state);
        self.queued.notify_all();
        self.changed.notify_all();
    }

    /// A thread, until it is closed.
    fn run(&self) {
        let _guard = Guard(self);
        let mut state = self.lock();
        while !state.closed {
            let Some((id, filled)) = state.queue.pop_front() else {
                state.idle += 1;
                state = self.queued.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            state.under_way += 1;
            drop(state);
            let result = self.store.write(filled.offset, filled.buffer.as_slice());
            state = self.lock();
            state.under_way -= 1;
            match result {
                Ok(()) => {
                    state.outstanding.done(id);
                    state.free.push(filled.buffer);
                }
                Err(e) => self.fail(&mut state, Error::from_io(Op::Write, &self.path, filled.offset, e)),
            }
            self.changed.notify_all();
        }
    }

    /// Ends everything; the first reason stays.
    fn fail(&self, state: &mut State, error: Error) {
        state.failed.get_or_insert_with(|| Arc::new(error));
        state.closed = true;
        state.queue.clear();
        self.queued.notify_all();
        self.changed.notify_all();
    }
}

/// A thread that panicked must not leave callers that wait for it.
struct Guard<'a>(&'a Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.lock();
            // It was in the middle of a write: nowhere else is there anything to panic.
            state.under_way = state.under_way.saturating_sub(1);
            self.0.fail(&mut state, Error::Lost { path: self.0.path.clone() });
        }
    }
}
