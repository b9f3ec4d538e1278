//! A snapshot becomes volumes of another definition, or of its own once that has no resources.

use super::call::{Answer, Answered, Call};
use super::entries::{CREATE, CREATED, DELETED, Entry, Frame, object};
use super::model::{Flag, Restore, Snapshot, SnapshotState, VolumeDefinition, World, key};
use super::requests::RestoreTo;
use super::satellite::{self, Ground};
use super::{definitions, place, snapshots, volumes};

/// The snapshot that the path names, if it is there and whole.
fn source(call: &Call<'_>, world: &mut World, frame: &Frame, own: &str) -> Result<Snapshot, Answer> {
    let (name, wanted) = (call.segment(2), call.segment(4));
    let Some(definition) = world.definitions.get(&key(name)) else {
        return Err(call.refuse(world, frame.not_there(301, "Resource definition", name).details(own)));
    };
    match definition.snapshots.get(&key(wanted)).cloned() {
        None => {
            let message = format!("Snapshot '{wanted}' of resource '{name}' not found.");
            Err(call.refuse(world, frame.error(313, message).details(own)))
        }
        Some(snapshot) if snapshot.state != SnapshotState::Successful => {
            Err(call.refuse(world, frame.error(998, "Unable to use failed snapshot").details(own).reported()))
        }
        Some(snapshot) => Ok(snapshot),
    }
}

/// Sizes and properties only.
pub(super) fn volume_definitions(call: &Call<'_>) -> Answered {
    let request: RestoreTo = call.parse(500)?;
    let target = request.to_resource.as_str();
    let frame = Frame::new(CREATE, object::SNAPSHOT, &[]);
    let own = format!("Volume definitions of resource: {target}");
    let mut world = call.world();
    let snapshot = source(call, &mut world, &frame, &own)?;
    let Some(definition) = world.definitions.get(&key(target)) else {
        return Err(call.refuse(&mut world, frame.not_there(301, "Resource definition", target).details(own)));
    };
    if let Some(taken) = snapshot.volumes.keys().find(|number| definition.volumes.contains_key(number)) {
        return Err(call.refuse(&mut world, volumes::exists(&frame, target, *taken).details(own)));
    }
    for (number, volume) in &snapshot.volumes {
        let made = definitions::volume(&mut world, volume.size_kib);
        // Of the generation and what a caller set; the rest comes with a deployment.
        let props =
            volume.props.iter().filter(|(name, _)| *name == "DrbdCurrentGi" || name.starts_with("Aux/"));
        let props = props.map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(definition) = world.definitions.get_mut(&key(target)) {
            definition.volumes.insert(*number, VolumeDefinition { props, ..made });
        }
    }
    let message = format!(
        "Volume definitions of resource definition '{target}' restored from resource '{}', snapshot '{}'.",
        call.segment(2),
        call.segment(4),
    );
    // Where the target has resources already, they get the volumes without a word: empty ones.
    let ground = Ground::sound(call.sim.dir());
    satellite::round(&mut world, ground, target, &frame, None, &mut Vec::new());
    let out = [frame.success(DELETED, message).details("Resource UUIDs: ")];
    Ok(call.answer(&mut world, 200, &out))
}

/// Copies on all nodes that hold the snapshot.
pub(super) fn resource(call: &Call<'_>) -> Answered {
    let request: RestoreTo = call.parse(500)?;
    let target = request.to_resource.as_str();
    let frame = Frame::new(CREATE, object::RESOURCE, &[("RscDfn", target)]);
    let own = format!("Resource: {target}");
    let mut world = call.world();
    let snapshot = source(call, &mut world, &frame, &own)?;
    let Some(definition) = world.definitions.get(&key(target)) else {
        return Err(call.refuse(&mut world, frame.not_there(301, "Resource definition", target).details(own)));
    };
    if !definition.resources.is_empty() {
        let message = "Cannot restore to resource definition which already has resources";
        return Err(call.refuse(&mut world, frame.error(502, message).details(own).reported()));
    }
    for (number, volume) in &definition.volumes {
        let of_snapshot = snapshot.volumes.get(number).map_or(0, |volume| volume.size_kib);
        if of_snapshot != volume.size_kib {
            let message = format!(
                "Snapshot size does not match for volume number {number}; snapshot size: {of_snapshot}KiB, required size: \
                 {}KiB",
                volume.size_kib,
            );
            return Err(call.refuse(&mut world, frame.error(206, message).details(own).reported()));
        }
    }
    let empty = definition.volumes.is_empty();
    let mut out = Vec::new();
    if empty {
        let details = format!(
            "The target resource definition has no volume definitions. The restored resources will be empty.\n{own}"
        );
        let correction = "Restore the volume definitions to the target resource definition.";
        out.push(frame.warn(3000, "No volumes to restore.").details(details).correction(correction));
    }
    let marked = frame.clone();
    mark(&mut world, call.segment(2), &snapshot, target, &request.nodes, &marked, &mut out);
    place::tie_breaker(&mut world, target, &frame, &mut out);
    drop(world);
    call.point("registered")?;
    let mut world = call.world();
    let fails = |tool| call.tool_fails(tool);
    let ground = Ground { dir: call.sim.dir(), fails: &fails };
    let after = |node: &str| format!("Created resource '{target}' on '{node}'");
    satellite::round(&mut world, ground, target, &frame, Some(&after), &mut out);
    // With DRBD the controller waits for all of them. Those that are there stay.
    if world.definitions.get(&key(target)).is_some_and(|definition| {
        definition.drbd() && definition.resources.values().any(|one| !snapshots::online(&world, &one.node))
    }) {
        out.push(frame.error(998, "Deployed resource did not appear").details(own));
    }
    if empty {
        out.push(frame.warn(3000, format!("No volumes have been defined for resource '{target}'")));
    }
    Ok(call.answer(&mut world, 200, &out))
}

/// Writes down resources that are to begin as copies.
pub(super) fn mark(
    world: &mut World,
    from: &str,
    snapshot: &Snapshot,
    target: &str,
    nodes: &[String],
    frame: &Frame,
    out: &mut Vec<Entry>,
) {
    let layers =
        world.definitions.get(&key(from)).map(|definition| (definition.layers.clone(), definition.drbd()));
    let Some(definition) = world.definitions.get_mut(&key(target)) else { return };
    // One made by hand says nothing of layers, and is then of those of the snapshot; it goes on showing none.
    if let Some((layers, _)) = layers.filter(|(_, drbd)| *drbd != definition.drbd()) {
        definition.layers = layers;
        definition.layers_hidden = true;
    }
    definition.props.extend(snapshot.definition_props.clone());
    let mut uuids = Vec::new();
    for replica in snapshot.replicas.values() {
        if !nodes.is_empty() && !nodes.iter().any(|node| node.eq_ignore_ascii_case(&replica.node)) {
            continue;
        }
        let (pool, provider) = match replica.volumes.values().next() {
            Some(volume) => (volume.pool.clone(), volume.provider),
            None => continue,
        };
        place::register(definition, &replica.node, &pool, provider);
        let Some(resource) = definition.resources.get_mut(&key(&replica.node)) else { continue };
        resource.flags.insert(Flag::RestoreFromSnapshot);
        uuids.push(resource.uuid.clone());
        for (number, volume) in &mut resource.volumes {
            let file = replica.volumes.get(number).and_then(|volume| volume.file.clone());
            volume.restore = Some(Restore {
                resource: from.to_owned(),
                snapshot: snapshot.name.clone(),
                file: file.unwrap_or_default(),
            });
        }
    }
    definition.volumes.values_mut().for_each(|volume| volume.layered = false);
    let message =
        format!("Resource '{target}' restored from resource '{from}', snapshot '{}'.", snapshot.name);
    let restored = frame.success(CREATED, message).op(CREATE).of(object::RESOURCE);
    out.push(restored.details(format!("Resource UUIDs: {}", uuids.join(", "))));
}

/// Whether all satellites that a rollback needs are there; else the refusal.
pub(super) fn all_online(world: &World, name: &str, frame: &Frame, own: &str) -> Option<Entry> {
    let definition = world.definitions.get(&key(name))?;
    let off = definition.resources.values().find(|resource| !snapshots::online(world, &resource.node))?;
    let message = format!("No active connection to satellite '{}'.", off.node);
    let details = format!(
        "Snapshot rollback cannot be performed when the corresponding satellites are not connected.\n{own}"
    );
    Some(frame.error(995, message).details(details).reported())
}
