//! The journal of changes, one sequence for the whole database.

use super::error::Doing as _;
use super::row::{Row, int, sql, time};
use super::{Error, Store, Write};
use jiff::Timestamp;
use serde_json::json;
use shared::cycle::Finding;
use shared::ids::{JobId, MigrationId};
use sqlx::any::AnyRow;

/// Something that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Grows by one with each event; never used twice.
    pub seq: u64,
    pub at: Timestamp,
    /// Whose it is; `None` for an agent's.
    pub migration: Option<MigrationId>,
    pub job: Option<JobId>,
    /// Lower snake case, as `migration_changed`.
    pub kind: String,
    pub body: serde_json::Value,
}

macro_rules! columns {
    () => {
        "seq, recorded_at, migration_id, job_id, kind, body"
    };
}

impl Store {
    /// The number of the newest event; 0 before the first.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn event_last(&self) -> Result<u64, Error> {
        self.reading(|| async {
            let row = sql("SELECT name, value FROM counters WHERE name = 'events'")
                .fetch_one(&self.read)
                .await
                .doing("reading the events' counter")?;
            Row::new(&row, "counters", "name")?.count("value")
        })
        .await
    }

    /// At most `limit` events after number `seq`, oldest first; of one migration, or of all.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn event_list(
        &self,
        after: u64,
        migration: Option<&MigrationId>,
        limit: u32,
    ) -> Result<Vec<Event>, Error> {
        let after = int("an event's number", after)?;
        self.reading(|| async {
            let query = match migration {
                Some(id) => sql(concat!(
                    "SELECT ",
                    columns!(),
                    " FROM events WHERE seq > ? AND migration_id = ? ORDER BY seq LIMIT ?"
                ))
                .bind(after)
                .bind(id.as_str()),
                None => {
                    sql(concat!("SELECT ", columns!(), " FROM events WHERE seq > ? ORDER BY seq LIMIT ?"))
                        .bind(after)
                }
            };
            let rows = query.bind(i64::from(limit)).fetch_all(&self.read).await.doing("listing events")?;
            rows.iter().map(event).collect()
        })
        .await
    }

    /// Puts what a source said among the events, where it stays when the cycle goes on.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Database`].
    pub async fn finding_record(&self, id: &JobId, finding: &Finding, now: Timestamp) -> Result<(), Error> {
        self.write(|mut w| async move {
            let job = w.job(id).await?;
            let disk = finding.disk.as_ref().map(|key| key.as_str());
            let body = json!({ "finding": finding.kind.as_str(), "disk": disk, "message": finding.message });
            w.event(now, Some(&job.migration), Some(id), "finding", body).await?;
            w.commit().await
        })
        .await
    }

    /// Forgets events older than `before`; the numbers are not used again.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn event_delete(&self, before: Timestamp) -> Result<u64, Error> {
        self.write(|mut w| async move {
            let done = sql("DELETE FROM events WHERE recorded_at < ?")
                .bind(time(before))
                .execute(&mut *w.tx)
                .await
                .doing("deleting events")?;
            w.commit().await?;
            Ok(done.rows_affected())
        })
        .await
    }
}

impl Write {
    /// Adds an event to the transaction. The counter's row orders writers, so that numbers become visible in order.
    pub(super) async fn event(
        &mut self,
        now: Timestamp,
        migration: Option<&MigrationId>,
        job: Option<&JobId>,
        kind: &'static str,
        body: serde_json::Value,
    ) -> Result<(), Error> {
        sql("UPDATE counters SET value = value + 1 WHERE name = 'events'")
            .execute(&mut *self.tx)
            .await
            .doing("counting an event")?;
        let row = sql("SELECT name, value FROM counters WHERE name = 'events'")
            .fetch_one(&mut *self.tx)
            .await
            .doing("counting an event")?;
        let seq = Row::new(&row, "counters", "name")?.count("value")?;
        sql("INSERT INTO events (seq, recorded_at, migration_id, job_id, kind, body) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(int("an event's number", seq)?)
            .bind(time(now))
            .bind(migration.map(MigrationId::as_str))
            .bind(job.map(JobId::as_str))
            .bind(kind)
            .bind(body.to_string())
            .execute(&mut *self.tx)
            .await
            .doing("adding an event")?;
        self.event = Some(seq);
        Ok(())
    }
}

fn event(row: &AnyRow) -> Result<Event, Error> {
    // `seq` is a number, so the kind has to name a damaged row.
    let row = Row::new(row, "events", "kind")?;
    Ok(Event {
        seq: row.count("seq")?,
        at: row.time("recorded_at")?,
        migration: row.opt_parsed("migration_id")?,
        job: row.opt_parsed("job_id")?,
        kind: row.text("kind")?,
        body: row.parsed("body")?,
    })
}
