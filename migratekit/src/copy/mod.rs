//! `migratekit copy SRC DST`: one disk through the engine, without any control plane.
//!
//! ```text
//! plan ─ window ─► intend ─┬─ zeros ───────────────────► replica session ─► target, manifest
//!                          └─ chunks ─► reader ─ pieces ─┘       └ checkpoints ─► resume file
//! ```
//!
//! A copy is done when the session is sealed: everything planned was flushed (DESIGN §6 rule 1). With `--resume` what
//! is durable is kept in a file, and a later run goes on from there; the operator answers for a source that did not
//! change in between.
//!
//! Deliberately not here: snapshots, changes over several runs, and any choice of whether the target may be lost:
//! the operator named it.

mod args;
mod check;
mod claim;
mod error;
mod identity;
mod progress;
mod report;
mod resume;
mod target;
mod told;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::nbd::NbdUri;
use crate::piece::Piece;
use crate::plan::{Areas, ChangedAreas, Extents, NoExtents, Planner};
use crate::rate::Limit;
use crate::read::{Pieces, ReadOptions, Reader};
use crate::replica::{self, Acks, Cause, Prior, ReplicaSession};

pub use args::{Args, Output};
pub(crate) use args::{bytes, check_scheme};
pub(crate) use claim::{Claim, claim};
pub use error::Error;
pub(crate) use identity::is_same_file;

use progress::Meter;
use report::{About, Moved, Report};
use resume::{Journal, Resume};
use target::Destination;
pub(crate) use told::Told;

/// What a copy did.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Summary {
    /// Without secrets.
    pub source: String,
    pub target: String,
    /// Bytes of the source disk.
    pub size_bytes: u64,
    /// Bytes that were still to be copied: planned, and not copied by an earlier run.
    pub planned_bytes: u64,
    /// Copied by earlier runs, according to the resume file.
    pub resumed_bytes: u64,
    /// Read from the source.
    pub read_bytes: u64,
    /// Written as data.
    pub written_bytes: u64,
    /// Zeros made in the target, or left out where it is known to read as zeros.
    pub zero_bytes: u64,
    /// What the target has beyond the source's size; left alone.
    pub beyond_bytes: u64,
    /// All of it is on stable storage. Only an NBD server that cannot flush makes this false.
    pub flushed: bool,
    pub seconds: f64,
    /// Of the target, read back past the page cache (or from an NBD server) and found equal; `None` without `--verify`.
    pub verified_bytes: Option<u64>,
}

/// Copies; the summary goes to `out`, progress to stderr.
///
/// # Errors
/// One that names the thing, the cause and what to do; [`Error::exit_code`] has the process's exit code.
pub async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<Summary, Error> {
    let cancel = CancellationToken::new();
    let mut told = Told::listen();
    let mut copying = Box::pin(copy(args, &cancel));
    let summary = tokio::select! {
        done = &mut copying => done?,
        () = told.comes() => {
            cancel.cancel();
            copying.await?
        }
    };
    progress::print(&summary, args.output, out).map_err(Error::Output)?;
    Ok(summary)
}

/// Until it is done, or ends early because `cancel` says so.
async fn copy(args: &Args, cancel: &CancellationToken) -> Result<Summary, Error> {
    let report = Report::new(args)?;
    let done = copy_and_tell(args, cancel, &report).await;
    match &done {
        // The job's numbers may be those of the copy that is running.
        Err(error) if error.is_for_another() => report.withdraw(),
        done => report.end(done.is_ok()).await,
    }
    done
}

async fn copy_and_tell(args: &Args, cancel: &CancellationToken, report: &Report) -> Result<Summary, Error> {
    let started = Instant::now();
    // Arguments that cannot be used are said before anybody is connected to.
    args.nbd_target().transpose()?;
    check_scheme(&args.source)?;
    check_scheme(&args.target.to_string_lossy())?;
    let (mut reader, pieces) = tokio::select! {
        opened = open_source(args) => opened?,
        () = cancel.cancelled() => return Err(interrupted(args)),
    };
    let (mut destination, resume) = Destination::find(args, &reader).await?;
    if args.request_size.is_none() {
        reader.prefer_requests(destination.preferred());
    }
    let mut job = Job { args, cancel, destination: &mut destination, report, started };
    let done = job.transfer(reader, pieces, resume).await;
    destination.settle(args, &done).await;
    done
}

fn interrupted(args: &Args) -> Error {
    Error::Interrupted { resumable: args.resume.is_some() }
}

async fn open_source(args: &Args) -> Result<(Reader, Pieces), Error> {
    let mut options = ReadOptions { bitmap: args.bitmap.clone(), ..ReadOptions::default() };
    if args.nbd_target().is_some() {
        // What is on its way to the target is still in read buffers.
        options.memory *= 2;
    }
    if let Some(connections) = args.connections {
        options.connections = usize::from(connections);
    }
    if let Some(size) = args.request_size {
        options.request_size = size;
        options.memory = options.memory.max(4 * size);
    }
    if NbdUri::is_uri(&args.source) {
        return Ok(Reader::open(&args.source.parse().map_err(Error::Uri)?, &options).await?);
    }
    if args.bitmap.is_some() {
        return Err(Error::BitmapOfFile { path: args.source.clone() });
    }
    Ok(Reader::open_file(args.source.as_ref(), &options).await?)
}

fn bitmap(args: &Args, reader: &Reader) -> Result<Option<Box<dyn ChangedAreas>>, Error> {
    match &args.bitmap {
        Some(name) => Ok(Some(Box::new(reader.dirty_bitmap(name)?))),
        None => Ok(None),
    }
}

/// A plan of what is left.
fn plan(args: &Args, reader: &Reader, resume: &Resume, extents: Box<dyn Extents>) -> Result<Planner, Error> {
    let areas = bitmap(args, reader)?.map_or(Areas::All, Areas::Changed);
    Ok(Planner::new(reader.size(), areas, &resume.intended, &resume.durable, extents))
}

/// Lets the resume file go when dropped.
struct Release(Arc<Journal>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.release();
    }
}

struct Job<'a> {
    args: &'a Args,
    cancel: &'a CancellationToken,
    destination: &'a mut Destination,
    report: &'a Report,
    started: Instant,
}

impl Job<'_> {
    async fn transfer(
        &mut self,
        reader: Reader,
        pieces: Pieces,
        mut resume: Resume,
    ) -> Result<Summary, Error> {
        let args = self.args;
        // For its errors, before anything is touched.
        drop(plan(args, &reader, &resume, Box::new(NoExtents))?);
        let (target, manifest) = self.destination.open(reader.size(), &resume)?;
        let moved = Moved::new(resume.moved);
        let journal = Arc::new(Journal::new(resume.file.take(), moved.clone()));
        // The lock on the resume file goes with this run, whoever still holds the journal.
        let _release = Release(Arc::clone(&journal));
        if self.destination.must_prove_itself() {
            self.look_for_durable(&target, &manifest, &mut resume, &journal).await?;
        }
        // Once without extents, which costs next to nothing, so that progress knows its total.
        let mut planned_bytes = 0;
        let mut counting = plan(args, &reader, &resume, Box::new(NoExtents))?;
        while let Some(window) = counting.next().await? {
            planned_bytes += window.data_bytes();
        }
        let planner = plan(args, &reader, &resume, Box::new(reader.extents()))?;
        let meter = Meter::new("copied", planned_bytes);
        let resumed_bytes = resume.durable.total();
        let about = About { size: reader.size(), planned: planned_bytes, resumed: resumed_bytes };
        self.report.begin(&about, &moved);
        let prior = Prior {
            intended: resume.intended.clone(),
            durable: resume.durable.clone(),
            reads_zero: self.destination.reads_zero(),
        };
        if let Some(file) = self.destination.made()? {
            journal.made(file).await.map_err(|why| replica::Error::from(Cause::Intent(why)))?;
        }
        let session = ReplicaSession::open(
            Arc::clone(&target),
            Arc::clone(&manifest),
            journal.clone(),
            prior,
            self.destination.options(),
        )?;
        let counted = reader.clone();
        let durable = |bytes| self.report.done(resumed_bytes, meter.add(bytes), &moved);
        let sealed = async {
            pump(reader, pieces, planner, &session, args.rate, &moved, &durable).await?;
            Ok::<_, Error>(session.seal().await?)
        };
        let sealed = tokio::select! {
            sealed = sealed => sealed,
            () = self.cancel.cancelled() => Err(interrupted(args)),
        };
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(error) => {
                // No write may outlive the error: the caller may remove the target.
                session.fence("the copy failed").await;
                return Err(error);
            }
        };
        meter.finish();
        self.report.sealed(&moved);
        let verified_bytes = match args.verify {
            true => Some(self.verify(&target, &manifest, &sealed.durable, &journal).await?),
            false => None,
        };
        journal.remove()?;
        Ok(Summary {
            source: counted.name().to_owned(),
            target: target.name(),
            size_bytes: counted.size(),
            planned_bytes,
            resumed_bytes,
            read_bytes: counted.counters().read_bytes,
            written_bytes: sealed.stats.written_bytes,
            zero_bytes: sealed.stats.zeroed_bytes + sealed.stats.skipped_bytes,
            beyond_bytes: target.size() - counted.size(),
            flushed: self.destination.can_flush(),
            seconds: self.started.elapsed().as_secs_f64(),
            verified_bytes,
        })
    }
}

/// Moves everything that is planned into the session.
async fn pump(
    reader: Reader,
    mut pieces: Pieces,
    mut planner: Planner,
    session: &ReplicaSession,
    rate: Option<u64>,
    moved: &Moved,
    durable: &(dyn Fn(u64) + Sync),
) -> Result<(), Error> {
    let (stream, acks) = session.stream();
    let zeros = stream.clone();
    let submit = async move {
        let limit = Limit::new(rate.unwrap_or(0));
        while let Some(window) = planner.next().await? {
            session.intend(window.ranges()).await?;
            for range in window.zero {
                zeros.write(Piece::Zero(range)).await?;
            }
            for range in window.data {
                limit.take(range.len()).await;
                reader.submit(range).await?;
            }
        }
        // Lets the pieces end when all are there.
        reader.close();
        Ok::<(), Error>(())
    };
    let write = async move {
        while let Some(piece) = pieces.recv().await {
            let piece = piece?;
            let data = match &piece {
                Piece::Data { data, .. } => data.len() as u64,
                Piece::Zero(_) => 0,
            };
            stream.write(piece).await?;
            moved.add(data);
        }
        Ok::<(), Error>(())
    };
    let moved = Box::pin(both(submit, write));
    tokio::select! {
        moved = moved => moved,
        ended = watch(acks, durable) => ended,
    }
}

/// Both, or the first error; but a reader that merely ended leaves the word to its receiver, who knows why.
async fn both(
    submit: impl Future<Output = Result<(), Error>>,
    write: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let submit = async {
        match submit.await {
            Err(error) if error.is_closed_reader() => Ok(Some(error)),
            Err(error) => Err(error),
            Ok(()) => Ok(None),
        }
    };
    let (closed, ()) = futures::future::try_join(submit, write).await?;
    closed.map_or(Ok(()), Err)
}

/// Shows what became durable, until the session fails.
async fn watch(mut acks: Acks, durable: &(dyn Fn(u64) + Sync)) -> Result<(), Error> {
    while let Some(ranges) = acks.next().await? {
        durable(ranges.total());
    }
    // Sealed: the other side is on its way out.
    std::future::pending().await
}
