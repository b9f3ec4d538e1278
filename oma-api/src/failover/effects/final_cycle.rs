//! What is done to the replica before a live failover's clones are made: its writers leave, and the last delta comes.

use super::{Hands, of_store, plan};
use crate::failover::Plan;
use crate::store::{self, Failure, Job as Cycle, JobKind, JobStatus, JobStep, NewJob};
use crate::strategy;
use crate::workflow::{Effect, Job, Kind, Problem, Turn};
use serde_json::{Value, json};
use shared::cycle::FindingKind;
use shared::ids::DiskId;
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

const CODE: &str = "FINAL_SYNC_FAILED";

/// Between looks, when nobody says that something has changed.
const PERIOD: Duration = Duration::from_secs(1);

/// Nobody writes the replica any more: what was open is closed, what was under way has ended (DESIGN §6 rule 14). The
/// transaction that made the job has refused whatever would come.
pub(crate) struct Drain(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for Drain {
    fn name(&self, _: &Job) -> Option<String> {
        None
    }

    /// Again, whatever has happened: what an older process had open died with it.
    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        let disks = self.0.disks(&plan).await?;
        self.0.transfers.close(&disks, "a live failover has the replica now").await;
        Ok(json!({}))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

impl Hands {
    async fn disks(&self, plan: &Plan) -> Result<Vec<DiskId>, Problem> {
        let disks = self.store.disk_list(&plan.migration).await.map_err(|e| of_store(&e))?;
        Ok(disks.into_iter().map(|d| d.id).collect())
    }

    /// Agent, watchers and reconcilers look again.
    async fn touched(&self, plan: &Plan) -> Result<(), Problem> {
        let migration = self.store.migration_fetch(&plan.migration).await.map_err(|e| of_store(&e))?;
        self.hub.agent_changed(&migration.agent);
        self.hub.migration_changed(&plan.migration);
        self.hub.wake();
        Ok(())
    }
}

/// The cycle of the source that was powered off, committed; it is what the clones are made of.
pub(crate) struct FinalCycle(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for FinalCycle {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().map(|plan| format!("final cycle of {}", plan.migration))
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        let found = self.0.store.failover_fetch(&turn.job.id).await.map_err(|e| of_store(&e))?;
        let Some(id) = found.final_job else { return Ok(None) };
        let cycle = self.0.store.job_fetch(&id).await.map_err(|e| of_store(&e))?;
        match cycle.status {
            JobStatus::Completed => self.point(turn.job, &cycle).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let cycle = self.begin(&plan, turn.job).await?;
        let mut changes = self.0.hub.watch(&plan.migration);
        loop {
            turn.check()?;
            let now = self.0.store.job_fetch(&cycle.id).await.map_err(|e| of_store(&e))?;
            match now.status {
                JobStatus::Completed => return self.point(turn.job, &now).await,
                JobStatus::Failed | JobStatus::Aborted => return Err(failed(&now)),
                JobStatus::Running | JobStatus::Paused | JobStatus::Committing => {}
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
                () = turn.stop().cancelled() => {
                    let why = "the final delta was cancelled";
                    return Err(Problem::new(Kind::Permanent, "CANCELLED", why));
                }
            }
        }
    }

    /// One that has not ended does; a committed one is a restore point as any other.
    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        let plan = plan(turn.job)?;
        let found = self.0.store.failover_fetch(&turn.job.id).await.map_err(|e| of_store(&e))?;
        let Some(id) = found.final_job else { return Ok(()) };
        turn.check()?;
        let cycle = self.0.store.job_fetch(&id).await.map_err(|e| of_store(&e))?;
        if !cycle.status.ended() {
            let why = Failure {
                reason: "SWITCH_UNDONE".to_owned(),
                message: format!("the live failover {} is taken back", turn.job.id),
            };
            let step = JobStep::Aborted(why);
            match self.0.store.job_transition(&id, &step, self.0.clock.now()).await {
                // It came to its end first.
                Ok(_) | Err(store::Error::JobStatus { .. }) => {}
                Err(error) => return Err(of_store(&error)),
            }
        }
        self.0.transfers.close(&self.0.disks(&plan).await?, "the live failover is taken back").await;
        self.0.hub.live_forget(&id);
        self.0.touched(&plan).await
    }
}

impl FinalCycle {
    async fn begin(&self, plan: &Plan, job: &Job) -> Result<Cycle, Problem> {
        let disks = self.0.store.disk_list(&plan.migration).await.map_err(|e| of_store(&e))?;
        let new = NewJob {
            migration: plan.migration.clone(),
            kind: JobKind::Incremental,
            disks: disks.iter().map(|d| (d.id.clone(), strategy::of(d))).collect(),
        };
        let made = self.0.store.failover_final_cycle(&job.id, &new, self.0.clock.now()).await;
        let cycle = made.map_err(|error| match error {
            store::Error::VolumePending { .. } | store::Error::NotReady { .. } => {
                Problem::new(Kind::Permanent, CODE, shared::error::chain(&error))
            }
            error => of_store(&error),
        })?;
        info!(migration_id = %plan.migration, job_id = %cycle.id, "final cycle begun");
        self.0.touched(plan).await?;
        Ok(cycle)
    }

    /// What it made; from here on no other restore point is the failover's.
    async fn point(&self, job: &Job, cycle: &Cycle) -> Result<Value, Problem> {
        let points = self.0.store.restore_point_list(&cycle.migration).await.map_err(|e| of_store(&e))?;
        let gone = || {
            let why = format!("the restore point of the final cycle {} is not there", cycle.id);
            Problem::new(Kind::Permanent, CODE, why)
        };
        let point = points.into_iter().find(|p| p.job == cycle.id).ok_or_else(gone)?;
        self.0.store.failover_point_set(&job.id, &point.id).await.map_err(|e| of_store(&e))?;
        Ok(json!({
            "job": cycle.id.as_str(), "restore_point": point.id.as_str(), "snapshot": point.snapshot_name,
            "taken_at": point.taken_at,
        }))
    }
}

/// A cycle whose snapshot was lost is begun anew; another failure would come again.
fn failed(cycle: &Cycle) -> Problem {
    let lost = FindingKind::SnapshotLost.as_str();
    let (kind, why) = match &cycle.error {
        Some(error) if error.reason == lost => {
            (Kind::Transient, format!("{}: {}", error.reason, error.message))
        }
        Some(error) => (Kind::Permanent, format!("{}: {}", error.reason, error.message)),
        None => (Kind::Permanent, "nobody said why".to_owned()),
    };
    Problem::new(kind, CODE, format!("the final cycle {} is {}: {why}", cycle.id, cycle.status))
}
