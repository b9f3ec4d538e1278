//! What callers and the threads of the connections share: the queue, what is outstanding, the first failure.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::event::{EventfdFlags, eventfd};
use shared::range::ByteRange;

use super::{Error, Op};
use crate::nbd::{self, Buffer, Status};
use crate::target::outstanding::Outstanding;

/// Most bytes of data that are queued or in flight: what a target costs in memory.
const MOST_BYTES: usize = 8 << 20;

/// Most requests queued or in flight.
const MOST_REQUESTS: usize = 128;

/// Who waits for an answer. A reply that is dropped means that the target failed.
pub(super) type Reply<T> = SyncSender<T>;

pub(super) enum Job {
    /// Data, or zeros that the server makes; `id` is its place in what is outstanding.
    Change {
        id: u64,
        range: ByteRange,
        data: Option<Bytes>,
    },
    Flush {
        reply: Reply<()>,
    },
    Read {
        offset: u64,
        buffer: Buffer,
        reply: Reply<Buffer>,
    },
    Status {
        range: ByteRange,
        reply: Reply<Vec<Status>>,
    },
}

/// What a worker finds in the queue.
pub(super) enum Next {
    Job(Job),
    /// Nothing now; the worker is woken when there is.
    Empty,
    /// Nothing now or ever.
    Closed,
}

struct Worker {
    wake: OwnedFd,
    /// It found the queue empty and could take more.
    hungry: bool,
}

struct State {
    jobs: VecDeque<Job>,
    workers: Vec<Worker>,
    /// Changes that are queued or in flight.
    outstanding: Outstanding,
    /// Of data in them.
    bytes: usize,
    closed: bool,
    failed: Option<Arc<Error>>,
}

pub(super) struct Shared {
    name: String,
    state: Mutex<State>,
    /// Something ended.
    changed: Condvar,
}

impl Shared {
    /// And the descriptors that wake each worker.
    pub(super) fn new(name: String, workers: usize) -> Result<(Arc<Self>, Vec<OwnedFd>), Error> {
        let fail = |e: io::Error| Error::from_io(Op::Open, Path::new(&name), 0, e);
        let (mut list, mut wakes) = (Vec::with_capacity(workers), Vec::with_capacity(workers));
        for _ in 0..workers {
            let wake =
                eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(|e| fail(e.into()))?;
            wakes.push(wake.as_fd().try_clone_to_owned().map_err(fail)?);
            list.push(Worker { wake, hungry: false });
        }
        let state = State {
            jobs: VecDeque::new(),
            workers: list,
            outstanding: Outstanding::default(),
            bytes: 0,
            closed: false,
            failed: None,
        };
        Ok((Arc::new(Self { name, state: Mutex::new(state), changed: Condvar::new() }), wakes))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn workers(&self) -> usize {
        self.lock().workers.len()
    }

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
            None if state.closed => Err(Error::Lost { path: self.name.clone().into() }),
            None => Ok(()),
        }
    }

    // --- callers

    /// Queues a write, or zeros, as soon as there is room and nothing outstanding touches the range.
    pub(super) fn change(&self, range: ByteRange, data: Option<Bytes>) -> Result<(), Error> {
        let bytes = data.as_ref().map_or(0, Bytes::len);
        let mut state = self.lock();
        loop {
            self.check(&state)?;
            let room = state.bytes == 0 || state.bytes + bytes <= MOST_BYTES;
            if room && state.outstanding.free(range) && state.outstanding.len() < MOST_REQUESTS {
                break;
            }
            state = self.wait(state);
        }
        let id = state.outstanding.add(range);
        state.bytes += bytes;
        state.push(Job::Change { id, range, data });
        Ok(())
    }

    /// Waits until every change that was queued before the call has been answered well.
    pub(super) fn settle(&self) -> Result<(), Error> {
        let mut state = self.lock();
        let mark = state.outstanding.mark();
        loop {
            self.check(&state)?;
            if state.outstanding.settled(ByteRange::new(0, u64::MAX), mark) {
                return Ok(());
            }
            state = self.wait(state);
        }
    }

    /// Queues a request; its answer comes to the receiver.
    pub(super) fn begin<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<Receiver<T>, Error> {
        let (reply, answer) = sync_channel(1);
        let mut state = self.lock();
        self.check(&state)?;
        state.push(job(reply));
        Ok(answer)
    }

    pub(super) fn answer<T>(&self, answer: &Receiver<T>) -> Result<T, Error> {
        answer.recv().map_err(|_| {
            let ended = || Error::Lost { path: self.name.clone().into() };
            self.check(&self.lock()).err().unwrap_or_else(ended)
        })
    }

    /// Queues a request and waits for its answer.
    pub(super) fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Error> {
        self.answer(&self.begin(job)?)
    }

    /// No more requests; what is outstanding goes on.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.workers.iter_mut().for_each(Worker::signal);
        self.changed.notify_all();
    }

    // --- workers

    /// Whether nobody wants answers any more.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed.is_some()
    }

    pub(super) fn next(&self, index: usize) -> Next {
        let mut state = self.lock();
        let (job, closed) = (state.jobs.pop_front(), state.closed);
        if let Some(worker) = state.workers.get_mut(index) {
            worker.hungry = job.is_none();
            if !closed {
                // Never blocks; nothing to read means that it is quiet already.
                let _ = rustix::io::read(&worker.wake, &mut [0u8; 8]);
            }
        }
        match job {
            Some(job) => Next::Job(job),
            None if closed => Next::Closed,
            None => Next::Empty,
        }
    }

    /// A change with this much data was answered well.
    pub(super) fn changed(&self, id: u64, bytes: usize) {
        let mut state = self.lock();
        state.outstanding.done(id);
        state.bytes -= bytes;
        self.changed.notify_all();
    }

    /// Ends everything; the first reason stays.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.lock();
        state.failed.get_or_insert_with(|| Arc::new(error));
        state.closed = true;
        // Whoever waits for them is told by their end.
        let jobs = std::mem::take(&mut state.jobs);
        state.workers.iter_mut().for_each(Worker::signal);
        self.changed.notify_all();
        drop(state);
        drop(jobs);
    }

    /// What the library says, as an error of this target.
    pub(super) fn told(&self, error: nbd::Error) -> Error {
        let sorted = |op, offset, source| Error::from_io(op, Path::new(&self.name), offset, source);
        match error {
            nbd::Error::Change { change, offset, source, .. } => sorted(Op::from(change), offset, source),
            nbd::Error::Read { offset, source, .. } => sorted(Op::Read, offset, source),
            error => Error::Nbd(error),
        }
    }
}

impl State {
    fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
        if let Some(worker) = self.workers.iter_mut().find(|w| w.hungry) {
            worker.hungry = false;
            worker.signal();
        }
    }
}

impl Worker {
    fn signal(&mut self) {
        // An eventfd takes a 1 unless it holds 2^64 - 2 of them.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}
