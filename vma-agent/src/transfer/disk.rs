//! One disk of a cycle, from opening to sealing.

use super::budget::{Budget, Share};
use super::changes::Changes;
use super::push::{self, Answers, Open, Prior, Push, PushError};
use super::{TransferError, data_pass, hash_pass};
use crate::cycle::Counters;
use crate::metrics::Counted;
use crate::source::{ChangeId, Snapshot, Source};
use migratekit::compress;
use migratekit::plan::{Areas, Options, Planner};
use migratekit::rate::Limit;
use migratekit::read::{ReadOptions, Reader};
use proto::v1::PushMode;
use proto::v1::push_response::Kind as Answer;
use shared::cycle::{DesiredDisk, Strategy};
use shared::ids::JobId;
use shared::leaf::round_out;
use shared::range::RangeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// How much a transfer may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections a source host, of all disks together.
    pub budget: Budget,
    /// Bytes a second to the OMA, of all disks together.
    pub limit: Arc<Limit>,
    /// What compression may do.
    pub compression: compress::Mode,
    /// NBD connections a disk.
    pub connections: usize,
    /// Bytes of one NBD request.
    pub request: u64,
    /// Bytes of read buffers a disk.
    pub memory: u64,
    /// Bytes read and not yet durable, a disk; at most 64 MiB (that is what a crash may cost).
    pub window: u32,
    /// No completion from the source for this long is an error.
    pub read_deadline: Duration,
    /// What is counted of all transfers.
    pub counted: Counted,
}

/// How the disk is to be treated.
#[derive(Clone, Debug)]
pub enum Mode {
    Sync(Strategy),
    /// Compare what did not change `since` with the manifest; all of it if there is no change id.
    Verify {
        since: Option<String>,
    },
}

/// A disk to transfer.
pub struct DiskJob {
    pub job: JobId,
    pub disk: DesiredDisk,
    /// Bytes, in this snapshot.
    pub size: u64,
    pub mode: Mode,
    pub source: Arc<dyn Source>,
    pub snapshot: Snapshot,
    pub channel: Channel,
    pub settings: Settings,
    /// Bytes a second of this migration.
    pub limit: Arc<Limit>,
    /// That begin together with this one, itself included.
    pub disks: usize,
    pub(crate) counters: Counters,
}

/// How it ended, without an error.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sealed by the control plane.
    Finished,
    /// Stopped at a durable point.
    Paused,
}

/// What both passes need.
pub(super) struct Running<'a> {
    pub(super) job: &'a DiskJob,
    pub(super) push: &'a Push,
    pub(super) prior: &'a Prior,
    pub(super) pause: &'a CancellationToken,
}

/// Transfers the disk. Dropping the future stops at once; `pause` stops at a durable point.
///
/// # Errors
/// See [`TransferError`]; nothing is lost by any of them, the next attempt goes on from what is durable.
pub async fn run(job: &DiskJob, pause: &CancellationToken) -> Result<Outcome, TransferError> {
    let mode = match &job.mode {
        Mode::Verify { .. } => PushMode::Verify,
        Mode::Sync(Strategy::HashDiff) => PushMode::HashDiff,
        Mode::Sync(Strategy::Full | Strategy::Changed { .. }) => PushMode::Data,
    };
    let open = Open {
        compression: job.settings.compression,
        // First the one that fewer wait for.
        limits: vec![Arc::clone(&job.limit), Arc::clone(&job.settings.limit)],
        job: job.job.clone(),
        disk: job.disk.disk.clone(),
        epoch: job.disk.epoch,
        size: job.size,
        mode,
    };
    let (push, mut answers, prior) = push::open(job.channel.clone(), open).await?;
    job.counters.update(|c| {
        c.resumed = prior.durable.total();
        c.planned = c.resumed;
        c.done = c.resumed;
    });
    let running = Running { job, push: &push, prior: &prior, pause };
    let outcome = match &job.mode {
        Mode::Sync(Strategy::Full) => running.data(&mut answers, Areas::All, &prior.required).await?,
        Mode::Sync(Strategy::Changed { since }) => {
            let areas = Areas::Changed(Box::new(running.changes(since)));
            running.data(&mut answers, areas, &prior.required).await?
        }
        Mode::Sync(Strategy::HashDiff) => {
            // Those are written again whatever is there; the rest is compared.
            let mut left_out = prior.durable.clone();
            left_out.union(&prior.required);
            match running.hashes(&mut answers, &left_out).await? {
                true => running.data(&mut answers, Areas::RequiredOnly, &prior.required).await?,
                false => Outcome::Paused,
            }
        }
        Mode::Verify { since } => {
            let mut left_out = match since {
                Some(since) => running.changes(since).collect(job.size).await?,
                None => RangeSet::new(),
            };
            left_out.union(&prior.durable);
            // Written by a cycle that never committed: the manifest does not know them.
            prior.required.iter().for_each(|r| left_out.insert(round_out(r, job.size)));
            match running.hashes(&mut answers, &left_out).await? {
                true => {
                    running.finish().await?;
                    match answers.next().await? {
                        Some(Answer::Finished(_)) => Outcome::Finished,
                        _ => return Err(PushError::broken("the seal was not confirmed").into()),
                    }
                }
                false => Outcome::Paused,
            }
        }
    };
    Ok(outcome)
}

impl Running<'_> {
    fn changes(&self, since: &str) -> Changes {
        Changes {
            source: Arc::clone(&self.job.source),
            snapshot: self.job.snapshot.clone(),
            key: self.job.disk.key.clone(),
            since: ChangeId::new(since.to_owned()),
        }
    }

    async fn data(
        &self,
        answers: &mut Answers,
        areas: Areas,
        required: &RangeSet,
    ) -> Result<Outcome, TransferError> {
        let opened = self.open_source().await?;
        let planner = self.planner(&opened, areas, required, &self.prior.durable);
        data_pass::run(self, answers, opened, planner).await
    }

    /// `false` when paused; else everything is compared, and in a sync what differed is durable.
    async fn hashes(&self, answers: &mut Answers, left_out: &RangeSet) -> Result<bool, TransferError> {
        let opened = self.open_source().await?;
        let planner = self.planner(&opened, Areas::All, &RangeSet::new(), left_out);
        hash_pass::run(self, answers, opened, planner).await
    }

    /// Asks for the seal, once everything has been read and sent.
    pub(super) async fn finish(&self) -> Result<(), TransferError> {
        // A snapshot that ran out of room may have answered with newer data.
        self.job.source.confirm(&self.job.snapshot, &self.job.disk.key).await?;
        let done = self.job.counters.get();
        Ok(self.push.finish(done.data, done.planned.saturating_sub(done.data)).await?)
    }

    async fn open_source(&self) -> Result<OpenSource, TransferError> {
        let opened = self.job.source.open(&self.job.snapshot, &self.job.disk.key).await?;
        let settings = &self.job.settings;
        let share = settings.budget.take(opened.uri.host(), settings.connections, self.job.disks).await;
        let usual = ReadOptions::default();
        let options = ReadOptions {
            connections: share.connections(),
            request_size: settings.request,
            memory: settings.memory,
            connect_timeout: settings.read_deadline.min(usual.connect_timeout),
            stall_timeout: settings.read_deadline,
            ..usual
        };
        let reader = Reader::open(&opened.uri, &options).await;
        let (reader, pieces) = reader.map_err(TransferError::Open)?;
        self.job.snapshot.still_has(&self.job.disk.key, reader.size())?;
        Ok(OpenSource { reader, pieces, _keep: opened, _share: share })
    }

    fn planner(
        &self,
        opened: &OpenSource,
        areas: Areas,
        required: &RangeSet,
        left_out: &RangeSet,
    ) -> Planner {
        // A chunk is read by one connection, in the buffers of one disk: 1 MiB keeps several in flight.
        let options = Options { chunk: 1 << 20, ..Options::default() };
        let extents = Box::new(opened.reader.extents());
        Planner::with_options(self.job.size, areas, required, left_out, extents, options)
    }
}

/// An export being read.
pub(super) struct OpenSource {
    pub(super) reader: Reader,
    pub(super) pieces: migratekit::read::Pieces,
    /// Keeps the export alive.
    _keep: crate::source::OpenDisk,
    _share: Share,
}
