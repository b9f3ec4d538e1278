//! The threads that write to an NBD server, one for each connection.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::queue::{Job, Next, Reply, Shared};
use super::{Error, NbdOptions, Op};
use crate::nbd::{
    BASE_ALLOCATION, Buffer, Completed, ConnectOptions, Export, Handle, NbdUri, Patience, Status, part,
};

/// How long answers are waited for, and a good-bye may take, when nobody wants them any more.
const PARTING: Duration = Duration::from_secs(2);

/// How long a further connection may take before we do without it.
const FURTHER: Duration = Duration::from_secs(3);

/// Requests in flight on one connection.
const DEPTH: usize = 64;

/// A request in flight.
pub(super) enum Tag {
    Change { id: u64, bytes: usize },
    Flush { reply: Reply<()> },
    Read { reply: Reply<Buffer> },
    Status { reply: Reply<Vec<Status>> },
}

/// Connects once; and again, as often as options and server allow, if the export is `suitable`.
pub(super) fn connect(
    uri: &NbdUri,
    options: &NbdOptions,
    suitable: impl FnOnce(&Export) -> Result<(), Error>,
) -> Result<Vec<Handle<Tag>>, Error> {
    let contexts = vec![BASE_ALLOCATION.to_owned()];
    let mut how = ConnectOptions { contexts, timeout: options.connect_timeout };
    let first = Handle::connect(uri, &how)?;
    let export = first.export().clone();
    if let Err(error) = suitable(&export) {
        first.disconnect(PARTING);
        return Err(error);
    }
    // Without multi-conn, a flush on one connection says nothing of what was written on another.
    let further = if export.multi_conn { options.connections.saturating_sub(1) } else { 0 };
    how.timeout = how.timeout.min(FURTHER);
    let mut handles = vec![first];
    for _ in 0..further {
        match Handle::connect(uri, &how) {
            Ok(handle) if *handle.export() == export => handles.push(handle),
            Ok(handle) => {
                handle.disconnect(PARTING);
                return Err(Error::Changed { target: uri.to_string() });
            }
            Err(error) => {
                tracing::warn!(target = %uri, error = %error, "writing with fewer connections than asked for");
                break;
            }
        }
    }
    Ok(handles)
}

/// Starts the thread of a connection. It ends when the queue is closed and done, or after an error.
pub(super) fn spawn(
    handle: Handle<Tag>,
    index: usize,
    wake: OwnedFd,
    shared: Arc<Shared>,
    stall: Duration,
) -> Result<JoinHandle<()>, Error> {
    let name = shared.name().to_owned();
    std::thread::Builder::new()
        .name(format!("nbd-write-{index}"))
        .spawn(move || {
            let _guard = Guard(Arc::clone(&shared));
            let mut worker = Worker { handle, index, shared, patience: Patience::new(stall) };
            let result = worker.run(&wake);
            worker.end(result);
        })
        .map_err(|e| Error::from_io(Op::Open, Path::new(&name), 0, e))
}

/// A thread that panicked must not leave callers that wait for it.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::Lost { path: self.0.name().into() });
        }
    }
}

struct Worker {
    handle: Handle<Tag>,
    index: usize,
    shared: Arc<Shared>,
    patience: Patience,
}

impl Worker {
    fn run(&mut self, wake: &OwnedFd) -> Result<(), Error> {
        loop {
            let closed = self.fill()?;
            if closed && (self.handle.in_flight() == 0 || self.shared.has_failed()) {
                return Ok(());
            }
            let left = self.patience.left(&self.handle).ok_or_else(|| self.stalled())?;
            // Once closed, the wake-up stays readable.
            let waited = self.handle.wait((!closed).then(|| wake.as_fd()), left);
            // What ended before the connection broke is still good; what broke with it is told as the broken connection.
            let mut failed = Ok(());
            while let Some(done) = self.handle.completed() {
                failed = failed.and(self.finish(done));
                self.patience.renew();
            }
            waited.map_err(|error| self.shared.told(error)).and(failed)?;
        }
    }

    /// Issues what is queued; whether the queue is closed and empty.
    fn fill(&mut self) -> Result<bool, Error> {
        while self.handle.in_flight() < DEPTH {
            if self.handle.in_flight() == 0 {
                self.patience.renew();
            }
            let issued = match self.shared.next(self.index) {
                Next::Job(Job::Change { id, range, data: Some(data) }) => {
                    let bytes = data.len();
                    self.handle.write(range.start, data, Tag::Change { id, bytes })
                }
                Next::Job(Job::Change { id, range, data: None }) => {
                    self.handle.zero(range, Tag::Change { id, bytes: 0 })
                }
                Next::Job(Job::Flush { reply }) => self.handle.flush(Tag::Flush { reply }),
                Next::Job(Job::Read { offset, buffer, reply }) => {
                    self.handle.read(offset, buffer, Tag::Read { reply })
                }
                Next::Job(Job::Status { range, reply }) => self.handle.status(range, Tag::Status { reply }),
                Next::Empty => return Ok(false),
                Next::Closed => return Ok(true),
            };
            issued.map_err(|error| self.shared.told(error))?;
        }
        Ok(false)
    }

    fn finish(&mut self, done: Completed<Tag>) -> Result<(), Error> {
        let told = |error| self.shared.told(error);
        // Whoever asked may have gone.
        match done {
            Completed::Changed { tag, result } => {
                result.map_err(told)?;
                match tag {
                    Tag::Change { id, bytes } => self.shared.changed(id, bytes),
                    Tag::Flush { reply } => drop(reply.try_send(())),
                    Tag::Read { .. } | Tag::Status { .. } => {}
                }
            }
            Completed::Read { tag, buffer, result } => {
                result.map_err(told)?;
                if let Tag::Read { reply } = tag {
                    drop(reply.try_send(buffer));
                }
            }
            Completed::Status { tag, result } => {
                if let Tag::Status { reply } = tag {
                    // A server that does not answer this question has told nothing; that costs reads, no more.
                    drop(reply.try_send(result.unwrap_or_default()));
                }
            }
        }
        Ok(())
    }

    fn stalled(&self) -> Error {
        let offset = self.handle.oldest().map_or(0, |range| range.start);
        let target = self.shared.name().to_owned();
        Error::Stalled { target, offset, after: self.patience.limit() }
    }

    /// Tells the error, or says good-bye.
    fn end(self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.shared.fail(error);
        }
        part(self.handle, PARTING);
    }
}
