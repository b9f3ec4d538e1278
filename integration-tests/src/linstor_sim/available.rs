//! A resource where it is needed: with a disk or without, and from one to the other.

use super::call::{Answered, Call};
use super::entries::{CREATE, CREATED, Entry, Frame, MODIFIED, MODIFY, object};
use super::model::{DISKLESS_POOL, Filter, Flag, Provider, World, key};
use super::requests::MakeAvailable;
use super::resources::{finish, not_deployed, register};
use super::{place, spawn};

/// Says that it is there as soon as it is written down, device or not.
pub(super) fn make_available(call: &Call<'_>) -> Answered {
    let request: MakeAvailable = call.parse(500)?;
    let (name, node) = (call.segment(2), call.segment(4));
    let frame = Frame::new(CREATE, object::RESOURCE, &[("RscDfn", name), ("Node", node)]);
    let own = format!("Node: {node}, Resource: '{name}'");
    let mut world = call.world();
    if !world.nodes.contains_key(&key(node)) {
        return Err(call.refuse(&mut world, frame.not_there(300, "Node", node).details(own)));
    }
    let Some(definition) = world.definitions.get_mut(&key(name)) else {
        return Err(call.refuse(&mut world, frame.not_there(301, "Resource definition", name).details(own)));
    };
    let drbd = definition.drbd();
    let mut gets_disk = false;
    if let Some(resource) = definition.resources.get_mut(&key(node)) {
        gets_disk = request.diskful && resource.diskless();
        if !gets_disk {
            resource.flags.remove(&Flag::TieBreaker);
            let there = frame.success(0, "Resource already deployed as requested");
            return Ok(call.answer(&mut world, 200, &[there]));
        }
    }
    let diskful = definition.resources.values().any(|resource| !resource.diskless());
    let need = spawn::promised_kib(definition);
    let group = definition.group.clone();
    let of_group = world.groups.get(&key(&group)).map(|group| group.filter.clone()).unwrap_or_default();
    let filter = Filter { node_name_list: vec![node.to_owned()], ..of_group };
    let mut out = Vec::new();
    if drbd && diskful && !request.diskful {
        register(&mut world, name, node, DISKLESS_POOL, Provider::Diskless, &frame, &mut out);
    } else {
        let able = !drbd || world.nodes.get(&key(node)).is_some_and(|node| node.drbd);
        let spot = place::spots(&world, call.sim.dir(), &filter, need).into_iter().find(|_| able);
        let Some(spot) = spot else {
            let message = format!(
                "Autoplacer could not find diskful stor pool on node {node} matching resource-groups autoplace-settings"
            );
            return Err(call.refuse(&mut world, frame.error(310, message).details(own)));
        };
        if gets_disk {
            toggle(&mut world, name, node, Some((&spot.pool, spot.provider)), &frame, &mut out);
        } else {
            register(&mut world, name, node, &spot.pool, spot.provider, &frame, &mut out);
        }
        place::tie_breaker(&mut world, name, &frame, &mut out);
    }
    drop(world);
    finish(call, name, &frame, out, 200)
}

/// Gives a resource a disk, or takes it away: the bytes stay with the peers.
fn toggle(
    world: &mut World,
    name: &str,
    node: &str,
    disk: Option<(&str, Provider)>,
    frame: &Frame,
    out: &mut Vec<Entry>,
) {
    let Some(definition) = world.definitions.get_mut(&key(name)) else { return };
    if let Some(gone) = definition.resources.remove(&key(node)) {
        gone.volumes
            .into_values()
            .filter_map(|volume| volume.file)
            .for_each(|file| super::bytes::discard(&file));
    }
    let (pool, provider) = disk.unwrap_or((DISKLESS_POOL, Provider::Diskless));
    place::register(definition, node, pool, provider);
    let what = if disk.is_some() { "Addition of disk to" } else { "Removal of disk from" };
    out.push(frame.success(CREATED, "Successfully set property key(s): StorPoolName"));
    out.push(
        frame.success(MODIFIED, format!("{what} resource '{name}' on node '{node}' registered")).op(MODIFY),
    );
}

/// `toggle-disk/diskless`, `toggle-disk/diskful[/POOL]`.
pub(super) fn toggle_disk(call: &Call<'_>) -> Answered {
    let (name, node) = (call.segment(2), call.segment(4));
    let frame = Frame::new(CREATE, object::RESOURCE, &[("RscDfn", name), ("Node", node)]);
    let mut world = call.world();
    let Some(definition) =
        world.definitions.get(&key(name)).filter(|one| one.resources.contains_key(&key(node)))
    else {
        return Err(call.refuse(&mut world, not_deployed(call)));
    };
    let elsewhere =
        definition.resources.values().any(|one| !one.diskless() && !one.node.eq_ignore_ascii_case(node));
    let mut out = Vec::new();
    if call.segment(6) == "diskless" {
        if !elsewhere {
            let message = format!("Last resource of '{name}' with disk cannot become diskless.");
            return Err(call.refuse(&mut world, frame.error(997, message)));
        }
        toggle(&mut world, name, node, None, &frame, &mut out);
    } else {
        let pools = call.segments.get(7).cloned().into_iter().collect();
        let filter =
            Filter { node_name_list: vec![node.to_owned()], storage_pool_list: pools, ..Filter::default() };
        let need = spawn::promised_kib(definition);
        let Some(spot) = place::spots(&world, call.sim.dir(), &filter, need).into_iter().next() else {
            return Err(call.refuse(&mut world, place::not_enough(&frame, &filter, need)));
        };
        toggle(&mut world, name, node, Some((&spot.pool, spot.provider)), &frame, &mut out);
    }
    place::tie_breaker(&mut world, name, &frame, &mut out);
    drop(world);
    finish(call, name, &frame, out, 200)
}
