//! What a backend with records of its own needs besides: its own disks shed, records made, and taken back without the data.

use super::{Hands, disk, machine_name, of_compute, plan};
use crate::compute::{Guard, HandOver};
use crate::failover::Plan;
use crate::workflow::{Effect, Job, Kind, Problem, Turn};
use serde_json::{Value, json};
use std::sync::Arc;

const CREATE: &str = "VM_CREATE_FAILED";
const ATTACH: &str = "VOLUME_ATTACH_FAILED";
const CLEANUP: &str = "CLEANUP_FAILED";

impl Hands {
    fn hand_over(&self) -> Result<&dyn HandOver, Problem> {
        let other = || {
            let why = "this job hands volumes over, and the [compute] section does not any more: give it back as it was";
            Problem::new(Kind::Permanent, "NO_COMPUTE", why)
        };
        self.compute()?.hand_over().ok_or_else(other)
    }
}

/// The disks that came with the machine are gone.
pub(crate) struct Shed(pub(crate) Arc<Hands>);

/// As its definition found them.
fn surplus(job: &Job) -> Vec<&str> {
    let defined = job.output("define").and_then(|output| output.get("surplus")?.as_array());
    defined.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// None of them is left: once they are taken off, nothing else says whose they are.
pub(super) async fn shed(hands: &Hands, plan: &Plan, turn: &Turn<'_>) -> Result<(), Problem> {
    for surplus in surplus(turn.job) {
        turn.check()?;
        hands.hand_over()?.shed(&machine_name(plan), surplus).await.map_err(of_compute(CREATE))?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl Effect for Shed {
    fn name(&self, job: &Job) -> Option<String> {
        Some(surplus(job).join(" "))
    }

    /// It looks before it acts; what is left of them goes with their machine.
    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        shed(&self.0, &plan(turn.job)?, &turn).await.map(|()| json!({}))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// The backend has a record of the clone of the n-th disk.
pub(crate) struct Adopt(pub(crate) Arc<Hands>, pub(crate) usize);

#[async_trait::async_trait]
impl Effect for Adopt {
    fn name(&self, job: &Job) -> Option<String> {
        clone_name(job, self.1)
    }

    /// What it is like is looked at when it is attached.
    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        let plan = plan(turn.job)?;
        let (_, clone) = disk(&plan, self.1)?;
        turn.check()?;
        let adopted = self.0.hand_over()?.is_adopted(&clone).await.map_err(of_compute(ATTACH))?;
        Ok(adopted.then(|| json!({ "volume": clone.as_str() })))
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let (_, clone) = disk(&plan, self.1)?;
        turn.check()?;
        let guard = if plan.live.is_some() { Guard::Protected } else { Guard::Deletable };
        let adopted = self.0.hand_over()?.adopt(&machine_name(&plan), self.1, &clone, guard).await;
        adopted.map_err(of_compute(ATTACH))?;
        Ok(json!({ "volume": clone.as_str() }))
    }

    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        let plan = plan(turn.job)?;
        detached(&self.0, &plan, self.1, &turn, ATTACH).await?;
        released(&self.0, &plan, self.1, &turn, ATTACH).await
    }
}

/// The clone of the n-th disk is no machine's.
pub(crate) struct Detach(pub(crate) Arc<Hands>, pub(crate) usize);

#[async_trait::async_trait]
impl Effect for Detach {
    fn name(&self, job: &Job) -> Option<String> {
        clone_name(job, self.1)
    }

    /// It looks before it acts.
    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        detached(&self.0, &plan(turn.job)?, self.1, &turn, CLEANUP).await.map(|()| json!({}))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// The backend has no record of the clone of the n-th disk any more; what it holds is where it was.
pub(crate) struct Release(pub(crate) Arc<Hands>, pub(crate) usize);

#[async_trait::async_trait]
impl Effect for Release {
    fn name(&self, job: &Job) -> Option<String> {
        clone_name(job, self.1)
    }

    /// It looks before it acts.
    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        released(&self.0, &plan(turn.job)?, self.1, &turn, CLEANUP).await.map(|()| json!({}))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

fn clone_name(job: &Job, n: usize) -> Option<String> {
    plan(job).ok().and_then(|plan| Some(plan.disks.get(n)?.clone.clone()))
}

/// Its machine is off, or it is refused.
pub(super) async fn detached(
    hands: &Hands,
    plan: &Plan,
    n: usize,
    turn: &Turn<'_>,
    code: &'static str,
) -> Result<(), Problem> {
    let (_, clone) = disk(plan, n)?;
    turn.check()?;
    hands.hand_over()?.detach(&clone).await.map_err(of_compute(code))
}

async fn released(
    hands: &Hands,
    plan: &Plan,
    n: usize,
    turn: &Turn<'_>,
    code: &'static str,
) -> Result<(), Problem> {
    let (_, clone) = disk(plan, n)?;
    turn.check()?;
    hands.hand_over()?.release(&clone).await.map_err(of_compute(code))
}
