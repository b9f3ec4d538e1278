//! A VM's disks change while it is protected: what an operator accepts, and the disks that have left (`retired_disks`).
//!
//! ```text
//!  added ────► a new row, its volume pending ──► volume made ──► first cycle, full
//!  grown ────► the row, its volume pending ────► volume larger ─► next cycle compares hashes
//!  removed ──► retired ─► no restore point names it ─► volume gone       (a shrunk one: retired, and added anew)
//! ```
//!
//! One transaction accepts, and no cycle may be unfinished then: a cycle has all disks of its migration, from its making
//! to its commit. Volumes are made after it, from what it wrote down.

use super::error::Doing as _;
use super::row::{Row, among, flag, int, sql, time};
use super::{Error, Migration, NewDisk, Store, VolumeContent, Write};
use jiff::Timestamp;
use serde_json::json;
use shared::ids::{DiskId, DiskKey, MigrationId};
use std::collections::HashMap;

/// What becomes of one disk.
#[derive(Clone, Debug)]
pub enum DiskChange {
    Add(NewDisk),
    /// It is larger than it was; bytes.
    Grow {
        disk: DiskId,
        size: u64,
    },
    /// It leaves the protection; what restore points hold of it stays.
    Retire(DiskId),
}

/// What an operator accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// In this order: a key is free again once its disk is retired.
    pub changes: Vec<DiskChange>,
    /// The VM's disks as its source orders them; others come behind.
    pub order: Vec<DiskKey>,
    /// Who it was.
    pub by: String,
}

/// A disk that has left the protection, and that a restore point still names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiredDisk {
    pub disk: DiskId,
    pub key: DiskKey,
    /// Bytes.
    pub size: u64,
    pub volume: String,
    pub retired_at: Timestamp,
    pub by: String,
    /// Restore points that hold it.
    pub restore_points: u64,
}

impl Store {
    /// Compare-and-swap: stores `changed` as [`migration_transition`](Self::migration_transition) does, and with it what
    /// becomes of the disks.
    ///
    /// # Errors
    /// As there; [`Error::JobActive`] while a cycle is unfinished; [`Error::DiskExists`].
    pub async fn migration_accept(
        &self,
        changed: &Migration,
        accepted: &Accepted,
        now: Timestamp,
    ) -> Result<Migration, Error> {
        self.write(|mut w| async move {
            if let Some(job) = w.job_active(&changed.id).await? {
                return Err(Error::JobActive { migration: changed.id.clone(), job });
            }
            let stored = w.migration_swap(changed, now).await?;
            for change in &accepted.changes {
                w.disk_change(&stored.id, change, &accepted.by, now).await?;
            }
            w.disks_order(&stored.id, &accepted.order).await?;
            let body = json!({ "by": accepted.by, "changes": accepted.changes.iter().map(told).collect::<Vec<_>>() });
            w.event(now, Some(&stored.id), None, "disks_accepted", body).await?;
            w.commit().await?;
            Ok(stored)
        })
        .await
    }

    /// The volume is there, as large as the disk; what it reads where nothing was written. A disk whose size was changed
    /// since stays pending.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn disk_volume_made(
        &self,
        id: &DiskId,
        size: u64,
        content: VolumeContent,
    ) -> Result<(), Error> {
        self.write(|mut w| async move {
            sql("UPDATE disks SET reads_zero = ?, volume_pending = 0 WHERE id = ? AND size_bytes = ?")
                .bind(flag(content == VolumeContent::Zeros))
                .bind(id.as_str())
                .bind(int("a disk's size", size)?)
                .execute(&mut *w.tx)
                .await
                .doing("recording a volume")?;
            w.commit().await
        })
        .await
    }

    /// Those whose volumes are still there, in the order in which they left.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn disk_list_retired(&self, migration: &MigrationId) -> Result<Vec<RetiredDisk>, Error> {
        self.reading(|| async {
            let mut c = self.read.acquire().await.doing("listing retired disks")?;
            let mut all = retired_of_migrations(&mut c, std::slice::from_ref(migration)).await?;
            Ok(all.remove(migration).unwrap_or_default())
        })
        .await
    }

    /// Whether a disk of this key has ever left the protection.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn disk_was_retired(&self, migration: &MigrationId, key: &DiskKey) -> Result<bool, Error> {
        self.reading(|| async {
            let row = sql("SELECT disk_id FROM retired_disks WHERE migration_id = ? AND disk_key = ?")
                .bind(migration.as_str())
                .bind(key.as_str())
                .fetch_optional(&self.read)
                .await
                .doing("looking for a retired disk")?;
            Ok(row.is_some())
        })
        .await
    }

    /// The volume of a retired disk is gone. Again: changes nothing.
    ///
    /// # Errors
    /// [`Error::VolumeNeeded`] while a restore point names the disk; [`Error::Database`].
    pub async fn disk_volume_gone(&self, id: &DiskId) -> Result<(), Error> {
        self.write(|mut w| async move {
            let named = sql("SELECT restore_point_id FROM restore_point_disks WHERE disk_id = ?")
                .bind(id.as_str())
                .fetch_optional(&mut *w.tx)
                .await
                .doing("looking for restore points of a disk")?;
            if named.is_some() {
                return Err(Error::VolumeNeeded { disk: id.clone() });
            }
            sql("UPDATE retired_disks SET volume_gone = 1 WHERE disk_id = ?")
                .bind(id.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("recording that a volume is gone")?;
            w.commit().await
        })
        .await
    }
}

impl Write {
    async fn disk_change(
        &mut self,
        migration: &MigrationId,
        change: &DiskChange,
        by: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (id, update) = match change {
            DiskChange::Add(new) => {
                let last =
                    self.disk_list(migration).await?.last().map_or(0, |d| d.position.saturating_add(1));
                self.disk_insert(migration, last, new).await?;
                let made = "UPDATE disks SET volume_pending = 1 WHERE id = ?";
                (&new.id, sql(made))
            }
            DiskChange::Grow { disk, size } => {
                // What is behind its old end was not there when the replica was made: nothing is known of it.
                let grown = "UPDATE disks SET size_bytes = ?, volume_pending = 1, needs_hash_diff = 1, reads_zero = 0 WHERE id = ?";
                (disk, sql(grown).bind(int("a disk's size", *size)?))
            }
            DiskChange::Retire(disk) => {
                let old = self.disk(disk).await?;
                sql("INSERT INTO retired_disks (disk_id, migration_id, disk_key, retired_at, retired_by, volume_gone) \
                     VALUES (?, ?, ?, ?, ?, 0)")
                .bind(disk.as_str())
                .bind(migration.as_str())
                .bind(old.key.as_str())
                .bind(time(now))
                .bind(by)
                .execute(&mut *self.tx)
                .await
                .doing("retiring a disk")?;
                // Its key is free for another.
                (
                    disk,
                    sql("UPDATE disks SET volume_pending = 0, disk_key = ? WHERE id = ?").bind(disk.as_str()),
                )
            }
        };
        update.bind(id.as_str()).execute(&mut *self.tx).await.doing("changing a disk")?;
        Ok(())
    }

    /// Puts the disks in the source's order; restore points keep theirs.
    async fn disks_order(&mut self, migration: &MigrationId, order: &[DiskKey]) -> Result<(), Error> {
        sql("UPDATE restore_point_disks SET position = (SELECT position FROM disks d WHERE d.id = restore_point_disks.disk_id) \
             WHERE position IS NULL AND disk_id IN (SELECT id FROM disks WHERE migration_id = ?)")
        .bind(migration.as_str())
        .execute(&mut *self.tx)
        .await
        .doing("keeping the order of restore points")?;
        let mut disks = self.disk_list(migration).await?;
        disks.sort_by_key(|d| order.iter().position(|key| *key == d.key).unwrap_or(usize::MAX));
        for (position, disk) in (0u64..).zip(&disks) {
            sql("UPDATE disks SET position = ? WHERE id = ?")
                .bind(int("a disk's position", position)?)
                .bind(disk.id.as_str())
                .execute(&mut *self.tx)
                .await
                .doing("ordering disks")?;
        }
        Ok(())
    }
}

/// As the journal shows it.
fn told(change: &DiskChange) -> serde_json::Value {
    match change {
        DiskChange::Add(new) => {
            json!({ "change": "added", "disk_id": new.id.as_str(), "key": new.key.as_str(), "size_bytes": new.size })
        }
        DiskChange::Grow { disk, size } => {
            json!({ "change": "grown", "disk_id": disk.as_str(), "size_bytes": size })
        }
        DiskChange::Retire(disk) => json!({ "change": "retired", "disk_id": disk.as_str() }),
    }
}

/// Of each of these migrations: those whose volumes are there, the first that left first.
pub(super) async fn retired_of_migrations(
    c: &mut sqlx::AnyConnection,
    migrations: &[MigrationId],
) -> Result<HashMap<MigrationId, Vec<RetiredDisk>>, Error> {
    let rows = among(
        "SELECT r.disk_id, r.migration_id, r.disk_key, r.retired_at, r.retired_by, d.size_bytes, d.committed_size_bytes, d.volume, \
         (SELECT COUNT(*) FROM restore_point_disks p WHERE p.disk_id = r.disk_id) AS restore_points \
         FROM retired_disks r JOIN disks d ON d.id = r.disk_id WHERE r.volume_gone = 0 AND r.migration_id IN",
        migrations.iter().map(MigrationId::as_str),
        "ORDER BY r.retired_at, r.disk_id",
    );
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for row in &rows.fetch_all(c).await.doing("listing retired disks")? {
        let row = Row::new(row, "retired_disks", "disk_id")?;
        all.entry(row.parsed("migration_id")?).or_default().push(RetiredDisk {
            disk: row.parsed("disk_id")?,
            key: row.parsed("disk_key")?,
            size: row.opt_count("committed_size_bytes")?.unwrap_or(row.count("size_bytes")?),
            volume: row.text("volume")?,
            retired_at: row.time("retired_at")?,
            by: row.text("retired_by")?,
            restore_points: row.count("restore_points")?,
        });
    }
    Ok(all)
}
