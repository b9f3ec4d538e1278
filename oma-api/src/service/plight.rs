//! What is so of a failover at this moment and no journal says: who is waited for, a VM that runs twice, or not at all.

use super::{App, Error};
use crate::compute::State;
use crate::failover::{Failover, FailoverView, Kind, Plan, Standing, names, source};
use crate::store::{FailoversOf, Migration};
use crate::workflow::{JobState, Step, StepState, WorkflowId};
use jiff::SignedDuration;
use shared::cycle::{PowerOrder, PowerWish, Vm};
use shared::vm::Power;
use std::time::Duration;
use tracing::warn;

/// For an agent's look at a VM's power; one that is connected takes a part of a second.
const LOOK: Duration = Duration::from_secs(5);

impl App {
    /// As it is shown, with what is so now among its warnings.
    pub(super) async fn failover_view(&self, of: Failover) -> Result<FailoverView, Error> {
        let now = [
            self.awaited(&of).await?,
            self.runs_twice(&of).await?,
            self.is_down(&of).await,
            self.went_off(&of).await?,
            stopping(&of),
        ];
        let mut view = FailoverView::from(of);
        view.warnings.extend(now.into_iter().flatten());
        Ok(view)
    }

    async fn awaited(&self, of: &Failover) -> Result<Option<String>, Error> {
        let Some(step) = source::awaited(of) else { return Ok(None) };
        let agent = self.store.migration_fetch(&of.record.migration).await?.agent;
        if !self.hub.agent_is_connected(&agent) {
            return Ok(Some(format!(
                "AGENT_NOT_CONNECTED: {step} waits for agent {agent}, which is not connected: start it, or look at its log"
            )));
        }
        let cycle = of.final_job.as_ref().filter(|_| step == source::FINAL_CYCLE);
        let waiting = cycle.and_then(|cycle| self.hub.waiting(cycle));
        Ok(waiting.map(|waiting| format!("{}: {step} waits: {}", waiting.reason, waiting.message)))
    }

    /// A guest was asked to power itself off and not waited for any longer; it may have done so since.
    async fn went_off(&self, of: &Failover) -> Result<Option<String>, Error> {
        let late = |s: &Step| {
            s.plan.name == source::POWER_OFF
                && s.error.as_ref().is_some_and(|e| e.reason == "POWER_OFF_TIMEOUT")
        };
        if of.job.state != JobState::RolledBack || !of.job.steps.iter().any(late) {
            return Ok(None);
        }
        let newest = self.store.failover_live(&of.record.migration).await?;
        if newest.is_none_or(|newest| newest.record.job != of.record.job) {
            return Ok(None);
        }
        let off = |vm: &Vm| vm.configuration.as_ref().is_some_and(|c| c.power == Power::Off);
        let offered = self.store.vms_called(of.record.vm.as_str()).await?;
        let seen = offered.iter().any(|(agent, vm)| off(vm) && self.hub.agent_is_connected(agent));
        Ok(seen.then(|| {
            format!(
                "SOURCE_OFF: {} is off at its source: its guest may have obeyed late when it was to power itself off; power it on \
                 there, or ask for the failover again",
                of.record.vm_name
            )
        }))
    }

    /// Its machine should run, and does not.
    async fn is_down(&self, of: &Failover) -> Option<String> {
        let started = of.job.steps.iter().any(|s| s.plan.name == "start" && s.state == StepState::Done);
        let goes = of.rollback.is_some() || of.cleanup.is_some();
        let is_ours = matches!(of.standing(), Standing::There);
        if !started || goes || !is_ours {
            return None;
        }
        let name = names::machine_name(&of.record.name);
        // A backend that does not answer is another matter.
        match self.compute.as_ref()?.find(&name).await.ok()?.map(|machine| machine.state) {
            Some(State::Running) => None,
            Some(State::Stopped) => Some(format!(
                "MACHINE_NOT_RUNNING: {name} does not run any more: its guest powered off, or its process was ended"
            )),
            Some(State::Unknown) => {
                Some(format!("MACHINE_NOT_RUNNING: whether {name} runs cannot be told: look at its console"))
            }
            None => Some(format!("MACHINE_NOT_RUNNING: {name} is not there any more")),
        }
    }

    /// The failover by which its VM was handed over before.
    pub(super) async fn handed_over(&self, of: &Migration) -> Result<Option<WorkflowId>, Error> {
        let vm = Some(of.vm.as_str().to_owned());
        let asked = FailoversOf { kind: Some(Kind::Live), vm, limit: 20, ..FailoversOf::default() };
        let (found, _) = self.store.failover_page(&asked).await?;
        let over = found.into_iter().find(|of| of.standing() == Standing::HandedOver);
        Ok(over.map(|of| of.record.job))
    }

    /// Who sees the VM run at its source while, or since, its machine runs.
    pub(super) async fn runs_twice(&self, of: &Failover) -> Result<Option<String>, Error> {
        let runs = of.job.steps.iter().any(|s| s.plan.name == "start" && s.state == StepState::Done);
        if of.record.kind == Kind::Test || of.standing() == Standing::Gone || of.rollback.is_some() || !runs {
            return Ok(None);
        }
        let on = |vm: &Vm| vm.configuration.as_ref().is_some_and(|c| c.power == Power::On);
        let offered = self.store.vms_called(of.record.vm.as_str()).await?;
        // What was heard from an agent that is away may be long over.
        let seen = |(agent, vm): &(_, Vm)| on(vm) && self.hub.agent_is_connected(agent);
        let seen = offered.into_iter().find(seen);
        Ok(seen.map(|(agent, vm)| at_its_source(&vm.name, agent.as_str(), Power::On)))
    }

    /// Whether the VM runs at its source, as its agent sees it now: what was heard of it may be a minute old. An agent that is
    /// away, or cannot tell, is no reason to wait.
    pub(super) async fn runs_now(&self, of: &Migration) -> Option<String> {
        let known = self.hub.agent_capabilities(&of.agent)?;
        known.iter().find(|word| *word == "power")?;
        let id = format!("{}/look/{}", of.id, self.clock.now().as_microsecond());
        let order = PowerOrder { id, wish: PowerWish::Report, graceful: Duration::ZERO, force: false };
        let mut changes = self.hub.watch(&of.id);
        let (order, looking) = self.hub.look(&of.id, &of.agent, order);
        let said = async {
            loop {
                match self.hub.power(&of.id, &order.id) {
                    Some(report) => return report,
                    None => drop(changes.changed().await),
                }
            }
        };
        let said = tokio::time::timeout(LOOK, said).await;
        drop(looking);
        let Ok(report) = said else {
            warn!(migration_id = %of.id, agent = %of.agent, "an agent did not say within {LOOK:?} how the power of its VM is");
            return None;
        };
        matches!(report.state, Power::On | Power::Suspended)
            .then(|| at_its_source(&of.vm_name, of.agent.as_str(), report.state))
    }
}

/// Its machine may power itself off before it is stopped: whoever waits is told until when.
fn stopping(of: &Failover) -> Option<String> {
    let job = of.rollback.as_ref()?;
    let step = job.steps.iter().find(|s| s.plan.name == "stop" && s.state == StepState::Started)?;
    let plan: Plan = serde_json::from_value(job.params.clone()).ok()?;
    let patience = plan.live?.stop_patience()?;
    let until = step.started_at?.checked_add(SignedDuration::try_from(patience).ok()?).ok()?;
    Some(format!("stop: {} may power itself off until {until:.0}; its power is cut then", of.record.name))
}

fn at_its_source(vm: &str, agent: &str, power: Power) -> String {
    format!(
        "SOURCE_RUNNING: {vm} is {} at its source too, as agent {agent} sees it: power it off on one side; what it writes there \
         is nowhere else",
        power.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::tests::site::Site;

    /// A machine that is taken back may power itself off first: until when is said, while it is waited for.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_machine_that_is_waited_for_on_its_way_back_is_said_so() {
        let site = Site::sqlite().await;
        let mut request = site.request().await;
        if let Some(live) = &mut request.live {
            live.graceful = Duration::from_secs(60);
        }
        let id = site.ask(&request).await.expect("taken").failover.record.job;
        site.drive(&id).await;
        site.roll_back(&id).await;
        let mut failover = site.failover(&id).await;
        assert_eq!(stopping(&failover), None, "it has not begun");
        let steps = failover.rollback.iter_mut().flat_map(|job| &mut job.steps);
        for step in steps.filter(|step| step.plan.name == "stop") {
            step.state = StepState::Started;
            step.started_at = "2026-11-22T12:00:00Z".parse().ok();
        }
        let said = stopping(&failover).expect("it is waited for");
        assert!(said.contains("until 2026-11-22T12:01:00Z"), "{said}");
    }
}
