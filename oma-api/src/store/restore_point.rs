//! `restore_points`: what a failover may start from. Made by the commit of a cycle only.

use super::error::Doing as _;
use super::row::{MOST_AMONG, Row, among, sql};
use super::{Error, Manifest, Store, Write};
use jiff::Timestamp;
use serde_json::json;
use shared::ids::{DiskId, JobId, MigrationId, RestorePointId};
use shared::migration::Phase;
use sqlx::any::AnyRow;
use std::collections::{HashMap, HashSet};

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
const LIST_OF: &str = concat!("SELECT ", columns!(), " FROM restore_points WHERE migration_id IN");
const DISKS: &str = "SELECT r.restore_point_id, r.disk_id, r.size_bytes, r.change_id, r.manifest_version, r.manifest_file \
     FROM restore_point_disks r JOIN disks d ON d.id = r.disk_id WHERE r.restore_point_id IN";

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

    /// The storage snapshots of all restore points.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn snapshots_kept(&self) -> Result<HashSet<String>, Error> {
        self.reading(|| async {
            let rows = sql("SELECT id, snapshot_name FROM restore_points").fetch_all(&self.read).await;
            let rows = rows.doing("listing snapshots")?;
            rows.iter().map(|row| Row::new(row, "restore_points", "id")?.text("snapshot_name")).collect()
        })
        .await
    }

    /// The files of all manifests that a disk or a restore point refers to.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn manifests_kept(&self) -> Result<HashSet<String>, Error> {
        const BOTH: &str = "SELECT manifest_file FROM disks WHERE manifest_file IS NOT NULL \
             UNION SELECT manifest_file FROM restore_point_disks";
        self.reading(|| async {
            let rows = sql(BOTH).fetch_all(&self.read).await.doing("listing manifests")?;
            rows.iter().map(|row| Row::new(row, "disks", "manifest_file")?.text("manifest_file")).collect()
        })
        .await
    }

    /// Forgets a restore point whose storage snapshot is gone. Again: changes nothing.
    ///
    /// # Errors
    /// [`Error::RestorePointNeeded`] for the newest one of a migration that is neither aborted nor finalized;
    /// [`Error::RestorePointInUse`], [`Error::Database`].
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
            if let Some(job) = w.failover_from(id).await? {
                return Err(Error::RestorePointInUse { id: id.clone(), job });
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
}

pub(super) async fn list(
    c: &mut sqlx::AnyConnection,
    migration: &MigrationId,
) -> Result<Vec<RestorePoint>, Error> {
    let rows = sql(LIST).bind(migration.as_str()).fetch_all(&mut *c).await.doing("listing restore points")?;
    of_rows(c, &rows).await
}

/// Of each of these migrations, oldest first.
pub(super) async fn of_migrations(
    c: &mut sqlx::AnyConnection,
    migrations: &[MigrationId],
) -> Result<HashMap<MigrationId, Vec<RestorePoint>>, Error> {
    let rows = among(LIST_OF, migrations.iter().map(MigrationId::as_str), "ORDER BY job_id");
    let rows = rows.fetch_all(&mut *c).await.doing("listing restore points")?;
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for point in of_rows(c, &rows).await? {
        all.entry(point.migration.clone()).or_default().push(point);
    }
    Ok(all)
}

/// Restore points with their disks, which are read together.
async fn of_rows(c: &mut sqlx::AnyConnection, rows: &[AnyRow]) -> Result<Vec<RestorePoint>, Error> {
    let mut all = rows.iter().map(point).collect::<Result<Vec<_>, _>>()?;
    for points in all.chunks_mut(MOST_AMONG) {
        let rows =
            among(DISKS, points.iter().map(|p| p.id.as_str()), "ORDER BY COALESCE(r.position, d.position)");
        let rows = rows.fetch_all(&mut *c).await.doing("reading restore points' disks")?;
        let mut disks: HashMap<RestorePointId, Vec<_>> = HashMap::new();
        for row in &rows {
            let of = Row::new(row, "restore_point_disks", "restore_point_id")?.parsed("restore_point_id")?;
            disks.entry(of).or_default().push(disk(row)?);
        }
        for point in points {
            point.disks = disks.remove(&point.id).unwrap_or_default();
        }
    }
    Ok(all)
}

async fn with_disks(c: &mut sqlx::AnyConnection, row: &AnyRow) -> Result<RestorePoint, Error> {
    let mut point = point(row)?;
    let rows = among(DISKS, [point.id.as_str()], "ORDER BY COALESCE(r.position, d.position)");
    let rows = rows.fetch_all(c).await.doing("reading a restore point's disks")?;
    point.disks = rows.iter().map(disk).collect::<Result<_, _>>()?;
    Ok(point)
}

/// Without its disks.
fn point(row: &AnyRow) -> Result<RestorePoint, Error> {
    let row = Row::new(row, "restore_points", "id")?;
    Ok(RestorePoint {
        id: row.parsed("id")?,
        migration: row.parsed("migration_id")?,
        job: row.parsed("job_id")?,
        snapshot_name: row.text("snapshot_name")?,
        taken_at: row.time("taken_at")?,
        committed_at: row.time("committed_at")?,
        disks: Vec::new(),
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
