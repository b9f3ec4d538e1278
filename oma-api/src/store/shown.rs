//! Migrations with all that is shown of them: read together, in a few statements however many they are.

use super::error::Doing as _;
use super::migration::{columns, migration};
use super::row::{MOST_AMONG, Row, among};
use super::{Disk, Error, Job, Migration, RestorePoint, RetiredDisk, ScheduleRow, Store, SystemPause};
use shared::ids::MigrationId;
use shared::vm::Configuration;
use std::collections::HashMap;

/// A migration with what belongs to it, as of one moment.
#[derive(Clone, Debug)]
pub struct Shown {
    pub migration: Migration,
    /// In the VM's order.
    pub disks: Vec<Disk>,
    /// That left the protection, and whose volumes are there.
    pub retired: Vec<RetiredDisk>,
    /// The unfinished cycle, else the last one.
    pub job: Option<Job>,
    /// Oldest first.
    pub restore_points: Vec<RestorePoint>,
    pub schedule: Option<ScheduleRow>,
    /// Why the system holds a cycle back.
    pub pause: Option<SystemPause>,
    /// As begin recorded it.
    pub configuration: Option<Configuration>,
}

impl Store {
    /// These migrations, in this order.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Database`].
    pub async fn migrations_shown(&self, ids: &[MigrationId]) -> Result<Vec<Shown>, Error> {
        let mut all = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MOST_AMONG) {
            all.extend(self.reading(|| self.shown(ids)).await?);
        }
        Ok(all)
    }

    async fn shown(&self, ids: &[MigrationId]) -> Result<Vec<Shown>, Error> {
        // One snapshot of the database for all of it.
        let mut c = self.read.begin().await.doing("reading migrations")?;
        let rows = among(
            concat!("SELECT ", columns!(), ", configuration FROM migrations WHERE id IN"),
            ids.iter().map(MigrationId::as_str),
            "",
        );
        let mut migrations: HashMap<MigrationId, (Migration, Option<Configuration>)> = HashMap::new();
        for row in &rows.fetch_all(&mut *c).await.doing("reading migrations")? {
            let configuration = Row::new(row, "migrations", "id")?.configuration("configuration")?;
            let migration = migration(row)?;
            migrations.insert(migration.id.clone(), (migration, configuration));
        }
        let mut disks = super::disk::of_migrations(&mut c, ids).await?;
        let mut retired = super::accept::retired_of_migrations(&mut c, ids).await?;
        let mut jobs = super::job::latest(&mut c, ids).await?;
        let mut points = super::restore_point::of_migrations(&mut c, ids).await?;
        let mut schedules = super::schedule::of_migrations(&mut c, ids).await?;
        let mut pauses = super::system_pause::of_migrations(&mut c, ids).await?;
        let shown = |id: &MigrationId| {
            let missing = || Error::NotFound { what: "migration", id: id.to_string() };
            let (migration, configuration) = migrations.remove(id).ok_or_else(missing)?;
            Ok(Shown {
                migration,
                disks: disks.remove(id).unwrap_or_default(),
                retired: retired.remove(id).unwrap_or_default(),
                job: jobs.remove(id),
                restore_points: points.remove(id).unwrap_or_default(),
                schedule: schedules.remove(id),
                pause: pauses.remove(id),
                configuration,
            })
        };
        ids.iter().map(shown).collect()
    }
}
