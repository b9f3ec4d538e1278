//! `migratekit bench SRC DST`: what each part of a transfer can do on this machine, alone and together.
//!
//! ```text
//! hash       memory
//! read       source ─► reader
//! wire                 memory ═ mutual TLS, loopback ═► nothing
//! target                                                memory ─► replica session ─► target
//! together   source ─► reader ═ mutual TLS, loopback ═► replica session ─► target
//! ```
//!
//! The parts are the product's own; only the gRPC edges and the database of the daemons are left out. What is already
//! there is never damaged (see `place`), and what is made does not outlive the process.
//!
//! Deliberately not here: a network between two machines, and figures that pass or fail.

mod args;
mod error;
mod measure;
mod place;
mod report;
mod source;
mod wire;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::leaf::LEAF;
use shared::range::RangeSet;
use tokio_util::sync::CancellationToken;

use crate::copy::{Output, Told};
use crate::manifest::Manifest;
use crate::piece::Piece;
use crate::replica::{Options, Prior, ReadsZero, ReplicaSession, ReplicaStream};

pub use args::Args;
pub use error::Error;
pub use measure::Measured;
pub use report::Report;

use measure::{Limit, NoJournal, Noise, Timed, Watch};
use place::Place;
use source::Source;
use wire::Wire;

/// For what is under way to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures; the report goes to `out`, a line before each measurement to stderr. Needs a runtime of several threads.
///
/// # Errors
/// One that names the thing, the cause and what to do; [`Error::exit_code`] has the process's exit code.
pub async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<Report, Error> {
    let stop = CancellationToken::new();
    let mut told = Told::listen();
    let mut measuring = Box::pin(measure(args, &stop));
    let measured = tokio::select! {
        report = &mut measuring => report,
        () = told.comes() => {
            stop.cancel();
            // In order, so that folders for manifests go, too; but a server that hangs is not waited for.
            let _ = tokio::time::timeout(PATIENCE, measuring).await;
            Err(Error::Interrupted)
        }
    };
    let report = measured?;
    let output = if args.json { Output::Json } else { args.output };
    report.print(output, out).map_err(Error::Output)?;
    Ok(report)
}

async fn measure(args: &Args, stop: &CancellationToken) -> Result<Report, Error> {
    let place = {
        let args = args.clone();
        Arc::new(blocking(move || Place::find(&args)).await?)
    };
    let measured = Bench { args, stop, place: Arc::clone(&place) }.all().await;
    blocking(move || {
        place.close();
        Ok(())
    })
    .await?;
    measured
}

struct Bench<'a> {
    args: &'a Args,
    stop: &'a CancellationToken,
    place: Arc<Place>,
}

impl Bench<'_> {
    async fn all(&self) -> Result<Report, Error> {
        let mut source = Source::open(&self.args.source, self.args.connections).await?;
        let (noise, bytes) = (Arc::new(Noise::new()), self.args.bytes);
        let mut stages = Vec::new();
        self.say("hashing")?;
        stages.push({
            let noise = Arc::clone(&noise);
            blocking(move || Ok(measure::hash(&noise, bytes))).await?
        });
        self.say("reading the source")?;
        stages.push(self.read(&mut source).await?);
        self.say("sending over loopback")?;
        stages.push(self.wire(&noise).await?);
        self.say("writing and flushing the target")?;
        stages.extend(self.target(&noise).await?);
        self.say("all together")?;
        stages.push(self.together(&mut source).await?);
        self.go_on()?;
        Ok(Report::new(source.name().to_owned(), self.place.name(), stages))
    }

    fn go_on(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn say(&self, what: &str) -> Result<(), Error> {
        // A closed stderr is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{what} …");
        self.go_on()
    }

    fn limit(&self, most: u64) -> Limit {
        Limit::new(self.args.bytes.min(most), self.args.seconds, self.stop)
    }

    async fn read(&self, source: &mut Source) -> Result<Measured, Error> {
        let watch = Watch::start();
        let bytes = source.read(&self.limit(u64::MAX), async |_| Ok(true)).await?;
        let measured = watch.stop("read", bytes);
        Ok(Measured { read_again: source.take_again(), ..measured })
    }

    async fn wire(&self, noise: &Noise) -> Result<Measured, Error> {
        let mut wire = Wire::open(None).await?;
        let (watch, limit, mut at) = (Watch::start(), self.limit(u64::MAX), 0);
        for (data, hashes) in noise.chunks() {
            if limit.reached(at) {
                break;
            }
            wire.send(at, data, &hashes).await?;
            at += Noise::CHUNK as u64;
        }
        wire.finish().await?;
        Ok(watch.stop("wire", at))
    }

    async fn target(&self, noise: &Noise) -> Result<[Measured; 3], Error> {
        let session = Session::open(&self.place).await?;
        let (watch, limit, mut at) = (Watch::start(), self.limit(self.place.room()), 0);
        for (data, hashes) in noise.chunks() {
            if limit.reached(at) || at + Noise::CHUNK as u64 > self.place.room() {
                break;
            }
            session.stream.write(Piece::Data { offset: at, data, hashes }).await?;
            at += Noise::CHUNK as u64;
        }
        let timed = session.seal().await?;
        let whole = watch.stop("target", at);
        let (write, flush) = timed.took();
        Ok([Measured::new("write", at, write, None), Measured::new("flush", at, flush, None), whole])
    }

    /// The pieces are put one after the other: the target need not be as large as the source.
    async fn together(&self, source: &mut Source) -> Result<Measured, Error> {
        let session = Session::open(&self.place).await?;
        let mut wire = Wire::open(Some(session.stream.clone())).await?;
        let (room, mut at) = (self.place.room(), 0);
        let (watch, limit) = (Watch::start(), self.limit(u64::MAX));
        let sent = source.read(&limit, async |piece| {
            // Zeros need no wire; of an odd end of the disk there is one.
            if let Piece::Data { data, hashes, .. } = piece
                && (data.len() as u64).is_multiple_of(LEAF)
            {
                let end = at + data.len() as u64;
                if end > room {
                    return Ok(false);
                }
                wire.send(at, data, &hashes).await?;
                at = end;
            }
            Ok(true)
        });
        let bytes = sent.await?;
        wire.finish().await?;
        session.seal().await?;
        let measured = watch.stop("together", bytes);
        Ok(Measured { read_again: source.take_again(), ..measured })
    }
}

/// A replica session of the place, with a manifest beside it.
struct Session {
    session: ReplicaSession,
    stream: ReplicaStream,
    timed: Arc<Timed>,
    /// Holds the manifest.
    _scratch: tempfile::TempDir,
}

impl Session {
    async fn open(place: &Arc<Place>) -> Result<Self, Error> {
        let place = Arc::clone(place);
        let (timed, manifest, scratch) = blocking(move || {
            let timed = Arc::new(Timed::new(place.open()?));
            let folder = tempfile::Builder::new().prefix("migratekit-bench-").tempdir();
            let path: PathBuf = std::env::temp_dir();
            let scratch = folder.map_err(|source| Error::Io { action: "make a folder in", path, source })?;
            let manifest = Manifest::create(&scratch.path().join("manifest"), place.room())?;
            Ok((timed, Arc::new(manifest), scratch))
        })
        .await?;
        let (intended, durable) = (RangeSet::new(), RangeSet::new());
        let prior = Prior { intended, durable, reads_zero: ReadsZero::Unknown };
        let target = Arc::clone(&timed) as _;
        let session = ReplicaSession::open(target, manifest, Arc::new(NoJournal), prior, Options::default())?;
        let (stream, _) = session.stream();
        Ok(Self { session, stream, timed, _scratch: scratch })
    }

    /// Flushed when it returns.
    async fn seal(self) -> Result<Arc<Timed>, Error> {
        self.session.seal().await?;
        Ok(self.timed)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Died))
}
