//! The threads that read from an NBD server, one for each connection.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use shared::range::ByteRange;

use super::pool::Lease;
use super::queue::{Job, Next, Out, Shared, StatusReply};
use super::{Error, ReadOptions};
use crate::nbd::{
    BASE_ALLOCATION, Completed, ConnectOptions, Handle, NbdUri, Patience, dirty_bitmap_context, part,
};

/// How long an unwanted answer is waited for, and a good-bye may take.
const PARTING: Duration = Duration::from_secs(2);

/// How long a further connection may take before we do without it. (A qemu-nbd that takes one client lets the second
/// one wait for ever.)
const FURTHER: Duration = Duration::from_secs(3);

/// Requests in flight on one connection; memory bounds them before that.
const DEPTH: usize = 64;

/// A request in flight.
pub(super) enum Tag {
    Read { range: ByteRange, asked: ByteRange, lease: Lease },
    Status { reply: StatusReply },
}

/// Connects once, and again as often as options and server allow.
pub(super) async fn connect(uri: &NbdUri, options: &ReadOptions) -> Result<Vec<Handle<Tag>>, Error> {
    let contexts = std::iter::once(BASE_ALLOCATION.to_owned())
        .chain(options.bitmap.as_deref().map(dirty_bitmap_context))
        .collect();
    let mut how = ConnectOptions { contexts, timeout: options.connect_timeout };
    let first = connect_one(uri.clone(), how.clone()).await?;
    let further = if first.export().multi_conn { options.connections.saturating_sub(1) } else { 0 };
    how.timeout = how.timeout.min(FURTHER);
    let size = first.export().size;
    let mut handles = vec![first];
    let others = (0..further).map(|_| connect_one(uri.clone(), how.clone()));
    for other in futures::future::join_all(others).await {
        match other {
            Ok(handle) if handle.export().size != size => {
                let now = handle.export().size;
                return Err(Error::SizeChanged { source_name: uri.to_string(), first: size, now });
            }
            Ok(handle) => handles.push(handle),
            Err(error) => {
                tracing::warn!(source = %uri, error = %error, "reading with fewer connections than asked for");
            }
        }
    }
    Ok(handles)
}

async fn connect_one(uri: NbdUri, options: ConnectOptions) -> Result<Handle<Tag>, Error> {
    match tokio::task::spawn_blocking(move || Handle::connect(&uri, &options)).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Error::Setup { action: "run the connecting thread", source: error.into() }),
    }
}

/// Starts the threads. They end when the queue is closed and done, when nobody receives, or after an error.
pub(super) fn spawn(
    handles: Vec<Handle<Tag>>,
    shared: &Arc<Shared>,
    out: &Out,
    stall: Duration,
) -> Result<(), Error> {
    for (index, handle) in handles.into_iter().enumerate() {
        let setup = |action| move |source| Error::Setup { action, source };
        let wake = shared.wake(index).map_err(setup("copy an eventfd"))?;
        let (shared, out) = (Arc::clone(shared), out.clone());
        std::thread::Builder::new()
            .name(format!("nbd-read-{index}"))
            .spawn(move || {
                let mut worker = Worker { handle, index, shared, out, patience: Patience::new(stall) };
                let result = worker.run(&wake);
                worker.end(result);
            })
            .map_err(setup("start a reading thread"))?;
    }
    Ok(())
}

struct Worker {
    handle: Handle<Tag>,
    index: usize,
    shared: Arc<Shared>,
    out: Out,
    patience: Patience,
}

impl Worker {
    fn run(&mut self, wake: &impl AsFd) -> Result<(), Error> {
        loop {
            let closed = self.fill()?;
            if self.shared.is_stopped() || (closed && self.handle.in_flight() == 0) {
                return Ok(());
            }
            let left = self.patience.left(&self.handle).ok_or_else(|| self.stalled())?;
            // Once closed, the wake-up stays readable.
            let wake = (!closed).then(|| wake.as_fd());
            let waited = self.handle.wait(wake, left);
            // What ended before the connection broke is still good.
            while let Some(done) = self.handle.completed() {
                self.finish(done)?;
                self.patience.renew();
            }
            waited?;
        }
    }

    /// Issues what is queued; whether the queue is closed and empty.
    fn fill(&mut self) -> Result<bool, Error> {
        while self.handle.in_flight() < DEPTH {
            if self.handle.in_flight() == 0 {
                self.patience.renew();
            }
            match self.shared.next(self.index) {
                Next::Job(Job::Read { range, asked, mut lease }) => {
                    // A lease comes with its buffer.
                    let Some(buffer) = lease.take_buffer() else { continue };
                    self.handle.read(asked.start, buffer, Tag::Read { range, asked, lease })?;
                }
                Next::Job(Job::Status { range, reply }) => {
                    self.handle.status(range, Tag::Status { reply })?;
                }
                Next::Empty => return Ok(false),
                Next::Closed => return Ok(true),
            }
        }
        Ok(false)
    }

    fn finish(&mut self, done: Completed<Tag>) -> Result<(), Error> {
        match done {
            Completed::Read { tag: Tag::Read { range, asked, mut lease }, buffer, result } => {
                result?;
                let within = |at: u64| usize::try_from(at - asked.start).unwrap_or(usize::MAX);
                lease.put_buffer(buffer, within(range.start), within(range.end));
                self.shared.deliver(range, asked.len(), lease, &self.out);
            }
            Completed::Status { tag: Tag::Status { reply }, result } => {
                // Whoever asked may have gone.
                let _ = reply.send(result.map_err(Error::from));
            }
            // Tags go back with the kind of request they came with, and nothing is written here.
            Completed::Read { tag: Tag::Status { .. }, .. }
            | Completed::Status { tag: Tag::Read { .. }, .. }
            | Completed::Changed { .. } => {}
        }
        Ok(())
    }

    fn stalled(&self) -> Error {
        let offset = self.handle.oldest().map_or(0, |range| range.start);
        Error::Stalled { source_name: self.shared.name().to_owned(), offset, after: self.patience.limit() }
    }

    /// Tells the error, or lets requests in flight end and says good-bye.
    fn end(self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.shared.fail(error, &self.out);
        }
        part(self.handle, PARTING);
    }
}
