//! What operators want of a migration: columns of `migrations` beside its position.

use super::error::Doing as _;
use super::row::{Row, opt_int, opt_time, sql, stored};
use super::{Error, Write};
use jiff::Timestamp;
use shared::ids::MigrationId;
use shared::migration::Action;
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// As given to `begin`; kept and shown.
    pub affinity: Vec<String>,
    /// Cycles follow each other until a switch is short enough.
    pub automatic: Option<Automatic>,
    /// The switch is to be made then.
    pub scheduled_at: Option<Timestamp>,
    /// Why blocking findings were overridden.
    pub forced: Option<String>,
    /// What was asked for last.
    pub last: Option<LastAction>,
}

/// The bounds of `automatic`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automatic {
    /// Its cycles began to count.
    pub since: Timestamp,
    pub max_downtime: Duration,
    pub max_cycles: u32,
}

/// Who asked for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAction {
    pub action: Action,
    pub by: String,
    pub at: Timestamp,
}

impl Write {
    pub(super) async fn wishes_set(&mut self, id: &MigrationId, wishes: &Wishes) -> Result<(), Error> {
        let automatic = wishes.automatic.as_ref();
        let last = wishes.last.as_ref();
        let downtime =
            automatic.map(|a| u64::try_from(a.max_downtime.as_millis()).unwrap_or(i64::MAX.unsigned_abs()));
        sql("UPDATE migrations SET affinity = ?, automatic = ?, automatic_since = ?, max_downtime_ms = ?, max_cycles = ?, \
             scheduled_at = ?, forced_reason = ?, last_action = ?, last_action_by = ?, last_action_at = ? WHERE id = ?")
            .bind((!wishes.affinity.is_empty()).then(|| {
                serde_json::to_string(&wishes.affinity).expect("a list of strings has a JSON form")
            }))
            .bind(i64::from(automatic.is_some()))
            .bind(opt_time(automatic.map(|a| a.since)))
            .bind(opt_int("a downtime", downtime)?)
            .bind(automatic.map(|a| i64::from(a.max_cycles)))
            .bind(opt_time(wishes.scheduled_at))
            .bind(wishes.forced.as_deref())
            .bind(last.map(|l| l.action.as_str()))
            .bind(last.map(|l| l.by.as_str()))
            .bind(opt_time(last.map(|l| l.at)))
            .bind(id.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("changing a migration")?;
        Ok(())
    }
}

pub(super) fn wishes(row: &Row<'_>) -> Result<Wishes, Error> {
    let affinity = row.opt_text("affinity")?.map(|text| serde_json::from_str(&text));
    let automatic = match (row.flag("automatic")?, row.opt_time("automatic_since")?) {
        (false, _) => None,
        (true, Some(since)) => Some(Automatic {
            since,
            max_downtime: Duration::from_millis(row.opt_count("max_downtime_ms")?.unwrap_or(0)),
            max_cycles: u32::try_from(row.opt_count("max_cycles")?.unwrap_or(0)).unwrap_or(u32::MAX),
        }),
        (true, None) => return Err(row.corrupt("automatic_since", "automatic needs it")),
    };
    let last = match (
        row.opt_parsed("last_action")?,
        row.opt_text("last_action_by")?,
        row.opt_time("last_action_at")?,
    ) {
        (Some(action), Some(by), Some(at)) => Some(LastAction { action, by, at }),
        _ => None,
    };
    Ok(Wishes {
        affinity: affinity.transpose().map_err(|e| row.corrupt("affinity", e))?.unwrap_or_default(),
        automatic,
        scheduled_at: row.opt_time("scheduled_at")?,
        forced: row.opt_text("forced_reason")?,
        last,
    })
}

impl LastAction {
    /// As it will come back from the database.
    pub fn new(action: Action, by: &str, at: Timestamp) -> Self {
        Self { action, by: by.to_owned(), at: stored(at) }
    }
}
