//! `disks`: one row a disk of a migration, and what its replica holds as of the last commit.

use super::error::Doing as _;
use super::row::{Row, among, flag, int, opt_int, sql, time};
use super::{Error, Store, Write};
use jiff::Timestamp;
use shared::ids::{DiskId, DiskKey, Epoch, JobId, MigrationId};
use sqlx::any::AnyRow;
use std::collections::HashMap;

/// A row of `disks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub id: DiskId,
    pub migration: MigrationId,
    /// In the VM's order, from 0.
    pub position: u64,
    pub key: DiskKey,
    /// Bytes of the source disk, as begun, accepted or last committed: what a cycle has to find.
    pub size: u64,
    /// Bytes as of the last commit; `None` before the first.
    pub committed_size: Option<u64>,
    /// Name of the replica's volume at the storage.
    pub volume: String,
    /// What the volume holds where no intent was recorded.
    pub content: VolumeContent,
    /// Whether the volume is as large as the disk.
    pub work: VolumeWork,
    /// The current attempt to write; 0 before the first.
    pub epoch: Epoch,
    /// Whose attempt that is.
    pub epoch_job: Option<JobId>,
    /// "Everything changed since then", as of the last commit.
    pub change_id: Option<String>,
    /// What the replica should hold, as of the last commit.
    pub manifest: Option<Manifest>,
    /// The next cycle compares hashes instead of trusting change tracking.
    pub needs_hash_diff: bool,
    pub replica_verified_at: Option<Timestamp>,
    pub source_verified_at: Option<Timestamp>,
}

/// A version of a disk's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub version: u64,
    /// File name within the manifests' folder.
    pub file: String,
}

/// What is known of a volume where nothing of ours was written (no `intent` names it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeContent {
    /// It reads zero: zeros of the source need not be written there.
    Zeros,
    /// Anything.
    Unknown,
}

/// What is still to be done to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeWork {
    Done,
    /// It is to be made, or made larger; no cycle begins before.
    Pending,
}

/// Which comparison was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// Replica, read back past the page cache, with the manifest.
    Replica,
    /// Source snapshot with the manifest.
    Source,
}

/// A disk to be made.
#[derive(Clone, Debug)]
pub struct NewDisk {
    pub id: DiskId,
    pub key: DiskKey,
    /// Bytes.
    pub size: u64,
    /// Deterministic, and stored before the volume is made, so that a crash leaves no volume without a name.
    pub volume: String,
}

macro_rules! columns {
    () => {
        "id, migration_id, position, disk_key, size_bytes, committed_size_bytes, volume, reads_zero, volume_pending, epoch, \
         epoch_job_id, change_id, manifest_version, manifest_file, needs_hash_diff, replica_verified_at, \
         source_verified_at"
    };
}

impl Store {
    /// Adds a disk behind the others of its migration.
    ///
    /// # Errors
    /// [`Error::DiskExists`], [`Error::NotFound`] (the migration), [`Error::Database`].
    pub async fn disk_create(&self, migration: &MigrationId, new: &NewDisk) -> Result<Disk, Error> {
        self.write(|mut w| async move {
            w.migration(migration).await?;
            let position = w.disk_list(migration).await?.last().map_or(0, |d| d.position.saturating_add(1));
            w.disk_insert(migration, position, new).await?;
            let made = w.disk(&new.id).await?;
            w.commit().await?;
            Ok(made)
        })
        .await
    }

    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Database`].
    pub async fn disk_fetch(&self, id: &DiskId) -> Result<Disk, Error> {
        self.reading(|| async {
            let row = sql(concat!("SELECT ", columns!(), " FROM disks WHERE id = ?"))
                .bind(id.as_str())
                .fetch_optional(&self.read)
                .await
                .doing("reading a disk")?;
            disk(&row.ok_or_else(|| Error::NotFound { what: "disk", id: id.to_string() })?)
        })
        .await
    }

    /// Those that are protected now, in the VM's order.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn disk_list(&self, migration: &MigrationId) -> Result<Vec<Disk>, Error> {
        self.reading(|| async {
            let mut c = self.read.acquire().await.doing("listing disks")?;
            list(&mut c, migration).await
        })
        .await
    }

    /// Records what the volume holds after it was made. Call it once the storage has answered, before any cycle.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Database`].
    pub async fn disk_content_set(&self, id: &DiskId, content: VolumeContent) -> Result<(), Error> {
        let zeros = flag(content == VolumeContent::Zeros);
        self.disk_update(id, || sql("UPDATE disks SET reads_zero = ? WHERE id = ?").bind(zeros)).await
    }

    /// The next cycle of this disk compares hashes. Cleared by the commit of a full or hash-diff cycle.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Database`].
    pub async fn disk_hash_diff_require(&self, id: &DiskId) -> Result<(), Error> {
        self.disk_update(id, || sql("UPDATE disks SET needs_hash_diff = 1 WHERE id = ?")).await
    }

    /// One arm of the verification ran to the end and found the disk equal.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Database`].
    pub async fn disk_verified_set(&self, id: &DiskId, arm: Arm, at: Timestamp) -> Result<(), Error> {
        let update = match arm {
            Arm::Replica => "UPDATE disks SET replica_verified_at = ? WHERE id = ?",
            Arm::Source => "UPDATE disks SET source_verified_at = ? WHERE id = ?",
        };
        self.disk_update(id, || sql(update).bind(time(at))).await
    }

    async fn disk_update(
        &self,
        id: &DiskId,
        update: impl Fn() -> sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments>,
    ) -> Result<(), Error> {
        let update = &update;
        self.write(|mut w| async move {
            let done = update().bind(id.as_str()).execute(&mut *w.tx).await.doing("changing a disk")?;
            if done.rows_affected() == 0 {
                return Err(Error::NotFound { what: "disk", id: id.to_string() });
            }
            w.commit().await
        })
        .await
    }
}

impl Write {
    pub(super) async fn disk(&mut self, id: &DiskId) -> Result<Disk, Error> {
        let row = sql(concat!("SELECT ", columns!(), " FROM disks WHERE id = ?"))
            .bind(id.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .doing("reading a disk")?;
        disk(&row.ok_or_else(|| Error::NotFound { what: "disk", id: id.to_string() })?)
    }

    pub(super) async fn disk_list(&mut self, migration: &MigrationId) -> Result<Vec<Disk>, Error> {
        list(&mut self.tx, migration).await
    }

    pub(super) async fn disk_insert(
        &mut self,
        migration: &MigrationId,
        position: u64,
        new: &NewDisk,
    ) -> Result<(), Error> {
        let done = sql(
            "INSERT INTO disks (id, migration_id, position, disk_key, size_bytes, volume, reads_zero, epoch, \
             checkpoint_seq, needs_hash_diff) VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, 0)",
        )
        .bind(new.id.as_str())
        .bind(migration.as_str())
        .bind(int("a disk's position", position)?)
        .bind(new.key.as_str())
        .bind(int("a disk's size", new.size)?)
        .bind(new.volume.as_str())
        .execute(&mut *self.tx)
        .await;
        match done {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(e)) if e.is_unique_violation() => {
                Err(Error::DiskExists { migration: migration.clone(), key: new.key.to_string() })
            }
            Err(source) => Err(Error::Database { doing: "making a disk", source }),
        }
    }

    /// Stores what a commit says of a disk.
    pub(super) async fn disk_commit(&mut self, d: &Disk) -> Result<(), Error> {
        sql(
            "UPDATE disks SET size_bytes = ?, committed_size_bytes = ?, change_id = ?, manifest_version = ?, \
             manifest_file = ?, reads_zero = 0, needs_hash_diff = ? WHERE id = ?",
        )
        .bind(int("a disk's size", d.size)?)
        .bind(opt_int("a disk's size", d.committed_size)?)
        .bind(d.change_id.as_deref())
        .bind(opt_int("a manifest's version", d.manifest.as_ref().map(|m| m.version))?)
        .bind(d.manifest.as_ref().map(|m| m.file.as_str()))
        .bind(flag(d.needs_hash_diff))
        .bind(d.id.as_str())
        .execute(&mut *self.tx)
        .await
        .doing("committing a disk")?;
        Ok(())
    }

    /// Allocates the next epoch: from here on a writer with the old one is refused.
    pub(super) async fn disk_epoch_raise(&mut self, id: &DiskId, job: &JobId) -> Result<Epoch, Error> {
        sql("UPDATE disks SET epoch = epoch + 1, epoch_job_id = ? WHERE id = ?")
            .bind(job.as_str())
            .bind(id.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("raising an epoch")?;
        Ok(self.disk(id).await?.epoch)
    }
}

/// Those that are protected now, in the VM's order.
pub(super) async fn list(c: &mut sqlx::AnyConnection, migration: &MigrationId) -> Result<Vec<Disk>, Error> {
    sql(concat!(
        "SELECT ",
        columns!(),
        " FROM disks WHERE migration_id = ? AND id NOT IN (SELECT disk_id FROM retired_disks) ORDER BY position"
    ))
        .bind(migration.as_str())
        .fetch_all(c)
        .await
        .doing("listing disks")?
        .iter()
        .map(disk)
        .collect()
}

/// Of each of these migrations, in the VM's order.
pub(super) async fn of_migrations(
    c: &mut sqlx::AnyConnection,
    migrations: &[MigrationId],
) -> Result<HashMap<MigrationId, Vec<Disk>>, Error> {
    let select = concat!("SELECT ", columns!(), " FROM disks WHERE migration_id IN");
    let order = "AND id NOT IN (SELECT disk_id FROM retired_disks) ORDER BY position";
    let rows = among(select, migrations.iter().map(MigrationId::as_str), order);
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for row in &rows.fetch_all(c).await.doing("listing disks")? {
        let disk = disk(row)?;
        all.entry(disk.migration.clone()).or_default().push(disk);
    }
    Ok(all)
}

fn disk(row: &AnyRow) -> Result<Disk, Error> {
    let row = Row::new(row, "disks", "id")?;
    let manifest = match (row.opt_count("manifest_version")?, row.opt_text("manifest_file")?) {
        (Some(version), Some(file)) => Some(Manifest { version, file }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(row.corrupt("manifest_file", "a version and a file belong together"));
        }
    };
    Ok(Disk {
        id: row.parsed("id")?,
        migration: row.parsed("migration_id")?,
        position: row.count("position")?,
        key: row.parsed("disk_key")?,
        size: row.count("size_bytes")?,
        committed_size: row.opt_count("committed_size_bytes")?,
        volume: row.text("volume")?,
        content: if row.flag("reads_zero")? { VolumeContent::Zeros } else { VolumeContent::Unknown },
        work: if row.flag("volume_pending")? { VolumeWork::Pending } else { VolumeWork::Done },
        epoch: Epoch(row.count("epoch")?),
        epoch_job: row.opt_parsed("epoch_job_id")?,
        change_id: row.opt_text("change_id")?,
        manifest,
        needs_hash_diff: row.flag("needs_hash_diff")?,
        replica_verified_at: row.opt_time("replica_verified_at")?,
        source_verified_at: row.opt_time("source_verified_at")?,
    })
}
