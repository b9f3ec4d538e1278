//! `system_pauses`: cycles that the system paused, and will let go on.

use super::error::Doing as _;
use super::row::{Row, among, flag, opt_time, sql, time};
use super::{Error, Failure, Migration, Store, Wanted};
use jiff::Timestamp;
use serde_json::json;
use shared::ids::{JobId, MigrationId};
use sqlx::any::AnyRow;
use std::collections::HashMap;

/// A row of `system_pauses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemPause {
    pub migration: MigrationId,
    /// The cycle; when it is another one, or was resumed by hand, this is of the past.
    pub job: JobId,
    pub why: Failure,
    pub paused_at: Timestamp,
    /// When it is over; `None`: when its cause is.
    pub until: Option<Timestamp>,
}

const LIST: &str = "SELECT migration_id, job_id, reason, message, paused_at, until_at FROM system_pauses \
     ORDER BY migration_id";

/// Those of these migrations.
pub(super) async fn of_migrations(
    c: &mut sqlx::AnyConnection,
    migrations: &[MigrationId],
) -> Result<HashMap<MigrationId, SystemPause>, Error> {
    let select = "SELECT migration_id, job_id, reason, message, paused_at, until_at FROM system_pauses WHERE migration_id IN";
    let rows = among(select, migrations.iter().map(MigrationId::as_str), "");
    let rows = rows.fetch_all(c).await.doing("reading paused cycles")?;
    rows.iter().map(|row| pause(row).map(|of| (of.migration.clone(), of))).collect()
}

impl Store {
    /// All of them.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn system_pause_list(&self) -> Result<Vec<SystemPause>, Error> {
        self.reading(|| async {
            let rows = sql(LIST).fetch_all(&self.read).await.doing("listing paused cycles")?;
            rows.iter().map(pause).collect()
        })
        .await
    }

    /// Tells the running cycle to stop at a durable point, and remembers that it is to go on: as one, so that neither
    /// is found without the other after a crash.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the migration moved meanwhile; [`Error::JobClosed`] when the cycle ended;
    /// [`Error::NotFound`], [`Error::Database`].
    pub async fn cycle_hold_back(
        &self,
        changed: &Migration,
        pause: &SystemPause,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.write(|mut w| async move {
            w.job_wanted(&pause.job, Wanted::Pause, now).await?;
            w.migration_swap(changed, now).await?;
            sql("DELETE FROM system_pauses WHERE migration_id = ?")
                .bind(pause.migration.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("remembering a pause")?;
            sql("INSERT INTO system_pauses (migration_id, job_id, reason, message, paused_at, until_at) \
                 VALUES (?, ?, ?, ?, ?, ?)")
            .bind(pause.migration.as_str())
            .bind(pause.job.as_str())
            .bind(pause.why.reason.as_str())
            .bind(pause.why.message.as_str())
            .bind(time(pause.paused_at))
            .bind(opt_time(pause.until))
            .execute(&mut *w.tx)
            .await
            .doing("remembering a pause")?;
            let body = json!({ "reason": pause.why.reason, "message": pause.why.message });
            w.event(now, Some(&pause.migration), Some(&pause.job), "cycle_held_back", body).await?;
            w.commit().await
        })
        .await
    }

    /// The pause is over: forgets it, and lets its cycle go on if `changed` says where to.
    ///
    /// # Errors
    /// As [`cycle_hold_back`](Self::cycle_hold_back).
    pub async fn cycle_let_go(
        &self,
        pause: &SystemPause,
        changed: Option<&Migration>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.write(|mut w| async move {
            if let Some(changed) = changed {
                w.job_wanted(&pause.job, Wanted::Run, now).await?;
                w.migration_swap(changed, now).await?;
            }
            let done = sql("DELETE FROM system_pauses WHERE migration_id = ?")
                .bind(pause.migration.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("ending a pause")?;
            if done.rows_affected() > 0 && changed.is_some() {
                w.event(now, Some(&pause.migration), Some(&pause.job), "cycle_let_go", json!({})).await?;
            }
            w.commit().await
        })
        .await
    }

    /// Says that a guard of the whole system is raised, with its reason, or lowered: once, with its event. Whether it was
    /// said now.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn guard_say(
        &self,
        guard: &'static str,
        raised: Option<&Failure>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        // Looked at each second: nothing is written unless it changes.
        if self.guard_is_raised(guard).await? == raised.is_some() {
            return Ok(false);
        }
        self.write(|mut w| async move {
            let done = sql("UPDATE guards SET raised = ? WHERE name = ? AND raised <> ?")
                .bind(flag(raised.is_some()))
                .bind(guard)
                .bind(flag(raised.is_some()))
                .execute(&mut *w.tx)
                .await
                .doing("saying how a guard stands")?;
            if done.rows_affected() > 0 {
                let body = json!({
                    "guard": guard,
                    "reason": raised.map(|why| why.reason.as_str()),
                    "message": raised.map(|why| why.message.as_str()),
                });
                let kind = if raised.is_some() { "guard_raised" } else { "guard_lowered" };
                w.event(now, None, None, kind, body).await?;
            }
            w.commit().await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn guard_is_raised(&self, guard: &'static str) -> Result<bool, Error> {
        self.reading(|| async {
            let row = sql("SELECT name, raised FROM guards WHERE name = ?")
                .bind(guard)
                .fetch_one(&self.read)
                .await
                .doing("reading a guard")?;
            Row::new(&row, "guards", "name")?.flag("raised")
        })
        .await
    }
}

fn pause(row: &AnyRow) -> Result<SystemPause, Error> {
    let row = Row::new(row, "system_pauses", "migration_id")?;
    Ok(SystemPause {
        migration: row.parsed("migration_id")?,
        job: row.parsed("job_id")?,
        why: Failure { reason: row.text("reason")?, message: row.text("message")? },
        paused_at: row.time("paused_at")?,
        until: row.opt_time("until_at")?,
    })
}
