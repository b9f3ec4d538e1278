//! Back to a snapshot, as LINSTOR does it: not in place.
//!
//! ```text
//!  before ─► safety snapshot ─► resources deleted ─► restored from the snapshot ─► safety snapshot deleted
//!            point `safety`     point `deleted`      point `restored`
//! ```
//!
//! Uuids, device paths and, where it was grown meanwhile, the size change. A safety snapshot that fails stops nothing. A restore
//! that fails leaves `RESTORE_FROM_SNAPSHOT` without a device, and what the next change makes of that is an empty volume. A
//! controller that ends on the way goes back to what was before: see [`recover`](super::recover).

use super::call::{Answered, Call};
use super::entries::{CREATE, DELETED, Frame, MODIFY, object};
use super::model::{SnapshotState, World, key};
use super::satellite::{self, Ground};
use super::{definitions, place, resources, restore, setup, snapshots};

pub(super) fn rollback(call: &Call<'_>) -> Answered {
    let (name, wanted) = (call.segment(2).to_owned(), call.segment(4).to_owned());
    let frame = Frame::new(MODIFY, object::SNAPSHOT, &[("RscDfn", &name), ("Snapshot", &wanted)]);
    let own = format!("Resource: {name}, Snapshot: {wanted}");
    let safety = format!("safety-snap-{}", setup::uuid().split_at(8).0);
    let mut out = Vec::new();
    let snapshot = {
        let mut world = call.world();
        let refusal = match world.definitions.get(&key(&name)) {
            None => Some(frame.not_there(301, "Resource definition", &name)),
            Some(definition) => match definition.snapshots.get(&key(&wanted)) {
                None => {
                    Some(frame.error(313, format!("Snapshot '{wanted}' of resource '{name}' not found.")))
                }
                Some(one) if one.state != SnapshotState::Successful => {
                    Some(frame.error(998, "Unable to use failed snapshot").reported())
                }
                Some(_) => resources::in_use(definition, &frame).map(super::entries::Entry::reported),
            },
        };
        let refusal = refusal.map(|refusal| refusal.details(own.clone()));
        if let Some(refusal) = refusal.or_else(|| restore::all_online(&world, &name, &frame, &own)) {
            return Err(call.refuse(&mut world, refusal));
        }
        let mut snapshot = None;
        if let Some(definition) = world.definitions.get_mut(&key(&name)) {
            snapshot = definition.snapshots.get(&key(&wanted)).cloned();
            let nodes: Vec<_> = definition
                .resources
                .values()
                .filter(|one| !one.diskless())
                .map(|one| one.node.clone())
                .collect();
            let taken = snapshots::snapshot(definition, &safety, &nodes);
            definition.snapshots.insert(key(&safety), taken);
            definition.rollback = Some(safety.clone());
        }
        snapshot
    };
    let Some(snapshot) = snapshot else { return Ok(call.answer(&mut call.world(), 200, &out)) };
    call.point("registered")?;
    snapshots::take(call, &vec![(name.clone(), safety.clone())], &frame, &mut out)?;
    call.point("safety")?;

    let fails = |tool| call.tool_fails(tool);
    let ground = Ground { dir: call.sim.dir(), fails: &fails };
    {
        let mut world = call.world();
        out.push(frame.success(DELETED, format!("Resource definition '{name}' marked for deletion.")));
        definitions::take_down(&mut world, ground, &name, &frame, &mut out);
    }
    call.point("deleted")?;
    {
        let mut world = call.world();
        sizes_of(&mut world, &name, &snapshot);
        restore::mark(&mut world, &name, &snapshot, &name, &[], &frame, &mut out);
        place::tie_breaker(&mut world, &name, &frame, &mut out);
    }
    call.point("marked")?;
    {
        let mut world = call.world();
        let after = |node: &str| format!("Created resource '{name}' on '{node}'");
        satellite::round(&mut world, ground, &name, &frame, Some(&after), &mut out);
    }
    call.point("restored")?;
    let mut world = call.world();
    snapshots::removed(&mut world, &name, &safety, &frame, &mut out);
    if let Some(definition) = world.definitions.get_mut(&key(&name)) {
        definition.rollback = None;
        // Who is there is said to be available, whatever became of its device.
        for resource in definition.resources.values() {
            let there =
                frame.success(0, "Resource already deployed as requested").op(CREATE).of(object::RESOURCE);
            out.push(there.with("Node", &resource.node));
        }
    }
    Ok(call.answer(&mut world, 200, &out))
}

/// Volumes are of the snapshot's sizes again.
pub(super) fn sizes_of(world: &mut World, name: &str, snapshot: &super::model::Snapshot) {
    let Some(definition) = world.definitions.get_mut(&key(name)) else { return };
    for (number, volume) in &mut definition.volumes {
        if let Some(then) = snapshot.volumes.get(number) {
            volume.size_kib = then.size_kib;
        }
    }
}
