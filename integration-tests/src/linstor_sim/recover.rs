//! After an end of the controller or of a satellite: what was left undone is finished, or undone.

use super::entries::Frame;
use super::model::{SnapshotState, World, key};
use super::satellite::{self, Ground};
use super::setup::Options;
use super::{definitions, restore, rollback, snapshots};
use std::path::Path;

/// Another controller ended with this state: whatever it was at, an unfinished rollback among it.
pub(super) fn after_restart(world: &mut World, options: &Options) {
    world
        .definitions
        .values_mut()
        .for_each(|definition| definition.rollback_cut = definition.rollback.is_some());
    for node in world.nodes.values_mut() {
        node.connecting |= node.online;
        node.online = false;
    }
    let found: Vec<_> =
        world.nodes.values().filter(|node| node.connecting).map(|node| node.name.clone()).collect();
    for node in found.iter().filter(|_| options.reconnect.is_zero()) {
        node_turns(world, &options.dir, node, true);
    }
}

/// A satellite goes away, or comes back and does what it missed. Files of snapshots that were deleted meanwhile are not
/// among that: nobody remembers them.
pub(super) fn node_turns(world: &mut World, dir: &Path, node: &str, online: bool) {
    let Some(node) = world.nodes.get_mut(&key(node)) else { return };
    node.online = online;
    node.connecting = false;
    if online {
        let names: Vec<_> = world.definitions.values().map(|definition| definition.name.clone()).collect();
        for name in names {
            undo_rollback(world, dir, &name);
            catch_up(world, dir, &name);
        }
    }
}

/// Makes what is missing, removes what is marked.
fn catch_up(world: &mut World, dir: &Path, name: &str) {
    let (ground, frame, mut said) = (Ground::sound(dir), Frame::bare(), Vec::new());
    if world.definitions.get(&key(name)).is_some_and(|definition| definition.rollback_cut) {
        return;
    }
    if world.definitions.get(&key(name)).is_some_and(|definition| definition.deleting) {
        definitions::take_down(world, ground, name, &frame, &mut said);
        if world.definitions.get(&key(name)).is_some_and(|definition| definition.resources.is_empty()) {
            world.definitions.remove(&key(name));
        }
        return;
    }
    let World { nodes, definitions, .. } = world;
    let Some(definition) = definitions.get_mut(&key(name)) else { return };
    definition.resources.retain(|at, resource| {
        let goes = resource.flags.contains(&super::model::Flag::Delete)
            && nodes.get(at).is_some_and(|node| node.online);
        !goes || satellite::remove(ground, name, resource, &frame, &mut said).is_err()
    });
    satellite::round(world, ground, name, &frame, None, &mut said);
}

/// The controller ended in mid-rollback: back to the safety snapshot, so to what was before, when there is one.
fn undo_rollback(world: &mut World, dir: &Path, name: &str) {
    let (frame, mut said) = (Frame::bare(), Vec::new());
    if world.nodes.values().any(|node| node.connecting) {
        return;
    }
    let Some(definition) = world.definitions.get_mut(&key(name)).filter(|one| one.rollback_cut) else {
        return;
    };
    definition.rollback_cut = false;
    let Some(safety) = definition.rollback.take() else { return };
    let taken =
        definition.snapshots.get(&key(&safety)).filter(|one| one.state == SnapshotState::Successful).cloned();
    if let Some(taken) = taken {
        definitions::take_down(world, Ground::sound(dir), name, &frame, &mut said);
        rollback::sizes_of(world, name, &taken);
        restore::mark(world, name, &taken, name, &[], &frame, &mut said);
        satellite::round(world, Ground::sound(dir), name, &frame, None, &mut said);
    }
    snapshots::removed(world, name, &safety, &frame, &mut said);
}
