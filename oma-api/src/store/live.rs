//! Live failovers: who owns a replica, in the transactions that move its migration.

use super::error::Doing as _;
use super::failover::failover;
use super::row::{Row, sql, time};
use super::{Attempt, Error, Failure, Job, JobStatus, Migration, NewJob, Store, Write};
use crate::failover::{Failover, Kind, Record};
use crate::workflow::{JobState, NewJob as NewWorkflow, WorkflowId};
use jiff::Timestamp;
use serde_json::json;
use shared::ids::{MigrationId, RestorePointId};

/// Tests that are looked at for one that passed.
const LOOKED_AT: u32 = 50;

impl Store {
    /// Moves a migration to switch/running, and makes the failover and its job: from this COMMIT on the failover owns the
    /// replica (DESIGN §6 rule 14). The unfinished cycle ends, and whoever has an epoch is refused.
    ///
    /// # Errors
    /// As [`migration_transition`](Store::migration_transition) and [`failover_create`](Store::failover_create);
    /// [`Error::Attempted`].
    pub async fn failover_switch(
        &self,
        changed: &Migration,
        record: &Record,
        new: &NewWorkflow,
        attempt: Option<&Attempt>,
        now: Timestamp,
    ) -> Result<Failover, Error> {
        self.write(|mut w| async move {
            w.failover_allowed(record).await?;
            w.replica_take(&changed.id, &record.job, now).await?;
            if let Some(attempt) = attempt {
                w.attempt_insert(attempt, &changed.id, now).await?;
            }
            w.migration_swap(changed, now).await?;
            let job = w.workflow_insert(new, now).await?;
            w.failover_insert(record).await?;
            let made = failover(&mut w.tx, &job.id).await?;
            w.commit().await?;
            Ok(made)
        })
        .await
    }

    /// Moves a migration to rollback/running, and makes the job that takes its live failover back. Its own job, where it
    /// waits for a decision, has this one in its place.
    ///
    /// # Errors
    /// As [`migration_transition`](Store::migration_transition); [`Error::WorkflowMoved`]: the failover goes on;
    /// [`Error::NotFound`], [`Error::Attempted`].
    pub async fn failover_roll_back(
        &self,
        changed: &Migration,
        of: &WorkflowId,
        new: &NewWorkflow,
        attempt: Option<&Attempt>,
        now: Timestamp,
    ) -> Result<Failover, Error> {
        self.write(|mut w| async move {
            if let Some(attempt) = attempt {
                w.attempt_insert(attempt, &changed.id, now).await?;
            }
            w.migration_swap(changed, now).await?;
            w.workflow_supersede(of, &new.id).await?;
            let job = w.workflow_insert(new, now).await?;
            sql("UPDATE failovers SET rollback_job_id = ? WHERE job_id = ? AND committed_at IS NULL")
                .bind(job.id.as_str())
                .bind(of.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("recording a rollback")?;
            let found = failover(&mut w.tx, of).await?;
            w.commit().await?;
            Ok(found)
        })
        .await
    }

    /// Moves a migration to finalize/running, and says of its live failover that there is no way back.
    ///
    /// # Errors
    /// As [`migration_transition`](Store::migration_transition); [`Error::NotFound`], [`Error::Attempted`].
    pub async fn failover_commit(
        &self,
        changed: &Migration,
        of: &WorkflowId,
        attempt: Option<&Attempt>,
        now: Timestamp,
    ) -> Result<Migration, Error> {
        self.write(|mut w| async move {
            if let Some(attempt) = attempt {
                w.attempt_insert(attempt, &changed.id, now).await?;
            }
            let stored = w.migration_swap(changed, now).await?;
            sql("UPDATE failovers SET committed_at = ? WHERE job_id = ? AND committed_at IS NULL")
                .bind(time(now))
                .bind(of.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("committing a failover")?;
            let body = json!({ "job_id": of.as_str() });
            w.event(now, Some(&stored.id), None, "failover_committed", body).await?;
            w.notice_commit(of, now).await?;
            w.commit().await?;
            Ok(stored)
        })
        .await
    }

    /// The cycle of a planned failover's final delta: the one that goes on or was committed, else a new one.
    ///
    /// # Errors
    /// As [`job_create`](Store::job_create).
    pub async fn failover_final_cycle(
        &self,
        of: &WorkflowId,
        new: &NewJob,
        now: Timestamp,
    ) -> Result<Job, Error> {
        self.write(|mut w| async move {
            if let Some(before) = failover(&mut w.tx, of).await?.final_job {
                let job = w.job(&before).await?;
                if !job.status.ended() || job.status == JobStatus::Completed {
                    return Ok(job);
                }
            }
            let job = w.job_insert(new, now).await?;
            sql("UPDATE failovers SET final_job_id = ? WHERE job_id = ?")
                .bind(job.id.as_str())
                .bind(of.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("recording a final cycle")?;
            w.commit().await?;
            Ok(job)
        })
        .await
    }

    /// From here on the failover needs this restore point, and no other.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn failover_point_set(&self, of: &WorkflowId, point: &RestorePointId) -> Result<(), Error> {
        self.write(|mut w| async move {
            sql("UPDATE failovers SET restore_point_id = ? WHERE job_id = ?")
                .bind(point.as_str())
                .bind(of.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("recording a failover's restore point")?;
            w.commit().await
        })
        .await
    }

    /// The newest live failover of a migration, whatever became of it.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn failover_live(&self, migration: &MigrationId) -> Result<Option<Failover>, Error> {
        const NEWEST: &str = "SELECT job_id FROM failovers WHERE migration_id = ? AND job_type = 'live' \
             ORDER BY number DESC LIMIT 1";
        let found = self.failovers_by(sql(NEWEST).bind(migration.as_str().to_owned())).await?;
        Ok(found.into_iter().next())
    }

    /// Live failovers that go on no more, and are neither committed nor rolled back.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn failover_list_undecided(&self) -> Result<Vec<Failover>, Error> {
        self.failovers_by(sql("SELECT f.job_id FROM failovers f JOIN workflow_jobs j ON j.id = f.job_id \
             WHERE f.job_type = 'live' AND f.committed_at IS NULL AND f.rollback_job_id IS NULL AND j.state IN ('succeeded', 'needs_attention') \
             ORDER BY f.number"))
        .await
    }

    /// Tests of a migration whose jobs succeeded, the newest first.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn failover_list_succeeded_tests(
        &self,
        migration: &MigrationId,
    ) -> Result<Vec<Failover>, Error> {
        const TESTS: &str = "SELECT f.job_id FROM failovers f JOIN workflow_jobs j ON j.id = f.job_id \
             WHERE f.migration_id = ? AND f.job_type = 'test' AND j.state = 'succeeded' ORDER BY f.number DESC LIMIT ?";
        self.failovers_by(sql(TESTS).bind(migration.as_str().to_owned()).bind(i64::from(LOOKED_AT))).await
    }

    async fn failovers_by(
        &self,
        query: sqlx::query::Query<'_, sqlx::Any, sqlx::any::AnyArguments>,
    ) -> Result<Vec<Failover>, Error> {
        let mut tx = self.read.begin().await.doing("listing failovers")?;
        let rows = query.fetch_all(&mut *tx).await.doing("listing failovers")?;
        let mut found = Vec::new();
        for row in rows {
            let id = Row::new(&row, "failovers", "job_id")?.parsed("job_id")?;
            found.push(failover(&mut tx, &id).await?);
        }
        tx.rollback().await.doing("listing failovers")?;
        Ok(found)
    }
}

impl Write {
    /// The cycles of a migration have its replica no more.
    async fn replica_take(
        &mut self,
        migration: &MigrationId,
        by: &WorkflowId,
        now: Timestamp,
    ) -> Result<(), Error> {
        if let Some(active) = self.job_active(migration).await? {
            let job = self.job(&active).await?;
            let why = Failure {
                reason: "SWITCHED".to_owned(),
                message: format!("the live failover {by} has the replica now"),
            };
            self.job_status_set(&job, JobStatus::Aborted, Some(&why), now).await?;
        }
        sql("UPDATE disks SET epoch = epoch + 1, epoch_job_id = NULL WHERE migration_id = ?")
            .bind(migration.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("taking a replica")?;
        Ok(())
    }

    /// Before an abort: a live failover that can still be given up is; what else is there is in the way.
    pub(super) async fn failovers_give_way(
        &mut self,
        migration: &MigrationId,
        by: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        for (job, kind) in self.failovers_there(migration).await? {
            match kind {
                Kind::Test => return Err(Error::FailoverThere { migration: migration.clone(), job }),
                Kind::Live => {
                    let ended = failover(&mut self.tx, &job).await?.job.state == JobState::RolledBack;
                    if !ended {
                        self.workflow_cancel(&job, by, now).await?;
                    }
                }
            }
        }
        Ok(())
    }
}
