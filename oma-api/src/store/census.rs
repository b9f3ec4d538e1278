//! How many of what there are, for who watches the whole: a few statements, whatever the number of rows.

use super::error::Doing as _;
use super::row::{Row, sql};
use super::words::{JobKind, JobStatus};
use super::{Error, Store};
use crate::schedule::Spec;
use jiff::Timestamp;
use shared::ids::{JobId, MigrationId};
use shared::migration::{Phase, State};
use std::collections::HashMap;

/// The database at one moment.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Migrations by where they are, history included.
    pub positions: Vec<(Phase, State, u64)>,
    /// By id; not more than were asked for.
    pub unfinished: Vec<Unfinished>,
    /// Cycles that have not ended.
    pub active: Vec<Active>,
    /// That ever connected.
    pub agents: u64,
}

/// An unfinished migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub id: MigrationId,
    pub vm_name: String,
    pub restore_points: u64,
    /// Time of the newest restore point's source snapshot.
    pub newest: Option<Timestamp>,
    /// Seconds that its age may come to, by its schedule, and whether a breach of that has been said.
    pub rpo_target: Option<u64>,
    pub rpo_breached: bool,
}

/// A cycle that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    pub id: JobId,
    pub migration: MigrationId,
    pub kind: JobKind,
    pub status: JobStatus,
}

impl Store {
    /// Counts everything; of the unfinished migrations, `most` are named.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn census(&self, most: u32) -> Result<Census, Error> {
        const DOING: &str = "counting";
        self.reading(|| async {
            // One snapshot of the database for all of it.
            let mut c = self.read.begin().await.doing(DOING)?;
            let mut census = Census::default();
            let rows = sql("SELECT phase, state, COUNT(*) AS amount FROM migrations GROUP BY phase, state")
                .fetch_all(&mut *c)
                .await
                .doing(DOING)?;
            for row in &rows {
                let row = Row::new(row, "migrations", "phase")?;
                census.positions.push((row.parsed("phase")?, row.parsed("state")?, row.count("amount")?));
            }
            let rows = sql("SELECT r.migration_id, r.taken_at FROM restore_points r \
                 JOIN migrations m ON m.id = r.migration_id WHERE m.unfinished_vm IS NOT NULL")
            .fetch_all(&mut *c)
            .await
            .doing(DOING)?;
            let mut points: HashMap<MigrationId, (u64, Option<Timestamp>)> = HashMap::new();
            for row in &rows {
                let row = Row::new(row, "restore_points", "migration_id")?;
                let of = points.entry(row.parsed("migration_id")?).or_default();
                *of = (of.0 + 1, of.1.max(Some(row.time("taken_at")?)));
            }
            let rows = sql("SELECT s.migration_id, s.spec, s.rpo_breached FROM schedules s \
                 JOIN migrations m ON m.id = s.migration_id WHERE m.unfinished_vm IS NOT NULL")
            .fetch_all(&mut *c)
            .await
            .doing(DOING)?;
            let mut targets: HashMap<MigrationId, (Option<u64>, bool)> = HashMap::new();
            for row in &rows {
                let row = Row::new(row, "schedules", "migration_id")?;
                let spec: Spec =
                    serde_json::from_str(&row.text("spec")?).map_err(|e| row.corrupt("spec", e))?;
                targets.insert(row.parsed("migration_id")?, (spec.rpo_seconds, row.flag("rpo_breached")?));
            }
            let rows =
                sql("SELECT id, vm_name FROM migrations WHERE unfinished_vm IS NOT NULL ORDER BY id LIMIT ?")
                    .bind(i64::from(most))
                    .fetch_all(&mut *c)
                    .await
                    .doing(DOING)?;
            for row in &rows {
                let row = Row::new(row, "migrations", "id")?;
                let id: MigrationId = row.parsed("id")?;
                let (restore_points, newest) = points.remove(&id).unwrap_or_default();
                let (rpo_target, rpo_breached) = targets.remove(&id).unwrap_or_default();
                census.unfinished.push(Unfinished {
                    id,
                    vm_name: row.text("vm_name")?,
                    restore_points,
                    newest,
                    rpo_target,
                    rpo_breached,
                });
            }
            let rows = sql("SELECT id, migration_id, kind, status FROM replication_jobs \
                 WHERE active_migration IS NOT NULL")
            .fetch_all(&mut *c)
            .await
            .doing(DOING)?;
            for row in &rows {
                let row = Row::new(row, "replication_jobs", "id")?;
                census.active.push(Active {
                    id: row.parsed("id")?,
                    migration: row.parsed("migration_id")?,
                    kind: row.parsed("kind")?,
                    status: row.parsed("status")?,
                });
            }
            let row = sql("SELECT COUNT(*) AS amount, 'all' AS id FROM agents")
                .fetch_one(&mut *c)
                .await
                .doing(DOING)?;
            census.agents = Row::new(&row, "agents", "id")?.count("amount")?;
            Ok(census)
        })
        .await
    }
}
