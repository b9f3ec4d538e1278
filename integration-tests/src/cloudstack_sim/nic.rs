//! Network cards: addresses out of the network's range, a MAC that nobody else has.

use super::Sim;
use super::call::{Begun, Call, new_id};
use super::list as lists;
use super::refusal::Refusal;
use super::state::{Nic, State, Vm};
use super::vm_view;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// One more card for a machine that has `others`; `wish` may hold `ip` and `mac`.
pub(super) fn make(
    sim: &Sim,
    state: &State,
    others: &[Nic],
    network: &str,
    wish: &BTreeMap<String, String>,
) -> Result<Nic, Refusal> {
    let all = || state.vms.iter().filter(|vm| !vm.removed).flat_map(|vm| &vm.nics).chain(others);
    let mac = match wish.get("mac") {
        Some(mac) if all().any(|nic| nic.mac.eq_ignore_ascii_case(mac)) => {
            return Err(Refusal::value(format!("The requested Mac address is already taken! {mac}")));
        }
        Some(mac) => mac.clone(),
        None => free_mac(all()),
    };
    let taken: BTreeSet<_> =
        all().filter(|nic| nic.network == network).filter_map(|nic| nic.ip.clone()).collect();
    let ip = address(sim, network, wish.get("ip").map(String::as_str), &taken)?;
    let device = (0..).find(|device| others.iter().all(|nic| nic.device != *device)).unwrap_or_default();
    Ok(Nic { id: new_id(), network: network.to_owned(), mac, ip, default: others.is_empty(), device })
}

fn free_mac<'a>(all: impl Iterator<Item = &'a Nic>) -> String {
    let taken: BTreeSet<_> = all.map(|nic| nic.mac.clone()).collect();
    let mac = |at: u32| format!("02:01:00:cc:{:02x}:{:02x}", at >> 8 & 0xff, at & 0xff);
    (1..=0xffff).map(mac).find(|mac| !taken.contains(mac)).unwrap_or_else(|| mac(0))
}

/// Within the network; one of L2 has none.
fn address(
    sim: &Sim,
    network: &str,
    wished: Option<&str>,
    taken: &BTreeSet<String>,
) -> Result<Option<String>, Refusal> {
    let network = sim.world.get("network", network).cloned().unwrap_or_default();
    let Some((first, bits)) = network["cidr"].as_str().and_then(|cidr| cidr.split_once('/')) else {
        return Ok(None);
    };
    let (Ok(first), Ok(bits)) = (first.parse::<Ipv4Addr>(), bits.parse::<u32>()) else { return Ok(None) };
    let hosts = 1u32.checked_shl(32 - bits.min(32)).unwrap_or(u32::MAX);
    let range = (2..hosts.saturating_sub(1))
        .map(|at| Ipv4Addr::from(u32::from(first).saturating_add(at)).to_string());
    let gateway = network["gateway"].as_str().unwrap_or_default();
    match wished {
        None => {
            let free = range.into_iter().find(|ip| !taken.contains(ip) && ip != gateway);
            free.map(Some).ok_or_else(|| Refusal::capacity("Insufficient address capacity"))
        }
        Some(ip) if taken.contains(ip) => {
            Err(Refusal::value(format!("The requested Ip address is already taken! {ip}")))
        }
        Some(ip) if range.into_iter().any(|own| own == ip) => Ok(Some(ip.to_owned())),
        Some(ip) => Err(Refusal::value(format!("IP address {ip} is not in the network's range"))),
    }
}

/// `addNicToVirtualMachine`.
pub(super) fn add(call: &Call<'_>) -> Result<Value, Refusal> {
    let (vm, network) = (call.vm("virtualmachineid")?, call.params.required("networkid").to_owned());
    if vm.nics.iter().any(|nic| nic.network == network) {
        let name = vm_view::instance_name(&vm);
        return Err(Refusal::runtime(format!("A NIC already exists for VM:{name} in network: {network}")));
    }
    let mut wish = BTreeMap::new();
    for (param, key) in [("ipaddress", "ip"), ("macaddress", "mac")] {
        if let Some(value) = call.params.get(param) {
            wish.insert(key.to_owned(), value.to_owned());
        }
    }
    call.sim.change(|state| {
        let nic = make(call.sim, state, &vm.nics, &network, &wish)?;
        if let Some(vm) = state.vm_mut(&vm.id) {
            vm.nics.push(nic);
        }
        Ok(())
    })?;
    Ok(vm_view::result(call, &vm.id))
}

/// `removeNicFromVirtualMachine`: not the default one.
pub(super) fn remove(call: &Call<'_>) -> Result<Value, Refusal> {
    let (vm, id) = (call.vm("virtualmachineid")?, call.params.required("nicid").to_owned());
    match vm.nics.iter().find(|nic| nic.id == id) {
        None => return Err(Refusal::value(format!("NIC {id} is not of {}", vm_view::in_words(&vm)))),
        Some(nic) if nic.default => {
            let text = format!("Unable to remove nic from {}, nic is default.", vm_view::in_words(&vm));
            return Err(Refusal::value(text));
        }
        Some(_) => {}
    }
    call.sim.change(|state| {
        if let Some(vm) = state.vm_mut(&vm.id) {
            vm.nics.retain(|nic| nic.id != id);
        }
    });
    Ok(vm_view::result(call, &vm.id))
}

fn owner(call: &Call<'_>) -> Result<Vm, Refusal> {
    let id = call.params.required("nicid");
    let vm = call.sim.read(|state| state.nic_owner(id).cloned());
    vm.ok_or_else(|| Refusal::value(format!("There is no nic for the id {id}")))
}

pub(super) fn begin_update(call: &Call<'_>) -> Result<Begun, Refusal> {
    Ok(Begun::on_vm(&owner(call)?.id))
}

/// `updateVmNicIp`: of a stopped machine.
pub(super) fn update(call: &Call<'_>) -> Result<Value, Refusal> {
    let (vm, id) = (owner(call)?, call.params.required("nicid").to_owned());
    if vm.state != "Stopped" {
        return Err(Refusal::value("Vm has to be stopped"));
    }
    call.sim.change(|state| {
        let network =
            vm.nics.iter().find(|nic| nic.id == id).map(|nic| nic.network.clone()).unwrap_or_default();
        let others = state.vms.iter().filter(|vm| !vm.removed).flat_map(|vm| &vm.nics);
        let taken =
            others.filter(|nic| nic.network == network && nic.id != id).filter_map(|nic| nic.ip.clone());
        let ip = address(call.sim, &network, call.params.get("ipaddress"), &taken.collect())?;
        let own = state.vm_mut(&vm.id).and_then(|vm| vm.nics.iter_mut().find(|nic| nic.id == id));
        if let Some(nic) = own {
            nic.ip = ip;
        }
        Ok(())
    })?;
    Ok(vm_view::result(call, &vm.id))
}

/// `listNics`.
pub(super) fn list(call: &Call<'_>) -> Result<Value, Refusal> {
    let vm = call.vm("virtualmachineid")?;
    let wanted = |nic: &&Nic| call.params.get("nicid").is_none_or(|id| nic.id == id);
    let shown = vm.nics.iter().filter(wanted).map(|nic| {
        let mut shown = vm_view::nic_view(call.sim, &vm, nic);
        if let Some(members) = shown.as_object_mut() {
            members.remove("secondaryip");
        }
        shown["virtualmachineid"] = json!(vm.id);
        shown
    });
    lists::page(call, "nic", shown.collect())
}
