//! Resize, update, migrate.

use super::call::{Call, new_id};
use super::plugin::{self, kib_of_gib};
use super::refusal::Refusal;
use super::volume_view;
use serde_json::Value;

/// `resizeVolume`: to the same size, too, which makes storage's equal to CloudStack's.
pub(super) fn resize(call: &Call<'_>) -> Result<Value, Refusal> {
    let volume = call.volume("id")?;
    let offering = call.world("diskoffering", "diskofferingid");
    let own = offering.and_then(|offering| offering["disksize"].as_u64()).filter(|gib| *gib > 0);
    let wished = call.params.number("size").and_then(|gib| u64::try_from(gib).ok());
    let gib = wished.or(own).ok_or_else(|| Refusal::value("Please specify a size or a disk offering"))?;
    let bytes = kib_of_gib(gib) * 1024;
    if bytes < volume.size && call.params.flag("shrinkok") != Some(true) {
        return Err(Refusal::unsupported(format!(
            "Going from existing size of {} to size of {bytes} would shrink the volume.Need to sign off by supplying the \
             shrinkok parameter with value of true.",
            volume.size
        )));
    }
    if !["Allocated", "Ready"].contains(&volume.state.as_str()) {
        return Err(Refusal::value(
            "Volume should be in ready or allocated state before attempting a resize.",
        ));
    }
    if let Some((linstor, path)) = call.sim.linstor_volume(&volume).filter(|_| volume.state == "Ready") {
        linstor.resize(&plugin::resource(&path), kib_of_gib(gib)).map_err(|text| {
            Refusal::runtime(format!(
                "Failed to resize volume operation of volume UUID: [{}] due to - {text}",
                volume.id
            ))
        })?;
    }
    let offering = offering.and_then(|offering| offering["id"].as_str().map(str::to_owned));
    call.sim.change(|state| {
        if let Some(volume) = state.volume_mut(&volume.id) {
            volume.size = bytes;
            if offering.is_some() {
                volume.disk_offering = offering;
            }
        }
    });
    Ok(volume_view::result(call, &volume.id))
}

/// `updateVolume`: what it is told, unchecked. A volume made ready so has no format.
pub(super) fn update(call: &Call<'_>) -> Result<Value, Refusal> {
    let volume = call.volume("id")?;
    let params = &call.params;
    let id = match params.get("customid") {
        Some(_) => call.id_for_new(false)?,
        None => volume.id.clone(),
    };
    call.sim.change(|state| {
        let Some(volume) = state.volume_mut(&volume.id) else { return };
        for (param, member) in [("name", &mut volume.name), ("state", &mut volume.state)] {
            if let Some(value) = params.get(param) {
                value.clone_into(member);
            }
        }
        if let Some(path) = params.get("path") {
            volume.path = Some(path.to_owned());
        }
        if let Some(pool) = params.get("storageid") {
            volume.pool = Some(pool.to_owned());
        }
        if let Some(protected) = params.flag("deleteprotection") {
            volume.delete_protection = protected;
        }
        volume.id.clone_from(&id);
    });
    Ok(volume_view::result(call, &id))
}

/// `migrateVolume`: to another pool; what it leaves behind on LINSTOR is deleted.
pub(super) fn migrate(call: &Call<'_>) -> Result<Value, Refusal> {
    let volume = call.volume("volumeid")?;
    let to = call.params.required("storageid").to_owned();
    if volume.state != "Ready" {
        return Err(Refusal::value("Volume must be in ready state"));
    }
    let vm = volume.vm.as_deref().and_then(|vm| call.sim.read(|state| state.vm(vm).cloned()));
    if vm.is_some_and(|vm| vm.state == "Running") && call.params.flag("livemigrate") != Some(true) {
        let text = "The volume is attached to a running machine: livemigrate has to be true";
        return Err(Refusal::value(text));
    }
    if volume.pool.as_deref() == Some(&to) {
        let text = format!("Volume {} is already on the destination storage pool", volume.id);
        return Err(Refusal::value(text));
    }
    if !call.sim.pools_of(&volume, None).iter().any(|pool| pool["id"] == to) {
        let name =
            call.sim.world.get("storagepool", &to).map(|pool| pool["name"].clone()).unwrap_or_default();
        return Err(Refusal::value(format!(
            "Migration failed: target pool [{}] has no matching tags for volume [{}, uuid:{}]",
            name.as_str().unwrap_or_default(),
            volume.name,
            volume.id
        )));
    }
    let path = new_id();
    if let Some((linstor, pool)) = call.sim.linstor_of(&to) {
        let name = plugin::resource(&path);
        linstor.spawn(&pool.group, &name, volume.size / 1024).map_err(Refusal::runtime)?;
        linstor.set_property(&name, "Aux/cs-name", &volume.name).map_err(Refusal::runtime)?;
    }
    call.sim.delete_on_storage(&volume).map_err(Refusal::runtime)?;
    call.sim.change(|state| {
        if let Some(volume) = state.volume_mut(&volume.id) {
            (volume.pool, volume.path) = (Some(to), Some(path));
        }
    });
    Ok(volume_view::result(call, &volume.id))
}
