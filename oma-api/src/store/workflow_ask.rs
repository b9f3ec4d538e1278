//! `workflow_asks`: what people asked of a job, written by the transaction that changed the job for it.

use super::error::Doing as _;
use super::row::{Row, sql, time};
use super::{Error, Store, Write};
use crate::workflow::{Ask, Job, WorkflowId};
use jiff::Timestamp;
use shared::correlation;

/// Something that was asked, and taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// As [`Ask::as_str`] says it.
    pub what: String,
    /// Of a skip.
    pub why: Option<String>,
    pub by: String,
    /// Of the request that it came with; of the job where it came with none.
    pub correlation: String,
    pub at: Timestamp,
}

impl Store {
    /// Stores `after` in the place of `before`, and that it was asked for: both, or neither.
    ///
    /// # Errors
    /// [`Error::WorkflowMoved`]: read again, decide again. [`Error::Database`].
    pub async fn workflow_ask(
        &self,
        before: &Job,
        after: &Job,
        asked: &Ask,
        by: &str,
        now: Timestamp,
    ) -> Result<Job, Error> {
        self.write(|mut w| async move {
            let stored = w.workflow_replace(before, after, now).await?;
            w.workflow_ask_insert(&stored, asked, by, now).await?;
            w.commit().await?;
            Ok(stored)
        })
        .await
    }

    /// All that was asked of a job, in that order.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn workflow_ask_list(&self, of: &WorkflowId) -> Result<Vec<Asked>, Error> {
        self.reading(|| async {
            let rows =
                sql("SELECT job_id, asked, reason, asked_by, correlation_id, asked_at FROM workflow_asks \
                 WHERE job_id = ? ORDER BY number")
                .bind(of.as_str())
                .fetch_all(&self.read)
                .await
                .doing("reading what was asked of a workflow job")?;
            rows.iter()
                .map(|row| {
                    let row = Row::new(row, "workflow_asks", "job_id")?;
                    Ok(Asked {
                        what: row.text("asked")?,
                        why: row.opt_text("reason")?,
                        by: row.text("asked_by")?,
                        correlation: row.text("correlation_id")?,
                        at: row.time("asked_at")?,
                    })
                })
                .collect()
        })
        .await
    }
}

impl Write {
    /// That it was asked of this job, which has been changed for it.
    pub(super) async fn workflow_ask_insert(
        &mut self,
        job: &Job,
        asked: &Ask,
        by: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let correlation = correlation::current().map_or_else(|| job.correlation.clone(), |id| id.to_string());
        let why = match asked {
            Ask::Skip { why } => Some(why.as_str()),
            Ask::Pause | Ask::Resume | Ask::Cancel | Ask::Approve | Ask::Retry | Ask::RollForward => None,
        };
        sql("INSERT INTO workflow_asks (number, job_id, asked, reason, asked_by, correlation_id, asked_at) \
             SELECT COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ?, ? FROM workflow_asks WHERE job_id = ?")
        .bind(job.id.as_str())
        .bind(asked.as_str())
        .bind(why)
        .bind(by)
        .bind(correlation)
        .bind(time(now))
        .bind(job.id.as_str())
        .execute(&mut *self.tx)
        .await
        .doing("recording what was asked of a workflow job")?;
        Ok(())
    }
}
