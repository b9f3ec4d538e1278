//! `replication_jobs` and `job_disks`: the cycles, as they are read, and their progress.

use super::error::Doing as _;
use super::migration::failure;
use super::row::{MOST_AMONG, Row, among, counted, flag, shown, sql, time};
use super::words::{JobKind, JobStatus, Wanted};
use super::{Error, Failure, Store, Write};
use jiff::Timestamp;
use shared::cycle::{DiskProgress, Strategy};
use shared::ids::{DiskId, DiskKey, Epoch, JobId, MigrationId};
use sqlx::any::AnyRow;
use std::collections::HashMap;

/// A row of `replication_jobs` with its disks.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub migration: MigrationId,
    pub kind: JobKind,
    pub status: JobStatus,
    pub wanted: Wanted,
    /// The source snapshot it copies from, once reported; one for ever.
    pub snapshot: Option<String>,
    pub snapshot_taken_at: Option<Timestamp>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    pub progress: Progress,
    pub error: Option<Failure>,
    /// The trace in which it was begun.
    pub traceparent: Option<String>,
    /// In the order in which they came to the migration.
    pub disks: Vec<JobDisk>,
}

/// The columns that progress moves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: f64,
    /// For people, as `Transfer`.
    pub operation: String,
    /// Bytes.
    pub transferred: u64,
    /// Bytes.
    pub total: u64,
    /// Bytes a second.
    pub speed: u64,
    /// Bytes a second, at the most.
    pub peak: u64,
}

/// A row of `job_disks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDisk {
    pub disk: DiskId,
    pub key: DiskKey,
    pub strategy: Strategy,
    /// The change id of this job's snapshot; becomes the disk's at the commit.
    pub new_change_id: Option<String>,
    /// Bytes of the disk in this job's snapshot.
    pub new_size: Option<u64>,
    /// Which attempt may write.
    pub epoch: Epoch,
    /// Sealed: no write of this job is accepted any more.
    pub finished: bool,
    /// Counters over all attempts, in bytes; final when it is finished.
    pub progress: DiskProgress,
}

macro_rules! columns {
    () => {
        "id, migration_id, kind, status, wanted, snapshot_id, snapshot_taken_at, started_at, finished_at, \
         progress_percent, current_operation, bytes_transferred, total_bytes, transfer_speed_bps, peak_speed_bps, updated_at, \
         error_reason, error_message, traceparent"
    };
}

const DISKS: &str = "SELECT j.job_id, j.disk_id, COALESCE(r.disk_key, d.disk_key) AS disk_key, d.size_bytes, j.strategy, j.base_change_id, \
     j.new_change_id, j.new_size_bytes, j.epoch, j.finished, j.plan_complete, j.planned_bytes, j.done_bytes, \
     j.read_bytes, j.wire_bytes, j.data_bytes, j.resumed_bytes FROM job_disks j \
     JOIN disks d ON d.id = j.disk_id LEFT JOIN retired_disks r ON r.disk_id = d.id WHERE j.job_id IN";

impl Job {
    /// Bytes of data that its disks have moved.
    pub(super) fn moved(&self) -> u64 {
        self.disks.iter().map(|d| d.progress.data).fold(0, u64::saturating_add)
    }
}

impl Store {
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Database`].
    pub async fn job_fetch(&self, id: &JobId) -> Result<Job, Error> {
        self.reading(|| async {
            // One snapshot of the database for the row and its disks.
            let mut c = self.read.begin().await.doing("reading a cycle")?;
            let row = sql(concat!("SELECT ", columns!(), " FROM replication_jobs WHERE id = ?"))
                .bind(id.as_str())
                .fetch_optional(&mut *c)
                .await
                .doing("reading a cycle")?;
            with_disks(&mut c, &row.ok_or_else(|| Error::NotFound { what: "cycle", id: id.to_string() })?)
                .await
        })
        .await
    }

    /// The running, paused or committing cycle of a migration; there is at most one.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn job_active(&self, migration: &MigrationId) -> Result<Option<Job>, Error> {
        self.reading(|| async {
            let mut c = self.read.begin().await.doing("reading a cycle")?;
            active(&mut c, migration).await
        })
        .await
    }

    /// The newest cycle of a migration, whatever its status.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn job_last(&self, migration: &MigrationId) -> Result<Option<Job>, Error> {
        let query = || {
            sql(concat!(
                "SELECT ",
                columns!(),
                " FROM replication_jobs WHERE migration_id = ? ORDER BY id DESC LIMIT 1"
            ))
        };
        Ok(self.job_query(|| query().bind(migration.as_str())).await?.pop())
    }

    /// All cycles that have not ended, oldest first: what there is to take up after a start.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn job_list_active(&self) -> Result<Vec<Job>, Error> {
        let query = || {
            sql(concat!(
                "SELECT ",
                columns!(),
                " FROM replication_jobs WHERE active_migration IS NOT NULL ORDER BY id"
            ))
        };
        self.job_query(query).await
    }

    /// Oldest first, history included.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn job_list(&self, migration: &MigrationId) -> Result<Vec<Job>, Error> {
        let query = || {
            sql(concat!("SELECT ", columns!(), " FROM replication_jobs WHERE migration_id = ? ORDER BY id"))
        };
        self.job_query(|| query().bind(migration.as_str())).await
    }

    /// Some cycles, newest first: of this status, and older than `before`.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn job_page(
        &self,
        status: Option<JobStatus>,
        before: Option<&JobId>,
        limit: u32,
    ) -> Result<Vec<Job>, Error> {
        let (status, before) = (status.map_or("", JobStatus::as_str), before.map_or("", JobId::as_str));
        let query = || {
            sql(concat!(
                "SELECT ",
                columns!(),
                " FROM replication_jobs WHERE (? = '' OR status = ?) AND (? = '' OR id < ?) ORDER BY id DESC LIMIT ?"
            ))
        };
        let query = || query().bind(status).bind(status).bind(before).bind(before).bind(i64::from(limit));
        self.job_query(query).await
    }

    /// The newest cycle of a disk, whatever its status.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn job_last_of_disk(&self, disk: &DiskId) -> Result<Option<Job>, Error> {
        let query = || {
            sql(concat!(
                "SELECT ",
                columns!(),
                " FROM replication_jobs WHERE id = (SELECT MAX(job_id) FROM job_disks WHERE disk_id = ?)"
            ))
        };
        Ok(self.job_query(|| query().bind(disk.as_str())).await?.pop())
    }

    /// Stores counters for people; no event, no say in any decision. Does nothing for a cycle that has ended, and no
    /// more for a disk that is sealed than to raise what it read and sent, so that a late report cannot move a finished bar.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn job_progress_record(
        &self,
        id: &JobId,
        progress: &Progress,
        disks: &[DiskProgress],
        now: Timestamp,
    ) -> Result<(), Error> {
        self.write(|mut w| async move {
        let percent = if progress.percent.is_finite() { progress.percent.clamp(0.0, 100.0) } else { 0.0 };
        let done = sql("UPDATE replication_jobs SET progress_percent = ?, current_operation = ?, bytes_transferred = ?, \
             total_bytes = ?, transfer_speed_bps = ?, peak_speed_bps = ?, updated_at = ? WHERE id = ? AND active_migration IS NOT NULL")
        .bind(percent)
        .bind(progress.operation.as_str())
        .bind(shown(progress.transferred))
        .bind(shown(progress.total))
        .bind(shown(progress.speed))
        .bind(shown(progress.peak))
        .bind(time(now))
        .bind(id.as_str())
        .execute(&mut *w.tx)
        .await
        .doing("storing progress")?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
        for p in disks {
            let Some(disk) = &p.disk else { continue };
            let open = counted(sql(
                "UPDATE job_disks SET plan_complete = ?, planned_bytes = ?, done_bytes = ?, read_bytes = ?, \
                 wire_bytes = ?, data_bytes = ?, resumed_bytes = ? WHERE job_id = ? AND disk_id = ? \
                 AND finished = 0",
            ).bind(flag(p.plan_complete)), p)
            .bind(id.as_str())
            .bind(disk.as_str())
            .execute(&mut *w.tx)
            .await
            .doing("storing progress")?;
            if open.rows_affected() == 0 {
                // What the attempt that ended read and sent is told after its seal.
                sql(
                    "UPDATE job_disks SET read_bytes = ?, wire_bytes = ? WHERE job_id = ? AND disk_id = ? \
                     AND read_bytes <= ? AND wire_bytes <= ?",
                )
                .bind(shown(p.read))
                .bind(shown(p.wire))
                .bind(id.as_str())
                .bind(disk.as_str())
                .bind(shown(p.read))
                .bind(shown(p.wire))
                .execute(&mut *w.tx)
                .await
                .doing("storing progress")?;
            }
        }
        w.commit().await
        })
        .await
    }

    async fn job_query<'q>(
        &self,
        query: impl Fn() -> sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>,
    ) -> Result<Vec<Job>, Error> {
        self.reading(|| async {
            let mut c = self.read.begin().await.doing("reading cycles")?;
            jobs(&mut c, query()).await
        })
        .await
    }
}

impl Write {
    pub(super) async fn job(&mut self, id: &JobId) -> Result<Job, Error> {
        let row = sql(concat!("SELECT ", columns!(), " FROM replication_jobs WHERE id = ?"))
            .bind(id.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .doing("reading a cycle")?;
        with_disks(&mut self.tx, &row.ok_or_else(|| Error::NotFound { what: "cycle", id: id.to_string() })?)
            .await
    }
}

/// The unfinished cycle of a migration.
pub(super) async fn active(
    c: &mut sqlx::AnyConnection,
    migration: &MigrationId,
) -> Result<Option<Job>, Error> {
    let query = sql(concat!("SELECT ", columns!(), " FROM replication_jobs WHERE active_migration = ?"));
    Ok(jobs(c, query.bind(migration.as_str())).await?.pop())
}

/// Of each of these migrations the unfinished cycle, else the last one.
pub(super) async fn latest(
    c: &mut sqlx::AnyConnection,
    migrations: &[MigrationId],
) -> Result<HashMap<MigrationId, Job>, Error> {
    let ids = || migrations.iter().map(MigrationId::as_str);
    let active = concat!("SELECT ", columns!(), " FROM replication_jobs WHERE active_migration IN");
    // One look into the index for each, however many cycles it had.
    let last = concat!(
        "SELECT ",
        columns!(),
        " FROM replication_jobs WHERE id IN (SELECT (SELECT MAX(j.id) FROM replication_jobs j WHERE j.migration_id = m.id) \
         FROM migrations m WHERE m.id IN"
    );
    let mut all = HashMap::new();
    // The unfinished ones come later and stay.
    for query in [among(last, ids(), ")"), among(active, ids(), "")] {
        for job in jobs(c, query).await? {
            all.insert(job.migration.clone(), job);
        }
    }
    Ok(all)
}

async fn jobs(
    c: &mut sqlx::AnyConnection,
    query: sqlx::query::Query<'_, sqlx::Any, sqlx::any::AnyArguments>,
) -> Result<Vec<Job>, Error> {
    let rows = query.fetch_all(&mut *c).await.doing("reading cycles")?;
    of_rows(c, &rows).await
}

/// Cycles with their disks, which are read together: in the order in which the disks came to the migration (their ids grow),
/// so that an old cycle stays as it was whatever becomes of the VM's order.
async fn of_rows(c: &mut sqlx::AnyConnection, rows: &[AnyRow]) -> Result<Vec<Job>, Error> {
    let mut all = rows.iter().map(job).collect::<Result<Vec<_>, _>>()?;
    for jobs in all.chunks_mut(MOST_AMONG) {
        let rows = among(DISKS, jobs.iter().map(|job| job.id.as_str()), "ORDER BY j.job_id, j.disk_id");
        let rows = rows.fetch_all(&mut *c).await.doing("reading cycles' disks")?;
        let mut disks: HashMap<JobId, Vec<JobDisk>> = HashMap::new();
        for row in &rows {
            let of = Row::new(row, "job_disks", "job_id")?.parsed("job_id")?;
            disks.entry(of).or_default().push(job_disk(row)?);
        }
        for job in jobs {
            job.disks = disks.remove(&job.id).unwrap_or_default();
        }
    }
    Ok(all)
}

async fn with_disks(c: &mut sqlx::AnyConnection, row: &AnyRow) -> Result<Job, Error> {
    let mut job = job(row)?;
    let rows = among(DISKS, [job.id.as_str()], "ORDER BY j.job_id, j.disk_id");
    let rows = rows.fetch_all(c).await.doing("reading a cycle's disks")?;
    job.disks = rows.iter().map(job_disk).collect::<Result<_, _>>()?;
    Ok(job)
}

/// Without its disks.
fn job(row: &AnyRow) -> Result<Job, Error> {
    let row = Row::new(row, "replication_jobs", "id")?;
    let id: JobId = row.parsed("id")?;
    Ok(Job {
        migration: row.parsed("migration_id")?,
        kind: row.parsed("kind")?,
        status: row.parsed("status")?,
        wanted: row.parsed("wanted")?,
        snapshot: row.opt_text("snapshot_id")?,
        snapshot_taken_at: row.opt_time("snapshot_taken_at")?,
        started_at: row.time("started_at")?,
        finished_at: row.opt_time("finished_at")?,
        updated_at: row.time("updated_at")?,
        progress: Progress {
            percent: row.double("progress_percent")?,
            operation: row.text("current_operation")?,
            transferred: row.count("bytes_transferred")?,
            total: row.count("total_bytes")?,
            speed: row.count("transfer_speed_bps")?,
            peak: row.count("peak_speed_bps")?,
        },
        error: failure(&row)?,
        traceparent: row.opt_text("traceparent")?,
        disks: Vec::new(),
        id,
    })
}

fn job_disk(row: &AnyRow) -> Result<JobDisk, Error> {
    let row = Row::new(row, "job_disks", "job_id")?;
    let disk: DiskId = row.parsed("disk_id")?;
    let new_size = row.opt_count("new_size_bytes")?;
    Ok(JobDisk {
        key: row.parsed("disk_key")?,
        strategy: row.strategy("strategy", "base_change_id")?,
        new_change_id: row.opt_text("new_change_id")?,
        new_size,
        epoch: Epoch(row.count("epoch")?),
        finished: row.flag("finished")?,
        progress: DiskProgress {
            disk: Some(disk.clone()),
            size: new_size.unwrap_or(row.count("size_bytes")?),
            planned: row.count("planned_bytes")?,
            done: row.count("done_bytes")?,
            read: row.count("read_bytes")?,
            wire: row.count("wire_bytes")?,
            data: row.count("data_bytes")?,
            resumed: row.count("resumed_bytes")?,
            plan_complete: row.flag("plan_complete")?,
            epoch: None,
        },
        disk,
    })
}
