//! `checkpoints`: what is known of the bytes that a cycle writes, as sets of ranges.
//!
//! - *intent*: stored before the first byte of a range is written. Whatever happens then, the range is unknown.
//! - *durable*: stored after write, flush and manifest. Known, for this cycle.
//! - *required*: found wrong; the next cycle sends it whatever change tracking says.
//!
//! The store is where fencing bites: a row is added only by the disk's current epoch, in the same statement that
//! numbers it. Rows are only added, and merged from time to time; the commit of a cycle takes them away.

use super::error::Doing as _;
use super::row::{Row, int, sql, time};
use super::words::{CheckpointKind, JobStatus};
use super::{Error, Store, Write};
use jiff::Timestamp;
use shared::ids::{DiskId, Epoch, JobId, MigrationId};
use shared::range::RangeSet;
use sqlx::any::AnyRow;

/// Ranges a row holds: at most 20 bytes each, and a BLOB of MariaDB ends at 64 KiB.
const RANGES_PER_ROW: usize = 3000;

/// Merge when the disk's row counter reaches a multiple of this.
const MERGE_EVERY: u64 = 128;

/// Who records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointOf {
    pub job: JobId,
    pub disk: DiskId,
    /// The attempt that the caller is.
    pub epoch: Epoch,
}

/// What one cycle has recorded of one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// Not to be sent again.
    pub durable: RangeSet,
    /// Announced by this cycle, by any attempt.
    pub intents: RangeSet,
}

impl Store {
    /// All of an aborted migration's disks: their volumes are gone.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn checkpoints_forget(&self, migration: &MigrationId) -> Result<(), Error> {
        self.write(|mut w| async move {
            sql("DELETE FROM checkpoints WHERE disk_id IN (SELECT id FROM disks WHERE migration_id = ?)")
                .bind(migration.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("forgetting checkpoints")?;
            w.commit().await
        })
        .await
    }

    /// Records ranges; known after a power cut once this returns. An empty set is not recorded, but checked all the same.
    ///
    /// # Errors
    /// [`Error::StaleEpoch`] when the attempt was overtaken: write nothing more. [`Error::JobClosed`] when the
    /// cycle takes no data, [`Error::Sealed`] when the disk does not; [`Error::NotFound`], [`Error::Database`].
    pub async fn checkpoint_append(
        &self,
        of: &CheckpointOf,
        kind: CheckpointKind,
        ranges: &RangeSet,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.write(|mut w| async move {
            w.epoch_current(&of.disk, of.epoch, &of.job).await?;
            w.takes_data(of).await?;
            let seq = w.rows_insert(&of.disk, Some(&of.job), of.epoch, kind, ranges, now).await?;
            if seq.is_multiple_of(MERGE_EVERY) && seq > 0 {
                w.rows_merge(of, kind, now).await?;
            }
            w.commit().await
        })
        .await
    }

    /// Adds to what the next cycle sends; for findings that no cycle made (the replica arm). Not fenced: it
    /// claims nothing to be known.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Database`].
    pub async fn required_append(
        &self,
        disk: &DiskId,
        ranges: &RangeSet,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.write(|mut w| async move {
            let epoch = w.disk(disk).await?.epoch;
            w.rows_insert(disk, None, epoch, CheckpointKind::Required, ranges, now).await?;
            w.commit().await
        })
        .await
    }

    /// What `job` recorded of `disk`, in all its attempts.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn checkpoint_load(&self, job: &JobId, disk: &DiskId) -> Result<Checkpoints, Error> {
        self.reading(|| async {
            let rows = sql("SELECT disk_id, kind, ranges FROM checkpoints WHERE disk_id = ? AND job_id = ?")
                .bind(disk.as_str())
                .bind(job.as_str())
                .fetch_all(&self.read)
                .await
                .doing("loading a checkpoint")?;
            let mut loaded = Checkpoints::default();
            for (kind, ranges) in rows.iter().map(kind_and_ranges).collect::<Result<Vec<_>, _>>()? {
                match kind {
                    CheckpointKind::Durable => loaded.durable.union(&ranges),
                    CheckpointKind::Intent => loaded.intents.union(&ranges),
                    CheckpointKind::Required => {}
                }
            }
            Ok(loaded)
        })
        .await
    }

    /// What must be sent by `job` although the source calls it unchanged: intents of cycles that never committed,
    /// and what verifications found.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn required_load(&self, disk: &DiskId, job: &JobId) -> Result<RangeSet, Error> {
        self.reading(|| async {
            let rows = sql(
                "SELECT disk_id, kind, ranges FROM checkpoints WHERE disk_id = ? AND (kind = 'required' OR \
             (kind = 'intent' AND job_id <> ?))",
            )
            .bind(disk.as_str())
            .bind(job.as_str())
            .fetch_all(&self.read)
            .await
            .doing("loading required ranges")?;
            union(&rows)
        })
        .await
    }

    /// What the manifest says nothing about: everything announced since the last commit. A verification leaves it out.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn unknown_load(&self, disk: &DiskId) -> Result<RangeSet, Error> {
        self.reading(|| async {
            let rows =
                sql("SELECT disk_id, kind, ranges FROM checkpoints WHERE disk_id = ? AND kind = 'intent'")
                    .bind(disk.as_str())
                    .fetch_all(&self.read)
                    .await
                    .doing("loading unknown ranges")?;
            union(&rows)
        })
        .await
    }
}

impl Write {
    /// The fence. Writes the disk's row, so that of two transactions only one can pass at a time on any database.
    pub(super) async fn epoch_current(
        &mut self,
        disk: &DiskId,
        asked: Epoch,
        job: &JobId,
    ) -> Result<(), Error> {
        let done = sql("UPDATE disks SET checkpoint_seq = checkpoint_seq WHERE id = ? AND epoch = ? AND epoch_job_id = ?")
            .bind(disk.as_str())
            .bind(int("an epoch", asked.0)?)
            .bind(job.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("checking an epoch")?;
        if done.rows_affected() == 0 {
            let now = self.disk(disk).await?;
            return Err(Error::StaleEpoch { disk: now.id, asked, current: now.epoch, by: now.epoch_job });
        }
        Ok(())
    }

    async fn takes_data(&mut self, of: &CheckpointOf) -> Result<(), Error> {
        let row = sql(
            "SELECT j.id, j.status, d.finished FROM replication_jobs j JOIN job_disks d ON d.job_id = j.id \
             WHERE j.id = ? AND d.disk_id = ?",
        )
        .bind(of.job.as_str())
        .bind(of.disk.as_str())
        .fetch_optional(&mut *self.tx)
        .await
        .doing("checking a cycle")?;
        let row = row.ok_or_else(|| Error::NotFound { what: "cycle", id: of.job.to_string() })?;
        let row = Row::new(&row, "replication_jobs", "id")?;
        match row.parsed("status")? {
            // Paused: the last flush may be recorded after the agent's word.
            JobStatus::Running | JobStatus::Paused if row.flag("finished")? => {
                Err(Error::Sealed { job: of.job.clone(), disk: of.disk.clone() })
            }
            JobStatus::Running | JobStatus::Paused => Ok(()),
            status @ (JobStatus::Committing
            | JobStatus::Completed
            | JobStatus::Failed
            | JobStatus::Aborted) => Err(Error::JobClosed { job: of.job.clone(), status }),
        }
    }

    /// Adds rows and returns the last one's number.
    async fn rows_insert(
        &mut self,
        disk: &DiskId,
        job: Option<&JobId>,
        epoch: Epoch,
        kind: CheckpointKind,
        ranges: &RangeSet,
        now: Timestamp,
    ) -> Result<u64, Error> {
        let all: Vec<_> = ranges.iter().collect();
        let mut seq = 0;
        for part in all.chunks(RANGES_PER_ROW) {
            sql("UPDATE disks SET checkpoint_seq = checkpoint_seq + 1 WHERE id = ?")
                .bind(disk.as_str())
                .execute(&mut *self.tx)
                .await
                .doing("numbering a checkpoint")?;
            let row = sql("SELECT id, checkpoint_seq FROM disks WHERE id = ?")
                .bind(disk.as_str())
                .fetch_one(&mut *self.tx)
                .await
                .doing("numbering a checkpoint")?;
            seq = Row::new(&row, "disks", "id")?.count("checkpoint_seq")?;
            sql("INSERT INTO checkpoints (disk_id, seq, job_id, epoch, kind, ranges, recorded_at) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(disk.as_str())
            .bind(int("a checkpoint's number", seq)?)
            .bind(job.map(JobId::as_str))
            .bind(int("an epoch", epoch.0)?)
            .bind(kind.as_str())
            .bind(part.iter().copied().collect::<RangeSet>().encode())
            .bind(time(now))
            .execute(&mut *self.tx)
            .await
            .doing("recording a checkpoint")?;
        }
        Ok(seq)
    }

    /// One cycle's rows of one kind become as few as will hold them.
    async fn rows_merge(
        &mut self,
        of: &CheckpointOf,
        kind: CheckpointKind,
        now: Timestamp,
    ) -> Result<(), Error> {
        let rows = sql(
            "SELECT disk_id, kind, ranges FROM checkpoints WHERE disk_id = ? AND job_id = ? AND kind = ?",
        )
        .bind(of.disk.as_str())
        .bind(of.job.as_str())
        .bind(kind.as_str())
        .fetch_all(&mut *self.tx)
        .await
        .doing("merging checkpoints")?;
        let all = union(&rows)?;
        sql("DELETE FROM checkpoints WHERE disk_id = ? AND job_id = ? AND kind = ?")
            .bind(of.disk.as_str())
            .bind(of.job.as_str())
            .bind(kind.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("merging checkpoints")?;
        self.rows_insert(&of.disk, Some(&of.job), of.epoch, kind, &all, now).await?;
        Ok(())
    }

    /// Every announced write of the disk, of this cycle or of one that never committed, is durable in this one.
    pub(super) async fn settled(&mut self, job: &JobId, disk: &DiskId) -> Result<(), Error> {
        let durable = self.durable(job, disk).await?;
        let rows = sql("SELECT disk_id, kind, ranges FROM checkpoints WHERE disk_id = ? AND kind = 'intent'")
            .bind(disk.as_str())
            .fetch_all(&mut *self.tx)
            .await
            .doing("checking intents")?;
        let mut open = union(&rows)?;
        open.subtract(&durable);
        if open.is_empty() {
            return Ok(());
        }
        Err(Error::Unsettled { job: job.clone(), disk: disk.clone(), bytes: open.total() })
    }

    /// The cycle is committed: its rows and those of cycles before it go. Of what was required, only what was sent.
    pub(super) async fn checkpoints_close(
        &mut self,
        job: &JobId,
        disk: &DiskId,
        now: Timestamp,
    ) -> Result<(), Error> {
        let durable = self.durable(job, disk).await?;
        let rows =
            sql("SELECT disk_id, kind, ranges FROM checkpoints WHERE disk_id = ? AND kind = 'required'")
                .bind(disk.as_str())
                .fetch_all(&mut *self.tx)
                .await
                .doing("closing checkpoints")?;
        let mut still = union(&rows)?;
        still.subtract(&durable);
        sql("DELETE FROM checkpoints WHERE disk_id = ?")
            .bind(disk.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("closing checkpoints")?;
        let epoch = self.disk(disk).await?.epoch;
        self.rows_insert(disk, None, epoch, CheckpointKind::Required, &still, now).await?;
        Ok(())
    }

    async fn durable(&mut self, job: &JobId, disk: &DiskId) -> Result<RangeSet, Error> {
        let rows = sql("SELECT disk_id, kind, ranges FROM checkpoints WHERE disk_id = ? AND job_id = ? AND kind = 'durable'")
            .bind(disk.as_str())
            .bind(job.as_str())
            .fetch_all(&mut *self.tx)
            .await
            .doing("loading a checkpoint")?;
        union(&rows)
    }
}

fn union(rows: &[AnyRow]) -> Result<RangeSet, Error> {
    let mut all = RangeSet::new();
    for row in rows {
        all.union(&kind_and_ranges(row)?.1);
    }
    Ok(all)
}

fn kind_and_ranges(row: &AnyRow) -> Result<(CheckpointKind, RangeSet), Error> {
    let row = Row::new(row, "checkpoints", "disk_id")?;
    let ranges =
        RangeSet::decode(&row.blob("ranges")?).ok_or_else(|| row.corrupt("ranges", "not a set of ranges"))?;
    Ok((row.parsed("kind")?, ranges))
}
