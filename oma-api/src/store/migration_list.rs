//! Migrations together: all of them, those that there is work for, those of an agent.

use super::error::Doing as _;
use super::migration::{columns, migration};
use super::row::{Row, sql, time};
use super::{Error, Migration, Protection, Store, Which};
use jiff::Timestamp;
use shared::ids::{AgentId, MigrationId, VmUuid};
use shared::vm::Configuration;
use sqlx::any::AnyRow;
use std::collections::HashMap;

impl Store {
    /// Newest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_list(&self, which: Which) -> Result<Vec<Migration>, Error> {
        self.reading(|| async {
            let query = match which {
                Which::All => {
                    sql(concat!("SELECT ", columns!(), " FROM migrations ORDER BY created_at DESC, id DESC"))
                }
                Which::Unfinished => sql(concat!(
                    "SELECT ",
                    columns!(),
                    " FROM migrations WHERE unfinished_vm IS NOT NULL ORDER BY created_at DESC, id DESC"
                )),
            };
            query.fetch_all(&self.read).await.doing("listing migrations")?.iter().map(migration).collect()
        })
        .await
    }

    /// Those that there may be something to do for: what runs, what goes on by itself, what has a time at which it is to be
    /// switched, what has a cycle that has not ended, and volumes that are to be made or removed. Few, however many there are.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_list_at_work(&self) -> Result<Vec<Migration>, Error> {
        self.reading(|| async {
            // Each from an index of its own.
            sql(concat!(
                "SELECT ",
                columns!(),
                " FROM migrations WHERE unfinished_vm IS NOT NULL AND id IN (\
                 SELECT id FROM migrations WHERE state = 'running' \
                 UNION SELECT id FROM migrations WHERE state = 'failed' AND phase IN ('switch', 'rollback') \
                 UNION SELECT id FROM migrations WHERE automatic = 1 \
                 UNION SELECT id FROM migrations WHERE scheduled_at IS NOT NULL \
                 UNION SELECT migration_id FROM disks WHERE volume_pending = 1 \
                 UNION SELECT migration_id FROM retired_disks WHERE volume_gone = 0 \
                 UNION SELECT active_migration FROM replication_jobs WHERE active_migration IS NOT NULL) \
                 ORDER BY created_at DESC, id DESC"
            ))
            .fetch_all(&self.read)
            .await
            .doing("listing what is at work")?
            .iter()
            .map(migration)
            .collect()
        })
        .await
    }

    /// Those that have more than so many restore points, or an older one than that beside another.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_list_surplus(
        &self,
        count: u32,
        oldest: Option<Timestamp>,
    ) -> Result<Vec<Migration>, Error> {
        self.reading(|| async {
            sql(concat!(
                "SELECT ",
                columns!(),
                " FROM migrations WHERE unfinished_vm IS NOT NULL AND id IN (\
                 SELECT migration_id FROM restore_points GROUP BY migration_id \
                 HAVING COUNT(*) > ? OR (COUNT(*) > 1 AND MIN(taken_at) < ?)) \
                 ORDER BY created_at DESC, id DESC"
            ))
            .bind(i64::from(count))
            // Nothing is less than that.
            .bind(oldest.map(time).unwrap_or_default())
            .fetch_all(&self.read)
            .await
            .doing("listing who has restore points that go")?
            .iter()
            .map(migration)
            .collect()
        })
        .await
    }

    /// Those that go on and have a schedule.
    pub(super) async fn migration_list_scheduled(&self) -> Result<Vec<Migration>, Error> {
        self.reading(|| async {
            sql(concat!(
                "SELECT ",
                columns!(),
                " FROM migrations WHERE unfinished_vm IS NOT NULL AND id IN (SELECT migration_id FROM schedules)"
            ))
            .fetch_all(&self.read)
            .await
            .doing("listing migrations with schedules")?
            .iter()
            .map(migration)
            .collect()
        })
        .await
    }

    /// The unfinished migration of each VM that has one.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_of_vms(&self) -> Result<HashMap<VmUuid, MigrationId>, Error> {
        self.reading(|| async {
            sql("SELECT id, unfinished_vm FROM migrations WHERE unfinished_vm IS NOT NULL")
                .fetch_all(&self.read)
                .await
                .doing("listing migrations")?
                .iter()
                .map(|row| {
                    let row = Row::new(row, "migrations", "id")?;
                    Ok((row.parsed("unfinished_vm")?, row.parsed("id")?))
                })
                .collect()
        })
        .await
    }

    /// What begin recorded of the VMs of all migrations that were not given up, of those of which it knew something.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_configurations(&self) -> Result<HashMap<MigrationId, Configuration>, Error> {
        self.reading(|| async {
            sql("SELECT id, configuration FROM migrations WHERE phase <> 'abort' AND configuration IS NOT NULL")
                .fetch_all(&self.read)
                .await
                .doing("listing recorded configurations")?
                .iter()
                .filter_map(|row| configuration(row).transpose())
                .collect()
        })
        .await
    }

    /// What an agent has to do with: its migrations that go on, and ended ones that its source is not rid of.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_list_of_agent(&self, agent: &AgentId) -> Result<Vec<Migration>, Error> {
        self.reading(|| async {
            let mut c = self.read.acquire().await.doing("listing an agent's migrations")?;
            of_agent(&mut c, agent).await
        })
        .await
    }

    /// The same, with disks and unfinished cycles, as of one moment. Read one after the other, the disks could be of
    /// before a commit and the cycles of after it: no cycle, and change ids that the commit has done away with.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn protection_list_of_agent(&self, agent: &AgentId) -> Result<Vec<Protection>, Error> {
        self.reading(|| async {
            let mut c = self.read.begin().await.doing("listing an agent's migrations")?;
            let mut list = Vec::new();
            for migration in of_agent(&mut c, agent).await? {
                list.push(protection(&mut c, migration).await?);
            }
            Ok(list)
        })
        .await
    }
}

async fn protection(c: &mut sqlx::AnyConnection, migration: Migration) -> Result<Protection, Error> {
    let disks = super::disk::list(c, &migration.id).await?;
    let active = super::job::active(c, &migration.id).await?;
    Ok(Protection { migration, disks, active })
}

async fn of_agent(c: &mut sqlx::AnyConnection, agent: &AgentId) -> Result<Vec<Migration>, Error> {
    sql(concat!(
        "SELECT ",
        columns!(),
        " FROM migrations WHERE agent_id = ? AND (unfinished_vm IS NOT NULL OR release_pending = 1) \
             ORDER BY created_at, id"
    ))
    .bind(agent.as_str())
    .fetch_all(c)
    .await
    .doing("listing an agent's migrations")?
    .iter()
    .map(migration)
    .collect()
}

fn configuration(row: &AnyRow) -> Result<Option<(MigrationId, Configuration)>, Error> {
    let row = Row::new(row, "migrations", "id")?;
    let id = row.parsed("id")?;
    Ok(row.configuration("configuration")?.map(|configuration| (id, configuration)))
}
