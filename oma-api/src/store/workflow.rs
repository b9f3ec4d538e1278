//! `workflow_jobs` and `workflow_steps`: reading them, and whose a job is.

use super::error::Doing as _;
use super::migration::failure;
use super::row::{Row, int, sql};
use super::{Error, Store, Write};
use crate::workflow::{Held, Job, JobState, NewStep, Step, WorkflowId};
use serde_json::Value;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

macro_rules! columns {
    () => {
        "id, kind, version, subject, params, correlation_id, state, wish, error_reason, error_message, generation, \
         lease_owner, lease_epoch, lease_beat, created_at, started_at, ended_at, superseded_by"
    };
}

impl Store {
    /// A job as it stands now, with its steps.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Database`].
    pub async fn workflow_fetch(&self, id: &WorkflowId) -> Result<Job, Error> {
        self.reading(|| async {
            // One moment: the steps belong to the job's generation.
            let mut tx = self.read.begin().await.doing("reading a workflow job")?;
            let job = workflow(&mut tx, id).await?;
            tx.rollback().await.doing("reading a workflow job")?;
            Ok(job)
        })
        .await
    }

    /// Those that a driver has something to do for, and whose they are; the oldest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn workflow_list_at_work(&self) -> Result<Vec<(WorkflowId, Held)>, Error> {
        self.reading(|| async {
            let rows = sql("SELECT id, lease_owner, lease_epoch, lease_beat FROM workflow_jobs \
                 WHERE state IN ('queued', 'running', 'unwinding') ORDER BY created_at, id")
            .fetch_all(&self.read)
            .await
            .doing("listing workflow jobs")?;
            rows.iter()
                .map(|row| {
                    let row = Row::new(row, "workflow_jobs", "id")?;
                    Ok((row.parsed("id")?, held(&row)?))
                })
                .collect()
        })
        .await
    }

    /// Gives a job to `owner`, if it is still as `seen`, and stores a beat of all its jobs; the job as it is then.
    ///
    /// # Errors
    /// [`Error::WorkflowMoved`]: another was quicker, or its owner lives. [`Error::NotFound`], [`Error::Database`].
    pub async fn workflow_take(&self, id: &WorkflowId, seen: &Held, owner: &str) -> Result<Job, Error> {
        self.write(|mut w| async move {
            w.beat(owner).await?;
            let found = workflow(&mut w.tx, id).await?;
            // A beat of our own is none of another owner.
            let ours = found.held.owner.as_deref() == Some(owner) && found.held.epoch == seen.epoch;
            if found.held != *seen && !ours {
                return Err(Error::WorkflowMoved { id: id.clone() });
            }
            sql("UPDATE workflow_jobs SET lease_owner = ?, lease_epoch = ?, lease_beat = lease_beat + 1 WHERE id = ?")
                .bind(owner)
                .bind(int("an epoch", found.held.epoch.saturating_add(1))?)
                .bind(id.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("taking a workflow job")?;
            let taken = workflow(&mut w.tx, id).await?;
            w.commit().await?;
            Ok(taken)
        })
        .await
    }

    /// Says that `owner` lives, for all its jobs.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn workflow_beat(&self, owner: &str) -> Result<(), Error> {
        self.write(|mut w| async move {
            w.beat(owner).await?;
            w.commit().await
        })
        .await
    }

    /// Gives up what `owner` has: it drives nothing any more.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn workflow_release(&self, owner: &str) -> Result<(), Error> {
        self.write(|mut w| async move {
            sql("UPDATE workflow_jobs SET lease_owner = NULL WHERE lease_owner = ?")
                .bind(owner)
                .execute(&mut *w.tx)
                .await
                .doing("giving workflow jobs up")?;
            w.commit().await
        })
        .await
    }
}

impl Write {
    async fn beat(&mut self, owner: &str) -> Result<(), Error> {
        sql(
            "UPDATE workflow_jobs SET lease_beat = lease_beat + 1 WHERE lease_owner = ? AND ended_at IS NULL",
        )
        .bind(owner)
        .execute(&mut *self.tx)
        .await
        .doing("saying that workflow jobs are driven")?;
        Ok(())
    }
}

pub(super) async fn workflow(c: &mut AnyConnection, id: &WorkflowId) -> Result<Job, Error> {
    let row = sql(concat!("SELECT ", columns!(), " FROM workflow_jobs WHERE id = ?"))
        .bind(id.as_str())
        .fetch_optional(&mut *c)
        .await
        .doing("reading a workflow job")?;
    let row = row.ok_or_else(|| Error::NotFound { what: "workflow job", id: id.to_string() })?;
    let steps = sql(
        "SELECT job_id, position, public_step, name, gate, no_return, required, state, attempts, undo_attempts, approved, \
         effect, output, error_reason, error_message, skipped, started_at, ended_at FROM workflow_steps WHERE job_id = ? \
         ORDER BY position",
    )
    .bind(id.as_str())
    .fetch_all(c)
    .await
    .doing("reading the steps of a workflow job")?;
    job(&row, steps.iter().map(step).collect::<Result<_, _>>()?)
}

fn job(row: &AnyRow, steps: Vec<Step>) -> Result<Job, Error> {
    let row = Row::new(row, "workflow_jobs", "id")?;
    let state: JobState = row.parsed("state")?;
    Ok(Job {
        id: row.parsed("id")?,
        kind: row.text("kind")?,
        version: row.count("version")?,
        subject: row.text("subject")?,
        params: row.parsed::<Value>("params")?,
        correlation: row.text("correlation_id")?,
        state,
        wish: row.opt_parsed("wish")?,
        error: failure(&row)?,
        superseded: row.opt_parsed("superseded_by")?,
        generation: row.count("generation")?,
        held: held(&row)?,
        created_at: row.time("created_at")?,
        started_at: row.opt_time("started_at")?,
        ended_at: row.opt_time("ended_at")?,
        steps,
    })
}

fn held(row: &Row<'_>) -> Result<Held, Error> {
    Ok(Held {
        owner: row.opt_text("lease_owner")?,
        epoch: row.count("lease_epoch")?,
        beat: row.count("lease_beat")?,
    })
}

fn step(row: &AnyRow) -> Result<Step, Error> {
    let row = Row::new(row, "workflow_steps", "job_id")?;
    Ok(Step {
        plan: NewStep {
            group: row.text("public_step")?,
            name: row.text("name")?,
            gate: row.flag("gate")?,
            no_return: row.flag("no_return")?,
            required: row.flag("required")?,
        },
        state: row.parsed("state")?,
        attempts: row.count("attempts")?,
        undo_attempts: row.count("undo_attempts")?,
        approved: row.flag("approved")?,
        effect: row.opt_text("effect")?,
        output: row.opt_parsed("output")?,
        error: failure(&row)?,
        skipped: row.opt_text("skipped")?,
        started_at: row.opt_time("started_at")?,
        ended_at: row.opt_time("ended_at")?,
    })
}
