//! What a failover made, removed: the machine first, then what it ran on. Nothing there is success, and there is no way
//! back: what is removed is not made again.

use super::volumes::remove;
use super::{Hands, clones, disk, machine_name, of_compute, of_storage, plan};
use crate::compute::{State, Stop as How};
use crate::failover::evidence::Evidence;
use crate::failover::live::Live;
use crate::failover::{Plan, names};
use crate::storage::SnapshotName;
use crate::workflow::{Effect, Job, Kind, Problem, StepState, Turn};
use serde_json::{Value, json};
use std::sync::Arc;

const CODE: &str = "CLEANUP_FAILED";

/// Nothing yet: the clean-up has begun.
pub(crate) struct Begin;

#[async_trait::async_trait]
impl Effect for Begin {
    fn name(&self, _: &Job) -> Option<String> {
        None
    }

    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, _: Turn<'_>) -> Result<Value, Problem> {
        Ok(json!({}))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// The machine is off. One that took a VM's place may switch itself off in the time that its guest had at the source, and in
/// five minutes at most.
pub(crate) struct Stop(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for Stop {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().map(|plan| plan.name)
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        match self.0.machine(&plan, CODE).await? {
            None => Ok(Some(json!({}))),
            // Its console's log stays until it is removed.
            Some(m) if m.state == State::Stopped => {
                Ok(Some(json!(Evidence::of(self.0.compute()?, &m.name).await)))
            }
            Some(_) => Ok(None),
        }
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let (plan, compute) = (plan(turn.job)?, self.0.compute()?);
        let name = machine_name(&plan);
        // For the report: it goes with the machine.
        let evidence = Evidence::of(compute, &name).await;
        let how = plan
            .live
            .as_ref()
            .and_then(Live::stop_patience)
            .map_or(How::Now, |patience| How::Graceful { patience });
        turn.check()?;
        compute.stop(&name, how).await.map_err(of_compute(CODE))?;
        Ok(json!(evidence))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// The machine is gone.
pub(crate) struct Remove(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for Remove {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().map(|plan| plan.name)
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        Ok(self.0.machine(&plan, CODE).await?.is_none().then(|| json!({})))
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        self.0.compute()?.remove(&machine_name(&plan)).await.map_err(of_compute(CODE))?;
        Ok(json!({}))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// Which snapshot of the clones.
#[derive(Clone, Copy)]
pub(crate) enum Of {
    /// As they were before anything changed them.
    Start,
    /// As a machine that was rolled back left them.
    End,
}

impl Of {
    fn snapshot(self, plan: &Plan) -> SnapshotName {
        match self {
            Self::Start => names::snapshot(&plan.name),
            Self::End => names::snapshot(&names::kept(&plan.name)),
        }
    }
}

/// A snapshot of the clones is gone.
pub(crate) struct DropSnapshot(pub(crate) Arc<Hands>, pub(crate) Of);

#[async_trait::async_trait]
impl Effect for DropSnapshot {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().map(|plan| self.1.snapshot(&plan).to_string())
    }

    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        self.0.storage.delete_snapshot(&self.1.snapshot(&plan)).await.map_err(of_storage(CODE))?;
        Ok(json!({}))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// The clone of the n-th disk is gone.
pub(crate) struct DropClone(pub(crate) Arc<Hands>, pub(crate) usize);

#[async_trait::async_trait]
impl Effect for DropClone {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().and_then(|plan| Some(plan.disks.get(self.1)?.clone.clone()))
    }

    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let (_, clone) = disk(&plan, self.1)?;
        turn.check()?;
        remove(&*self.0.storage, &clone, CODE).await?;
        Ok(json!({}))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// By the backends' own inventories, nothing of the failover is there.
pub(crate) struct NothingThere(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for NothingThere {
    fn name(&self, _: &Job) -> Option<String> {
        None
    }

    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        let mut there = Vec::new();
        if self.0.machine(&plan, CODE).await?.is_some() {
            there.push(format!("machine {}", plan.name));
        }
        let snapshots = self.0.storage.snapshots().await.map_err(of_storage(CODE))?;
        for name in [Of::Start, Of::End].map(|of| of.snapshot(&plan)) {
            if snapshots.iter().any(|s| s.name == name) {
                there.push(format!("snapshot {name}"));
            }
        }
        for clone in clones(&plan)? {
            if self.0.storage.volume(&clone).await.map_err(of_storage(CODE))?.is_some() {
                there.push(format!("volume {clone}"));
            }
            if let Some(hand_over) = self.0.compute()?.hand_over().filter(|_| plan.hand_over.is_some())
                && hand_over.is_adopted(&clone).await.map_err(of_compute(CODE))?
            {
                there.push(format!("record {clone}"));
            }
        }
        // Somebody skipped its removal: from here on it is an orphan, and shown as one.
        let skipped = turn.job.steps.iter().filter(|step| step.state == StepState::Skipped);
        let skipped: Vec<_> = skipped.filter_map(|step| step.effect.as_deref()).collect();
        let is_left = |what: &String| what.split_once(' ').is_some_and(|(_, name)| skipped.contains(&name));
        let (left, still): (Vec<_>, Vec<_>) = there.into_iter().partition(is_left);
        match (still.is_empty(), left.is_empty()) {
            (true, true) => Ok(json!({})),
            (true, false) => {
                let left = left.join(", ");
                Ok(
                    json!({ "warning": format!("{left}: left there, as its removal was skipped; see `migratekit orphans list`") }),
                )
            }
            (false, _) => {
                let why = format!("still there after the clean-up: {}", still.join(", "));
                Err(Problem::new(Kind::Permanent, CODE, why))
            }
        }
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}
