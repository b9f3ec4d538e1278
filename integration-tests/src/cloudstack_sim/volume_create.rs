//! `createVolume`: a row in the database, nothing on storage, until the volume is attached.

use super::account::{PRIMARY_STORAGE, VOLUMES, within_limit};
use super::call::{Begun, Call, now};
use super::plugin::kib_of_gib;
use super::refusal::Refusal;
use super::state::Volume;
use super::{vm_deploy, volume_view};
use serde_json::{Value, json};

/// GiB that a volume of any size may have.
const SIZES: std::ops::RangeInclusive<i64> = 1..=1024;

pub(super) fn begin(call: &Call<'_>) -> Result<Begun, Refusal> {
    let params = &call.params;
    let account = owner(call)?;
    let id = call.id_for_new(false)?;
    let zone = params.get("zoneid");
    let source = call.sim.read(|state| params.get("snapshotid").and_then(|id| state.snapshot(id).cloned()));
    let (size, offering) = match &source {
        Some(snapshot) => {
            let of = call.sim.read(|state| state.volume(&snapshot.volume).cloned());
            (snapshot.size, of.and_then(|volume| volume.disk_offering))
        }
        None => (size(call)?, params.get("diskofferingid").map(str::to_owned)),
    };
    let zone = zone.ok_or_else(|| Refusal::value("Unable to find zone by id null"))?.to_owned();
    let name = params.get("name").map_or_else(|| format!("{account}-volume"), str::to_owned);
    call.sim.change(|state| {
        within_limit(state, &account, VOLUMES, 1, 4370)?;
        within_limit(state, &account, PRIMARY_STORAGE, size, 4370)?;
        let number = state.next_number();
        state.volumes.push(Volume {
            id: id.clone(),
            number,
            name,
            account,
            zone,
            created: now(),
            state: "Allocated".to_owned(),
            kind: "DATADISK".to_owned(),
            size,
            disk_offering: offering,
            ..Volume::default()
        });
        vm_deploy::event(call, state, "VOLUME.CREATE", &id);
        Ok(())
    })?;
    Ok(Begun { made: Some(id.clone()), ..Begun::on_volume(&id, None) })
}

/// An admin may make one for another account.
fn owner(call: &Call<'_>) -> Result<String, Refusal> {
    match (call.params.get("account"), call.params.get("domainid")) {
        (None, _) => Ok(call.caller.account.clone()),
        (Some(_), None) => Err(Refusal::value("Account must be specified with domainId parameter")),
        (Some(name), Some(_)) => {
            let known = call.sim.accounts.iter().any(|account| account.caller.account == name);
            let text = format!("Unable to find account by name {name} in domain with specified id");
            known.then(|| name.to_owned()).ok_or_else(|| Refusal::value(text))
        }
    }
}

/// In bytes, as the offering lets it be.
fn size(call: &Call<'_>) -> Result<u64, Refusal> {
    let Some(offering) = call.world("diskoffering", "diskofferingid") else {
        let text = "At least one of disk Offering ID or snapshot ID must be passed whilst creating volume";
        return Err(Refusal::value(text));
    };
    let wished = call.params.number("size");
    let gib = match (offering["iscustomized"] == true, wished) {
        (true, None) => return Err(Refusal::value("This disk offering requires a custom size specified")),
        (false, Some(_)) => return Err(Refusal::value("This disk offering does not allow custom size")),
        (true, Some(gib)) if gib <= 0 => return Err(Refusal::value("Disk size must be larger than 0")),
        (true, Some(gib)) if !SIZES.contains(&gib) => {
            return Err(Refusal::value(format!(
                "Volume size: {gib} GB is out of allowed range. Min: {}. Max: {}",
                SIZES.start(),
                SIZES.end()
            )));
        }
        (true, Some(gib)) => u64::try_from(gib).unwrap_or(1),
        (false, None) => offering["disksize"].as_u64().unwrap_or(1),
    };
    Ok(kib_of_gib(gib) * 1024)
}

/// From a snapshot, and on a server that takes `storageid`, it is made on storage at once.
pub(super) fn perform(call: &Call<'_>) -> Result<Value, Refusal> {
    let instance = call.sim.read(|state| {
        let job = call.job.as_deref().and_then(|id| state.job(id));
        job.and_then(|job| job.instance.clone())
    });
    let (_, id) = instance.ok_or_else(|| Refusal::runtime("the volume is gone"))?;
    let is_placed = call
        .params
        .get("storageid")
        .filter(|_| call.sim.contract.unknown("createVolume", &call.params).is_empty());
    if let Some(pool) = is_placed {
        let fits = call
            .sim
            .read(|state| state.volume(&id).cloned())
            .is_some_and(|volume| call.sim.pools_of(&volume, None).iter().any(|own| own["id"] == pool));
        if !fits {
            return Err(Refusal::runtime(format!("the storage pool {pool} does not fit the disk offering")));
        }
        call.sim.make_on_storage(&id, None, call.fault.as_ref())?;
    } else if call.params.get("snapshotid").is_some() {
        call.sim.make_on_storage(&id, None, call.fault.as_ref())?;
    }
    let mut shown = volume_view::result(call, &id);
    if let Some(snapshot) = call.params.get("snapshotid") {
        shown["volume"]["snapshotid"] = json!(snapshot);
    }
    Ok(shown)
}
