//! Start, stop, reboot: a host is chosen, volumes are made where they are only allocated, the hypervisor is told.

use super::call::{Call, now};
use super::fault::What;
use super::hypervisor::{Disk, Interface, Machine, Stop};
use super::refusal::Refusal;
use super::state::{State, Vm, Volume};
use super::{Sim, vm_deploy, vm_view};
use serde_json::Value;

/// `startVirtualMachine`.
pub(super) fn start(call: &Call<'_>) -> Result<Value, Refusal> {
    let id = call.vm("id")?.id;
    start_vm(call, &id)?;
    Ok(vm_view::result(call, &id))
}

pub(super) fn start_vm(call: &Call<'_>, id: &str) -> Result<(), Refusal> {
    let sim = call.sim;
    let vm =
        sim.read(|state| state.vm(id).cloned()).ok_or_else(|| Refusal::runtime("the machine is gone"))?;
    match vm.state.as_str() {
        "Stopped" => {}
        "Running" | "Starting" => {
            return Err(Refusal::value(format!(
                "{} is already running or on its way",
                vm_view::in_words(&vm)
            )));
        }
        _ => {
            return Err(Refusal::runtime(format!(
                "Unable to orchestrate the start of VM instance {{\"instanceName\":\"{}\",\"uuid\":\"{id}\"}}.",
                vm_view::instance_name(&vm)
            )));
        }
    }
    let chosen = sim.read(|state| host_for(sim, state, &vm));
    let host = chosen.ok_or_else(|| {
        Refusal::capacity(format!("No destination found for a deployment for {}", vm_view::in_words(&vm)))
    })?;
    let failed = |text: String| Refusal::runtime(format!("Unable to start a VM [{id}] due to [{text}]."));
    if sim.read(|state| state.root_of(id).is_none()) {
        return Err(failed(format!("Unable to create a deployment for {}", vm_view::in_words(&vm))));
    }
    set_state(sim, id, "Starting");
    let started = start_on(call, &vm, &host);
    if call.fault == Some(What::LeftBetween) {
        // The host did it all the same, or not: nobody knows; here it did not stay.
        let _ = sim.hypervisor.stop(id, Stop::Forced);
        set_state(sim, id, "Error");
        return Err(failed("the host did not answer".to_owned()));
    }
    if let Err(refusal) = started {
        set_state(sim, id, "Stopped");
        return Err(refusal);
    }
    sim.change(|state| {
        if let Some(vm) = state.vm_mut(id) {
            vm.state = "Running".to_owned();
            vm.host = host["id"].as_str().map(str::to_owned);
            vm.shows_boot = !vm.has_run;
            vm.has_run = true;
            vm.updated = Some(now());
        }
        let own =
            state.volumes.iter_mut().filter(|volume| volume.vm.as_deref() == Some(id) && !volume.removed);
        own.for_each(|volume| volume.stats = true);
        vm_deploy::event(call, state, "VM.START", id);
    });
    Ok(())
}

fn set_state(sim: &Sim, id: &str, to: &str) {
    sim.change(|state| {
        if let Some(vm) = state.vm_mut(id) {
            vm.state = to.to_owned();
        }
    });
}

/// A host that is up, boots as the machine wants, has the room, and reaches the pools of its volumes.
fn host_for(sim: &Sim, state: &State, vm: &Vm) -> Option<Value> {
    let wants_uefi = vm.details.contains_key("UEFI");
    let clusters: Vec<_> =
        state.volumes_of(&vm.id).into_iter().filter_map(|own| sim.cluster_of(own)).collect();
    let needed = vm_view::memory(sim, vm) << 20;
    let fits = |host: &&Value| {
        let running = state.vms.iter().filter(|other| other.host.as_deref() == host["id"].as_str());
        let used: u64 = running.map(|other| vm_view::memory(sim, other) << 20).sum();
        let reaches = clusters.iter().all(|cluster| host["clusterid"].as_str() == Some(cluster));
        host["state"] == "Up"
            && host["resourcestate"] == "Enabled"
            && (!wants_uefi || host["ueficapability"] == true)
            && reaches
            && host["memorytotal"].as_u64().unwrap_or_default() >= used + needed
    };
    sim.world.all("host").iter().find(fits).cloned()
}

fn start_on(call: &Call<'_>, vm: &Vm, host: &Value) -> Result<(), Refusal> {
    let (sim, cluster) = (call.sim, host["clusterid"].as_str());
    let volumes = || sim.read(|state| state.volumes_of(&vm.id).into_iter().cloned().collect::<Vec<Volume>>());
    for volume in volumes() {
        sim.make_on_storage(&volume.id, cluster, call.fault.as_ref())?;
    }
    let name = sim.host_name(host["id"].as_str().unwrap_or_default());
    let failed =
        |text: String| Refusal::runtime(format!("Unable to start a VM [{}] due to [{text}].", vm.id));
    let mut disks = Vec::new();
    for volume in volumes() {
        let path = sim.connect(&volume, &name).map_err(failed)?;
        let device_id = volume.device.unwrap_or_default();
        disks.push(Disk { volume: volume.id, device_id, path, size: volume.size });
    }
    let nics = vm.nics.iter().map(|nic| Interface { network: nic.network.clone(), mac: nic.mac.clone() });
    let machine = Machine {
        id: vm.id.clone(),
        instance_name: vm_view::instance_name(vm),
        host: name,
        cpus: vm_view::cpus(sim, vm),
        memory_mib: vm_view::memory(sim, vm),
        uefi: vm.details.get("UEFI").cloned(),
        details: vm.details.clone(),
        disks,
        nics: nics.collect(),
    };
    sim.hypervisor.start(&machine).map_err(failed)
}

/// `stopVirtualMachine`: of one that is stopped, too.
pub(super) fn stop(call: &Call<'_>) -> Result<Value, Refusal> {
    let vm = call.vm("id")?;
    let how = if call.params.flag("forced") == Some(true) { Stop::Forced } else { Stop::Asked };
    stop_vm(call, &vm.id, how)?;
    Ok(vm_view::result(call, &vm.id))
}

pub(super) fn stop_vm(call: &Call<'_>, id: &str, how: Stop) -> Result<(), Refusal> {
    let sim = call.sim;
    let vm =
        sim.read(|state| state.vm(id).cloned()).ok_or_else(|| Refusal::runtime("the machine is gone"))?;
    let Some(host) = vm.host.clone() else {
        return match vm.state.as_str() {
            "Stopped" | "Destroyed" | "Error" => Ok(()),
            other => Err(Refusal::runtime(format!("the machine is {other}"))),
        };
    };
    set_state(sim, id, "Stopping");
    if call.fault == Some(What::LeftBetween) {
        return Err(Refusal::runtime(format!("Failed to stop {}", vm_view::in_words(&vm))));
    }
    if let Err(text) = sim.hypervisor.stop(id, how) {
        // A forced stop that fails is left on its way; one that was asked for goes back.
        set_state(sim, id, if how == Stop::Forced { "Stopping" } else { "Running" });
        return Err(Refusal::runtime(format!("Failed to stop {}: {text}", vm_view::in_words(&vm))));
    }
    let name = sim.host_name(&host);
    let volumes = sim.read(|state| state.volumes_of(id).into_iter().cloned().collect::<Vec<_>>());
    volumes.iter().for_each(|volume| sim.disconnect(volume, &name));
    sim.change(|state| {
        if let Some(vm) = state.vm_mut(id) {
            vm.state = "Stopped".to_owned();
            vm.host = None;
            vm.shows_boot = false;
            vm.updated = Some(now());
        }
        vm_deploy::event(call, state, "VM.STOP", id);
    });
    Ok(())
}

/// `rebootVirtualMachine`.
pub(super) fn reboot(call: &Call<'_>) -> Result<Value, Refusal> {
    let vm = call.vm("id")?;
    if vm.state != "Running" {
        let text = format!("The VM {} ({}) is not running, unable to reboot it", vm.id, vm.display_name);
        return Err(Refusal::value(text));
    }
    stop_vm(call, &vm.id, Stop::Asked)?;
    start_vm(call, &vm.id)?;
    Ok(vm_view::result(call, &vm.id))
}
