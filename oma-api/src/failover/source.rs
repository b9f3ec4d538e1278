//! What an agent is told about the power of a VM that fails over: read from the journal, so that it is the same whoever
//! asks, and after a restart. Pure.

use super::live::{Live, Mode};
use super::{Failover, Plan};
use crate::workflow::{Job, Step, StepState};
use serde_json::Value;
use shared::cycle::{PowerOrder, PowerWish};
use shared::vm::Power;
use std::time::Duration;

/// Names of the steps that ask something of a source.
pub const STATE: &str = "source-state";
pub const POWER_OFF: &str = "power-off";
pub const STILL_OFF: &str = "source-off";
pub const POWER_ON: &str = "power-on";

/// And those that a cycle of it is part of.
pub const FINAL_CYCLE: &str = "final-cycle";
pub const VERIFY: &str = "verify";

/// What its agent is to do now; `None`: to leave the VM's power alone.
pub fn order(of: &Failover) -> Option<PowerOrder> {
    let job = of.rollback.as_ref().unwrap_or(&of.job);
    let plan: Plan = serde_json::from_value(job.params.clone()).ok()?;
    job.steps.iter().find_map(|step| order_of(job, step, plan.live.as_ref()?))
}

/// What a step orders while it is under way: another order each time that it is tried.
pub fn order_of(job: &Job, step: &Step, live: &Live) -> Option<PowerOrder> {
    let (wish, doing, number) = match (step.plan.name.as_str(), step.state) {
        (STATE | STILL_OFF, StepState::Started) => (PowerWish::Report, "look", step.attempts),
        (POWER_OFF, StepState::Started) => (PowerWish::Off, "off", step.attempts),
        (POWER_OFF, StepState::UndoStarted) if was(job) != Power::Off => {
            (PowerWish::On, "on", step.undo_attempts)
        }
        (POWER_ON, StepState::Started) if was(job) != Power::Off => (PowerWish::On, "on", step.attempts),
        _ => return None,
    };
    let id = format!("{}/{}/{doing}-{number}", job.id, step.plan.name);
    let graceful = if live.mode == Mode::Planned { live.graceful } else { Duration::ZERO };
    Some(PowerOrder { id, wish, graceful, force: live.force })
}

/// The step that goes on only by what the VM's agent does.
pub fn awaited(of: &Failover) -> Option<&str> {
    let job = of.rollback.as_ref().unwrap_or(&of.job);
    let waits = |step: &&Step| match step.state {
        StepState::Started => {
            matches!(step.plan.name.as_str(), STATE | POWER_OFF | FINAL_CYCLE | STILL_OFF | POWER_ON | VERIFY)
        }
        StepState::UndoStarted => step.plan.name == POWER_OFF,
        _ => false,
    };
    job.steps.iter().find(waits).map(|step| step.plan.name.as_str())
}

/// How the VM was when its failover began; a rollback has it among its params.
pub fn was(job: &Job) -> Power {
    let said =
        job.output(STATE).and_then(|output| output.get("state")).or_else(|| job.params.get("source_was"));
    said.and_then(Value::as_str).and_then(|word| word.parse().ok()).unwrap_or(Power::Unknown)
}
