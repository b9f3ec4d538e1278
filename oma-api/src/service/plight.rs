//! What is so of a failover at this moment and no journal says: who is waited for, and a VM that runs twice.

use super::{App, Error};
use crate::failover::{Failover, FailoverView, Kind, Standing, source};
use crate::workflow::StepState;
use shared::cycle::Vm;
use shared::vm::Power;

impl App {
    /// As it is shown, with what is so now among its warnings.
    pub(super) async fn failover_view(&self, of: Failover) -> Result<FailoverView, Error> {
        let now = [self.awaited(&of).await?, self.runs_twice(&of).await?];
        let mut view = FailoverView::from(of);
        view.warnings.extend(now.into_iter().flatten());
        Ok(view)
    }

    async fn awaited(&self, of: &Failover) -> Result<Option<String>, Error> {
        let Some(step) = source::awaited(of) else { return Ok(None) };
        let agent = self.store.migration_fetch(&of.record.migration).await?.agent;
        Ok((!self.hub.agent_is_connected(&agent)).then(|| {
            format!(
                "AGENT_NOT_CONNECTED: {step} waits for agent {agent}, which is not connected: start it, or look at its log"
            )
        }))
    }

    async fn runs_twice(&self, of: &Failover) -> Result<Option<String>, Error> {
        let runs = of.job.steps.iter().any(|s| s.plan.name == "start" && s.state == StepState::Done);
        if of.record.kind == Kind::Test || of.standing() == Standing::Gone || of.rollback.is_some() || !runs {
            return Ok(None);
        }
        let on = |vm: &Vm| vm.configuration.as_ref().is_some_and(|c| c.power == Power::On);
        let offered = self.store.vms_called(of.record.vm.as_str()).await?;
        Ok(offered.into_iter().find(|(_, vm)| on(vm)).map(|(agent, vm)| {
            format!(
                "SOURCE_RUNNING: {} runs at its source too, as agent {agent} sees it: power it off on one side; what it writes \
                 there is nowhere else",
                vm.name
            )
        }))
    }
}
