//! The commit of a cycle: the one transaction that makes what was written count.

use super::error::Doing as _;
use super::row::{int, shown, sql, time};
use super::words::{JobKind, JobStatus};
use super::{Error, Job, Manifest, Migration, RestorePoint, RestorePointDisk, Store, Write};
use jiff::Timestamp;
use shared::cycle::Strategy;
use shared::ids::{DiskId, JobId, RestorePointId};
use shared::migration::{Event, apply};

/// What is to be committed. The storage snapshot exists, and so do the manifests.
#[derive(Clone, Debug)]
pub struct CycleCommit {
    pub job: JobId,
    pub restore_point: RestorePointId,
    /// Name of the storage snapshot of all volumes, as `rp-<job id>`.
    pub snapshot_name: String,
    /// Every disk of the cycle.
    pub disks: Vec<DiskCommit>,
}

/// A disk's part of a commit.
#[derive(Clone, Debug)]
pub struct DiskCommit {
    pub disk: DiskId,
    pub manifest: Manifest,
}

/// What a commit made.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    pub migration: Migration,
    pub restore_point: RestorePoint,
}

impl Store {
    /// Commits a cycle in one transaction: change ids, sizes and manifests of all disks, the restore point, the
    /// cycle completed, checkpoints closed, the migration at sync/paused (or where a switch has it). All or nothing.
    /// A cycle that is committed already is answered with what it made, so that it may be repeated after a crash.
    ///
    /// # Errors
    /// Nothing has changed after any of them: [`Error::JobStatus`] unless the cycle is committing;
    /// [`Error::Unfinished`], [`Error::DisksDiffer`], [`Error::NoSnapshot`], [`Error::StaleEpoch`];
    /// [`Error::Unsettled`] when an announced write, of any cycle since the last commit, is not durable;
    /// [`Error::Denied`] when the migration takes no commit any more (it is being aborted);
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Database`].
    pub async fn job_commit(&self, commit: &CycleCommit, now: Timestamp) -> Result<Committed, Error> {
        self.write(|mut w| async move {
            let job = w.job(&commit.job).await?;
            let mut migration = w.migration(&job.migration).await?;
            if let (JobStatus::Completed, Some(restore_point)) =
                (job.status, w.restore_point_of(&job.id).await?)
            {
                return Ok(Committed { migration, restore_point });
            }
            if job.status != JobStatus::Committing {
                return Err(Error::JobStatus { job: job.id, status: job.status, asked: "completed" });
            }
            w.same_disks(&job.id, &job.migration, job.disks.iter().map(|d| &d.disk)).await?;
            w.same_disks(&job.id, &job.migration, commit.disks.iter().map(|d| &d.disk)).await?;
            let mut point = RestorePoint {
                id: commit.restore_point.clone(),
                migration: job.migration.clone(),
                job: job.id.clone(),
                snapshot_name: commit.snapshot_name.clone(),
                taken_at: job.snapshot_taken_at.unwrap_or(job.started_at),
                committed_at: super::row::stored(now),
                disks: Vec::with_capacity(job.disks.len()),
            };
            for part in &commit.disks {
                let of_job = job.disks.iter().find(|d| d.disk == part.disk);
                let of_job = of_job
                    .ok_or_else(|| Error::DisksDiffer { job: job.id.clone(), disk: part.disk.clone() })?;
                if !of_job.finished {
                    return Err(Error::Unfinished { job: job.id, disk: part.disk.clone() });
                }
                let (Some(size), Some(_)) = (of_job.new_size, &job.snapshot) else {
                    return Err(Error::NoSnapshot { job: job.id, disk: part.disk.clone() });
                };
                w.epoch_current(&part.disk, of_job.epoch, &job.id).await?;
                w.settled(&job.id, &part.disk).await?;
                let mut disk = w.disk(&part.disk).await?;
                disk.size = size;
                disk.committed_size = Some(size);
                disk.change_id = of_job.new_change_id.clone();
                disk.manifest = Some(part.manifest.clone());
                disk.needs_hash_diff &= match of_job.strategy {
                    Strategy::Changed { .. } => true,
                    Strategy::Full | Strategy::HashDiff => false,
                };
                w.disk_commit(&disk).await?;
                w.checkpoints_close(&job.id, &part.disk, now).await?;
                point.disks.push(RestorePointDisk {
                    disk: part.disk.clone(),
                    size,
                    change_id: disk.change_id,
                    manifest: part.manifest.clone(),
                });
            }
            w.restore_point_insert(&point).await?;
            w.job_status_set(&job, JobStatus::Completed, None, now).await?;
            w.progress_full(&job, now).await?;
            migration.position =
                apply(Some(migration.position), Event::CycleCommitted, migration.facts())?.to;
            migration.has_committed = true;
            migration.error = None;
            let migration = w.migration_swap(&migration, now).await?;
            w.commit().await?;
            Ok(Committed { migration, restore_point: point })
        })
        .await
    }

    /// What kind of cycle comes next for a migration: the first, or one after a first that never committed, is full.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Database`].
    pub async fn job_kind_next(&self, migration: &shared::ids::MigrationId) -> Result<JobKind, Error> {
        let migration = self.migration_fetch(migration).await?;
        Ok(if migration.has_committed { JobKind::Incremental } else { JobKind::Full })
    }
}

impl Write {
    /// The bar of a cycle that came to its end; its speed is the average over all of its time, its bytes those of its
    /// disks.
    pub(super) async fn progress_full(&mut self, job: &Job, now: Timestamp) -> Result<(), Error> {
        let speed = match u128::try_from(now.duration_since(job.started_at).as_millis()) {
            Ok(millis @ 1..) => u128::from(job.moved()) * 1000 / millis,
            // The clock was set back: as it was last measured.
            Ok(0) | Err(_) => u128::from(job.progress.speed),
        };
        let speed = u64::try_from(speed).unwrap_or(u64::MAX);
        let planned = job.disks.iter().map(|d| d.progress.planned).fold(0, u64::saturating_add);
        sql("UPDATE replication_jobs SET progress_percent = 100, current_operation = 'Complete', \
             bytes_transferred = ?, total_bytes = ?, transfer_speed_bps = ?, peak_speed_bps = ? WHERE id = ?")
        .bind(shown(job.moved()))
        .bind(shown(planned))
        .bind(shown(speed))
        .bind(shown(job.progress.peak.max(speed)))
        .bind(job.id.as_str())
        .execute(&mut *self.tx)
        .await
        .doing("completing a cycle")?;
        Ok(())
    }

    async fn restore_point_insert(&mut self, p: &RestorePoint) -> Result<(), Error> {
        sql("INSERT INTO restore_points (id, migration_id, job_id, snapshot_name, taken_at, committed_at) \
             VALUES (?, ?, ?, ?, ?, ?)")
        .bind(p.id.as_str())
        .bind(p.migration.as_str())
        .bind(p.job.as_str())
        .bind(p.snapshot_name.as_str())
        .bind(time(p.taken_at))
        .bind(time(p.committed_at))
        .execute(&mut *self.tx)
        .await
        .doing("making a restore point")?;
        for d in &p.disks {
            sql("INSERT INTO restore_point_disks (restore_point_id, disk_id, size_bytes, change_id, \
                 manifest_version, manifest_file, position) VALUES (?, ?, ?, ?, ?, ?, (SELECT position FROM disks WHERE id = ?))")
            .bind(p.id.as_str())
            .bind(d.disk.as_str())
            .bind(int("a disk's size", d.size)?)
            .bind(d.change_id.as_deref())
            .bind(int("a manifest's version", d.manifest.version)?)
            .bind(d.manifest.file.as_str())
            .bind(d.disk.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("making a restore point")?;
        }
        Ok(())
    }
}
