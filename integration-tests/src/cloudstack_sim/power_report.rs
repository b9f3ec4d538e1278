//! What hosts report by themselves: a machine whose guest has powered itself off is Stopped, one that is found running runs.
//!
//! Real agents report once a minute, here every half second. A machine that a job is on is left alone.

use super::Sim;
use super::call::now;
use super::hypervisor::Power;
use super::state::{State, Vm};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_millis(500);

pub(super) async fn run(sim: Arc<Sim>, ended: CancellationToken) {
    loop {
        let on = Arc::clone(&sim);
        if let Err(error) = tokio::task::spawn_blocking(move || on.take_report()).await {
            tracing::error!(%error, "a power report was not taken");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = ended.cancelled() => return,
        }
    }
}

fn is_free(state: &State, vm: &Vm) -> bool {
    !vm.removed && !state.jobs.iter().any(|job| job.status == 0 && job.queue == vm.id)
}

impl Sim {
    fn take_report(&self) {
        let free = |wanted: &str| -> Vec<String> {
            self.read(|state| {
                let own = state.vms.iter().filter(|vm| vm.state == wanted && is_free(state, vm));
                own.map(|vm| vm.id.clone()).collect()
            })
        };
        // Before the report: what is started meanwhile is not missed in it.
        let (running, stopped) = (free("Running"), free("Stopped"));
        let Some(report) = self.hypervisor.reports() else { return };
        let report: BTreeMap<_, _> = report.into_iter().collect();
        for id in running.iter().filter(|id| !report.contains_key(*id)) {
            self.found_off(id);
        }
        for (id, host) in stopped.iter().filter_map(|id| Some((id, report.get(id)?))) {
            self.found_running(id, host);
        }
    }

    /// The host's part of a stop is done as well: devices that were lent are given back.
    fn found_off(&self, id: &str) {
        // It may have been off only while it was rebooted.
        if self.hypervisor.state(id) == Power::Running {
            return;
        }
        let was_on = self.change_if_any(id, "Running", |vm| {
            vm.state = "Stopped".to_owned();
            vm.shows_boot = false;
            vm.host.take()
        });
        let Some(host) = was_on.flatten() else { return };
        let name = self.host_name(&host);
        let volumes = self.read(|state| state.volumes_of(id).into_iter().cloned().collect::<Vec<_>>());
        volumes.iter().for_each(|volume| self.disconnect(volume, &name));
    }

    fn found_running(&self, id: &str, host: &str) {
        let host = self.world.id_of("host", host);
        self.change_if_any(id, "Stopped", |vm| {
            vm.state = "Running".to_owned();
            vm.has_run = true;
            vm.host = host;
        });
    }

    /// Nothing is written where a job has come in between.
    fn change_if_any<T>(&self, id: &str, from: &str, change: impl FnOnce(&mut Vm) -> T) -> Option<T> {
        let is_still = |state: &State| state.vm(id).is_some_and(|vm| vm.state == from && is_free(state, vm));
        if !self.read(is_still) {
            return None;
        }
        self.change(|state| {
            if !is_still(state) {
                return None;
            }
            let vm = state.vm_mut(id)?;
            vm.updated = Some(now());
            Some(change(vm))
        })
    }
}
