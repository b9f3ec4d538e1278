//! The machine: defined, given its disks, started.

use super::hand_over::{detached, shed};
use super::{Hands, disk, machine_name, of_compute, plan};
use crate::compute::{Machine, State, Stop};
use crate::failover::Plan;
use crate::workflow::{Effect, Job, Kind, Problem, Turn};
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
        match found.filter(|m| m.fingerprint == plan.machine.fingerprint()) {
            Some(_) => Ok(Some(self.made(&plan).await?)),
            None => Ok(None),
        }
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        let compute = self.0.compute()?;
        compute.define(&machine_name(&plan), &plan.machine).await.map_err(of_compute(CREATE))?;
        self.made(&plan).await
    }

    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        let plan = plan(turn.job)?;
        let (compute, name) = (self.0.compute()?, machine_name(&plan));
        turn.check()?;
        compute.stop(&name, Stop::Now).await.map_err(of_compute(CREATE))?;
        turn.check()?;
        compute.remove(&name).await.map_err(of_compute(CREATE))?;
        shed(&self.0, &plan, &turn).await
    }
}

impl Define {
    /// With the disks that came with it: once they are taken off, nothing else says whose they are.
    async fn made(&self, plan: &Plan) -> Result<Value, Problem> {
        let Some(hand_over) = self.0.compute()?.hand_over() else {
            return Ok(json!({ "machine": plan.machine.uuid }));
        };
        let surplus = hand_over.surplus(&machine_name(plan)).await.map_err(of_compute(CREATE))?;
        Ok(json!({ "machine": plan.machine.uuid, "surplus": surplus }))
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
        if !attached || plan.hand_over.is_none() {
            return Ok(attached.then(|| json!({ "volume": clone.as_str() })));
        }
        // It has happened as a whole when it was looked at afterwards.
        match self.act(turn).await {
            Ok(output) => Ok(Some(output)),
            Err(problem) if problem.kind == Kind::Permanent => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let (_, clone) = disk(&plan, self.1)?;
        turn.check()?;
        let compute = self.0.compute()?;
        compute.attach(&machine_name(&plan), self.1, &clone).await.map_err(of_compute(ATTACH))?;
        Ok(json!({ "volume": clone.as_str() }))
    }

    /// It goes with its machine, unless it was handed over.
    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        let plan = plan(turn.job)?;
        match plan.hand_over {
            None => Ok(()),
            Some(_) => detached(&self.0, &plan, self.1, &turn, ATTACH).await,
        }
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
