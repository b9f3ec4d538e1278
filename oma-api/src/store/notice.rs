//! `failover_notices`: mails about failovers, written by the transactions that they tell of.

use super::error::Doing as _;
use super::failover::failover;
use super::row::{Row, int, sql, time};
use super::{Error, Store, Write};
use crate::failover::notice::{Notice, of_commit, of_job};
use crate::workflow::WorkflowId;
use jiff::Timestamp;
use tracing::warn;

/// One that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueNotice {
    pub id: String,
    pub job: WorkflowId,
    pub to: String,
    pub subject: String,
    pub body: String,
    /// That failed.
    pub attempts: u64,
    pub created_at: Timestamp,
}

/// What became of an attempt to send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    Sent,
    /// Again, then.
    Later {
        at: Timestamp,
        error: String,
    },
    GivenUp {
        error: String,
    },
}

impl Store {
    /// Those whose time has come, the oldest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn notice_list_due(&self, now: Timestamp, limit: u32) -> Result<Vec<DueNotice>, Error> {
        self.reading(|| async {
            let rows = sql(
                "SELECT id, job_id, recipient, subject, body, attempts, created_at FROM failover_notices \
                 WHERE state = 'due' AND next_at <= ? ORDER BY created_at, id LIMIT ?",
            )
            .bind(time(now))
            .bind(i64::from(limit))
            .fetch_all(&self.read)
            .await
            .doing("listing mails")?;
            rows.iter()
                .map(|row| {
                    let row = Row::new(row, "failover_notices", "id")?;
                    Ok(DueNotice {
                        id: row.text("id")?,
                        job: row.parsed("job_id")?,
                        to: row.text("recipient")?,
                        subject: row.text("subject")?,
                        body: row.text("body")?,
                        attempts: row.count("attempts")?,
                        created_at: row.time("created_at")?,
                    })
                })
                .collect()
        })
        .await
    }

    /// Records what became of it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn notice_tried(&self, of: &DueNotice, became: &Delivery, now: Timestamp) -> Result<(), Error> {
        let (state, at, error, ended) = match became {
            Delivery::Sent => ("sent", now, None, Some(now)),
            Delivery::Later { at, error } => ("due", *at, Some(error.as_str()), None),
            Delivery::GivenUp { error } => ("given_up", now, Some(error.as_str()), Some(now)),
        };
        self.write(|mut w| async move {
            sql("UPDATE failover_notices SET state = ?, next_at = ?, error = ?, attempts = ?, ended_at = ? WHERE id = ?")
                .bind(state)
                .bind(time(at))
                .bind(error)
                .bind(int("a number of attempts", of.attempts.saturating_add(1))?)
                .bind(ended.map(time))
                .bind(of.id.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("recording a mail")?;
            w.commit().await
        })
        .await
    }
}

impl Write {
    /// A job has come to another state: whoever asked to hear of its failover is told.
    pub(super) async fn notice_job(&mut self, job: &WorkflowId, now: Timestamp) -> Result<(), Error> {
        let of = sql("SELECT job_id FROM failovers WHERE notification_config IS NOT NULL \
             AND (job_id = ? OR cleanup_job_id = ? OR rollback_job_id = ?)")
        .bind(job.as_str())
        .bind(job.as_str())
        .bind(job.as_str())
        .fetch_optional(&mut *self.tx)
        .await
        .doing("looking for who is told of a failover")?;
        match of {
            None => Ok(()),
            Some(row) => {
                let of = Row::new(&row, "failovers", "job_id")?.parsed("job_id")?;
                self.notice_insert(&of, now, |failover| of_job(failover, job)).await
            }
        }
    }

    /// A live failover was committed.
    pub(super) async fn notice_commit(&mut self, of: &WorkflowId, now: Timestamp) -> Result<(), Error> {
        self.notice_insert(of, now, of_commit).await
    }

    async fn notice_insert(
        &mut self,
        of: &WorkflowId,
        now: Timestamp,
        notice: impl Fn(&crate::failover::Failover) -> Option<Notice>,
    ) -> Result<(), Error> {
        let told = match failover(&mut self.tx, of).await {
            Ok(found) => notice(&found),
            // No job stands still because nobody can be told of it.
            Err(error @ Error::Corrupt { .. }) => {
                warn!(workflow = %of, error = %shared::error::chain(&error), "nobody is told of a failover");
                None
            }
            Err(error) => return Err(error),
        };
        let Some(told) = told else { return Ok(()) };
        sql("INSERT INTO failover_notices (id, job_id, event, recipient, subject, body, state, attempts, next_at, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, 'due', 0, ?, ?)")
        .bind(uuid::Uuid::now_v7().to_string())
        .bind(of.as_str())
        .bind(told.event.as_str())
        .bind(told.to.as_str())
        .bind(told.subject.as_str())
        .bind(told.body.as_str())
        .bind(time(now))
        .bind(time(now))
        .execute(&mut *self.tx)
        .await
        .doing("writing a mail")?;
        Ok(())
    }
}
