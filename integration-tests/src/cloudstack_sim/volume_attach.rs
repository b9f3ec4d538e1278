//! `attachVolume` and `detachVolume`: what becomes a root, which devices there are, and when storage is asked.

use super::call::{Begun, Call, new_id, now};
use super::refusal::Refusal;
use super::state::{State, Vm, Volume};
use super::{vm_deploy, vm_view, volume_view};
use serde_json::Value;

/// The CD-ROM's.
const CDROM: u64 = 3;

pub(super) fn attach(call: &Call<'_>) -> Result<Value, Refusal> {
    let (volume, vm) = (call.volume("id")?, call.vm("virtualmachineid")?);
    let wished = call.params.number("deviceid").map(|device| u64::try_from(device).unwrap_or(u64::MAX));
    if volume.vm.is_some() {
        return Err(Refusal::value("Please specify a volume that is not attached to any VM."));
    }
    if !["Allocated", "Ready", "Uploaded"].contains(&volume.state.as_str()) {
        return Err(Refusal::value("Volume state must be in Allocated, Ready or in Uploaded state"));
    }
    if !["Running", "Stopped"].contains(&vm.state.as_str()) {
        return Err(Refusal::value("Please specify a VM that is either running or stopped."));
    }
    let device = call.sim.read(|state| device(call, state, &vm, wished))?;
    let root_cluster =
        call.sim.read(|state| state.root_of(&vm.id).and_then(|root| call.sim.cluster_of(root)));
    let zone_wide = || {
        let pools = call.sim.pools_of(&volume, None);
        pools.first().is_some_and(|pool| pool["scope"] == "ZONE")
    };
    if volume.state == "Allocated" && (vm.has_run || zone_wide() || is_stuck(call, &volume)) {
        call.sim.make_on_storage(&volume.id, root_cluster.as_deref(), call.fault.as_ref())?;
    }
    move_to(call, &volume, root_cluster.as_deref());
    if let Some(host) = vm.host.as_deref() {
        let host = call.sim.host_name(host);
        let made = call.sim.read(|state| state.volume(&volume.id).cloned()).unwrap_or(volume.clone());
        call.sim.connect(&made, &host).map_err(|text| {
            Refusal::runtime(format!("Failed to attach volume {} to VM {}; {text}", volume.name, vm.name))
        })?;
    }
    call.sim.change(|state| {
        if let Some(volume) = state.volume_mut(&volume.id) {
            volume.vm = Some(vm.id.clone());
            volume.device = Some(device);
            volume.stats = true;
            volume.attached = Some(now());
            if device == 0 {
                volume.kind = "ROOT".to_owned();
            }
        }
        vm_deploy::event(call, state, "VOLUME.ATTACH", &volume.id);
    });
    Ok(volume_view::result(call, &volume.id))
}

fn is_stuck(call: &Call<'_>, volume: &Volume) -> bool {
    call.sim.read(|state| state.stuck.contains(&volume.id))
}

/// A volume whose pool the machine's cluster does not reach is moved without a word.
fn move_to(call: &Call<'_>, volume: &Volume, cluster: Option<&str>) {
    let own = call.sim.cluster_of(volume);
    if own.is_none() || cluster.is_none() || own.as_deref() == cluster {
        return;
    }
    let pools = call.sim.pools_of(volume, cluster);
    let Some(pool) = pools.first().and_then(|pool| pool["id"].as_str()) else { return };
    call.sim.change(|state| {
        if let Some(volume) = state.volume_mut(&volume.id) {
            volume.pool = Some(pool.to_owned());
            volume.path = Some(new_id());
        }
    });
}

/// The wished one, where it is free and there is such a one; else the first that is.
fn device(call: &Call<'_>, state: &State, vm: &Vm, wished: Option<u64>) -> Result<u64, Refusal> {
    let own = state.volumes_of(&vm.id);
    let last = if vm_view::is_kvm(call.sim, vm) { 63 } else { 7 };
    let holder = |device: u64| own.iter().find(|volume| volume.device == Some(device));
    match wished {
        Some(0) if state.root_of(&vm.id).is_some() => {
            Err(Refusal::value("Vm already has root volume attached to it"))
        }
        Some(0) => Ok(0),
        Some(device) if device == CDROM || device > last => {
            Err(Refusal::runtime(format!("deviceId should be 0,1,2,4-{last}")))
        }
        Some(device) => match holder(device) {
            None => Ok(device),
            Some(volume) => Err(Refusal::runtime(format!(
                "deviceId {device} is used by vol Volume {{\"name\":\"{}\",\"uuid\":\"{}\"}} on vm {}",
                volume.name,
                volume.id,
                vm_view::in_words(vm)
            ))),
        },
        None => {
            let free = (1..=last).find(|device| *device != CDROM && holder(*device).is_none());
            let text =
                format!("The specified VM already has the maximum number of data disks ({})", last - 1);
            free.ok_or_else(|| Refusal::value(text))
        }
    }
}

/// By its id. By a machine and a device there it was recorded to fail, whatever the documentation says.
fn to_detach(call: &Call<'_>) -> Result<Volume, Refusal> {
    if call.params.get("id").is_some() {
        return call.volume("id");
    }
    if call.params.get("virtualmachineid").is_some() && call.params.get("deviceid").is_some() {
        let text = "Cannot invoke \"java.lang.Long.longValue()\" because \"volumeId\" is null";
        return Err(Refusal::runtime(text));
    }
    Err(Refusal::value("You must provide a volume id, or an instance id and a device id"))
}

pub(super) fn begin_detach(call: &Call<'_>) -> Result<Begun, Refusal> {
    if call.params.get("id").is_none() {
        return Ok(Begun {
            queue: call.params.get("virtualmachineid").map(str::to_owned),
            ..Begun::default()
        });
    }
    let volume = call.volume("id")?;
    Ok(Begun::on_volume(&volume.id, volume.vm.as_deref()))
}

pub(super) fn detach(call: &Call<'_>) -> Result<Value, Refusal> {
    let volume = to_detach(call)?;
    let vm = volume.vm.as_deref().and_then(|vm| call.sim.read(|state| state.vm(vm).cloned()));
    let vm = vm.ok_or_else(|| Refusal::value("The specified volume is not attached to a VM."))?;
    if volume.kind == "ROOT" && !["Stopped", "Destroyed"].contains(&vm.state.as_str()) {
        let text = "Root volume detach can happen only when vm is in states: Stopped or Destroyed";
        return Err(Refusal::value(text));
    }
    if let Some(host) = vm.host.as_deref() {
        call.sim.disconnect(&volume, &call.sim.host_name(host));
    }
    call.sim.change(|state| {
        if let Some(volume) = state.volume_mut(&volume.id) {
            (volume.vm, volume.device, volume.stats) = (None, None, false);
            volume.attached = None;
            volume.kind = "DATADISK".to_owned();
        }
        vm_deploy::event(call, state, "VOLUME.DETACH", &volume.id);
    });
    Ok(volume_view::result(call, &volume.id))
}
