//! Snapshots of volumes, lightly: of a LINSTOR volume there is one on LINSTOR, named `cs-` and the snapshot's id.

use super::call::{Begun, Call, new_id, now};
use super::commands::success;
use super::list as lists;
use super::plugin;
use super::refusal::Refusal;
use super::state::{Snapshot, State, Volume};
use super::vm_view::{self, owner};
use serde_json::{Value, json};

pub(super) fn begin(call: &Call<'_>) -> Result<Begun, Refusal> {
    let volume = call.volume("volumeid")?;
    if volume.state != "Ready" {
        return Err(Refusal::value(format!(
            "Volume: Volume {{\"name\":\"{}\",\"uuid\":\"{}\"}} is not in Ready state but {}. Cannot take snapshot.",
            volume.name, volume.id, volume.state
        )));
    }
    let vm = volume.vm.as_deref().and_then(|vm| call.sim.read(|state| state.vm(vm).cloned()));
    if vm.is_some_and(|vm| vm.state == "Running" && vm_view::is_kvm(call.sim, &vm)) {
        return Err(Refusal::runtime(
            "KVM Snapshot is not supported for Running VMs. It is disabled by default due to a possible volume \
             corruption in certain cases. To enable it set global settings kvm.snapshot.enabled to True. See the \
             documentation for more details.",
        ));
    }
    if call.sim.read(|state| is_busy(state, &volume)) {
        let text = "There is other active snapshot tasks on the instance to which the volume is attached, please try \
                    again later";
        return Err(Refusal::value(text));
    }
    let id = new_id();
    // One that cannot be taken never gets further.
    let begins = if may_be_taken(call, &volume) { "Creating" } else { "Allocated" };
    call.sim.change(|state| {
        let number = state.next_number();
        state.snapshots.push(Snapshot {
            id: id.clone(),
            number,
            name: call.params.get("name").map_or_else(|| format!("{}_{number}", volume.name), str::to_owned),
            account: volume.account.clone(),
            volume: volume.id.clone(),
            created: now(),
            state: begins.to_owned(),
            size: volume.size,
            removed: false,
        });
    });
    let queue = Some(volume.vm.unwrap_or(volume.id));
    Ok(Begun { made: Some(id.clone()), instance: Some(("Snapshot".to_owned(), id)), queue })
}

/// Whether a snapshot of it, or of another volume of its machine, was begun and has not ended. One that failed never does.
fn is_busy(state: &State, volume: &Volume) -> bool {
    let shares = |other: &Volume| other.id == volume.id || volume.vm.is_some() && other.vm == volume.vm;
    let of = |snapshot: &Snapshot| state.volume(&snapshot.volume).is_some_and(shares);
    state.snapshots.iter().any(|own| !own.removed && own.state == "Creating" && of(own))
}

/// A volume that was made ready by `updateVolume` has no format: then only where snapshots are copied to secondary storage.
fn may_be_taken(call: &Call<'_>, volume: &Volume) -> bool {
    let is_copied = call.sim.world.setting("lin.backup.snapshots") != Some("false");
    volume.format.is_some() || call.sim.linstor_volume(volume).is_none() || is_copied
}

fn with_volume(call: &Call<'_>, id: &str) -> Result<(Snapshot, Volume), Refusal> {
    let both = call.sim.read(|state| {
        let snapshot = state.snapshot(id)?.clone();
        let volume = state.volume(&snapshot.volume)?.clone();
        Some((snapshot, volume))
    });
    both.ok_or_else(|| Refusal::value(format!("unable to find a snapshot with id {id}")))
}

/// `createSnapshot`. What LINSTOR refuses leaves it `Creating`.
pub(super) fn create(call: &Call<'_>) -> Result<Value, Refusal> {
    let instance = call.sim.read(|state| {
        let job = call.job.as_deref().and_then(|id| state.job(id));
        job.and_then(|job| job.instance.clone())
    });
    let (_, id) = instance.ok_or_else(|| Refusal::runtime("the snapshot is gone"))?;
    let (_, volume) = with_volume(call, &id)?;
    let failed = || {
        let text = "Failed to create snapshot due to an internal error creating snapshot for volume";
        Refusal::runtime(format!("{text} {}", volume.id))
    };
    if !may_be_taken(call, &volume) {
        return Err(failed());
    }
    if let Some((linstor, path)) = call.sim.linstor_volume(&volume) {
        let name = plugin::resource(&path);
        linstor.create_snapshot(&name, &format!("cs-{id}")).map_err(Refusal::runtime)?;
        // It is there, and CloudStack does not find it.
        if !linstor.has_snapshot_devices(&name).map_err(Refusal::runtime)? {
            return Err(failed());
        }
    }
    call.sim.change(|state| {
        let own = state.snapshots.iter_mut().find(|snapshot| snapshot.id == id);
        own.into_iter().for_each(|snapshot| snapshot.state = "BackedUp".to_owned());
    });
    let (snapshot, volume) = with_volume(call, &id)?;
    Ok(result(call, &snapshot, &volume))
}

/// What a job shows beyond a list.
fn result(call: &Call<'_>, snapshot: &Snapshot, volume: &Volume) -> Value {
    let mut shown = view(call, snapshot, Some(volume));
    shown["snapshottype"] = json!("MANUAL");
    let os = shown.get("ostypeid").and_then(Value::as_str).and_then(|id| call.sim.world.get("ostype", id));
    if let Some(os) = os.map(|os| os["name"].clone()) {
        shown["osdisplayname"] = os;
    }
    json!({"snapshot": shown})
}

fn view(call: &Call<'_>, snapshot: &Snapshot, volume: Option<&Volume>) -> Value {
    let zone =
        volume.and_then(|volume| call.sim.world.get("zone", &volume.zone)).cloned().unwrap_or_default();
    let mut shown = json!({
        "id": snapshot.id, "volumeid": snapshot.volume, "created": snapshot.created, "name": snapshot.name,
        "intervaltype": "MANUAL", "state": snapshot.state, "physicalsize": 0, "revertable": volume.is_some_and(|own| call.sim.linstor_volume(own).is_some()),
        "virtualsize": snapshot.size, "tags": [], "hasannotations": false,
    });
    owner(call.sim, &snapshot.account, &mut shown);
    if let Some(volume) = volume {
        shown["volumename"] = json!(volume.name);
        shown["volumetype"] = json!(volume.kind);
        shown["volumestate"] = json!(volume.state);
        let vm = volume.vm.as_deref().filter(|_| volume.kind == "ROOT");
        if let Some(vm) = vm.and_then(|vm| call.sim.read(|state| state.vm(vm).cloned())) {
            shown["ostypeid"] = json!(vm.os_type);
        }
    }
    if snapshot.state != "Allocated" {
        shown["zoneid"] = zone["id"].clone();
        shown["zonename"] = zone["name"].clone();
    }
    shown
}

/// `listSnapshots`.
pub(super) fn list(call: &Call<'_>) -> Result<Value, Refusal> {
    let params = &call.params;
    let found = call.sim.read(|state| {
        let wanted = state.snapshots.iter().filter(|snapshot| {
            !snapshot.removed
                && params.get("volumeid").is_none_or(|id| snapshot.volume == id)
                && params.get("id").is_none_or(|id| snapshot.id == id)
                && params.get("name").is_none_or(|name| snapshot.name == name)
                && (call.caller.is_admin || snapshot.account == call.caller.account)
        });
        wanted.map(|snapshot| (snapshot.clone(), state.volume(&snapshot.volume).cloned())).collect::<Vec<_>>()
    });
    let shown = found.iter().map(|(snapshot, volume)| view(call, snapshot, volume.as_ref())).collect();
    lists::page(call, "snapshot", shown)
}

/// `deleteSnapshot`.
pub(super) fn delete(call: &Call<'_>) -> Result<Value, Refusal> {
    let (snapshot, volume) = with_volume(call, call.params.required("id"))?;
    if let Some((linstor, path)) = call.sim.linstor_volume(&volume) {
        let name = plugin::resource(&path);
        linstor.delete_snapshot(&name, &format!("cs-{}", snapshot.id)).map_err(Refusal::runtime)?;
    }
    call.sim.change(|state| {
        let own = state.snapshots.iter_mut().find(|own| own.id == snapshot.id);
        own.into_iter().for_each(|snapshot| snapshot.removed = true);
    });
    Ok(success())
}

/// `revertSnapshot`: LINSTOR's rollback; the size goes back with it.
pub(super) fn revert(call: &Call<'_>) -> Result<Value, Refusal> {
    let (snapshot, volume) = with_volume(call, call.params.required("id"))?;
    let vm = volume.vm.as_deref().and_then(|vm| call.sim.read(|state| state.vm(vm).cloned()));
    if vm.is_some_and(|vm| vm.state != "Stopped") {
        return Err(Refusal::value("The VM the specified disk is attached to is not in the shutdown state."));
    }
    let Some((linstor, path)) = call.sim.linstor_volume(&volume) else {
        return Err(Refusal::runtime(format!(
            "Revert snapshot command failed for snapshot {}",
            snapshot.name
        )));
    };
    if snapshot.state != "BackedUp" {
        let text = format!("snapshot {} [{}] does not exists in data store", snapshot.name, snapshot.id);
        return Err(Refusal::runtime(text));
    }
    let name = plugin::resource(&path);
    linstor.rollback(&name, &format!("cs-{}", snapshot.id)).map_err(Refusal::runtime)?;
    call.sim.change(|state| {
        if let Some(volume) = state.volume_mut(&volume.id) {
            volume.size = snapshot.size;
        }
    });
    Ok(result(call, &snapshot, &volume))
}
