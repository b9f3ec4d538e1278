//! What committed cycles took: the basis of estimates.

use super::error::Doing as _;
use super::row::{Row, sql};
use super::words::JobKind;
use super::{Error, Store};
use crate::estimate::Measured;
use shared::ids::{AgentId, MigrationId};
use sqlx::any::AnyRow;

/// Whose cycles.
#[derive(Clone, Copy, Debug)]
pub enum CyclesOf<'a> {
    Migration(&'a MigrationId),
    Agent(&'a AgentId),
}

macro_rules! select {
    () => {
        "SELECT j.id, j.kind, j.bytes_transferred, j.started_at, j.snapshot_taken_at, j.finished_at, j.attempts, \
         (SELECT COUNT(*) FROM job_disks w WHERE w.job_id = j.id AND w.strategy = 'full') AS copied_whole, \
         (SELECT CAST(SUM(d.new_size_bytes) AS SIGNED) FROM job_disks d WHERE d.job_id = j.id) AS size_bytes \
         FROM replication_jobs j"
    };
}

macro_rules! largest {
    () => {
        " AND j.attempts = 1 ORDER BY j.bytes_transferred DESC, j.id DESC LIMIT 1"
    };
}

macro_rules! of_migration {
    () => {
        " WHERE j.migration_id = ? AND j.status = 'completed' AND j.kind <> 'verify_source' AND j.snapshot_taken_at IS NOT NULL"
    };
}

macro_rules! of_agent {
    () => {
        " JOIN migrations m ON m.id = j.migration_id WHERE m.agent_id = ? AND j.status = 'completed' \
         AND j.kind <> 'verify_source' AND j.snapshot_taken_at IS NOT NULL"
    };
}

impl Store {
    /// Newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn cycles_measured(&self, of: CyclesOf<'_>, limit: u32) -> Result<Vec<Measured>, Error> {
        self.reading(|| async {
            let query = match of {
                CyclesOf::Migration(id) => {
                    sql(concat!(select!(), of_migration!(), " ORDER BY j.id DESC LIMIT ?")).bind(id.as_str())
                }
                CyclesOf::Agent(id) => {
                    sql(concat!(select!(), of_agent!(), " ORDER BY j.id DESC LIMIT ?")).bind(id.as_str())
                }
            };
            let rows = query.bind(i64::from(limit)).fetch_all(&self.read).await.doing("reading cycles")?;
            rows.iter().map(measured).collect()
        })
        .await
    }

    /// Of those of one attempt, the newest of those with the most bytes.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn cycle_largest(&self, of: CyclesOf<'_>) -> Result<Option<Measured>, Error> {
        self.reading(|| async {
            let query = match of {
                CyclesOf::Migration(id) => {
                    sql(concat!(select!(), of_migration!(), largest!())).bind(id.as_str())
                }
                CyclesOf::Agent(id) => sql(concat!(select!(), of_agent!(), largest!())).bind(id.as_str()),
            };
            let row = query.fetch_optional(&self.read).await.doing("reading the largest cycle")?;
            row.as_ref().map(measured).transpose()
        })
        .await
    }
}

fn measured(row: &AnyRow) -> Result<Measured, Error> {
    let row = Row::new(row, "replication_jobs", "id")?;
    let started_at = row.time("started_at")?;
    Ok(Measured {
        incremental: row.parsed::<JobKind>("kind")? == JobKind::Incremental
            && row.count("copied_whole")? == 0,
        size: row.opt_count("size_bytes")?.unwrap_or(0),
        bytes: row.count("bytes_transferred")?,
        started_at,
        taken_at: row.time("snapshot_taken_at")?,
        finished_at: row.opt_time("finished_at")?.unwrap_or(started_at),
        whole: row.count("attempts")? == 1,
    })
}
