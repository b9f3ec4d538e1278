//! Snapshots: taken, several at once, looked at, deleted.

use super::bytes;
use super::call::{Answer, Answered, Call};
use super::entries::{CREATE, CREATED, DELETE, DELETED, Entry, Frame, MODIFIED, object};
use super::faults::Tool;
use super::model::{Definition, Replica, ReplicaVolume, Snapshot, SnapshotState, SnapshotVolume, World, key};
use super::requests::{NewSnapshot, NewSnapshots};
use super::satellite::{self, Ground};
use super::{definitions, names, place, pool_folder, setup, views};
use serde_json::json;
use std::collections::BTreeMap;

pub(super) fn view(call: &Call<'_>) -> Answered {
    let (resources, nodes) = (call.wanted("resources"), call.wanted("nodes"));
    let asked = |list: &[String], name: &str| {
        list.is_empty() || list.iter().any(|one| one.eq_ignore_ascii_case(name))
    };
    let world = call.world();
    let mut shown = Vec::new();
    for definition in world.definitions.values().filter(|one| asked(&resources, &one.name)) {
        let on = |one: &&Snapshot| {
            nodes.is_empty() || one.replicas.values().any(|replica| asked(&nodes, &replica.node))
        };
        shown.extend(definition.snapshots.values().filter(on).map(|one| views::snapshot(definition, one)));
    }
    Ok(Answer::json(json!(shown)))
}

pub(super) fn list(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    let definition = definitions::asked(call, &mut world)?;
    Ok(Answer::json(definition.snapshots.values().map(|one| views::snapshot(definition, one)).collect()))
}

pub(super) fn get(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    let definition = definitions::asked(call, &mut world)?;
    let shown = definition.snapshots.get(&key(call.segment(4))).map(|one| views::snapshot(definition, one));
    let missing = || Frame::bare().missing(315, "Snapshot", call.segment(4));
    shown.map(Answer::json).ok_or_else(|| call.refuse(&mut world, missing()))
}

/// A set that is to be taken: definition and name of each.
pub(super) type Set = Vec<(String, String)>;

pub(super) fn create(call: &Call<'_>) -> Answered {
    let request: NewSnapshot = call.parse(500)?;
    let name = call.segment(2).to_owned();
    let frame = Frame::new(CREATE, object::SNAPSHOT, &[("RscDfn", &name), ("Snapshot", &request.name)]);
    let mut world = call.world();
    let mut out = Vec::new();
    let set = vec![(name.clone(), request.name.clone())];
    check(call, &mut world, &frame, &name, &request)?;
    written(&mut world, &name, &request.name, &request.nodes, &frame, &mut out);
    drop(world);
    call.point("registered")?;
    take(call, &set, &frame, &mut out)?;
    Ok(call.answer(&mut call.world(), 201, &out))
}

/// All or none, as far as names and nodes go; a failing program leaves the whole set behind as failed.
pub(super) fn create_multi(call: &Call<'_>) -> Answered {
    let request: NewSnapshots = call.parse(500)?;
    let frame = Frame::new(CREATE, object::SNAPSHOT, &[]);
    if request.snapshots.is_empty() {
        return Ok(Answer { status: 201, body: Some(json!([])) });
    }
    let mut world = call.world();
    for one in &request.snapshots {
        check(call, &mut world, &frame, &one.resource_name, one)?;
    }
    let mut out = Vec::new();
    let mut set = Set::new();
    for one in &request.snapshots {
        written(&mut world, &one.resource_name, &one.name, &one.nodes, &frame, &mut out);
        set.push((one.resource_name.clone(), one.name.clone()));
    }
    drop(world);
    call.point("registered")?;
    take(call, &set, &frame, &mut out)?;
    Ok(call.answer(&mut call.world(), 201, &out))
}

fn check(
    call: &Call<'_>,
    world: &mut World,
    frame: &Frame,
    name: &str,
    request: &NewSnapshot,
) -> Result<(), Answer> {
    let wanted = request.name.as_str();
    let own = format!("Resource: {name}, Snapshot: {wanted}");
    let refusal = match world.definitions.get(&key(name)) {
        None => Some(frame.not_there(301, "Resource definition", name).details(own)),
        Some(definition) => {
            let unknown = request.nodes.iter().find(|node| !world.nodes.contains_key(&key(node)));
            if let Some(unknown) = unknown {
                Some(frame.not_there(300, "Node", unknown).details(own))
            } else if let Some(why) = names::refused(wanted) {
                let refusal = frame.error(218, format!("The given snapshot name '{wanted}' is invalid."));
                Some(refusal.details(own).cause(why).reported())
            } else if !definition.resources.values().any(|one| !one.diskless() && online(world, &one.node)) {
                let message = "No diskful connected satellite for snapshot or no resources.";
                let details = format!("Snapshots need at least one diskful online satellite.\n{own}");
                Some(frame.error(995, message).details(details).reported())
            } else if definition.snapshots.contains_key(&key(wanted)) {
                let message = format!(
                    "A snapshot definition with the name '{wanted}' already exists in resource definition '{name}'."
                );
                Some(frame.error(514, message).details(own).cause("The SnapshotDefinition already exists"))
            } else {
                None
            }
        }
    };
    refusal.map_or(Ok(()), |refusal| Err(call.refuse(world, refusal)))
}

pub(super) fn online(world: &World, node: &str) -> bool {
    world.nodes.get(&key(node)).is_some_and(|node| node.online)
}

/// Writes a snapshot down, on all nodes that are on and have a disk, or on these only.
fn written(
    world: &mut World,
    name: &str,
    wanted: &str,
    nodes: &[String],
    frame: &Frame,
    out: &mut Vec<Entry>,
) {
    let on = |node: &str| nodes.is_empty() || nodes.iter().any(|one| one.eq_ignore_ascii_case(node));
    let Some(definition) = world.definitions.get(&key(name)) else { return };
    let chosen: Vec<_> = definition
        .resources
        .values()
        .filter(|one| !one.diskless() && on(&one.node))
        .map(|one| one.node.clone())
        .collect();
    let (live, off): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|node| online(world, node));
    for node in off {
        let message = format!(
            "Snapshot for resource '{name}' will not be created on node '{node}' because that node is currently offline."
        );
        out.push(frame.warn(0, message));
    }
    let Some(definition) = world.definitions.get_mut(&key(name)) else { return };
    let snapshot = snapshot(definition, wanted, &live);
    let place = if nodes.is_empty() { String::new() } else { format!(" on nodes '{}'", nodes.join(", ")) };
    let what = format!("napshot '{wanted}' of resource '{name}'{place}");
    let registered = frame.success(CREATED, format!("New s{what} registered."));
    out.push(registered.details(format!("S{what} UUID is: {}", snapshot.uuid)).with("UUID", &snapshot.uuid));
    definition.snapshots.insert(key(wanted), snapshot);
}

/// As it stands before it is taken.
pub(super) fn snapshot(definition: &mut Definition, name: &str, nodes: &[String]) -> Snapshot {
    definition.sequence = if definition.snapshots.is_empty() { 1 } else { definition.sequence + 1 };
    let replica = |node: &String| {
        let resource = definition.resources.get(&key(node))?;
        let volume = |volume: &super::model::Volume| ReplicaVolume {
            uuid: setup::uuid(),
            pool: volume.pool.clone(),
            provider: volume.provider,
            file: None,
        };
        let replica = Replica {
            node: resource.node.clone(),
            uuid: setup::uuid(),
            created: None,
            resource_props: resource.props.clone(),
            volumes: resource.volumes.iter().map(|(number, one)| (*number, volume(one))).collect(),
        };
        Some((key(node), replica))
    };
    let volumes = definition.volumes.iter();
    let volumes = volumes
        .map(|(number, one)| (*number, SnapshotVolume { size_kib: one.size_kib, props: one.props.clone() }));
    Snapshot {
        name: name.to_owned(),
        uuid: setup::uuid(),
        state: SnapshotState::Making,
        sequence: definition.sequence,
        definition_props: definition.props.clone(),
        volumes: volumes.collect(),
        replicas: nodes.iter().filter_map(replica).collect::<BTreeMap<_, _>>(),
    }
}

/// Takes a set that is written down: suspend, copy, resume, each a round of the satellites.
///
/// # Errors
/// A rule refuses the call when the bytes are copied, and that is not written down.
pub(super) fn take(call: &Call<'_>, set: &Set, frame: &Frame, out: &mut Vec<Entry>) -> Result<(), Answer> {
    let fails = |tool| call.tool_fails(tool);
    let ground = Ground { dir: call.sim.dir(), fails: &fails };
    let mut world = call.world();
    let names: Vec<_> = set.iter().map(|(name, _)| name.as_str()).collect();
    let shown = names.join(", ");
    let nodes = live_nodes(&world, &names);
    let rounds = |world: &mut World, out: &mut Vec<Entry>| {
        names.iter().for_each(|name| satellite::round(world, ground, name, frame, None, out));
    };
    rounds(&mut world, out);
    say(frame, &nodes, out, |node| format!("Suspended IO of '[{shown}]' on '{node}' for snapshot"));
    if let Some(node) = nodes.first().filter(|_| call.tool_fails(Tool::Snapshot)) {
        let why = "cp: failed to clone: No space left on device";
        out.push(satellite::failed(frame, node, "Failed to create snapshot of file volume", why));
        abort(&mut world, set, &nodes, frame, out);
        return Ok(());
    }
    rounds(&mut world, out);
    let mut failed = false;
    for (name, snapshot) in set {
        failed |= !copied(&mut world, ground, name, snapshot, frame, out);
    }
    if failed {
        abort(&mut world, set, &nodes, frame, out);
        return Ok(());
    }
    drop(world);
    call.point("taken")?;
    world = call.world();
    say(frame, &nodes, out, |node| format!("Took snapshot of '[{shown}]' on '{node}'"));
    rounds(&mut world, out);
    say(frame, &nodes, out, |node| format!("Resumed IO of '[{shown}]' on '{node}' after snapshot"));
    state(&mut world, set, SnapshotState::Successful);
    Ok(())
}

fn say(frame: &Frame, nodes: &[String], out: &mut Vec<Entry>, message: impl Fn(&str) -> String) {
    out.extend(nodes.iter().map(|node| frame.success(MODIFIED, message(node))));
}

fn live_nodes(world: &World, names: &[&str]) -> Vec<String> {
    let definitions = names.iter().filter_map(|name| world.definitions.get(&key(name)));
    let nodes = definitions.flat_map(|definition| definition.resources.values()).map(|one| one.node.clone());
    let mut nodes: Vec<_> = nodes.filter(|node| online(world, node)).collect();
    nodes.sort();
    nodes.dedup();
    nodes
}

fn abort(world: &mut World, set: &Set, nodes: &[String], frame: &Frame, out: &mut Vec<Entry>) {
    let first = set.first().map_or("", |(name, _)| name.as_str());
    say(frame, nodes, out, |node| format!("Aborted snapshot and resumed IO of '{first}' on '{node}'"));
    state(world, set, SnapshotState::Failed);
}

fn state(world: &mut World, set: &Set, state: SnapshotState) {
    for (name, snapshot) in set {
        let found =
            world.definitions.get_mut(&key(name)).and_then(|one| one.snapshots.get_mut(&key(snapshot)));
        if let Some(snapshot) = found {
            snapshot.state = state;
            if state == SnapshotState::Successful {
                let now = jiff::Timestamp::now().as_millisecond();
                snapshot.replicas.values_mut().for_each(|replica| replica.created = Some(now));
            }
        }
    }
}

/// Copies the files of one snapshot on all its nodes.
fn copied(
    world: &mut World,
    ground: Ground<'_>,
    name: &str,
    wanted: &str,
    frame: &Frame,
    out: &mut Vec<Entry>,
) -> bool {
    let World { nodes, definitions, last, .. } = world;
    let Some(definition) = definitions.get_mut(&key(name)) else { return false };
    let Definition { resources, snapshots, .. } = definition;
    let Some(snapshot) = snapshots.get_mut(&key(wanted)) else { return false };
    let mut whole = true;
    for (at, replica) in &mut snapshot.replicas {
        let (Some(node), Some(resource)) = (nodes.get(at), resources.get(at)) else { continue };
        for (number, volume) in &mut replica.volumes {
            *last += 1;
            let file = format!("{}_{number:05}_{}_{last}.img", name.to_lowercase(), wanted.to_lowercase());
            let file = pool_folder(ground.dir, &node.name, &volume.pool).join(file);
            let source = resource.volumes.get(number).and_then(|volume| volume.file.as_deref());
            let free = node
                .pools
                .get(&key(&volume.pool))
                .map_or(0, |pool| place::free_kib(ground.dir, &node.name, pool));
            let done = match source {
                None => Err("there is no corresponding volume".to_owned()),
                Some(source) if bytes::allocated_kib(source) > free => {
                    Err("No space left on device".to_owned())
                }
                Some(source) => bytes::copy(source, &file).map_err(|error| format!("{error:#}")),
            };
            match done {
                Ok(()) => {
                    let kind = volume.provider.spoken();
                    let message = format!(
                        "({}) Snapshot [{kind}] with name '{wanted}' of resource '{name}', volume number {number} created.",
                        node.name,
                    );
                    volume.file = Some(file);
                    let made = frame.success(CREATED, message).with("Snapshot", wanted).with("RscDfn", name);
                    out.push(made.with("VlmNr", number.to_string()));
                }
                Err(why) => {
                    bytes::remove(&file);
                    out.push(satellite::failed(
                        frame,
                        &node.name,
                        "Failed to create snapshot of file volume",
                        &why,
                    ));
                    whole = false;
                }
            }
        }
    }
    whole
}

pub(super) fn delete(call: &Call<'_>) -> Answered {
    let (name, wanted) = (call.segment(2), call.segment(4));
    let frame = Frame::new(DELETE, object::SNAPSHOT, &[("RscDfn", name), ("Snapshot", wanted)]);
    let mut world = call.world();
    let mut out = Vec::new();
    if !removed(&mut world, name, wanted, &frame, &mut out) {
        let message = format!("Snapshot definition {wanted} of resource {name} not found.");
        out.push(frame.warn(3000, message).details(format!("Resource: {name}, Snapshot: {wanted}")));
    }
    Ok(call.answer(&mut world, 200, &out))
}

/// Nothing asks whether a rollback is reading it. Files on nodes that are off stay there for ever. Says whether it was there.
pub(super) fn removed(
    world: &mut World,
    name: &str,
    wanted: &str,
    frame: &Frame,
    out: &mut Vec<Entry>,
) -> bool {
    let found = world.definitions.get_mut(&key(name)).and_then(|one| one.snapshots.remove(&key(wanted)));
    let Some(snapshot) = found else { return false };
    let what = format!("napshot '{wanted}' of resource '{name}'");
    for replica in snapshot.replicas.values() {
        let message = format!("Marked snapshot for deletion s{what} on nodes '{}'", replica.node);
        out.push(frame.success(DELETED, message));
    }
    for replica in snapshot.replicas.values() {
        if online(world, &replica.node) {
            for (number, volume) in &replica.volumes {
                let Some(file) = volume.file.as_deref() else { continue };
                bytes::remove(file);
                let (node, kind) = (&replica.node, volume.provider.spoken());
                let message = format!(
                    "({node}) Snapshot [{kind}] with name '{wanted}' of resource '{name}', volume number {number} deleted."
                );
                let deleted = frame.success(DELETED, message).with("RscDfn", name);
                out.push(deleted.with("VlmNr", number.to_string()));
            }
        } else {
            out.push(frame.offline(&replica.node));
        }
        out.push(
            frame.success(MODIFIED, format!("Deleted snapshot '{wanted}' of '{name}' on '{}'", replica.node)),
        );
    }
    let nodes: Vec<_> = snapshot.replicas.values().map(|replica| replica.node.as_str()).collect();
    out.push(frame.success(DELETED, format!("S{what} on nodes '{}' deleted.", nodes.join(", "))));
    let deleted = frame.success(DELETED, format!("S{what} deleted."));
    out.push(deleted.details(format!("S{what} UUID was: {}", snapshot.uuid)).with("UUID", &snapshot.uuid));
    true
}
