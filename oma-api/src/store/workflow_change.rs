//! Writing `workflow_jobs` and `workflow_steps`: a job as it was read becomes a job as it is, or nothing does.

use super::error::Doing as _;
use super::row::{flag, int, opt_time, sql, time};
use super::workflow::workflow;
use super::{Error, Store, Write};
use crate::store::Failure;
use crate::workflow::policy::ask;
use crate::workflow::{Ask, Job, JobState, NewJob, NewStep, Step, Wish, WorkflowId};
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::ids::MigrationId;

impl Store {
    /// Makes a job, queued, with all its steps.
    ///
    /// # Errors
    /// [`Error::WorkflowExists`], [`Error::Database`].
    pub async fn workflow_create(&self, new: &NewJob, now: Timestamp) -> Result<Job, Error> {
        self.write(|mut w| async move {
            let job = w.workflow_insert(new, now).await?;
            w.commit().await?;
            Ok(job)
        })
        .await
    }

    /// Stores `after` in the place of `before`, if the row is still that one and of that owner, and gives it back as it is
    /// stored. What never changes (its steps' plans among it) is not looked at.
    ///
    /// # Errors
    /// [`Error::WorkflowMoved`]: read again, decide again. [`Error::Database`].
    pub async fn workflow_save(&self, before: &Job, after: &Job, now: Timestamp) -> Result<Job, Error> {
        self.write(|mut w| async move {
            let stored = w.workflow_replace(before, after, now).await?;
            w.commit().await?;
            Ok(stored)
        })
        .await
    }
}

impl Write {
    /// See [`Store::workflow_create`].
    pub(super) async fn workflow_insert(&mut self, new: &NewJob, now: Timestamp) -> Result<Job, Error> {
        let taken = sql("SELECT id FROM workflow_jobs WHERE id = ?").bind(new.id.as_str());
        if taken.fetch_optional(&mut *self.tx).await.doing("looking for a workflow job")?.is_some() {
            return Err(Error::WorkflowExists { id: new.id.clone() });
        }
        sql("INSERT INTO workflow_jobs (id, kind, version, subject, params, correlation_id, state, generation, \
             lease_epoch, lease_beat, created_at) VALUES (?, ?, ?, ?, ?, ?, 'queued', 1, 0, 0, ?)")
        .bind(new.id.as_str())
        .bind(new.kind.as_str())
        .bind(int("a version", new.version)?)
        .bind(new.subject.as_str())
        .bind(new.params.to_string())
        .bind(new.correlation.as_str())
        .bind(time(now))
        .execute(&mut *self.tx)
        .await
        .doing("making a workflow job")?;
        for (position, step) in (0u64..).zip(&new.steps) {
            self.workflow_step_insert(&new.id, position, step).await?;
        }
        let made = workflow(&mut self.tx, &new.id).await?;
        let body = json!({ "job_id": made.id.as_str(), "kind": made.kind, "state": made.state.as_str() });
        let subject: Option<MigrationId> = made.subject.parse().ok();
        self.event(now, subject.as_ref(), None, "workflow_created", body).await?;
        Ok(made)
    }

    /// See [`Store::workflow_save`].
    pub(super) async fn workflow_replace(
        &mut self,
        before: &Job,
        after: &Job,
        now: Timestamp,
    ) -> Result<Job, Error> {
        let done = sql("UPDATE workflow_jobs SET state = ?, wish = ?, error_reason = ?, error_message = ?, \
             generation = generation + 1, started_at = ?, ended_at = ? \
             WHERE id = ? AND generation = ? AND lease_epoch = ?")
        .bind(after.state.as_str())
        .bind(after.wish.map(Wish::as_str))
        .bind(reason(after.error.as_ref()))
        .bind(message(after.error.as_ref()))
        .bind(opt_time(after.started_at))
        .bind(opt_time(after.ended_at))
        .bind(after.id.as_str())
        .bind(int("a generation", before.generation)?)
        .bind(int("an epoch", before.held.epoch)?)
        .execute(&mut *self.tx)
        .await
        .doing("changing a workflow job")?;
        if done.rows_affected() == 0 {
            return Err(Error::WorkflowMoved { id: before.id.clone() });
        }
        for (position, (was, is)) in (0u64..).zip(before.steps.iter().zip(&after.steps)) {
            if was != is {
                self.workflow_step_set(&after.id, position, is).await?;
            }
        }
        self.workflow_event(before, after, now).await?;
        if before.state != after.state {
            self.notice_job(&after.id, now).await?;
        }
        workflow(&mut self.tx, &after.id).await
    }

    /// One that waits for a decision, or has ended, has `by` in its place from now on: whoever decides on what was read
    /// before, decides anew.
    ///
    /// # Errors
    /// [`Error::WorkflowMoved`]: it goes on. [`Error::Database`].
    pub(super) async fn workflow_supersede(&mut self, id: &WorkflowId, by: &WorkflowId) -> Result<(), Error> {
        let done = sql("UPDATE workflow_jobs SET superseded_by = ?, generation = generation + 1 \
             WHERE id = ? AND state IN ('needs_attention', 'succeeded', 'rolled_back')")
        .bind(by.as_str())
        .bind(id.as_str())
        .execute(&mut *self.tx)
        .await
        .doing("ending what can be asked of a workflow job")?;
        match done.rows_affected() {
            0 => Err(Error::WorkflowMoved { id: id.clone() }),
            _ => Ok(()),
        }
    }

    /// Asks for a job's end; its driver sees it before its next step.
    ///
    /// # Errors
    /// [`Error::Workflow`]: it cannot be had. [`Error::NotFound`], [`Error::Database`].
    pub(super) async fn workflow_cancel(
        &mut self,
        id: &WorkflowId,
        by: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let job = workflow(&mut self.tx, id).await?;
        if job.state == JobState::Unwinding || job.wish == Some(Wish::Cancel) {
            return Ok(());
        }
        let after = ask(&job, &Ask::Cancel, by)?;
        sql("UPDATE workflow_jobs SET state = ?, wish = ?, error_reason = ?, error_message = ?, \
             generation = generation + 1 WHERE id = ?")
        .bind(after.state.as_str())
        .bind(after.wish.map(Wish::as_str))
        .bind(reason(after.error.as_ref()))
        .bind(message(after.error.as_ref()))
        .bind(id.as_str())
        .execute(&mut *self.tx)
        .await
        .doing("cancelling a workflow job")?;
        self.workflow_ask_insert(&job, &Ask::Cancel, by, now).await
    }

    async fn workflow_step_insert(
        &mut self,
        job: &WorkflowId,
        position: u64,
        step: &NewStep,
    ) -> Result<(), Error> {
        sql("INSERT INTO workflow_steps (job_id, position, public_step, name, gate, no_return, required, state, attempts, \
             undo_attempts, approved) VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', 0, 0, 0)")
        .bind(job.as_str())
        .bind(int("a position", position)?)
        .bind(step.group.as_str())
        .bind(step.name.as_str())
        .bind(flag(step.gate))
        .bind(flag(step.no_return))
        .bind(flag(step.required))
        .execute(&mut *self.tx)
        .await
        .doing("making a workflow step")?;
        Ok(())
    }

    async fn workflow_step_set(&mut self, job: &WorkflowId, position: u64, step: &Step) -> Result<(), Error> {
        sql("UPDATE workflow_steps SET state = ?, attempts = ?, undo_attempts = ?, approved = ?, effect = ?, output = ?, \
             error_reason = ?, error_message = ?, skipped = ?, started_at = ?, ended_at = ? WHERE job_id = ? AND position = ?")
        .bind(step.state.as_str())
        .bind(int("a number of attempts", step.attempts)?)
        .bind(int("a number of attempts", step.undo_attempts)?)
        .bind(flag(step.approved))
        .bind(step.effect.as_deref())
        .bind(step.output.as_ref().map(Value::to_string))
        .bind(reason(step.error.as_ref()))
        .bind(message(step.error.as_ref()))
        .bind(step.skipped.as_deref())
        .bind(opt_time(step.started_at))
        .bind(opt_time(step.ended_at))
        .bind(job.as_str())
        .bind(int("a position", position)?)
        .execute(&mut *self.tx)
        .await
        .doing("changing a workflow step")?;
        Ok(())
    }

    /// What watchers see: the job's state, and the steps that changed.
    async fn workflow_event(&mut self, before: &Job, after: &Job, now: Timestamp) -> Result<(), Error> {
        let changed = before.steps.iter().zip(&after.steps).filter(|(was, is)| was != is);
        let steps: Vec<_> = changed
            .map(|(_, is)| json!({ "name": is.plan.name, "step": is.plan.group, "state": is.state.as_str() }))
            .collect();
        let body = json!({
            "job_id": after.id.as_str(),
            "kind": after.kind,
            "state": after.state.as_str(),
            "wish": after.wish.map(Wish::as_str),
            "error_reason": reason(after.error.as_ref()),
            "steps": steps,
        });
        let subject: Option<MigrationId> = after.subject.parse().ok();
        self.event(now, subject.as_ref(), None, "workflow_changed", body).await
    }
}

fn reason(failure: Option<&Failure>) -> Option<&str> {
    failure.map(|f| f.reason.as_str())
}

fn message(failure: Option<&Failure>) -> Option<&str> {
    failure.map(|f| f.message.as_str())
}
