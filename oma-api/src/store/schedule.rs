//! `schedules`: what the operator wrote, how far it is dealt with, and whether a breach has been said.

use super::error::Doing as _;
use super::row::{Row, among, flag, sql, stored, time};
use super::{Error, Migration, Store};
use crate::schedule::Spec;
use jiff::Timestamp;
use serde_json::json;
use shared::ids::MigrationId;
use sqlx::any::AnyRow;
use std::collections::HashMap;

/// A row of `schedules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    pub migration: MigrationId,
    pub spec: Spec,
    pub set_at: Timestamp,
    /// The schedule's times up to here are dealt with.
    pub anchor: Timestamp,
    /// The breach has been said.
    pub rpo_breached: bool,
}

/// A schedule with its migration, which goes on.
#[derive(Clone, Debug)]
pub struct Scheduled {
    pub row: ScheduleRow,
    pub migration: Migration,
    /// Of the source's snapshot of its newest restore point.
    pub taken_at: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "migration_id, spec, set_at, anchor_at, rpo_breached"
    };
}

impl Store {
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn schedule_fetch(&self, migration: &MigrationId) -> Result<Option<ScheduleRow>, Error> {
        self.reading(|| async {
            let row = sql(concat!("SELECT ", columns!(), " FROM schedules WHERE migration_id = ?"))
                .bind(migration.as_str())
                .fetch_optional(&self.read)
                .await
                .doing("reading a schedule")?;
            row.as_ref().map(schedule).transpose()
        })
        .await
    }

    /// Those of migrations that go on.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn schedule_list(&self) -> Result<Vec<Scheduled>, Error> {
        let rows: Vec<ScheduleRow> = self
            .reading(|| async {
                let rows = sql(concat!("SELECT ", columns!(), " FROM schedules ORDER BY migration_id"))
                    .fetch_all(&self.read)
                    .await
                    .doing("listing schedules")?;
                rows.iter().map(schedule).collect()
            })
            .await?;
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let mut taken: HashMap<MigrationId, Timestamp> = self.restore_point_newest().await?;
        let migrations = self.migration_list_scheduled().await?;
        let mut migrations: HashMap<_, _> = migrations.into_iter().map(|m| (m.id.clone(), m)).collect();
        let with_migration = |row: ScheduleRow| {
            let migration = migrations.remove(&row.migration)?;
            Some(Scheduled { taken_at: taken.remove(&row.migration), row, migration })
        };
        Ok(rows.into_iter().filter_map(with_migration).collect())
    }

    /// Puts a schedule in the place of the one that there is, if any. A breach that was said stays said.
    ///
    /// # Errors
    /// [`Error::NotFound`] (no such migration), [`Error::Database`].
    pub async fn schedule_set(
        &self,
        migration: &MigrationId,
        spec: &Spec,
        now: Timestamp,
    ) -> Result<ScheduleRow, Error> {
        self.write(|mut w| async move {
            w.migration(migration).await?;
            let text = serde_json::to_string(spec).expect("strings and numbers have a JSON form");
            let known = sql("UPDATE schedules SET spec = ?, set_at = ?, anchor_at = ? WHERE migration_id = ?")
                .bind(text.as_str())
                .bind(time(now))
                .bind(time(now))
                .bind(migration.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("changing a schedule")?;
            if known.rows_affected() == 0 {
                sql("INSERT INTO schedules (migration_id, spec, set_at, anchor_at, rpo_breached) VALUES (?, ?, ?, ?, 0)")
                    .bind(migration.as_str())
                    .bind(text.as_str())
                    .bind(time(now))
                    .bind(time(now))
                    .execute(&mut *w.tx)
                    .await
                    .doing("making a schedule")?;
            }
            let body = json!({ "schedule": spec, "text": spec.text() });
            w.event(now, Some(migration), None, "schedule_set", body).await?;
            let row = sql(concat!("SELECT ", columns!(), " FROM schedules WHERE migration_id = ?"))
                .bind(migration.as_str())
                .fetch_one(&mut *w.tx)
                .await
                .doing("reading a schedule")?;
            let stored = schedule(&row)?;
            w.commit().await?;
            Ok(stored)
        })
        .await
    }

    /// Removes a schedule; none is success.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn schedule_delete(&self, migration: &MigrationId, now: Timestamp) -> Result<(), Error> {
        self.write(|mut w| async move {
            let done = sql("DELETE FROM schedules WHERE migration_id = ?")
                .bind(migration.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("deleting a schedule")?;
            if done.rows_affected() > 0 {
                w.event(now, Some(migration), None, "schedule_deleted", json!({})).await?;
            }
            w.commit().await
        })
        .await
    }

    /// The schedule's times up to `anchor` are dealt with, if nobody did or changed it meanwhile; whether so.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn schedule_dealt_with(&self, row: &ScheduleRow, anchor: Timestamp) -> Result<bool, Error> {
        self.write(|mut w| async move {
            let done = sql(
                "UPDATE schedules SET anchor_at = ? WHERE migration_id = ? AND anchor_at = ? AND set_at = ?",
            )
            .bind(time(stored(anchor)))
            .bind(row.migration.as_str())
            .bind(time(row.anchor))
            .bind(time(row.set_at))
            .execute(&mut *w.tx)
            .await
            .doing("keeping a schedule's place")?;
            w.commit().await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    /// Says that the recovery point objective is breached, or kept again: once, with its event. Whether it was said now.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn rpo_say(
        &self,
        migration: &MigrationId,
        rpo: crate::schedule::rpo::Rpo,
        now: Timestamp,
    ) -> Result<bool, Error> {
        self.write(|mut w| async move {
            let done =
                sql("UPDATE schedules SET rpo_breached = ? WHERE migration_id = ? AND rpo_breached <> ?")
                    .bind(flag(rpo.breached))
                    .bind(migration.as_str())
                    .bind(flag(rpo.breached))
                    .execute(&mut *w.tx)
                    .await
                    .doing("saying how the recovery point objective stands")?;
            let changed = done.rows_affected() > 0;
            if changed {
                let seconds = |d: Option<std::time::Duration>| d.map(|d| d.as_secs());
                let body =
                    json!({ "rpo_seconds": seconds(rpo.age), "rpo_target_seconds": seconds(rpo.target) });
                let kind = if rpo.breached { "rpo_breached" } else { "rpo_recovered" };
                w.event(now, Some(migration), None, kind, body).await?;
            }
            w.commit().await?;
            Ok(changed)
        })
        .await
    }

    /// The time of the newest restore point of every migration that has one, and a schedule.
    async fn restore_point_newest(&self) -> Result<HashMap<MigrationId, Timestamp>, Error> {
        self.reading(|| async {
            // By the jobs' ids: the last one of each.
            let rows = sql(
                "SELECT p.migration_id, p.taken_at FROM schedules s JOIN restore_points p ON p.job_id = \
                 (SELECT MAX(r.job_id) FROM restore_points r WHERE r.migration_id = s.migration_id)",
            )
            .fetch_all(&self.read)
            .await
            .doing("reading the newest restore points")?;
            let mut newest = HashMap::new();
            for row in &rows {
                let row = Row::new(row, "restore_points", "migration_id")?;
                newest.insert(row.parsed("migration_id")?, row.time("taken_at")?);
            }
            Ok(newest)
        })
        .await
    }
}

/// Those that these migrations have.
pub(super) async fn of_migrations(
    c: &mut sqlx::AnyConnection,
    migrations: &[MigrationId],
) -> Result<HashMap<MigrationId, ScheduleRow>, Error> {
    let select = concat!("SELECT ", columns!(), " FROM schedules WHERE migration_id IN");
    let rows = among(select, migrations.iter().map(MigrationId::as_str), "");
    let rows = rows.fetch_all(c).await.doing("reading schedules")?;
    rows.iter().map(|row| schedule(row).map(|of| (of.migration.clone(), of))).collect()
}

fn schedule(row: &AnyRow) -> Result<ScheduleRow, Error> {
    let row = Row::new(row, "schedules", "migration_id")?;
    Ok(ScheduleRow {
        migration: row.parsed("migration_id")?,
        spec: serde_json::from_str(&row.text("spec")?).map_err(|e| row.corrupt("spec", e))?,
        set_at: row.time("set_at")?,
        anchor: row.time("anchor_at")?,
        rpo_breached: row.flag("rpo_breached")?,
    })
}
