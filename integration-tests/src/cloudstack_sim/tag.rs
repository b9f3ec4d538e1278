//! Tags on machines and volumes.

use super::Sim;
use super::call::Call;
use super::commands::success;
use super::list as lists;
use super::refusal::Refusal;
use super::state::{State, Tag};
use super::vm_view::owner;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn view(sim: &Sim, tag: &Tag) -> Value {
    let mut shown = json!({
        "key": tag.key, "value": tag.value, "resourcetype": tag.resource_type, "resourceid": tag.resource,
    });
    owner(sim, &tag.account, &mut shown);
    shown
}

/// As an object shows its own.
pub(super) fn of(sim: &Sim, state: &State, resource: &str) -> Vec<Value> {
    let own = state.tags.iter().filter(|tag| tag.resource == resource);
    let shown = own.map(|tag| {
        let mut shown = view(sim, tag);
        if let Some(members) = shown.as_object_mut() {
            members.remove("domainpath");
        }
        shown
    });
    shown.collect()
}

/// `tags[0].key=…&tags[0].value=…`: every one of them.
pub(super) fn has_all(state: &State, resource: &str, wanted: &[BTreeMap<String, String>]) -> bool {
    wanted.iter().all(|wanted| {
        let same = |tag: &Tag| {
            tag.resource == resource
                && wanted.get("key").is_none_or(|key| *key == tag.key)
                && wanted.get("value").is_none_or(|value| *value == tag.value)
        };
        state.tags.iter().any(same)
    })
}

/// The type as the server spells it, and that each resource is one of it.
fn resources(call: &Call<'_>) -> Result<(String, Vec<String>), Refusal> {
    let wished = call.params.required("resourcetype");
    let known = ["UserVm", "Volume"].into_iter().find(|known| known.eq_ignore_ascii_case(wished));
    let kind = known.ok_or_else(|| Refusal::value(format!("Invalid resource type {wished}")))?;
    let ids = call.params.list("resourceids");
    let is_there = |id: &String| {
        call.sim.read(|state| match kind {
            "UserVm" => state.vm(id).is_some_and(|vm| !vm.removed),
            _ => state.volume(id).is_some_and(|volume| !volume.removed),
        })
    };
    match ids.iter().find(|id| !is_there(id)) {
        Some(id) => Err(Refusal::value(format!("Unable to find resource by uuid {id} and type {kind}"))),
        None => Ok((kind.to_owned(), ids)),
    }
}

/// `createTags`: none of them where one is there already.
pub(super) fn create(call: &Call<'_>) -> Result<Value, Refusal> {
    let (kind, ids) = resources(call)?;
    let wanted = call.params.maps("tags");
    call.sim.change(|state| {
        for id in &ids {
            for tag in &wanted {
                let key = tag.get("key").cloned().unwrap_or_default();
                if state.tags.iter().any(|own| own.resource == *id && own.key == key) {
                    return Err(Refusal::runtime(format!("tag {key} already on {kind} with id {id}")));
                }
            }
        }
        for id in &ids {
            let made = wanted.iter().map(|tag| Tag {
                account: call.caller.account.clone(),
                resource_type: kind.clone(),
                resource: id.clone(),
                key: tag.get("key").cloned().unwrap_or_default(),
                value: tag.get("value").cloned().unwrap_or_default(),
            });
            state.tags.extend(made);
        }
        Ok(success())
    })
}

/// `deleteTags`: those that are named, or all; of nothing it fails.
pub(super) fn delete(call: &Call<'_>) -> Result<Value, Refusal> {
    let (_, ids) = resources(call)?;
    let wanted = call.params.maps("tags");
    call.sim.change(|state| {
        let before = state.tags.len();
        state.tags.retain(|tag| {
            let is_named = wanted.is_empty()
                || wanted.iter().any(|wanted| {
                    wanted.get("key") == Some(&tag.key)
                        && wanted.get("value").is_none_or(|value| *value == tag.value)
                });
            !(ids.contains(&tag.resource) && is_named)
        });
        if state.tags.len() < before { Ok(success()) } else { Err(Refusal::runtime("Failed to delete tags")) }
    })
}

/// `listTags`.
pub(super) fn list(call: &Call<'_>) -> Result<Value, Refusal> {
    let params = &call.params;
    let shown = call.sim.read(|state| {
        let wanted = state.tags.iter().filter(|tag| {
            params.get("resourceid").is_none_or(|id| tag.resource == id)
                && params.get("resourcetype").is_none_or(|kind| tag.resource_type.eq_ignore_ascii_case(kind))
                && params.get("key").is_none_or(|key| tag.key == key)
                && params.get("value").is_none_or(|value| tag.value == value)
                && (call.caller.is_admin || tag.account == call.caller.account)
        });
        wanted.map(|tag| view(call.sim, tag)).collect()
    });
    lists::page(call, "tag", shown)
}
