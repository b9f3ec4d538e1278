//! What the submitting half and the reading threads share: the queue, wake-ups and counters.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::event::{EventfdFlags, eventfd};
use shared::range::ByteRange;
use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::cut;
use super::pool::{Lease, Pool};
use crate::nbd::Status;
use crate::piece::Piece;

/// Sends pieces, or the error that ends them.
pub(super) type Out = mpsc::Sender<Result<Piece, Error>>;

/// Who waits for a block status.
pub(super) type StatusReply = oneshot::Sender<Result<Vec<Status>, Error>>;

pub(super) enum Job {
    /// Read `asked` (what the server's block size made of `range`) into the lease's buffer.
    Read {
        range: ByteRange,
        asked: ByteRange,
        lease: Lease,
    },
    Status {
        range: ByteRange,
        reply: StatusReply,
    },
}

/// What a source has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes read from the source, rounding to its block size included.
    pub read_bytes: u64,
    /// Read requests that ended well.
    pub requests: u64,
    /// Bytes of leaves that were read and found to be zero.
    pub zero_bytes: u64,
}

struct Worker {
    wake: OwnedFd,
    /// It found the queue empty and could take more.
    hungry: bool,
    /// Its wake-up is readable.
    signalled: bool,
}

struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
    workers: Vec<Worker>,
}

pub(super) struct Shared {
    name: String,
    queue: Mutex<Queue>,
    pool: Arc<Pool>,
    /// Set when there is no use in going on: an error was sent, or nobody receives.
    stopped: AtomicBool,
    read_bytes: AtomicU64,
    requests: AtomicU64,
    zero_bytes: AtomicU64,
}

/// What a worker finds in the queue.
pub(super) enum Next {
    Job(Job),
    /// Nothing now; the worker is woken when there is.
    Empty,
    /// Nothing now or ever.
    Closed,
}

impl Shared {
    pub(super) fn new(name: String, workers: usize, pool: Arc<Pool>) -> Result<Self, Error> {
        let mut list = Vec::with_capacity(workers);
        for _ in 0..workers {
            let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
                .map_err(|e| Error::Setup { action: "make an eventfd", source: e.into() })?;
            list.push(Worker { wake, hungry: false, signalled: false });
        }
        Ok(Self {
            name,
            queue: Mutex::new(Queue { jobs: VecDeque::new(), closed: false, workers: list }),
            pool,
            stopped: AtomicBool::new(false),
            read_bytes: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            zero_bytes: AtomicU64::new(0),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            zero_bytes: self.zero_bytes.load(Ordering::Relaxed),
        }
    }

    /// Queues a job, or gives it back when the queue is closed.
    pub(super) fn push(&self, job: Job) -> Result<(), Job> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(job);
        }
        match job {
            // The planner waits for these, and reads wait for the planner.
            Job::Status { .. } => queue.jobs.push_front(job),
            Job::Read { .. } => queue.jobs.push_back(job),
        }
        if let Some(worker) = queue.workers.iter_mut().find(|w| w.hungry) {
            worker.hungry = false;
            worker.signal();
        }
        Ok(())
    }

    /// Takes no more jobs; those queued are still done.
    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.workers.iter_mut().for_each(Worker::signal);
    }

    /// Ends everything: jobs not begun are dropped.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.pool.close();
        let dropped = {
            let mut queue = self.queue();
            queue.closed = true;
            queue.workers.iter_mut().for_each(Worker::signal);
            std::mem::take(&mut queue.jobs)
        };
        drop(dropped);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Ends everything with an error; only the first one is told.
    pub(super) fn fail(&self, error: Error, out: &Out) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.stop();
            // Fails when nobody receives any more, who then does not want to know.
            let _ = out.blocking_send(Err(error));
        }
    }

    /// A job for worker `index`.
    pub(super) fn next(&self, index: usize) -> Next {
        let mut queue = self.queue();
        let (closed, job) = (queue.closed, queue.jobs.pop_front());
        if let Some(worker) = queue.workers.get_mut(index) {
            worker.hungry = job.is_none();
            if worker.signalled && !closed {
                worker.signalled = false;
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

    /// A descriptor that becomes readable when [`next`](Self::next) is worth asking again. Stays so once closed.
    pub(super) fn wake(&self, index: usize) -> io::Result<OwnedFd> {
        let queue = self.queue();
        let worker = queue.workers.get(index).ok_or_else(|| io::Error::other("no such worker"))?;
        wake_fd(worker.wake.as_fd())
    }

    /// Cuts what was read into pieces and sends them. `false` when nobody receives.
    pub(super) fn deliver(&self, range: ByteRange, read: u64, lease: Lease, out: &Out) -> bool {
        self.read_bytes.fetch_add(read, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        let runs = cut::runs(lease.as_ref());
        let data = if runs.has_data() { Bytes::from_owner(lease) } else { Bytes::new() };
        for piece in runs.into_pieces(range.start, &data) {
            if let Piece::Zero(zeros) = &piece {
                self.zero_bytes.fetch_add(zeros.len(), Ordering::Relaxed);
            }
            if out.blocking_send(Ok(piece)).is_err() {
                self.stop();
                return false;
            }
        }
        true
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake_fd(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}

impl Worker {
    fn signal(&mut self) {
        if !self.signalled {
            self.signalled = true;
            // An eventfd takes a 1 unless it holds 2^64 - 2 of them.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}
