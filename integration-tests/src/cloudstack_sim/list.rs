//! Lists: pages, filters, and those whose objects stand in the world.

use super::call::Call;
use super::refusal::Refusal;
use serde_json::{Value, json};

const LARGEST_PAGE: i64 = 500;

/// What shows of a host with `details=min`.
const OF_A_HOST_ALWAYS: [&str; 24] = [
    "id",
    "name",
    "state",
    "type",
    "ipaddress",
    "zoneid",
    "podid",
    "version",
    "hypervisor",
    "cpunumber",
    "cpuspeed",
    "memoryallocated",
    "capabilities",
    "lastpinged",
    "managementserverid",
    "managementservername",
    "clusterid",
    "islocalstorageactive",
    "created",
    "hostha",
    "outofbandmanagement",
    "resourcestate",
    "ueficapability",
    "hasannotations",
];

/// The part that was asked for, with the count of all; `{}` of nothing.
pub(super) fn page(call: &Call<'_>, key: &str, items: Vec<Value>) -> Result<Value, Refusal> {
    let (number, size) = (call.params.number("page"), call.params.number("pagesize"));
    match (number, size) {
        (Some(_), None) => {
            return Err(Refusal::parameter("\"pagesize\" parameter is required when \"page\" is specified"));
        }
        (None, Some(_)) => {
            return Err(Refusal::parameter("\"page\" parameter is required when \"pagesize\" is specified"));
        }
        (Some(_), Some(-1)) => {
            return Err(Refusal::value("Can't specify page parameter when pagesize is -1 (Unlimited)"));
        }
        (_, Some(size)) if size > LARGEST_PAGE => {
            let text = format!("Page size can't exceed max allowed page size value: {LARGEST_PAGE}");
            return Err(Refusal::value(text));
        }
        _ => {}
    }
    let count = items.len();
    if count == 0 {
        return Ok(json!({}));
    }
    let size = usize::try_from(size.unwrap_or(LARGEST_PAGE)).ok().filter(|size| *size > 0).unwrap_or(count);
    let number = usize::try_from(number.unwrap_or(1)).unwrap_or(1).max(1);
    let shown: Vec<_> = items.into_iter().skip((number - 1).saturating_mul(size)).take(size).collect();
    if shown.is_empty() {
        return Ok(json!({"count": count}));
    }
    Ok(json!({"count": count, key: shown}))
}

/// Whether an object has what the parameters of these names say, and the keyword in its name.
pub(super) fn matches(call: &Call<'_>, object: &Value, by: &[&str]) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let keyword = call.params.get("keyword").unwrap_or_default().to_lowercase();
    let name = object.get("name").map(text).unwrap_or_default().to_lowercase();
    let same = |param: &&str| {
        let wanted = call.params.get(param).filter(|wanted| !wanted.is_empty());
        wanted
            .is_none_or(|wanted| object.get(*param).is_some_and(|own| text(own).eq_ignore_ascii_case(wanted)))
    };
    name.contains(&keyword) && by.iter().all(same)
}

/// Objects of the world, by the filters that they have in common.
pub(super) fn of_world(call: &Call<'_>, kind: &str) -> Result<Value, Refusal> {
    let by = [
        "id",
        "name",
        "zoneid",
        "podid",
        "clusterid",
        "type",
        "state",
        "scope",
        "path",
        "provider",
        "hypervisor",
        "oscategoryid",
        "category",
        "allocationstate",
    ];
    let objects = call.sim.world.all(kind).iter().filter(|object| matches(call, object, &by));
    page(call, kind, objects.cloned().collect())
}

/// With what CloudStack's own volumes take of each, once each, whatever else lies there.
pub(super) fn pools(call: &Call<'_>) -> Result<Value, Refusal> {
    let by = ["id", "name", "zoneid", "podid", "clusterid", "scope", "path", "ipaddress"];
    let mut pools: Vec<_> = call.sim.world.all("storagepool").to_vec();
    pools.retain(|pool| matches(call, pool, &by));
    for pool in &mut pools {
        let allocated: u64 = call.sim.read(|state| {
            let own =
                state.volumes.iter().filter(|own| !own.removed && own.pool.as_deref() == pool["id"].as_str());
            own.map(|volume| volume.size).sum()
        });
        pool["disksizeallocated"] = json!(allocated);
    }
    page(call, "storagepool", pools)
}

/// The one object of a kind, not in a list.
pub(super) fn one(call: &Call<'_>, kind: &str) -> Result<Value, Refusal> {
    let object = call.sim.world.all(kind).first().cloned().unwrap_or_default();
    Ok(json!({kind: object}))
}

pub(super) fn apis(call: &Call<'_>) -> Result<Value, Refusal> {
    let wanted = call.params.get("name");
    let apis = call.sim.contract.apis(call.caller.is_admin).into_iter();
    let shown: Vec<_> = apis.filter(|api| wanted.is_none_or(|name| api["name"] == name)).collect();
    if shown.is_empty() {
        let text = "Api Discovery plugin was unable to find an api by that name or process any apis";
        return Err(Refusal::internal(text));
    }
    Ok(json!({"count": shown.len(), "api": shown}))
}

/// A plain user sees less of a zone.
pub(super) fn zones(call: &Call<'_>) -> Result<Value, Refusal> {
    let mut zones: Vec<_> = call.sim.world.all("zone").to_vec();
    zones.retain(|zone| matches(call, zone, &["id", "name", "networktype"]));
    for zone in &mut zones {
        let Some(members) = zone.as_object_mut() else { continue };
        if !call.caller.is_admin {
            for hidden in ["dns1", "internaldns1", "guestcidraddress"] {
                members.remove(hidden);
            }
        }
        if call.params.flag("showcapacities") == Some(true) {
            let shown = call.sim.world.all("capacity").iter().map(|capacity| {
                let mut capacity = capacity.clone();
                if let Some(members) = capacity.as_object_mut() {
                    members.retain(|name, _| {
                        !["zoneid", "zonename", "capacityallocated"].contains(&name.as_str())
                    });
                }
                capacity
            });
            members.insert("capacity".to_owned(), shown.collect());
        }
    }
    page(call, "zone", zones)
}

pub(super) fn hosts(call: &Call<'_>) -> Result<Value, Refusal> {
    let mut hosts: Vec<_> = call.sim.world.all("host").to_vec();
    hosts
        .retain(|host| matches(call, host, &["id", "name", "zoneid", "podid", "clusterid", "type", "state"]));
    for host in &mut hosts {
        let allocated: u64 = call.sim.read(|state| {
            let here = state.vms.iter().filter(|vm| vm.host.as_deref() == host["id"].as_str());
            here.map(|vm| super::vm_view::memory(call.sim, vm)).sum()
        });
        host["memoryallocated"] = json!(allocated << 20);
        if host.get("memoryallocatedbytes").is_some() {
            host["memoryallocatedbytes"] = json!(allocated << 20);
        }
        let is_short = call.params.get("details") == Some("min");
        if let Some(members) = host.as_object_mut().filter(|_| is_short) {
            members.retain(|name, _| OF_A_HOST_ALWAYS.contains(&name.as_str()));
        }
    }
    page(call, "host", hosts)
}

pub(super) fn networks(call: &Call<'_>) -> Result<Value, Refusal> {
    let is_known = |kind: &&str| ["isolated", "shared", "l2"].contains(&kind.to_lowercase().as_str());
    if let Some(kind) = call.params.get("type").filter(|kind| !is_known(kind)) {
        return Err(Refusal::value(format!("Unexpected Guest type : {kind}")));
    }
    of_world(call, "network")
}

pub(super) fn templates(call: &Call<'_>) -> Result<Value, Refusal> {
    let filter = call.params.get("templatefilter").unwrap_or_default().to_lowercase();
    let known = [
        "featured",
        "self",
        "selfexecutable",
        "sharedexecutable",
        "executable",
        "community",
        "shared",
        "all",
    ];
    if !known.contains(&filter.as_str()) {
        return Err(Refusal::parameter("Please specify a valid template filter"));
    }
    let by = ["id", "name", "zoneid", "hypervisor"];
    let mut templates: Vec<_> = call.sim.world.all("template").to_vec();
    templates.retain(|template| {
        let is_shown = match filter.as_str() {
            "all" => true,
            "self" | "selfexecutable" | "shared" | "sharedexecutable" | "community" => false,
            _ => template["templatetype"] != "SYSTEM",
        };
        is_shown && matches(call, template, &by)
    });
    page(call, "template", templates)
}

/// Without a filter one's own, of which there are none.
pub(super) fn isos(call: &Call<'_>) -> Result<Value, Refusal> {
    let filter = call.params.get("isofilter").unwrap_or("selfexecutable").to_lowercase();
    let mut isos: Vec<_> = call.sim.world.all("iso").to_vec();
    isos.retain(|iso| {
        let is_own = filter.starts_with("self") && call.params.get("id").is_none();
        !is_own && matches(call, iso, &["id", "name", "zoneid"])
    });
    page(call, "iso", isos)
}

/// The recorded ones, then what happened here.
pub(super) fn events(call: &Call<'_>) -> Result<Value, Refusal> {
    let mut events = call.sim.world.all("event").to_vec();
    call.sim.read(|state| events.extend(state.events.iter().cloned()));
    page(call, "event", events)
}
