//! Verification, both arms (DESIGN §6 rule 10). Neither changes the replica; what differs is sent again by the next
//! sync.

use super::{App, Error};
use crate::storage::VolumeId;
use crate::store::{Arm, Disk, JobKind, JobStatus, Migration, NewJob};
use jiff::Timestamp;
use migratekit::verify::{Progress, Report, verify_replica};
use shared::cycle::Strategy;
use shared::ids::{DiskId, DiskKey, JobId, RestorePointId};
use shared::migration::Position;
use shared::range::{ByteRange, RangeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What a verification says while it runs.
#[derive(Clone, Debug)]
pub enum VerifyEvent {
    Progress { disk: DiskId, key: DiskKey, done: u64, total: u64 },
    Mismatch { disk: DiskId, key: DiskKey, range: ByteRange },
}

/// The verdict. Bytes.
#[derive(Clone, Debug, Default)]
pub struct VerifySummary {
    pub compared: u64,
    pub different: u64,
    /// Written or reported changed since the last commit: not compared.
    pub unknown: u64,
    pub restore_point: Option<RestorePointId>,
}

/// Between two reports on one disk.
const REPORT: Duration = Duration::from_millis(300);

/// Ranges named one by one.
const NAMED: usize = 1024;

impl App {
    /// Reads the replica back past the page cache and compares it with the manifest.
    ///
    /// # Errors
    /// [`Error::NothingCommitted`], [`Error::CycleRunning`], [`Error::Disturbed`], and what failed.
    pub async fn verify_replica(
        &self,
        asked: &str,
        events: mpsc::Sender<VerifyEvent>,
        cancel: CancellationToken,
    ) -> Result<VerifySummary, Error> {
        let migration = self.verifiable(asked).await?;
        let disks = self.store.disk_list(&migration.id).await?;
        let mut summary = self.summary(&migration).await?;
        for disk in &disks {
            let manifest = self.transfers.committed_manifest(disk).await?;
            let target = self.storage.open(&VolumeId::parse(disk.volume.clone())?).await?;
            let skip = self.store.unknown_load(&disk.id).await?;
            let (events_of, key, id) = (events.clone(), disk.key.clone(), disk.id.clone());
            let stop = cancel.clone();
            let report = tokio::task::spawn_blocking(move || {
                let last = Mutex::new(Instant::now());
                let report = |p: Progress| {
                    let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if last.elapsed() >= REPORT || p.done_bytes == p.total_bytes {
                        *last = Instant::now();
                        let (disk, key) = (id.clone(), key.clone());
                        // A full queue is a slow reader: it gets the next one.
                        let _ = events_of.try_send(VerifyEvent::Progress {
                            disk,
                            key,
                            done: p.done_bytes,
                            total: p.total_bytes,
                        });
                    }
                };
                verify_replica(&*target, &manifest, &skip, &report, &stop)
            });
            let report = report.await.map_err(|_| Error::Disturbed)??;
            self.undisturbed(disk).await?;
            summary.compared += report.compared_bytes;
            summary.different += report.different_bytes;
            summary.unknown += report.skipped_bytes;
            self.tell(disk, &report.different, &events).await;
            if report.different_bytes == 0 {
                self.store.disk_verified_set(&disk.id, Arm::Replica, Timestamp::now()).await?;
            } else {
                warn!(migration_id = %migration.id, disk_id = %disk.id, bytes = report.different_bytes,
                      ranges = ?report.different, "the replica does not hold what the manifest says");
                let known = &report.different;
                // More than the report names: the whole disk is compared anew.
                if known.total() < report.different_bytes {
                    self.store.disk_hash_diff_require(&disk.id).await?;
                }
                self.store.required_append(&disk.id, known, Timestamp::now()).await?;
            }
        }
        self.hub.migration_changed(&migration.id);
        Ok(summary)
    }

    /// Has the agent compare a new snapshot of the source with the manifest.
    ///
    /// # Errors
    /// As [`verify_replica`](Self::verify_replica); [`Error::AgentAway`], [`Error::VerifyFailed`].
    pub async fn verify_source(
        &self,
        asked: &str,
        events: mpsc::Sender<VerifyEvent>,
        cancel: CancellationToken,
    ) -> Result<VerifySummary, Error> {
        let migration = self.verifiable(asked).await?;
        if !self.hub.agent_is_connected(&migration.agent) {
            return Err(Error::AgentAway { agent: migration.agent });
        }
        let mut summary = self.summary(&migration).await?;
        let disks = self.store.disk_list(&migration.id).await?;
        let new = NewJob {
            migration: migration.id.clone(),
            kind: JobKind::VerifySource,
            disks: disks.iter().map(|d| (d.id.clone(), Strategy::HashDiff)).collect(),
        };
        let job = self.store.job_create(&new, Timestamp::now()).await?;
        info!(migration_id = %migration.id, job_id = %job.id, "verification of the source begun");
        let mut changes = self.hub.watch(&migration.id);
        self.touched(&migration.id).await;
        let job = loop {
            let now = self.store.job_fetch(&job.id).await?;
            if now.status.ended() {
                break now;
            }
            self.report_live(&job.id, &disks, &events);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = cancel.cancelled() => return self.give_up(&job.id).await,
            }
        };
        if job.status != JobStatus::Completed {
            let (reason, message) = job.error.map_or_else(Default::default, |e| (e.reason, e.message));
            return Err(Error::VerifyFailed { reason, message });
        }
        for disk in &disks {
            let found = self.transfers.findings_take(&job.id, &disk.id);
            let compared = found.compared.total();
            summary.compared += compared;
            summary.different += found.different.total();
            let size = disk.committed_size.unwrap_or(disk.size);
            summary.unknown += size.saturating_sub(compared);
            self.tell(disk, &found.different, &events).await;
        }
        Ok(summary)
    }

    /// Compares what a cycle has written, and not committed, with what it was sent.
    ///
    /// # Errors
    /// What failed.
    pub(crate) async fn read_back(
        &self,
        disk: &Disk,
        job: &JobId,
        written: &RangeSet,
    ) -> Result<Report, Error> {
        let manifest = self.transfers.working_manifest(disk, job).await?;
        let target = self.storage.open(&VolumeId::parse(disk.volume.clone())?).await?;
        let mut skip = RangeSet::from_iter([ByteRange::new(0, manifest.disk_size())]);
        skip.subtract(written);
        let never = CancellationToken::new();
        let report =
            tokio::task::spawn_blocking(move || verify_replica(&*target, &manifest, &skip, &|_| {}, &never));
        Ok(report.await.map_err(|_| Error::Interrupted)??)
    }

    async fn give_up<T>(&self, job: &JobId) -> Result<T, Error> {
        let job = self.store.job_fetch(job).await?;
        if !job.status.ended() {
            let failure = crate::store::Failure {
                reason: "CANCELLED".to_owned(),
                message: "whoever asked for the verification is gone".to_owned(),
            };
            self.step(&job, crate::store::JobStep::Aborted(failure)).await?;
            for disk in &job.disks {
                self.transfers.findings_take(&job.id, &disk.disk);
            }
            self.touched(&job.migration).await;
        }
        Err(Error::Disturbed)
    }

    async fn verifiable(&self, asked: &str) -> Result<Migration, Error> {
        let migration = self.migration_find(asked).await?;
        match migration.position {
            Position::FinalizeSuccessful => return Err(Error::HandedOver { vm: migration.vm_name }),
            Position::AbortAborted => return Err(Error::Removed { vm: migration.vm_name }),
            _ if !migration.has_committed => return Err(Error::NothingCommitted),
            _ => {}
        }
        // Where all of a disk is to be compared, its manifest is of the past: that of a backup, or of before a change.
        let uncommitted =
            |d: &&Disk| d.manifest.is_none() || d.committed_size != Some(d.size) || d.needs_hash_diff;
        if let Some(disk) = self.store.disk_list(&migration.id).await?.iter().find(uncommitted) {
            return Err(Error::NotSynced { key: disk.key.clone() });
        }
        match self.store.job_active(&migration.id).await? {
            // A paused cycle writes nothing; what it wrote is left out as unknown.
            Some(job) if job.status != JobStatus::Paused => Err(Error::CycleRunning { job: job.id }),
            _ => Ok(migration),
        }
    }

    async fn summary(&self, migration: &Migration) -> Result<VerifySummary, Error> {
        let newest = self.store.restore_point_list(&migration.id).await?.pop();
        Ok(VerifySummary { restore_point: newest.map(|p| p.id), ..VerifySummary::default() })
    }

    /// A cycle that began meanwhile has written what was being read.
    async fn undisturbed(&self, before: &Disk) -> Result<(), Error> {
        let now = self.store.disk_fetch(&before.id).await?;
        match now.epoch == before.epoch && now.manifest == before.manifest {
            true => Ok(()),
            false => Err(Error::Disturbed),
        }
    }

    async fn tell(&self, disk: &Disk, different: &RangeSet, events: &mpsc::Sender<VerifyEvent>) {
        for range in different.iter().take(NAMED) {
            let (disk, key) = (disk.id.clone(), disk.key.clone());
            let _ = events.send(VerifyEvent::Mismatch { disk, key, range }).await;
        }
    }

    fn report_live(&self, job: &JobId, disks: &[Disk], events: &mpsc::Sender<VerifyEvent>) {
        let Some(live) = self.hub.live(job) else { return };
        for disk in disks {
            if let Some(p) = live.last_of(&disk.id) {
                let (id, key) = (disk.id.clone(), disk.key.clone());
                let _ = events.try_send(VerifyEvent::Progress { disk: id, key, done: p.done, total: p.size });
            }
        }
    }
}
