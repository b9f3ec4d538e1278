//! `deployVirtualMachine`: the machine and its root are made before the answer; the job starts it, where that is wanted.

use super::account::{VMS, within_limit};
use super::call::{Begun, Call, new_id, now};
use super::nic;
use super::refusal::Refusal;
use super::state::{Nic, State, Vm, Volume};
use super::{vm_power, vm_view};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn begin(call: &Call<'_>) -> Result<Begun, Refusal> {
    let params = &call.params;
    if let Some(name) = params.get("name") {
        check_name(name)?;
    }
    let id = call.id_for_new(true)?;
    let offering = call.world("serviceoffering", "serviceofferingid").cloned().unwrap_or_default();
    let template = call.world("template", "templateid").or_else(|| call.world("iso", "templateid")).cloned();
    let template = template.ok_or_else(|| Refusal::value("Unable to use template null"))?;
    let details = params.merged("details");
    let sizes = sizes(&offering, &details)?;
    let name = params.get("name").map_or_else(|| format!("VM-{id}"), str::to_owned);
    let networks = networks(call)?;
    let made = call.sim.change(|state| {
        within_limit(state, &call.caller.account, VMS, 1, 9999)?;
        for (network, _) in &networks {
            name_is_free(call, state, &name, network)?;
        }
        let mut nics: Vec<Nic> = Vec::new();
        for (network, wish) in &networks {
            let made = nic::make(call.sim, state, &nics, network, wish)?;
            nics.push(made);
        }
        let number = state.next_number();
        let own = details.into_iter().filter(|(name, _)| !OF_A_CUSTOM_OFFERING.contains(&name.as_str()));
        let mut details: BTreeMap<String, String> = own.collect();
        if !details.is_empty() {
            details.insert("deployvm".to_owned(), "true".to_owned());
        }
        let vm = Vm {
            id: id.clone(),
            number,
            display_name: params.get("displayname").unwrap_or(&name).to_owned(),
            name: name.clone(),
            account: call.caller.account.clone(),
            created: now(),
            updated: None,
            state: "Stopped".to_owned(),
            zone: params.required("zoneid").to_owned(),
            template: params.required("templateid").to_owned(),
            service_offering: params.required("serviceofferingid").to_owned(),
            os_type: template["ostypeid"].as_str().unwrap_or_default().to_owned(),
            cpu_number: sizes.0,
            cpu_speed: sizes.1,
            memory: sizes.2,
            details,
            nics,
            host: None,
            has_run: false,
            shows_boot: false,
            delete_protection: false,
            removed: false,
        };
        let root = root_of(call, state, &vm, &template);
        state.vms.push(vm);
        state.volumes.push(root);
        event(call, state, "VM.CREATE", &id);
        Ok(id.clone())
    })?;
    Ok(Begun { made: Some(made.clone()), ..Begun::on_vm(&made) })
}

/// A job's part: a start unless it was declined. One that fails leaves the machine in `Error`.
pub(super) fn perform(call: &Call<'_>) -> Result<Value, Refusal> {
    let instance = call.sim.read(|state| {
        let job = call.job.as_deref().and_then(|id| state.job(id));
        job.and_then(|job| job.instance.clone())
    });
    let (_, id) = instance.ok_or_else(|| Refusal::runtime("the machine is gone"))?;
    if call.params.flag("startvm") == Some(false) {
        return Ok(vm_view::result(call, &id));
    }
    if let Err(refusal) = vm_power::start_vm(call, &id) {
        call.sim.change(|state| {
            if let Some(vm) = state.vm_mut(&id) {
                vm.state = "Error".to_owned();
            }
        });
        return Err(refusal);
    }
    Ok(vm_view::result(call, &id))
}

const OF_A_CUSTOM_OFFERING: [&str; 3] = ["cpuNumber", "cpuSpeed", "memory"];

type Sizes = (Option<u64>, Option<u64>, Option<u64>);

/// An offering that leaves them open has to be told; a fixed one is not asked.
fn sizes(offering: &Value, details: &BTreeMap<String, String>) -> Result<Sizes, Refusal> {
    if offering["iscustomized"] != true {
        return Ok((None, None, None));
    }
    let number = |name: &str| details.get(name).and_then(|text| text.parse::<u64>().ok());
    let open = |own: &str, name: &str, most: u64| match (offering[own].as_u64(), number(name)) {
        (Some(fixed), _) => Ok(fixed),
        (None, Some(wished)) if (1..=most).contains(&wished) => Ok(wished),
        (None, _) => {
            Err(Refusal::value(format!("Invalid {name} value, specify a value between 1 and {most}")))
        }
    };
    let (cpus, memory) = (open("cpunumber", "cpuNumber", 1 << 20)?, open("memory", "memory", 1 << 30)?);
    let speed = offering["cpuspeed"].as_u64().or_else(|| number("cpuSpeed"));
    Ok((Some(cpus), Some(speed.unwrap_or(1000)), Some(memory)))
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    if plain && begins && !name.ends_with('-') && name.len() <= 63 {
        return Ok(());
    }
    Err(Refusal::parameter(
        "Unable to execute API command deployvirtualmachine due to invalid value. Invalid value provided for API arg: \
         name - it can contain ASCII letters 'a' through 'z', the digits '0' through '9', and the hyphen ('-'), must be \
         between 1 and 63 characters long, and can't start or end with \"-\" and can't start with digit",
    ))
}

/// A network, and what is wished on it.
type Wished = (String, BTreeMap<String, String>);

/// Networks with what is wished on each (`ip`, `mac`); the caller's isolated one where none is said.
fn networks(call: &Call<'_>) -> Result<Vec<Wished>, Refusal> {
    let mapped = call.params.maps("iptonetworklist");
    let mut wanted: Vec<Wished> = Vec::new();
    for map in mapped {
        let id = map.get("networkid").cloned().unwrap_or_default();
        wanted.push((id, map));
    }
    let mut first = BTreeMap::new();
    for (param, key) in [("ipaddress", "ip"), ("macaddress", "mac")] {
        if let Some(value) = call.params.get(param) {
            first.insert(key.to_owned(), value.to_owned());
        }
    }
    for id in call.params.list("networkids") {
        wanted.push((id, std::mem::take(&mut first)));
    }
    if wanted.is_empty() {
        let isolated = call.sim.world.all("network").iter().find(|network| network["type"] == "Isolated");
        let id = isolated.and_then(|network| network["id"].as_str());
        let id = id.ok_or_else(|| Refusal::value("Unable to find a network to deploy in"))?;
        wanted.push((id.to_owned(), first));
    }
    match wanted.iter().find(|(id, _)| call.sim.world.get("network", id).is_none()) {
        Some((id, _)) => Err(Refusal::value(format!("Unable to find network by id {id}"))),
        None => Ok(wanted),
    }
}

/// Host names are unique in a network's domain, also against machines that are destroyed but not expunged.
fn name_is_free(call: &Call<'_>, state: &State, name: &str, network: &str) -> Result<(), Refusal> {
    let domain = |id: &str| {
        call.sim.world.get("network", id).and_then(|network| network.get("networkdomain").cloned())
    };
    let wanted = domain(network);
    let clashes = |vm: &Vm| {
        let shares = |nic: &Nic| nic.network == network || wanted.is_some() && domain(&nic.network) == wanted;
        !vm.removed && vm.name.eq_ignore_ascii_case(name) && vm.nics.iter().any(shares)
    };
    if !state.vms.iter().any(clashes) {
        return Ok(());
    }
    let network = call.sim.world.get("network", network).cloned().unwrap_or_default();
    let domain = wanted.and_then(|domain| domain.as_str().map(str::to_owned));
    Err(Refusal::value(format!(
        "The vm with hostName {name} already exists in the network domain: {}; network={}",
        domain.as_deref().unwrap_or("null"),
        network["name"].as_str().unwrap_or_default()
    )))
}

fn root_of(call: &Call<'_>, state: &mut State, vm: &Vm, template: &Value) -> Volume {
    let wished = call.params.number("rootdisksize").and_then(|gib| u64::try_from(gib).ok());
    let size = wished.map_or_else(|| template["size"].as_u64().unwrap_or(1 << 30), |gib| gib << 30);
    let disk_offering = call.params.get("overridediskofferingid").map(str::to_owned);
    Volume {
        id: new_id(),
        number: state.next_number(),
        name: format!("ROOT-{}", vm.number),
        account: vm.account.clone(),
        zone: vm.zone.clone(),
        created: now(),
        state: "Allocated".to_owned(),
        kind: "ROOT".to_owned(),
        size,
        vm: Some(vm.id.clone()),
        device: Some(0),
        disk_offering,
        service_offering: Some(vm.service_offering.clone()),
        template: Some(vm.template.clone()),
        ..Volume::default()
    }
}

/// Writes an event down.
pub(super) fn event(call: &Call<'_>, state: &mut State, kind: &str, id: &str) {
    let mut event = json!({
        "id": new_id(), "username": call.caller.account, "type": kind, "level": "INFO",
        "description": format!("Successfully completed {} of {id}", kind.to_lowercase()), "resourceid": id,
        "created": now(), "state": "Completed",
    });
    vm_view::owner(call.sim, &call.caller.account, &mut event);
    state.events.push(event);
}
