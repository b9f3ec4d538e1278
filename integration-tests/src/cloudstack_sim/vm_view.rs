//! How a machine looks: every key that the real server has, where it has it.

use super::Sim;
use super::account::Account;
use super::call::Call;
use super::list;
use super::refusal::Refusal;
use super::state::{Nic, State, Vm};
use serde_json::{Value, json};

const DETAILS: [&str; 14] = [
    "all", "group", "nics", "stats", "secgrp", "tmpl", "servoff", "diskoff", "backoff", "iso", "volume",
    "min", "affgrp", "vnfnics",
];

/// Sets those that are there.
pub(super) fn set<const N: usize>(object: &mut Value, members: [(&str, Option<Value>); N]) {
    for (name, value) in members {
        if let Some(value) = value {
            object[name] = value;
        }
    }
}

/// The account, its id and the domain, as every object of an account shows them.
pub(super) fn owner(sim: &Sim, account: &str, object: &mut Value) {
    object["account"] = json!(account);
    let domain = sim.world.all("domain").first().cloned().unwrap_or_default();
    object["domainid"] = domain["id"].clone();
    object["domain"] = domain["name"].clone();
    object["domainpath"] = domain["path"].clone();
}

fn known<'a>(sim: &'a Sim, account: &str) -> Option<&'a Account> {
    sim.accounts.iter().find(|known| known.caller.account == account)
}

/// In MiB.
pub(super) fn memory(sim: &Sim, vm: &Vm) -> u64 {
    let offering = sim.world.get("serviceoffering", &vm.service_offering);
    vm.memory.or_else(|| offering.and_then(|offering| offering["memory"].as_u64())).unwrap_or(512)
}

pub(super) fn cpus(sim: &Sim, vm: &Vm) -> u64 {
    let offering = sim.world.get("serviceoffering", &vm.service_offering);
    vm.cpu_number.or_else(|| offering.and_then(|offering| offering["cpunumber"].as_u64())).unwrap_or(1)
}

pub(super) fn is_kvm(sim: &Sim, vm: &Vm) -> bool {
    sim.world.get("template", &vm.template).is_some_and(|template| template["hypervisor"] == "KVM")
}

pub(super) fn view(sim: &Sim, state: &State, vm: &Vm) -> Value {
    let world = &sim.world;
    let offering = world.get("serviceoffering", &vm.service_offering).cloned().unwrap_or_default();
    let template = world.get("template", &vm.template).or_else(|| world.get("iso", &vm.template));
    let template = template.cloned().unwrap_or_default();
    let user = known(sim, &vm.account).map(|account| account.caller.user_id.clone()).unwrap_or_default();
    let zone = world.get("zone", &vm.zone).cloned().unwrap_or_default();
    let mut shown = json!({
        "id": vm.id, "name": vm.name, "displayname": vm.display_name, "userid": user, "username": vm.account,
        "created": vm.created, "state": vm.state, "haenable": false, "zoneid": vm.zone, "zonename": zone["name"],
        "templateid": vm.template, "templatename": template["name"], "templatetype": template["templatetype"],
        "templateformat": template["format"], "templatedisplaytext": template["displaytext"],
        "passwordenabled": false, "serviceofferingid": vm.service_offering, "serviceofferingname": offering["name"],
        "cpunumber": cpus(sim, vm), "cpuspeed": vm.cpu_speed.map_or(offering["cpuspeed"].clone(), Value::from),
        "memory": memory(sim, vm), "guestosid": vm.os_type, "securitygroup": [],
        "hypervisor": template["hypervisor"], "instancename": instance_name(vm), "details": vm.details,
        "affinitygroup": [], "displayvm": true, "isdynamicallyscalable": false,
        "deleteprotection": vm.delete_protection, "ostypeid": vm.os_type, "receivedbytes": 0, "sentbytes": 0,
        "arch": "x86_64", "hasannotations": false, "tags": super::tag::of(sim, state, &vm.id),
        "nic": vm.nics.iter().map(|nic| nic_view(sim, vm, nic)).collect::<Vec<_>>(),
    });
    owner(sim, &vm.account, &mut shown);
    let host = vm.host.as_deref().and_then(|host| world.get("host", host));
    let root = state.root_of(&vm.id);
    // The real one's answer is joined over all volumes: the last one's offering shows, and any of them makes a root.
    let volumes = state.volumes_of(&vm.id);
    let of_root = |volume: &&&super::state::Volume| volume.kind == "ROOT";
    let last =
        volumes.iter().rev().find(|volume| volume.kind != "ROOT").or_else(|| volumes.iter().find(of_root));
    let offering_shown = last.and_then(|last| world.get("diskoffering", last.disk_offering.as_deref()?));
    let pool = root.and_then(|root| world.get("storagepool", root.pool.as_deref()?));
    let address = vm.nics.iter().find(|nic| nic.default).and_then(|nic| nic.ip.clone());
    let os = world.get("ostype", &vm.os_type);
    let uefi = vm.details.get("UEFI").map(|mode| mode.to_lowercase());
    let boots = uefi.is_some() && vm.state != "Destroyed" || vm.shows_boot;
    set(
        &mut shown,
        [
            ("lastupdated", vm.updated.as_ref().map(|at| json!(at))),
            ("hostid", host.map(|host| host["id"].clone())),
            ("hostname", host.map(|host| host["name"].clone())),
            ("hostcontrolstate", host.map(|_| json!("Enabled"))),
            ("diskofferingid", offering_shown.map(|offering| offering["id"].clone())),
            ("diskofferingname", offering_shown.map(|offering| offering["name"].clone())),
            ("rootdeviceid", last.map(|_| json!(root.and_then(|root| root.device).unwrap_or(0)))),
            ("rootdevicetype", last.map(|_| json!("ROOT"))),
            ("pooltype", pool.map(|pool| pool["type"].clone())),
            ("ipaddress", address.map(Value::from)),
            ("osdisplayname", os.map(|os| os["name"].clone())),
            ("bootmode", boots.then(|| json!(uefi.as_deref().unwrap_or("legacy")))),
            ("boottype", boots.then(|| json!(if uefi.is_some() { "Uefi" } else { "Bios" }))),
        ],
    );
    shown
}

pub(super) fn instance_name(vm: &Vm) -> String {
    format!("i-2-{}-VM", vm.number)
}

/// As errors name a machine.
pub(super) fn in_words(vm: &Vm) -> String {
    format!(
        "VM instance {{\"id\":{},\"instanceName\":\"{}\",\"state\":\"{}\",\"type\":\"User\",\"uuid\":\"{}\"}}",
        vm.number,
        instance_name(vm),
        vm.state,
        vm.id
    )
}

/// A card as it stands in its machine.
pub(super) fn nic_view(sim: &Sim, vm: &Vm, nic: &Nic) -> Value {
    let network = sim.world.get("network", &nic.network).cloned().unwrap_or_default();
    let mut shown = json!({
        "id": nic.id, "networkid": nic.network, "networkname": network["name"], "traffictype": "Guest",
        "type": network["type"], "isdefault": nic.default, "macaddress": nic.mac, "secondaryip": [],
        "extradhcpoption": [], "deviceid": nic.device.to_string(),
    });
    let member = |name: &str| network.get(name).filter(|value| !value.is_null()).cloned();
    let own = member("broadcasturi").filter(|_| network["type"] == "L2");
    let vlan = own.or_else(|| (vm.state == "Running").then(|| json!("vlan://111")));
    set(
        &mut shown,
        [
            ("netmask", member("netmask")),
            ("gateway", member("gateway")),
            ("ipaddress", nic.ip.as_ref().map(|ip| json!(ip))),
            ("isolationuri", vlan.clone()),
            ("broadcasturi", vlan),
        ],
    );
    shown
}

/// `{"virtualmachine": …}` of one.
pub(super) fn result(call: &Call<'_>, id: &str) -> Value {
    let shown = call.sim.read(|state| state.vm(id).map(|vm| view(call.sim, state, vm)));
    json!({"virtualmachine": shown.unwrap_or_default()})
}

/// `listVirtualMachines`.
pub(super) fn list(call: &Call<'_>) -> Result<Value, Refusal> {
    let params = &call.params;
    let is_wrong = |detail: &String| !DETAILS.contains(&detail.as_str());
    if params.list("details").iter().any(is_wrong) || !params.maps("details").is_empty() {
        let known = DETAILS.join(", ");
        return Err(Refusal::value(format!(
            "The details parameter contains a non permitted value. The allowed values are [{known}]"
        )));
    }
    // Its database collates three bytes a character.
    if params.get("keyword").is_some_and(|keyword| keyword.chars().any(|c| c.len_utf8() > 3)) {
        return Err(Refusal::runtime("Unable to find on DB, due to: Illegal mix of collations"));
    }
    let ids = params.list("ids");
    let tags = params.maps("tags");
    let wanted = |state: &State, vm: &Vm| {
        let is_named = params.get("id").is_some();
        let is_own = vm.account == call.caller.account;
        let may = is_own || call.caller.is_admin && (is_named || params.flag("listall") == Some(true));
        let like = |wanted: &str| vm.name.to_lowercase().contains(&wanted.to_lowercase());
        let on = |network: &str| vm.nics.iter().any(|nic| nic.network == network);
        let state_is = |wanted: &str| match wanted.to_lowercase().as_str() {
            "present" => vm.state != "Destroyed" && vm.state != "Expunging",
            other => vm.state.eq_ignore_ascii_case(other),
        };
        let same = |param: &str, own: &str| params.get(param).is_none_or(|id| id.eq_ignore_ascii_case(own));
        let stored =
            |pool: &str| state.volumes_of(&vm.id).iter().any(|own| own.pool.as_deref() == Some(pool));
        !vm.removed
            && may
            && same("id", &vm.id)
            && same("zoneid", &vm.zone)
            && same("templateid", &vm.template)
            && same("serviceofferingid", &vm.service_offering)
            && params.get("hostid").is_none_or(|host| vm.host.as_deref() == Some(host))
            && params.get("name").is_none_or(like)
            && params.get("keyword").is_none_or(|word| {
                like(word) || vm.display_name.to_lowercase().contains(&word.to_lowercase())
            })
            && params.get("state").is_none_or(state_is)
            && params.get("networkid").is_none_or(on)
            && params.get("storageid").is_none_or(stored)
            && (params.get("ids").is_none() || ids.contains(&vm.id))
            && super::tag::has_all(state, &vm.id, &tags)
    };
    let shown = call.sim.read(|state| {
        let vms = state.vms.iter().rev().filter(|vm| wanted(state, vm));
        vms.map(|vm| super::jobs::on_its_way(state, &vm.id, view(call.sim, state, vm))).collect()
    });
    list::page(call, "virtualmachine", shown)
}
