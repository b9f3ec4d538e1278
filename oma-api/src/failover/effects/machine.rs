//! The machine: defined, given its disks, started.

use super::{Hands, disk, machine_name, of_compute, plan};
use crate::compute::{Machine, State, Stop};
use crate::failover::Plan;
use crate::workflow::{Effect, Job, Problem, Turn};
use serde_json::{Value, json};
use std::sync::Arc;

const CREATE: &str = "VM_CREATE_FAILED";
const ATTACH: &str = "VOLUME_ATTACH_FAILED";
const START: &str = "VM_START_FAILED";

impl Hands {
    pub(super) async fn machine(&self, plan: &Plan, code: &'static str) -> Result<Option<Machine>, Problem> {
        self.compute()?.find(&machine_name(plan)).await.map_err(of_compute(code))
    }
}

fn name(job: &Job) -> Option<String> {
    plan(job).ok().map(|plan| plan.name)
}

/// Defined, stopped, without disks.
pub(crate) struct Define(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for Define {
    fn name(&self, job: &Job) -> Option<String> {
        name(job)
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        let found = self.0.machine(&plan, CREATE).await?;
        Ok(found.filter(|m| m.definition == plan.machine).map(|_| json!({ "machine": plan.machine.uuid })))
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        let compute = self.0.compute()?;
        compute.define(&machine_name(&plan), &plan.machine).await.map_err(of_compute(CREATE))?;
        Ok(json!({ "machine": plan.machine.uuid }))
    }

    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        let plan = plan(turn.job)?;
        let (compute, name) = (self.0.compute()?, machine_name(&plan));
        turn.check()?;
        compute.stop(&name, Stop::Now).await.map_err(of_compute(CREATE))?;
        turn.check()?;
        compute.remove(&name).await.map_err(of_compute(CREATE))
    }
}

/// The clone of the n-th disk is the machine's n-th.
pub(crate) struct Attach(pub(crate) Arc<Hands>, pub(crate) usize);

#[async_trait::async_trait]
impl Effect for Attach {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().and_then(|plan| Some(plan.disks.get(self.1)?.clone.clone()))
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        let plan = plan(turn.job)?;
        let (_, clone) = disk(&plan, self.1)?;
        turn.check()?;
        let found = self.0.machine(&plan, ATTACH).await?;
        let attached = found.is_some_and(|machine| machine.disks.get(self.1) == Some(&clone));
        Ok(attached.then(|| json!({ "volume": clone.as_str() })))
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let (_, clone) = disk(&plan, self.1)?;
        turn.check()?;
        let compute = self.0.compute()?;
        compute.attach(&machine_name(&plan), self.1, &clone).await.map_err(of_compute(ATTACH))?;
        Ok(json!({ "volume": clone.as_str() }))
    }

    /// It goes with its machine.
    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// It runs.
pub(crate) struct Start(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for Start {
    fn name(&self, job: &Job) -> Option<String> {
        name(job)
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        let found = self.0.machine(&plan, START).await?;
        Ok(found.filter(|m| m.state == State::Running).map(|_| json!({})))
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        self.0.compute()?.start(&machine_name(&plan)).await.map_err(of_compute(START))?;
        Ok(json!({}))
    }

    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        self.0.compute()?.stop(&machine_name(&plan), Stop::Now).await.map_err(of_compute(START))
    }
}
