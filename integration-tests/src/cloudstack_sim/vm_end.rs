//! Destroy, expunge, recover.

use super::call::{Call, now};
use super::commands::success;
use super::hypervisor::Stop;
use super::refusal::Refusal;
use super::state::{State, Vm};
use super::{vm_deploy, vm_power, vm_view, volume_end};
use serde_json::{Value, json};

/// `destroyVirtualMachine`. Data volumes are detached and stay, expunged or not.
pub(super) fn destroy(call: &Call<'_>) -> Result<Value, Refusal> {
    let vm = call.vm("id")?;
    if vm.delete_protection {
        let text = format!(
            "Instance [id = {}, name = {}] has delete protection enabled and cannot be deleted.",
            vm.id, vm.name
        );
        return Err(Refusal::value(text));
    }
    let named = call.params.list("volumeids");
    let data: Vec<_> = call.sim.read(|state| {
        let own = state.volumes_of(&vm.id).into_iter().filter(|volume| volume.kind == "DATADISK");
        own.map(|volume| volume.id.clone()).collect()
    });
    if let Some(other) = named.iter().find(|id| !data.contains(id)) {
        let text = format!("The following supplied volumes are not DATADISK attached to the VM: {other}; ");
        return Err(Refusal::value(text));
    }
    let expunge = call.params.flag("expunge") == Some(true);
    if vm.state != "Destroyed" {
        vm_power::stop_vm(call, &vm.id, Stop::Forced)?;
        call.sim.change(|state| {
            leave(state, &data);
            if let Some(vm) = state.vm_mut(&vm.id) {
                if vm.has_run {
                    let flag = "Message.ReservedCapacityFreed.Flag".to_owned();
                    vm.details.insert(flag, "false".to_owned());
                }
                vm.state = "Destroyed".to_owned();
                vm.updated = Some(now());
            }
            vm_deploy::event(call, state, "VM.DESTROY", &vm.id);
        });
    }
    for id in named {
        volume_end::remove(call, &id)?;
    }
    if expunge {
        expunge_vm(call, &vm)?;
        // What the real one makes of a machine that it does not find any more.
        return Ok(json!({"virtualmachine": {
            "securitygroup": [], "nic": [], "affinitygroup": [], "deleteprotection": false, "tags": []
        }}));
    }
    Ok(vm_view::result(call, &vm.id))
}

/// Volumes that are nobody's from now on.
fn leave(state: &mut State, volumes: &[String]) {
    for volume in state.volumes.iter_mut().filter(|volume| volumes.contains(&volume.id)) {
        (volume.vm, volume.device, volume.stats) = (None, None, false);
        volume.attached = None;
    }
}

/// `expungeVirtualMachine`.
pub(super) fn expunge(call: &Call<'_>) -> Result<Value, Refusal> {
    let vm = call.vm("id")?;
    if !["Destroyed", "Expunging", "Error"].contains(&vm.state.as_str()) {
        let text =
            format!("Please destroy vm with specified vmId before expunge: {}", vm_view::in_words(&vm));
        return Err(Refusal::value(text));
    }
    expunge_vm(call, &vm)?;
    Ok(success())
}

/// The root goes with its machine; where storage refuses, both are left `Expunging`.
fn expunge_vm(call: &Call<'_>, vm: &Vm) -> Result<(), Refusal> {
    call.sim.change(|state| {
        if let Some(vm) = state.vm_mut(&vm.id) {
            vm.state = "Expunging".to_owned();
            vm.nics.clear();
        }
    });
    let root = call.sim.read(|state| state.root_of(&vm.id).map(|root| root.id.clone()));
    if let Some(root) = root {
        volume_end::remove(call, &root)?;
    }
    call.sim.change(|state| {
        if let Some(vm) = state.vm_mut(&vm.id) {
            vm.removed = true;
        }
        state.tags.retain(|tag| tag.resource != vm.id);
        vm_deploy::event(call, state, "VM.EXPUNGE", &vm.id);
    });
    Ok(())
}

/// `recoverVirtualMachine`: without the data volumes that it had.
pub(super) fn recover(call: &Call<'_>) -> Result<Value, Refusal> {
    let vm = call.vm("id")?;
    if vm.state != "Destroyed" {
        return Err(Refusal::value(format!(
            "Unable to recover {}: it is not destroyed",
            vm_view::in_words(&vm)
        )));
    }
    call.sim.change(|state| {
        if let Some(vm) = state.vm_mut(&vm.id) {
            vm.state = "Stopped".to_owned();
            vm.updated = Some(now());
        }
    });
    Ok(vm_view::result(call, &vm.id))
}
