//! Who may write which replica, and the sessions that do.
//!
//! One session a disk at a time. A higher epoch fences the older session and waits until its writes have ended
//! before its own begins; a lower one is refused and told by whom it was overtaken.

mod error;
mod journal;

pub use error::TransferError;

use crate::hub::Hub;
use crate::storage::{Storage, VolumeId};
use crate::store::{
    CheckpointKind, CheckpointOf, Disk, Job, JobKind, JobStatus, Store, VolumeContent, Wanted,
};
use jiff::Timestamp;
use journal::DbJournal;
use migratekit::manifest::Manifest;
use migratekit::piece::Piece;
use migratekit::replica::{Acks, Options, Prior, ReadsZero, ReplicaSession, ReplicaStream};
use migratekit::target::Target;
use migratekit::verify::{Expected, compare_block, compare_manifest};
use shared::cycle::Strategy;
use shared::ids::{AgentId, DiskId, Epoch, JobId};
use shared::leaf::{LEAF, LeafHash};
use shared::range::{ByteRange, RangeSet};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

/// What a stream asks for.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    pub job: JobId,
    pub disk: DiskId,
    pub epoch: Epoch,
    /// Bytes of the source disk.
    pub size: u64,
    pub mode: Mode,
}

impl OpenRequest {
    fn of(&self) -> CheckpointOf {
        CheckpointOf { job: self.job.clone(), disk: self.disk.clone(), epoch: self.epoch }
    }
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Data,
    HashDiff,
    Verify,
}

/// A block of the source's hashes; none: all zero.
pub struct Hashed {
    pub range: ByteRange,
    pub hashes: Vec<LeafHash>,
}

/// What a sender says of a disk at its end, in bytes of its last attempt's plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    pub data: u64,
    pub zero: u64,
}

/// An open stream.
pub struct Opened {
    pub transfer: Transfer,
    /// `None`: nothing is written, nothing becomes durable.
    pub acks: Option<Acks>,
    pub epoch: Epoch,
    /// Durable from earlier attempts of this job.
    pub prior_durable: RangeSet,
    /// To be sent whatever the source says.
    pub required: RangeSet,
}

/// All transfers of this control plane.
pub struct Transfers {
    store: Store,
    storage: Arc<dyn Storage>,
    manifests: PathBuf,
    disks: Mutex<HashMap<DiskId, Arc<Slot>>>,
    /// Of verifications of the source, until somebody takes them.
    findings: Mutex<HashMap<(JobId, DiskId), Findings>>,
}

/// What a verification of the source found on one disk.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Once each, however often an interrupted agent began anew.
    pub compared: RangeSet,
    pub different: RangeSet,
}

/// How far a replica's session is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtWork {
    /// It is being opened or ended.
    pub is_busy: bool,
    /// Received, and not durable yet.
    pub pending: u64,
    pub durable: u64,
    /// Given to the target.
    pub written: u64,
}

type Slot = tokio::sync::Mutex<Option<Session>>;

struct Session {
    epoch: Epoch,
    replica: ReplicaSession,
    target: Arc<dyn Target>,
}

/// One stream's way into its disk.
pub struct Transfer {
    transfers: Arc<Transfers>,
    request: OpenRequest,
    to: To,
    /// Bytes that were durable when it was opened: what its sender need not send.
    found: u64,
}

enum To {
    Replica { stream: ReplicaStream, target: Arc<dyn Target> },
    Manifest(Arc<Manifest>),
}

impl Transfers {
    pub fn new(store: Store, storage: Arc<dyn Storage>, manifests: PathBuf) -> Arc<Self> {
        Arc::new(Self { store, storage, manifests, disks: Mutex::default(), findings: Mutex::default() })
    }

    /// Opens one stream of a transfer for `agent`.
    ///
    /// # Errors
    /// See [`TransferError`]; none of them has written anything.
    pub async fn open(
        self: &Arc<Self>,
        agent: &AgentId,
        request: &OpenRequest,
    ) -> Result<Opened, TransferError> {
        let slot = self.slot(&request.disk);
        let mut session = slot.lock().await;
        let (job, disk) = self.admit(agent, request).await?;
        // The request names the job alone.
        tracing::Span::current().record("migration_id", job.migration.as_str());
        let required = self.store.required_load(&request.disk, &request.job).await?;
        let prior = self.store.checkpoint_load(&request.job, &request.disk).await?;
        if request.mode == Mode::Verify {
            let manifest = self.committed_manifest(&disk).await?;
            let to = To::Manifest(Arc::new(manifest));
            let found = prior.durable.total();
            let transfer = Transfer { transfers: Arc::clone(self), request: request.clone(), to, found };
            let opened =
                Opened { transfer, acks: None, epoch: request.epoch, prior_durable: prior.durable, required };
            return Ok(opened);
        }
        let shared = session.as_ref().is_some_and(|s| s.epoch == request.epoch && s.replica.check().is_ok());
        if !shared {
            if let Some(old) = session.take() {
                let why = format!("epoch {} of job {} took over", request.epoch, request.job);
                old.replica.fence(why).await;
            }
            let started =
                self.start(&job, &disk, request, prior.intents, prior.durable.clone(), &required).await;
            if let Err(TransferError::ManifestLost { source, .. }) = &started {
                warn!(job_id = %job.id, disk_id = %disk.id, error = %source, "all of the disk will be compared");
                let now = Timestamp::now();
                self.store.disk_hash_diff_require(&disk.id).await?;
                self.store.job_strategy_set(&job.id, &disk.id, &Strategy::HashDiff, now).await?;
            }
            *session = Some(started?);
        }
        let Some(live) = session.as_ref() else { return Err(TransferError::Died) };
        let (stream, acks) = live.replica.stream();
        let to = To::Replica { stream, target: Arc::clone(&live.target) };
        // Of a shared session, more may be durable by now than the database said above.
        let prior_durable = live.replica.durable();
        let found = prior_durable.total();
        let transfer = Transfer { transfers: Arc::clone(self), request: request.clone(), to, found };
        Ok(Opened { transfer, acks: Some(acks), epoch: request.epoch, prior_durable, required })
    }

    /// Ends every session of these disks and waits until nothing writes any more.
    pub async fn close(&self, disks: &[DiskId], why: &str) {
        for disk in disks {
            let slot = self.slot(disk);
            let session = slot.lock().await.take();
            if let Some(session) = session {
                session.replica.fence(why.to_owned()).await;
            }
        }
    }

    /// How far a replica's session is, for who looks whether it gets on.
    pub fn at_work(&self, disk: &DiskId) -> AtWork {
        let slot = self.slot(disk);
        // Somebody opens it, or ends it and waits for its writes.
        let Ok(session) = slot.try_lock() else { return AtWork { is_busy: true, ..AtWork::default() } };
        session.as_ref().map_or_else(AtWork::default, |session| AtWork {
            is_busy: false,
            pending: session.replica.pending(),
            durable: session.replica.durable().total(),
            written: session.replica.stats().written_bytes,
        })
    }

    /// How many disks can be written now.
    pub fn sessions(&self) -> usize {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is held is being opened, or closed: there is a session on one side of that.
        disks.values().filter(|slot| slot.try_lock().map_or(true, |session| session.is_some())).count()
    }

    /// What the verification of a disk found; once.
    pub fn findings_take(&self, job: &JobId, disk: &DiskId) -> Findings {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.remove(&(job.clone(), disk.clone())).unwrap_or_default()
    }

    fn found(&self, request: &OpenRequest, range: ByteRange, different: &RangeSet) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        let of_disk = findings.entry((request.job.clone(), request.disk.clone())).or_default();
        of_disk.compared.insert(range);
        of_disk.different.union(different);
    }

    /// Name of the manifest that a cycle of a disk makes.
    pub fn manifest_file(disk: &DiskId, job: &JobId) -> String {
        format!("{disk}.{job}.manifest")
    }

    /// Where the manifests lie.
    pub fn manifest_path(&self, file: &str) -> PathBuf {
        self.manifests.join(file)
    }

    /// What the replica should hold as of the last commit.
    ///
    /// # Errors
    /// [`TransferError::NothingCommitted`], or the file cannot be used.
    pub async fn committed_manifest(&self, disk: &Disk) -> Result<Manifest, TransferError> {
        let (Some(manifest), Some(size)) = (&disk.manifest, disk.committed_size) else {
            return Err(TransferError::NothingCommitted { disk: disk.id.clone() });
        };
        let path = self.manifest_path(&manifest.file);
        blocking(move || Ok(Manifest::open(&path, size)?)).await
    }

    /// What the replica should hold once that cycle is committed.
    ///
    /// # Errors
    /// The file cannot be used.
    pub async fn working_manifest(&self, disk: &Disk, job: &JobId) -> Result<Manifest, TransferError> {
        let path = self.manifest_path(&Self::manifest_file(&disk.id, job));
        let size = disk.size;
        blocking(move || Ok(Manifest::open(&path, size)?)).await
    }

    fn slot(&self, disk: &DiskId) -> Arc<Slot> {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(disks.entry(disk.clone()).or_default())
    }

    /// Whether this agent may write this disk in this job under this epoch.
    async fn admit(&self, agent: &AgentId, request: &OpenRequest) -> Result<(Job, Disk), TransferError> {
        let job = self.store.job_fetch(&request.job).await?;
        let migration = self.store.migration_fetch(&job.migration).await?;
        if migration.agent != *agent {
            warn!(%agent, owner = %migration.agent, migration_id = %migration.id,
                  "an agent asked for another agent's migration and was refused");
            return Err(TransferError::WrongAgent { agent: agent.clone(), migration: migration.id });
        }
        let disk = self.store.disk_fetch(&request.disk).await?;
        let Some(in_job) = job.disks.iter().find(|d| d.disk == request.disk) else {
            return Err(TransferError::NotInJob { job: job.id, disk: disk.id });
        };
        if request.epoch < disk.epoch {
            return Err(TransferError::Overtaken {
                disk: disk.id,
                asked: request.epoch,
                current: disk.epoch,
                by: disk.epoch_job,
            });
        }
        if request.epoch > disk.epoch {
            return Err(TransferError::UnknownEpoch {
                disk: disk.id,
                asked: request.epoch,
                current: disk.epoch,
            });
        }
        if job.status != JobStatus::Running || job.wanted != Wanted::Run {
            return Err(TransferError::NotRunning { job: job.id, status: job.status });
        }
        if in_job.finished {
            return Err(TransferError::Finished { job: job.id, disk: disk.id });
        }
        match in_job.new_size {
            Some(size) if size == request.size => {}
            size => {
                return Err(TransferError::WrongSize { disk: disk.id, snapshot: size, asked: request.size });
            }
        }
        if (job.kind == JobKind::VerifySource) != (request.mode == Mode::Verify) {
            return Err(TransferError::WrongMode { job: job.id });
        }
        Ok((job, disk))
    }

    async fn start(
        &self,
        job: &Job,
        disk: &Disk,
        request: &OpenRequest,
        intended: RangeSet,
        durable: RangeSet,
        required: &RangeSet,
    ) -> Result<Session, TransferError> {
        let target = self.storage.open(&VolumeId::parse(disk.volume.clone())?).await?;
        let working = self.manifest_path(&Self::manifest_file(&disk.id, &job.id));
        let committed = disk.manifest.as_ref().map(|m| self.manifest_path(&m.file)).zip(disk.committed_size);
        let size = request.size;
        let (of_disk, whole) = (disk.id.clone(), whole(job, disk));
        let manifest = blocking(move || {
            if working.exists() {
                return Ok(Manifest::open(&working, size)?);
            }
            let Some((path, _)) = committed else { return Ok(Manifest::create(&working, size)?) };
            match Manifest::open(&path, size) {
                Ok(committed) => Ok(committed.clone_to(&working)?),
                // All of the disk is sent or compared: nothing of the old one is needed.
                Err(error) if error.is_lost() && whole => Ok(Manifest::create(&working, size)?),
                Err(source) if source.is_lost() => Err(TransferError::ManifestLost { disk: of_disk, source }),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
        let mut ever = intended;
        ever.union(required);
        let untouched = disk.content == VolumeContent::Zeros && disk.manifest.is_none();
        let reads_zero = if untouched { ReadsZero::Yes } else { ReadsZero::Unknown };
        let prior = Prior { intended: ever, durable, reads_zero };
        let journal = DbJournal { store: self.store.clone(), of: request.of() };
        let replica = ReplicaSession::open(
            Arc::clone(&target),
            Arc::new(manifest),
            Arc::new(journal),
            prior,
            Options::default(),
        )?;
        info!(job_id = %job.id, disk_id = %disk.id, epoch = %request.epoch, "replica opened for writing");
        Ok(Session { epoch: request.epoch, replica, target })
    }
}

impl Transfer {
    /// Logs ranges that are about to be sent. Pieces outside them need not wait for it.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn intend(
        &self,
        ranges: RangeSet,
    ) -> Result<impl Future<Output = Result<(), TransferError>> + Send + use<>, TransferError> {
        let session = self.stream()?.session().clone();
        Ok(async move { Ok(session.intend(ranges).await?) })
    }

    /// Takes a piece; it is durable when the acknowledgements say so.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn write(&self, piece: Piece) -> Result<(), TransferError> {
        Ok(self.stream()?.write(piece).await?)
    }

    /// Compares a block of the source's hashes with the replica (what is equal becomes durable as it is) or with the
    /// manifest. Gives what differs.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn compare(&self, block: Hashed) -> Result<RangeSet, TransferError> {
        let Hashed { range, hashes } = block;
        match &self.to {
            To::Replica { stream, target } => {
                let (target, size) = (Arc::clone(target), self.request.size);
                let (hashes, different) = blocking(move || {
                    let found = compare_block(&*target, size, range, expected(&hashes))?;
                    Ok((hashes, found.into_iter().collect::<RangeSet>()))
                })
                .await?;
                let mut equal = RangeSet::from_iter([range]);
                equal.subtract(&different);
                for part in equal.iter() {
                    stream.confirm(part, hashes_of(part, range, &hashes)).await?;
                }
                Ok(different)
            }
            To::Manifest(manifest) => {
                let manifest = Arc::clone(manifest);
                let different: RangeSet = blocking(move || {
                    Ok(compare_manifest(&manifest, range, expected(&hashes))?.into_iter().collect())
                })
                .await?;
                self.transfers.found(&self.request, range, &different);
                if !different.is_empty() {
                    let OpenRequest { job, disk, .. } = &self.request;
                    warn!(job_id = %job, disk_id = %disk, bytes = different.total(), ranges = ?different,
                          "the source differs from the manifest where no change was reported");
                    let store = &self.transfers.store;
                    let now = Timestamp::now();
                    store
                        .checkpoint_append(&self.request.of(), CheckpointKind::Required, &different, now)
                        .await?;
                }
                Ok(different)
            }
        }
    }

    /// The disk is done: nothing is written under this epoch any more. Its counters are stored with that and stay as they
    /// are: the agent's last report comes by another way, and may come too late.
    ///
    /// # Errors
    /// [`TransferError::Replica`] with what is missing, and others.
    pub async fn seal(&self, hub: &Hub, sent: Sent) -> Result<(), TransferError> {
        let OpenRequest { job, disk, epoch, size, .. } = &self.request;
        let store = &self.transfers.store;
        let job = store.job_fetch(job).await?;
        // Of a small disk nothing may have been heard before.
        hub.counted(&job);
        let mut durable = None;
        if let To::Replica { stream, .. } = &self.to {
            let sealed = stream.session().seal().await?;
            let disk = store.disk_fetch(disk).await?;
            if whole(&job, &disk) && !sealed.durable.contains(ByteRange::new(0, *size)) {
                let missing = size - sealed.durable.total();
                return Err(TransferError::NotWhole { job: job.id, disk: disk.id, missing });
            }
            durable = Some(sealed.durable.total());
        }
        let known = job.disks.iter().find(|d| d.disk == *disk).map(|d| hub.tally(&job.id, d, *epoch));
        let last = known.map(|tally| tally.last(durable, self.found, sent.data, sent.zero));
        let job = store.job_disk_finish(&job.id, disk, *epoch, last.as_ref(), Timestamp::now()).await?;
        hub.progress(&job, &[]);
        info!(job_id = %job.id, disk_id = %disk, "disk sealed");
        Ok(())
    }

    fn stream(&self) -> Result<&ReplicaStream, TransferError> {
        match &self.to {
            To::Replica { stream, .. } => Ok(stream),
            To::Manifest(_) => Err(TransferError::WrongMode { job: self.request.job.clone() }),
        }
    }
}

/// Whether the job sends or compares all of the disk: without a commit, or a manifest of it, there is nothing that the
/// rest could already be.
fn whole(job: &Job, disk: &Disk) -> bool {
    let strategy = job.disks.iter().find(|d| d.disk == disk.id).map(|d| &d.strategy);
    disk.manifest.is_none() || matches!(strategy, Some(Strategy::Full | Strategy::HashDiff))
}

fn expected(hashes: &[LeafHash]) -> Expected<'_> {
    if hashes.is_empty() { Expected::Zero } else { Expected::Leaves(hashes) }
}

/// The hashes of the leaves of `part`, which lies in `whole`.
fn hashes_of(part: ByteRange, whole: ByteRange, hashes: &[LeafHash]) -> Vec<LeafHash> {
    let leaf = |offset: u64| usize::try_from((offset - whole.start).div_ceil(LEAF)).unwrap_or(usize::MAX);
    hashes.get(leaf(part.start)..leaf(part.end)).map(<[_]>::to_vec).unwrap_or_default()
}

/// Runs what may wait for a disk on a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    spawn_blocking(work).await.unwrap_or(Err(TransferError::Died))
}
