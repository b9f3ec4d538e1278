//! Calls about resource definitions.

use super::call::{Answer, Answered, Call};
use super::entries::{CREATE, CREATED, DELETE, DELETED, Entry, Frame, MODIFIED, MODIFY, object};
use super::model::{DEFAULT_GROUP, Definition, Flag, Props, VolumeDefinition, World, key};
use super::requests::{Modify, NewDefinition};
use super::satellite::{self, Ground};
use super::{names, setup, views};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn new(name: &str, group: &str) -> Definition {
    Definition {
        name: name.to_owned(),
        uuid: setup::uuid(),
        group: group.to_owned(),
        props: Props::new(),
        deleting: false,
        layers: Vec::new(),
        layers_hidden: false,
        external_name: None,
        volumes: BTreeMap::new(),
        resources: BTreeMap::new(),
        snapshots: BTreeMap::new(),
        sequence: 0,
        rollback: None,
        rollback_cut: false,
        in_use: BTreeSet::new(),
    }
}

/// With the next device number.
pub(super) fn volume(world: &mut World, size_kib: u64) -> VolumeDefinition {
    world.last += 1;
    let generation: String =
        setup::uuid().to_uppercase().chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    VolumeDefinition {
        size_kib,
        uuid: setup::uuid(),
        props: Props::from([("DrbdCurrentGi".to_owned(), generation)]),
        minor: 1000 + world.last,
        layered: false,
    }
}

/// KiB that a volume may have.
pub(super) fn size(kib: i64) -> Option<u64> {
    u64::try_from(kib).ok().filter(|kib| (4..=1 << 40).contains(kib))
}

pub(super) fn bad_size(frame: &Frame, name: &str, number: u32, size: i64) -> Entry {
    let message = format!(
        "The volume definition with number '{number}' of resource definition '{name}' has an invalid size of '{size}'. \
         Valid sizes range from 4 to 1099511627776."
    );
    let cause = format!("Volume size value {size} is out of range [1 - 9223372036854775807] for non-DRBD");
    let details = format!("Resource definition: {name}, Volume number: {number}");
    frame.error(206, message).details(details).cause(cause)
}

pub(super) fn created(frame: &Frame, definition: &Definition) -> Entry {
    let (name, uuid) = (&definition.name, &definition.uuid);
    frame
        .success(CREATED, format!("New resource definition '{name}' created."))
        .details(format!("Resource definition '{name}' UUID is: {uuid}"))
        .with("UUID", uuid)
}

pub(super) fn exists(frame: &Frame, name: &str) -> Entry {
    let message = format!("A resource definition with the name '{name}' already exists");
    frame.error(501, message).cause("The ResourceDefinition already exists")
}

pub(super) fn nameless(frame: &Frame) -> Entry {
    frame
        .error(606, "The resource name generation for the creation of a new resource definition failed")
        .cause("Name generation was selected by specifying a zero-length resource name,\nbut the external name field required for name generation is not present\nin the API call data")
        .correction("- Specify a non-zero-length resource name to avoid resource name generation")
        .reported()
}

/// A definition that a question asks for; also refuses names that cannot be.
pub(super) fn asked<'a>(call: &Call<'_>, world: &'a mut World) -> Result<&'a Definition, Answer> {
    let name = call.segment(2);
    if names::refused(name).is_some() {
        let refusal = Frame::bare().error(202, format!("The specified resource name '{name}' is invalid."));
        return Err(call.refuse(world, refusal));
    }
    if !world.definitions.contains_key(&key(name)) {
        return Err(call.refuse(world, Frame::bare().missing(301, "Resource definition", name)));
    }
    world.definitions.get(&key(name)).ok_or_else(|| Answer::json(json!([])))
}

pub(super) fn list(call: &Call<'_>) -> Answered {
    let (wanted, props) = (call.wanted("resource_definitions"), call.wanted("props"));
    let world = call.world();
    let fits = |definition: &&Definition| {
        let named = wanted.is_empty() || wanted.iter().any(|one| one.eq_ignore_ascii_case(&definition.name));
        let set = props.iter().all(|one| match one.split_once('=') {
            Some((name, value)) => definition.props.get(name).is_some_and(|set| set == value),
            None => definition.props.contains_key(one),
        });
        named && set
    };
    let (skipped, taken) = (call.number("offset").unwrap_or(0), call.number("limit").unwrap_or(usize::MAX));
    let found = world.definitions.values().filter(fits).skip(skipped).take(taken);
    Ok(Answer::json(found.map(|one| views::definition(one, call.says("with_volume_definitions"))).collect()))
}

pub(super) fn get(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    Ok(Answer::json(views::definition(asked(call, &mut world)?, false)))
}

pub(super) fn create(call: &Call<'_>) -> Answered {
    let request: NewDefinition = call.parse(400)?;
    let mut world = call.world();
    let Some(body) = request.resource_definition else {
        let details = "Cannot read field \"layer_data\" because \"rscDfnCreate.resource_definition\" is null";
        let refusal = Frame::bare().error(998, "Exception thrown.").details(details).reported();
        return Err(call.refuse(&mut world, refusal));
    };
    let external = body.external_name.filter(|external| body.name.is_empty() && !external.is_empty());
    let generated = external.as_deref().map_or_else(|| body.name.clone(), names::generated);
    let name = generated.as_str();
    let frame = Frame::new(CREATE, object::DEFINITION, &[("RscDfn", name)]);
    let own = format!("Resource definition: {name}");
    let group = body.resource_group_name.unwrap_or_else(|| DEFAULT_GROUP.to_owned());
    let refusal = if name.is_empty() {
        Some(nameless(&frame).details(own))
    } else if let Some(why) = names::refused(name) {
        let refusal = frame.error(202, format!("The specified resource name '{name}' is invalid."));
        Some(refusal.details(own).cause(why).reported())
    } else if !world.groups.contains_key(&key(&group)) {
        Some(
            frame.error(317, format!("Resource group '{group}' could not be found.")).details(own).reported(),
        )
    } else if world.definitions.contains_key(&key(name)) {
        Some(exists(&frame, name).details(own))
    } else {
        bad_property(&frame, body.props.keys()).map(|refusal| refusal.details(own))
    };
    if let Some(refusal) = refusal {
        return Err(call.refuse(&mut world, refusal));
    }
    let group = world.groups.get(&key(&group)).map_or(group, |group| group.name.clone());
    let mut definition = new(name, &group);
    definition.external_name = external;
    definition.layers = body.layer_data.iter().map(|layer| layer.kind.clone()).collect();
    let mut out = Vec::new();
    if !body.props.is_empty() {
        let keys: Vec<_> = body.props.keys().map(String::as_str).collect();
        let message = format!("Successfully set property key(s): {}", keys.join(","));
        out.push(frame.success(CREATED, message).alone());
    }
    definition.props = body.props;
    out.push(created(&frame, &definition));
    world.definitions.insert(key(name), definition);
    Ok(call.answer(&mut world, 201, &out))
}

fn bad_property<'a>(frame: &Frame, mut names: impl Iterator<Item = &'a String>) -> Option<Entry> {
    let bad = names.find(|name| !names::property_known(name))?;
    let refusal = frame.error(213, format!("Invalid property key: {bad}"));
    Some(refusal.cause(format!("The key '{bad}' is not whitelisted.")).reported())
}

/// Sets and deletes properties. What is really changed makes satellites look at all volumes again.
pub(super) fn modify(call: &Call<'_>) -> Answered {
    let request: Modify = call.parse(500)?;
    let name = call.segment(2);
    let frame = Frame::new(MODIFY, object::DEFINITION, &[("RscDfn", name)]);
    let own = format!("Resource definition: {name}");
    let mut world = call.world();
    if let Some(refusal) = bad_property(&frame, request.override_props.keys()) {
        return Err(call.refuse(&mut world, refusal.details(own)));
    }
    let group = request
        .resource_group
        .as_ref()
        .map(|group| world.groups.get(&key(group)).map(|one| one.name.clone()));
    if let (Some(None), Some(group)) = (&group, &request.resource_group) {
        let refusal = frame.error(317, format!("Resource group '{group}' could not be found."));
        return Err(call.refuse(&mut world, refusal.details(own).reported()));
    }
    let Some(definition) = world.definitions.get_mut(&key(name)) else {
        return Err(call.refuse(&mut world, frame.not_there(301, "Resource definition", name).details(own)));
    };
    let before = definition.props.clone();
    if let Some(Some(group)) = group {
        definition.group = group;
    }
    let mut out = Vec::new();
    if !request.override_props.is_empty() {
        let keys: Vec<_> = request.override_props.keys().map(String::as_str).collect();
        let message = format!("Successfully set property key(s): {}", keys.join(","));
        out.push(frame.success(CREATED, message).op(CREATE));
        definition.props.extend(request.override_props);
    }
    if !request.delete_props.is_empty() || !request.delete_namespaces.is_empty() {
        let message = format!("Successfully deleted property key(s): {}", request.delete_props.join(","));
        out.push(frame.success(DELETED, message).op(DELETE));
        request.delete_props.iter().for_each(|name| drop(definition.props.remove(name)));
        definition
            .props
            .retain(|name, _| !request.delete_namespaces.iter().any(|space| name.starts_with(space)));
    }
    let uuid = definition.uuid.clone();
    let modified = frame.success(MODIFIED, format!("Resource definition '{name}' modified."));
    out.push(modified.details(format!("Resource definition '{name}' UUID is: {uuid}")).with("UUID", uuid));
    if before != definition.props {
        let fails = |tool| call.tool_fails(tool);
        let ground = Ground { dir: call.sim.dir(), fails: &fails };
        satellite::round(&mut world, ground, name, &frame, None, &mut out);
    }
    Ok(call.answer(&mut world, 200, &out))
}

/// Refused while there are snapshots, or while DRBD is Primary somewhere. Without DRBD nobody asks who has it open.
pub(super) fn delete(call: &Call<'_>) -> Answered {
    let name = call.segment(2);
    let frame = Frame::new(DELETE, object::DEFINITION, &[("RscDfn", name)]);
    let own = format!("Resource definition: {name}");
    let mut world = call.world();
    if let Some(why) = names::refused(name) {
        let refusal = frame.error(202, format!("The specified resource name '{name}' is invalid."));
        return Err(call.refuse(&mut world, refusal.details(own).cause(why).reported()));
    }
    let Some(definition) = world.definitions.get_mut(&key(name)) else {
        let gone = frame.warn(3000, format!("{own} not found.")).details(own);
        return Ok(call.answer(&mut world, 200, &[gone]));
    };
    if !definition.snapshots.is_empty() {
        let message = format!("Cannot delete resource definition '{name}' because it has snapshots.");
        return Err(call.refuse(&mut world, frame.error(514, message).details(own).reported()));
    }
    if let Some(refusal) = super::resources::in_use(definition, &frame) {
        return Err(call.refuse(&mut world, refusal.details(own)));
    }
    let mut out = Vec::new();
    if !definition.resources.is_empty() {
        out.push(frame.success(DELETED, format!("Resource definition '{name}' marked for deletion.")));
        definition.deleting = true;
        definition.resources.values_mut().for_each(|resource| {
            resource.flags.insert(Flag::Delete);
        });
        drop(world);
        call.point("registered")?;
        world = call.world();
        let fails = |tool| call.tool_fails(tool);
        take_down(&mut world, Ground { dir: call.sim.dir(), fails: &fails }, name, &frame, &mut out);
    }
    let empty = world.definitions.get(&key(name)).is_none_or(|definition| definition.resources.is_empty());
    if empty && let Some(gone) = world.definitions.remove(&key(name)) {
        let deleted = frame.success(DELETED, format!("Resource definition '{name}' deleted."));
        out.push(deleted.details(format!("Resource definition '{name}' UUID was: {}", gone.uuid)));
    }
    Ok(call.answer(&mut world, 200, &out))
}

/// Removes all resources whose satellites answer.
pub(super) fn take_down(
    world: &mut World,
    ground: Ground<'_>,
    name: &str,
    frame: &Frame,
    out: &mut Vec<Entry>,
) {
    let World { nodes, definitions, .. } = world;
    let Some(definition) = definitions.get_mut(&key(name)) else { return };
    let shown = definition.name.clone();
    definition.resources.retain(|at, resource| {
        if nodes.get(at).is_some_and(|node| !node.online) {
            out.push(frame.offline(&resource.node));
            return true;
        }
        if let Err(entry) = satellite::remove(ground, &shown, resource, frame, out) {
            out.push(*entry);
            return true;
        }
        out.push(
            frame.success(MODIFIED, format!("Resource '{shown}' on '{}' marked for deletion", resource.node)),
        );
        false
    });
}
