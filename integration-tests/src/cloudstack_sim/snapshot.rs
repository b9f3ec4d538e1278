//! Snapshots of volumes, lightly: of a LINSTOR volume there is one on LINSTOR, named `cs-` and the snapshot's id.

use super::call::{Begun, Call, new_id, now};
use super::commands::success;
use super::list as lists;
use super::plugin;
use super::refusal::Refusal;
use super::state::{Snapshot, Volume};
use super::vm_view::owner;
use serde_json::{Value, json};

pub(super) fn begin(call: &Call<'_>) -> Result<Begun, Refusal> {
    let volume = call.volume("volumeid")?;
    if volume.state != "Ready" {
        return Err(Refusal::value(format!(
            "Volume: Volume {{\"name\":\"{}\",\"uuid\":\"{}\"}} is not in Ready state but {}. Cannot take snapshot.",
            volume.name, volume.id, volume.state
        )));
    }
    let id = new_id();
    call.sim.change(|state| {
        let number = state.next_number();
        state.snapshots.push(Snapshot {
            id: id.clone(),
            number,
            name: call.params.get("name").map_or_else(|| format!("{}_{number}", volume.name), str::to_owned),
            account: volume.account.clone(),
            volume: volume.id.clone(),
            created: now(),
            state: "Creating".to_owned(),
            size: volume.size,
            removed: false,
        });
    });
    let queue = Some(volume.vm.unwrap_or(volume.id));
    Ok(Begun { made: Some(id.clone()), instance: Some(("Snapshot".to_owned(), id)), queue })
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
    if let Some((linstor, path)) = call.sim.linstor_volume(&volume) {
        let name = plugin::resource(&path);
        linstor.create_snapshot(&name, &format!("cs-{id}")).map_err(Refusal::runtime)?;
    }
    call.sim.change(|state| {
        let own = state.snapshots.iter_mut().find(|snapshot| snapshot.id == id);
        own.into_iter().for_each(|snapshot| snapshot.state = "BackedUp".to_owned());
    });
    let (snapshot, volume) = with_volume(call, &id)?;
    let mut shown = view(call, &snapshot, Some(&volume));
    shown["snapshottype"] = json!("MANUAL");
    Ok(json!({"snapshot": shown}))
}

fn view(call: &Call<'_>, snapshot: &Snapshot, volume: Option<&Volume>) -> Value {
    let zone =
        volume.and_then(|volume| call.sim.world.get("zone", &volume.zone)).cloned().unwrap_or_default();
    let mut shown = json!({
        "id": snapshot.id, "volumeid": snapshot.volume, "created": snapshot.created, "name": snapshot.name,
        "intervaltype": "MANUAL", "state": snapshot.state, "physicalsize": 0, "zoneid": zone["id"],
        "zonename": zone["name"], "revertable": volume.is_some_and(|own| call.sim.linstor_volume(own).is_some()),
        "virtualsize": snapshot.size, "tags": [], "hasannotations": false,
    });
    owner(call.sim, &snapshot.account, &mut shown);
    if let Some(volume) = volume {
        shown["volumename"] = json!(volume.name);
        shown["volumetype"] = json!(volume.kind);
        shown["volumestate"] = json!(volume.state);
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
    let name = plugin::resource(&path);
    linstor.rollback(&name, &format!("cs-{}", snapshot.id)).map_err(Refusal::runtime)?;
    call.sim.change(|state| {
        if let Some(volume) = state.volume_mut(&volume.id) {
            volume.size = snapshot.size;
        }
    });
    Ok(json!({"snapshot": view(call, &snapshot, Some(&volume))}))
}
