//! The rows behind a cycle's changes: what a writing transaction reads and sets of them.

use super::error::Doing as _;
use super::job_change::NewJob;
use super::row::{int, sql, strategy_columns, time};
use super::words::{JobKind, JobStatus, Wanted};
use super::{Error, Failure, Job, VolumeWork, Write};
use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use shared::cycle::Strategy;
use shared::ids::{DiskId, Epoch, JobId, MigrationId};
use shared::migration::Position;

impl Write {
    pub(super) async fn job_wanted(
        &mut self,
        id: &JobId,
        wanted: Wanted,
        now: Timestamp,
    ) -> Result<Job, Error> {
        let job = self.job_open(id).await?;
        sql("UPDATE replication_jobs SET wanted = ?, updated_at = ? WHERE id = ?")
            .bind(wanted.as_str())
            .bind(time(now))
            .bind(id.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("changing a cycle")?;
        self.job_event(id, &job.migration, job.status, now).await?;
        Ok(Job { wanted, updated_at: super::row::stored(now), ..job })
    }

    pub(super) async fn job_open(&mut self, id: &JobId) -> Result<Job, Error> {
        let job = self.job(id).await?;
        if job.status.ended() {
            return Err(Error::JobClosed { job: job.id, status: job.status });
        }
        Ok(job)
    }

    pub(super) async fn job_active(&mut self, migration: &MigrationId) -> Result<Option<JobId>, Error> {
        let row = sql("SELECT id FROM replication_jobs WHERE active_migration = ?")
            .bind(migration.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .doing("looking for a running cycle")?;
        row.map(|row| super::row::Row::new(&row, "replication_jobs", "id")?.parsed("id")).transpose()
    }

    /// The newest cycle of a migration, whatever its status.
    pub(super) async fn job_newest(&mut self, migration: &MigrationId) -> Result<Option<Job>, Error> {
        let row = sql("SELECT id FROM replication_jobs WHERE migration_id = ? ORDER BY id DESC LIMIT 1")
            .bind(migration.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .doing("looking for the last cycle")?;
        let Some(row) = row else { return Ok(None) };
        let id = super::row::Row::new(&row, "replication_jobs", "id")?.parsed("id")?;
        self.job(&id).await.map(Some)
    }

    /// See [`Store::job_create`].
    pub(super) async fn job_insert(&mut self, new: &NewJob, now: Timestamp) -> Result<Job, Error> {
        let migration = self.migration(&new.migration).await?;
        let ready = match new.kind {
            JobKind::Full | JobKind::Incremental => {
                matches!(migration.position, Position::SyncRunning | Position::SwitchRunning)
            }
            JobKind::VerifySource => {
                matches!(
                    migration.position,
                    Position::SyncPaused | Position::SyncFailed | Position::RollbackRunning
                )
            }
        };
        if !ready {
            return Err(Error::NotReady { migration: migration.id, kind: new.kind, at: migration.position });
        }
        if let Some(job) = self.job_active(&new.migration).await? {
            return Err(Error::JobActive { migration: migration.id, job });
        }
        if let Some(disk) =
            self.disk_list(&new.migration).await?.into_iter().find(|d| d.work == VolumeWork::Pending)
        {
            return Err(Error::VolumePending { migration: migration.id, disk: disk.id });
        }
        let id = self.job_id_free(&new.migration, now).await?;
        self.same_disks(&id, &new.migration, new.disks.iter().map(|(disk, _)| disk)).await?;
        sql("INSERT INTO replication_jobs (id, migration_id, active_migration, kind, status, wanted, started_at, \
             progress_percent, current_operation, bytes_transferred, total_bytes, transfer_speed_bps, updated_at, traceparent) \
             VALUES (?, ?, ?, ?, ?, ?, ?, 0, 'Discover', 0, 0, 0, ?, ?)")
        .bind(id.as_str())
        .bind(new.migration.as_str())
        .bind(new.migration.as_str())
        .bind(new.kind.as_str())
        .bind(JobStatus::Running.as_str())
        .bind(Wanted::Run.as_str())
        .bind(time(now))
        .bind(time(now))
        .bind(shared::telemetry::traceparent())
        .execute(&mut *self.tx)
        .await
        .doing("making a cycle")?;
        for (disk, strategy) in &new.disks {
            let epoch = self.disk_epoch_raise(disk, &id).await?;
            self.job_disk_insert(&id, disk, strategy, epoch).await?;
        }
        self.job_event(&id, &new.migration, JobStatus::Running, now).await?;
        self.job(&id).await
    }

    /// Ids say in which order the cycles of a migration were, also where the clock was set back between two.
    pub(super) async fn job_id_free(
        &mut self,
        migration: &MigrationId,
        now: Timestamp,
    ) -> Result<JobId, Error> {
        const FORM: &str = "job-%Y%m%d-%H%M%S";
        let row = sql("SELECT id FROM replication_jobs WHERE migration_id = ? ORDER BY id DESC LIMIT 1");
        let row =
            row.bind(migration.as_str()).fetch_optional(&mut *self.tx).await.doing("reading a cycle")?;
        let last =
            row.map(|row| super::row::Row::new(&row, "replication_jobs", "id")?.text("id")).transpose()?;
        let last = last.and_then(|id| Offset::UTC.to_timestamp(DateTime::strptime(FORM, id).ok()?).ok());
        let mut at = last.map_or(now, |last| now.max(last));
        loop {
            let id: JobId = at.strftime(FORM).to_string().parse().expect("digits and dashes");
            let taken = sql("SELECT id FROM replication_jobs WHERE id = ?")
                .bind(id.as_str())
                .fetch_optional(&mut *self.tx)
                .await
                .doing("looking for a free id")?;
            if taken.is_none() {
                return Ok(id);
            }
            at = at.saturating_add(SignedDuration::from_secs(1)).expect("a span of seconds fits any time");
        }
    }

    /// The cycle has every disk of its migration, once, and no other.
    pub(super) async fn same_disks<'d>(
        &mut self,
        job: &JobId,
        migration: &MigrationId,
        disks: impl Iterator<Item = &'d DiskId>,
    ) -> Result<(), Error> {
        let mut of_job: Vec<&DiskId> = disks.collect();
        let of_migration = self.disk_list(migration).await?;
        for disk in &of_migration {
            match of_job.iter().position(|d| **d == disk.id) {
                Some(index) => of_job.swap_remove(index),
                None => return Err(Error::DisksDiffer { job: job.clone(), disk: disk.id.clone() }),
            };
        }
        match of_job.first() {
            None => Ok(()),
            Some(disk) => Err(Error::DisksDiffer { job: job.clone(), disk: (*disk).clone() }),
        }
    }

    pub(super) async fn job_disk_insert(
        &mut self,
        job: &JobId,
        disk: &DiskId,
        strategy: &Strategy,
        epoch: Epoch,
    ) -> Result<(), Error> {
        let (word, since) = strategy_columns(strategy);
        sql("INSERT INTO job_disks (job_id, disk_id, strategy, base_change_id, epoch, finished, plan_complete, \
             planned_bytes, done_bytes, read_bytes, wire_bytes, data_bytes, resumed_bytes) \
             VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0)")
        .bind(job.as_str())
        .bind(disk.as_str())
        .bind(word)
        .bind(since)
        .bind(int("an epoch", epoch.0)?)
        .execute(&mut *self.tx)
        .await
        .doing("making a cycle's disk")?;
        Ok(())
    }

    /// Sets the status with what belongs to it, and the event.
    pub(super) async fn job_status_set(
        &mut self,
        job: &Job,
        status: JobStatus,
        error: Option<&Failure>,
        now: Timestamp,
    ) -> Result<(), Error> {
        sql(
            "UPDATE replication_jobs SET status = ?, active_migration = ?, finished_at = ?, updated_at = ?, \
             error_reason = ?, error_message = ? WHERE id = ?",
        )
        .bind(status.as_str())
        .bind((!status.ended()).then_some(job.migration.as_str()))
        .bind(status.ended().then(|| time(now)))
        .bind(time(now))
        .bind(error.map(|e| e.reason.as_str()))
        .bind(error.map(|e| e.message.as_str()))
        .bind(job.id.as_str())
        .execute(&mut *self.tx)
        .await
        .doing("changing a cycle")?;
        self.job_event(&job.id, &job.migration, status, now).await
    }

    pub(super) async fn job_event(
        &mut self,
        job: &JobId,
        migration: &MigrationId,
        status: JobStatus,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.event(now, Some(migration), Some(job), "cycle_changed", json!({ "status": status.as_str() }))
            .await
    }
}
