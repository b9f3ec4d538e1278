//! The VM at its source, by its agent: how its power is, off, and on again.

use super::{Hands, plan};
use crate::failover::live::{Live, Mode};
use crate::failover::{Plan, source};
use crate::workflow::{Effect, Job, Kind, Problem, Turn};
use serde_json::{Value, json};
use shared::cycle::PowerReport;
use shared::ids::AgentId;
use shared::vm::Power;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// For an agent's answer, beside what the guest may take: it may have to connect again.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where it would only be good to know.
const GLANCE: Duration = Duration::from_secs(10);

/// Between looks, when nobody says that something has changed.
const PERIOD: Duration = Duration::from_secs(1);

/// Whether somebody who cancels is heeded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cancel {
    Heeded,
    /// What is taken back is taken back whole.
    Ignored,
}

fn live(plan: &Plan) -> Result<&Live, Problem> {
    let none = || Problem::new(Kind::Permanent, "PLAN_UNREADABLE", "the plan is no live failover's");
    plan.live.as_ref().ok_or_else(none)
}

impl Hands {
    async fn agent(&self, plan: &Plan) -> Result<AgentId, Problem> {
        let found = self.store.migration_fetch(&plan.migration).await;
        Ok(found.map_err(|error| super::of_store(&error))?.agent)
    }

    /// Has the step's order carried out; `None`: nobody said so in time.
    async fn ordered(
        &self,
        plan: &Plan,
        turn: &Turn<'_>,
        within: Duration,
        cancel: Cancel,
    ) -> Result<Option<PowerReport>, Problem> {
        let Some(order) = source::order_of(turn.job, turn.step, live(plan)?) else { return Ok(None) };
        let agent = self.agent(plan).await?;
        let mut changes = self.hub.watch(&plan.migration);
        let until = Instant::now() + within;
        self.hub.agent_changed(&agent);
        loop {
            turn.check()?;
            if let Some(report) = self.hub.power(&plan.migration, &order.id) {
                return Ok(Some(report));
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
                () = sleep_until(until) => return Ok(None),
                () = turn.stop().cancelled(), if cancel == Cancel::Heeded => {
                    return Err(Problem::new(Kind::Permanent, "CANCELLED", "the wait for the source was cancelled"));
                }
            }
        }
    }

    async fn answered(
        &self,
        plan: &Plan,
        turn: &Turn<'_>,
        within: Duration,
        cancel: Cancel,
    ) -> Result<PowerReport, Problem> {
        match self.ordered(plan, turn, within, cancel).await? {
            None => {
                let agent = self.agent(plan).await?;
                let why = format!(
                    "agent {agent} did not say within {within:?} how the power of {} is",
                    plan.vm_name
                );
                Err(Problem::new(Kind::Unknown, "AGENT_NOT_CONNECTED", why))
            }
            Some(report) => match &report.failure {
                None => Ok(report),
                // It may be reached the next time.
                Some(failure) if failure.reason == "SOURCE_UNAVAILABLE" => {
                    Err(Problem::new(Kind::Transient, &failure.reason, &failure.message))
                }
                Some(failure) => Err(Problem::new(Kind::Permanent, &failure.reason, &failure.message)),
            },
        }
    }

    /// Its agent can be asked about the VM's power.
    async fn is_reachable(&self, plan: &Plan) -> Result<bool, Problem> {
        let agent = self.agent(plan).await?;
        let capabilities = self.hub.agent_capabilities(&agent);
        Ok(capabilities.is_some_and(|known| known.iter().any(|word| word == "power")))
    }
}

fn told(report: &PowerReport) -> Value {
    json!({ "state": report.state.as_str(), "how": report.how.map(shared::cycle::How::as_str) })
}

fn not(plan: &Plan, code: &str, state: Power, wanted: &str) -> Problem {
    let why =
        format!("{} is to be {wanted} at its source, and its agent says {}", plan.vm_name, state.as_str());
    Problem::new(Kind::Permanent, code, why)
}

/// How the VM is before anything happens: so it is left where all is taken back.
pub(crate) struct SourceState(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for SourceState {
    fn name(&self, _: &Job) -> Option<String> {
        None
    }

    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        match live(&plan)?.mode {
            Mode::Planned => {
                let report = self.0.answered(&plan, &turn, PATIENCE, Cancel::Heeded).await?;
                match report.state {
                    Power::On | Power::Suspended | Power::Off => Ok(told(&report)),
                    // It could not be confirmed off later.
                    Power::Unknown => Err(not(&plan, "POWER_UNSUPPORTED", report.state, "on or off")),
                }
            }
            Mode::Unplanned => unreached(&self.0, &plan, &turn).await,
        }
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// A VM that is known to run at its source must not be started a second time.
async fn unreached(hands: &Hands, plan: &Plan, turn: &Turn<'_>) -> Result<Value, Problem> {
    let report = match hands.is_reachable(plan).await? {
        true => hands.ordered(plan, turn, GLANCE, Cancel::Heeded).await?,
        false => None,
    };
    match report {
        Some(report) if matches!(report.state, Power::On | Power::Suspended) => {
            let why = format!(
                "{} runs at its source, which can be reached: plan the failover, or power the VM off there",
                plan.vm_name
            );
            Err(Problem::new(Kind::Permanent, "SOURCE_RUNNING", why))
        }
        Some(report) => Ok(told(&report)),
        None => Ok(json!({ "state": Power::Unknown.as_str() })),
    }
}

/// Off, as its source says itself (DESIGN §6 rule 13). Taken back, it is on again where it was.
pub(crate) struct PowerOff(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for PowerOff {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().map(|plan| plan.vm_name)
    }

    /// Asked again: off already is success.
    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let within = live(&plan)?.graceful + PATIENCE;
        let report = self.0.answered(&plan, &turn, within, Cancel::Heeded).await?;
        match report.state {
            Power::Off => Ok(told(&report)),
            Power::On | Power::Suspended | Power::Unknown => {
                Err(not(&plan, "POWER_OFF_FAILED", report.state, "off"))
            }
        }
    }

    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        on_again(&self.0, &turn).await.map(drop)
    }
}

/// On, where it was on before.
async fn on_again(hands: &Hands, turn: &Turn<'_>) -> Result<Value, Problem> {
    let plan = plan(turn.job)?;
    if source::was(turn.job) == Power::Off {
        return Ok(json!({ "state": Power::Off.as_str(), "how": "as before" }));
    }
    let report = hands.answered(&plan, turn, PATIENCE, Cancel::Ignored).await?;
    match report.state {
        Power::On => Ok(told(&report)),
        Power::Off | Power::Suspended | Power::Unknown => {
            Err(not(&plan, "POWER_ON_FAILED", report.state, "on"))
        }
    }
}

/// Still off, the moment before the machine on the target starts: a VM that runs twice damages what it talks to.
pub(crate) struct StillOff(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for StillOff {
    fn name(&self, _: &Job) -> Option<String> {
        None
    }

    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        match live(&plan)?.mode {
            Mode::Planned => {
                let report = self.0.answered(&plan, &turn, PATIENCE, Cancel::Heeded).await?;
                match report.state {
                    Power::Off => Ok(told(&report)),
                    Power::On | Power::Suspended | Power::Unknown => {
                        Err(not(&plan, "SOURCE_RUNNING", report.state, "off"))
                    }
                }
            }
            Mode::Unplanned => unreached(&self.0, &plan, &turn).await,
        }
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// Of a rollback: on, where it was on before.
pub(crate) struct PowerOn(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for PowerOn {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().map(|plan| plan.vm_name)
    }

    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        on_again(&self.0, &turn).await
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}
