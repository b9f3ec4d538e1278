//! How a volume looks.

use super::Sim;
use super::call::Call;
use super::list;
use super::refusal::Refusal;
use super::state::{State, Volume};
use super::vm_view::{owner, set};
use serde_json::{Value, json};

/// As an account sees it; a plain one sees neither hypervisor nor pool.
pub(super) fn view(sim: &Sim, state: &State, volume: &Volume, is_admin: bool) -> Value {
    let world = &sim.world;
    let zone = world.get("zone", &volume.zone).cloned().unwrap_or_default();
    let mut shown = json!({
        "id": volume.id, "name": volume.name, "zoneid": volume.zone, "zonename": zone["name"], "type": volume.kind,
        "provisioningtype": "thin", "size": volume.size, "created": volume.created, "state": volume.state,
        "storagetype": "shared", "destroyed": volume.state == "Destroy",
        "isextractable": volume.template.is_none(), "displayvolume": true, "quiescevm": false,
        "supportsstoragesnapshot": false, "deleteprotection": volume.delete_protection, "hasannotations": false,
        "tags": super::tag::of(sim, state, &volume.id),
    });
    owner(sim, &volume.account, &mut shown);
    let vm = volume.vm.as_deref().and_then(|vm| state.vm(vm));
    let disk = volume.disk_offering.as_deref().and_then(|id| world.get("diskoffering", id));
    let service = volume.service_offering.as_deref().and_then(|id| world.get("serviceoffering", id));
    let service = service.filter(|_| disk.is_none());
    let template =
        volume.template.as_deref().and_then(|id| world.get("template", id).or_else(|| world.get("iso", id)));
    let pool = volume.pool.as_deref().and_then(|id| world.get("storagepool", id)).filter(|_| is_admin);
    let member = |name: &str| pool.and_then(|pool| pool.get(name).cloned());
    let counted = vm.filter(|_| volume.stats).map(|_| json!(0));
    let hypervisor = pool.map_or_else(|| json!("None"), |pool| pool["hypervisor"].clone());
    set(
        &mut shown,
        [
            ("deviceid", vm.and(volume.device).map(Value::from)),
            ("virtualmachineid", vm.map(|vm| json!(vm.id))),
            ("attached", vm.and(volume.attached.as_ref()).map(|at| json!(at))),
            ("vmname", vm.map(|vm| json!(vm.name))),
            ("vmdisplayname", vm.map(|vm| json!(vm.display_name))),
            ("vmstate", vm.map(|vm| json!(vm.state))),
            ("vmtype", vm.map(|_| json!("User"))),
            ("templateid", template.map(|template| template["id"].clone())),
            ("templatename", template.map(|template| template["name"].clone())),
            ("templatedisplaytext", template.map(|template| template["displaytext"].clone())),
            ("diskofferingid", disk.map(|disk| disk["id"].clone())),
            ("diskofferingname", disk.map(|disk| disk["name"].clone())),
            ("diskofferingdisplaytext", disk.map(|disk| disk["displaytext"].clone())),
            // A number where an id should be: so it was recorded.
            ("serviceofferingid", service.map(|_| json!("1"))),
            ("serviceofferingname", service.map(|service| service["name"].clone())),
            ("serviceofferingdisplaytext", service.map(|service| service["displaytext"].clone())),
            ("diskkbsread", counted.clone()),
            ("diskkbswrite", counted.clone()),
            ("diskioread", counted.clone()),
            ("diskiowrite", counted),
            ("hypervisor", is_admin.then_some(hypervisor)),
            ("path", volume.path.as_ref().filter(|_| is_admin).map(|path| json!(path))),
            ("storage", member("name")),
            ("storageid", member("id")),
            ("clusterid", member("clusterid")),
            ("clustername", member("clustername")),
            ("podid", member("podid")),
            ("podname", member("podname")),
        ],
    );
    shown
}

/// `{"volume": …}` of one.
pub(super) fn result(call: &Call<'_>, id: &str) -> Value {
    let is_admin = call.caller.is_admin;
    let shown = call.sim.read(|state| state.volume(id).map(|volume| view(call.sim, state, volume, is_admin)));
    json!({"volume": shown.unwrap_or_default()})
}

/// `listVolumes`.
pub(super) fn list(call: &Call<'_>) -> Result<Value, Refusal> {
    let params = &call.params;
    let (ids, tags) = (params.list("ids"), params.maps("tags"));
    let wanted = |state: &State, volume: &Volume| {
        let is_named = ["id", "virtualmachineid"].iter().any(|name| params.get(name).is_some());
        let is_own = volume.account == call.caller.account;
        let may = is_own || call.caller.is_admin && (is_named || params.flag("listall") == Some(true));
        let same = |param: &str, own: Option<&str>| {
            params.get(param).is_none_or(|wanted| own.is_some_and(|own| own.eq_ignore_ascii_case(wanted)))
        };
        let like = |word: &str| volume.name.to_lowercase().contains(&word.to_lowercase());
        !volume.removed
            && may
            && same("id", Some(&volume.id))
            && same("name", Some(&volume.name))
            && same("type", Some(&volume.kind))
            && same("state", Some(&volume.state))
            && same("zoneid", Some(&volume.zone))
            && same("virtualmachineid", volume.vm.as_deref())
            && same("storageid", volume.pool.as_deref())
            && same("diskofferingid", volume.disk_offering.as_deref())
            && params.get("keyword").is_none_or(like)
            && (params.get("ids").is_none() || ids.contains(&volume.id))
            && super::tag::has_all(state, &volume.id, &tags)
    };
    let shown = call.sim.read(|state| {
        let volumes = state.volumes.iter().rev().filter(|volume| wanted(state, volume));
        let shown = volumes.map(|volume| {
            let shown = view(call.sim, state, volume, call.caller.is_admin);
            super::jobs::on_its_way(state, &volume.id, shown)
        });
        shown.collect()
    });
    list::page(call, "volume", shown)
}
