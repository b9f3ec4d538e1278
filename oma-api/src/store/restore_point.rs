//! `restore_points`: what a failover may start from. Made by the commit of a cycle only.

use super::error::Doing as _;
use super::row::{Row, sql};
use super::{Error, Manifest, Store, Write};
use jiff::Timestamp;
use serde_json::json;
use shared::ids::{DiskId, JobId, MigrationId, RestorePointId};
use shared::migration::Phase;
use sqlx::any::AnyRow;

/// A row of `restore_points` with its disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePoint {
    pub id: RestorePointId,
    pub migration: MigrationId,
    /// The cycle whose commit made it.
    pub job: JobId,
    /// Of the storage, over all volumes.
    pub snapshot_name: String,
    /// When the source's snapshot was taken: the time its data is of.
    pub taken_at: Timestamp,
    pub committed_at: Timestamp,
    pub disks: Vec<RestorePointDisk>,
}

/// A disk at a restore point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePointDisk {
    pub disk: DiskId,
    /// Bytes.
    pub size: u64,
    pub change_id: Option<String>,
    pub manifest: Manifest,
}

macro_rules! columns {
    () => {
        "id, migration_id, job_id, snapshot_name, taken_at, committed_at"
    };
}

// By the jobs' ids, not by the time: where the clock was set back, the newest would be the first to go.
const LIST: &str =
    concat!("SELECT ", columns!(), " FROM restore_points WHERE migration_id = ? ORDER BY job_id");

impl Store {
    /// Oldest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn restore_point_list(&self, migration: &MigrationId) -> Result<Vec<RestorePoint>, Error> {
        self.reading(|| async {
            let mut c = self.read.begin().await.doing("listing restore points")?;
            list(&mut c, migration).await
        })
        .await
    }

    /// Those beyond the last `keep`, oldest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn restore_point_surplus(
        &self,
        migration: &MigrationId,
        keep: usize,
    ) -> Result<Vec<RestorePoint>, Error> {
        Ok(beyond(self.restore_point_list(migration).await?, keep))
    }

    /// Forgets a restore point whose storage snapshot is gone. Again: changes nothing.
    ///
    /// # Errors
    /// [`Error::RestorePointNeeded`] for the newest one of a migration that is neither aborted nor finalized;
    /// [`Error::Database`].
    pub async fn restore_point_delete(&self, id: &RestorePointId, now: Timestamp) -> Result<(), Error> {
        self.write(|mut w| async move {
            let row = sql("SELECT id, migration_id FROM restore_points WHERE id = ?")
                .bind(id.as_str())
                .fetch_optional(&mut *w.tx)
                .await
                .doing("reading a restore point")?;
            let Some(row) = row else { return Ok(()) };
            let migration: MigrationId = Row::new(&row, "restore_points", "id")?.parsed("migration_id")?;
            let newest = list(&mut w.tx, &migration).await?.pop();
            let ending = match w.migration(&migration).await?.position.phase() {
                Phase::Abort | Phase::Finalize => true,
                Phase::Begin | Phase::Sync | Phase::Switch | Phase::Rollback => false,
            };
            if !ending && newest.is_some_and(|p| p.id == *id) {
                return Err(Error::RestorePointNeeded { id: id.clone() });
            }
            for statement in [
                "DELETE FROM restore_point_disks WHERE restore_point_id = ?",
                "DELETE FROM restore_points WHERE id = ?",
            ] {
                sql(statement)
                    .bind(id.as_str())
                    .execute(&mut *w.tx)
                    .await
                    .doing("deleting a restore point")?;
            }
            w.event(
                now,
                Some(&migration),
                None,
                "restore_point_deleted",
                json!({ "restore_point_id": id.as_str() }),
            )
            .await?;
            w.commit().await
        })
        .await
    }
}

impl Write {
    pub(super) async fn restore_point_of(&mut self, job: &JobId) -> Result<Option<RestorePoint>, Error> {
        let row = sql(concat!("SELECT ", columns!(), " FROM restore_points WHERE job_id = ?"))
            .bind(job.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .doing("reading a restore point")?;
        match row {
            Some(row) => with_disks(&mut self.tx, &row).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn restore_point_surplus(
        &mut self,
        migration: &MigrationId,
        keep: usize,
    ) -> Result<Vec<RestorePoint>, Error> {
        Ok(beyond(list(&mut self.tx, migration).await?, keep))
    }
}

fn beyond(mut points: Vec<RestorePoint>, keep: usize) -> Vec<RestorePoint> {
    points.truncate(points.len().saturating_sub(keep));
    points
}

async fn list(c: &mut sqlx::AnyConnection, migration: &MigrationId) -> Result<Vec<RestorePoint>, Error> {
    let rows = sql(LIST).bind(migration.as_str()).fetch_all(&mut *c).await.doing("listing restore points")?;
    let mut points = Vec::with_capacity(rows.len());
    for row in &rows {
        points.push(with_disks(c, row).await?);
    }
    Ok(points)
}

async fn with_disks(c: &mut sqlx::AnyConnection, row: &AnyRow) -> Result<RestorePoint, Error> {
    let row = Row::new(row, "restore_points", "id")?;
    let id: RestorePointId = row.parsed("id")?;
    let disks = sql("SELECT r.restore_point_id, r.disk_id, r.size_bytes, r.change_id, r.manifest_version, r.manifest_file \
         FROM restore_point_disks r JOIN disks d ON d.id = r.disk_id WHERE r.restore_point_id = ? \
         ORDER BY COALESCE(r.position, d.position)")
    .bind(id.as_str())
    .fetch_all(c)
    .await
    .doing("reading a restore point's disks")?;
    Ok(RestorePoint {
        migration: row.parsed("migration_id")?,
        job: row.parsed("job_id")?,
        snapshot_name: row.text("snapshot_name")?,
        taken_at: row.time("taken_at")?,
        committed_at: row.time("committed_at")?,
        disks: disks.iter().map(disk).collect::<Result<_, _>>()?,
        id,
    })
}

fn disk(row: &AnyRow) -> Result<RestorePointDisk, Error> {
    let row = Row::new(row, "restore_point_disks", "restore_point_id")?;
    Ok(RestorePointDisk {
        disk: row.parsed("disk_id")?,
        size: row.count("size_bytes")?,
        change_id: row.opt_text("change_id")?,
        manifest: Manifest { version: row.count("manifest_version")?, file: row.text("manifest_file")? },
    })
}
