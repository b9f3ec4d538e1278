//! Migrations that begin with volumes that are there already.

use super::error::Doing as _;
use super::row::{Row, sql};
use super::{Error, Migration, NewMigration, Store};
use jiff::Timestamp;
use std::collections::BTreeSet;

impl Store {
    /// Names of the replicas of all unfinished migrations.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn volumes_in_use(&self) -> Result<BTreeSet<String>, Error> {
        self.reading(|| async {
            let rows = sql("SELECT d.id, d.volume FROM disks d JOIN migrations m ON m.id = d.migration_id \
                 WHERE m.unfinished_vm IS NOT NULL")
            .fetch_all(&self.read)
            .await
            .doing("listing volumes")?;
            rows.iter().map(|row| Row::new(row, "disks", "id")?.text("volume")).collect()
        })
        .await
    }

    /// As [`migration_create`](Self::migration_create), with volumes that are on the storage and nobody's: what they hold
    /// is unknown, and each is compared by the first cycle.
    ///
    /// # Errors
    /// As there, and [`Error::VolumeTaken`], also when two adopt one volume at once.
    pub async fn migration_adopt(&self, new: &NewMigration, now: Timestamp) -> Result<Migration, Error> {
        self.write(|mut w| async move {
            for disk in &new.disks {
                // Not of ended ones: their volumes are gone, or nobody's.
                let taken = sql("SELECT m.id FROM disks d JOIN migrations m ON m.id = d.migration_id \
                     WHERE d.volume = ? AND m.unfinished_vm IS NOT NULL")
                .bind(disk.volume.as_str())
                .fetch_optional(&mut *w.tx)
                .await
                .doing("looking for the owner of a volume")?;
                if let Some(row) = taken {
                    let migration = Row::new(&row, "migrations", "id")?.parsed("id")?;
                    return Err(Error::VolumeTaken { volume: disk.volume.clone(), migration });
                }
            }
            let made = w.migration_insert(new, now).await?;
            sql("UPDATE disks SET needs_hash_diff = 1, reads_zero = 0 WHERE migration_id = ?")
                .bind(made.id.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("making a migration")?;
            w.commit().await?;
            Ok(made)
        })
        .await
    }
}
