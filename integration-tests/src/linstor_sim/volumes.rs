//! Calls about volume definitions.

use super::call::{Answer, Answered, Call};
use super::definitions::{asked, bad_size, size, volume};
use super::entries::{CREATE, CREATED, DELETE, DELETED, Entry, Frame, MODIFIED, MODIFY, object};
use super::model::{Provider, World, key};
use super::requests::{Modify, NewVolumeDefinition};
use super::satellite::{self, Ground};
use super::{place, views};
use serde_json::json;

pub(super) fn list(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    let definition = asked(call, &mut world)?;
    let shown = definition.volumes.iter();
    Ok(Answer::json(shown.map(|(number, one)| views::volume_definition(definition, *number, one)).collect()))
}

pub(super) fn get(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    let number = number(call)?;
    let definition = asked(call, &mut world)?;
    let found = number.and_then(|number| Some((number, definition.volumes.get(&number)?)));
    let shown = found.map(|(number, one)| views::volume_definition(definition, number, one));
    let missing = || Frame::bare().missing(303, "Volume definition", call.segment(4));
    shown.map(Answer::json).ok_or_else(|| call.refuse(&mut world, missing()))
}

/// None: a number that no volume has. What is no number at all is refused by the server, not by LINSTOR.
fn number(call: &Call<'_>) -> Result<Option<u32>, Answer> {
    let said = call.segment(4).parse::<i64>();
    said.map(|number| u32::try_from(number).ok()).map_err(|_| {
        let details = "HTTP 404 Not Found";
        Answer::refusal(&Frame::bare().error(998, "An unknown error occurred.").details(details).reported())
    })
}

pub(super) fn create(call: &Call<'_>) -> Answered {
    let request: NewVolumeDefinition = call.parse(500)?;
    let (name, body) = (call.segment(2), request.volume_definition);
    let frame = Frame::new(CREATE, object::VOLUME_DEFINITION, &[("RscDfn", name)]);
    let own = format!("Volume definitions for resource definition '{name}'");
    let mut world = call.world();
    let Some(definition) = world.definitions.get(&key(name)) else {
        return Err(call.refuse(&mut world, frame.not_there(301, "Resource definition", name).details(own)));
    };
    let next = (0..).find(|number| !definition.volumes.contains_key(number)).unwrap_or(0);
    let number = body.volume_number.unwrap_or(next);
    if definition.volumes.contains_key(&number) {
        let refusal = exists(&frame, name, number).with("VlmNr", number.to_string());
        return Err(call.refuse(&mut world, refusal.details(own)));
    }
    let Some(size) = size(body.size_kib.0) else {
        let refusal = bad_size(&frame, name, number, body.size_kib.0).with("VlmNr", number.to_string());
        return Err(call.refuse(&mut world, refusal));
    };
    let mut volume = volume(&mut world, size);
    volume.props.extend(body.props);
    if let Some(definition) = world.definitions.get_mut(&key(name)) {
        definition.volumes.insert(number, volume);
    }
    let message =
        format!("New volume definition with number '{number}' of resource definition '{name}' created.");
    let mut out = vec![frame.success(CREATED, message).with("VlmNr", number.to_string())];
    let fails = |tool| call.tool_fails(tool);
    let ground = Ground { dir: call.sim.dir(), fails: &fails };
    satellite::round(&mut world, ground, name, &frame, None, &mut out);
    Ok(call.answer(&mut world, 200, &out))
}

pub(super) fn exists(frame: &Frame, name: &str, number: u32) -> Entry {
    let message = format!(
        "A volume definition with the number {number} already exists in resource definition '{name}'."
    );
    frame.error(503, message).cause("The VolumeDefinition already exists")
}

/// Grows or shrinks it; its properties too.
pub(super) fn modify(call: &Call<'_>) -> Answered {
    let request: Modify = call.parse(500)?;
    let (name, said) = (call.segment(2), call.segment(4));
    let frame = Frame::new(MODIFY, object::VOLUME_DEFINITION, &[("RscDfn", name), ("VlmNr", said)]);
    let own = format!("Resource definition: {name}, Volume number: {said}");
    let number = number(call)?;
    let mut world = call.world();
    if !world.definitions.contains_key(&key(name)) {
        return Err(call.refuse(&mut world, frame.not_there(301, "Resource definition", name).details(own)));
    }
    let World { nodes, definitions, .. } = &mut *world;
    let found = definitions.get_mut(&key(name)).zip(number);
    let Some((definition, number)) = found.filter(|(one, number)| one.volumes.contains_key(number)) else {
        let missing = format!("volume definition '{name}' with volume number '{said}'");
        let refusal = frame
            .error(303, format!("Volume definition '{name}' with volume number '{said}' not found."))
            .details(own)
            .cause(format!("The specified {missing} could not be found in the database"))
            .correction(format!("Create a volume definition with the name '{name}' first."));
        return Err(call.refuse(&mut world, refusal));
    };
    let current = definition.volumes.get(&number).map_or(0, |volume| volume.size_kib);
    let wanted = match request.size_kib {
        None => current,
        Some(said) => match size(said.0) {
            Some(size) => size,
            None => {
                let refusal = bad_size(&frame, name, number, said.0);
                return Err(call.refuse(&mut world, refusal));
            }
        },
    };
    if wanted < current && definition.drbd() && !definition.resources.is_empty() {
        let message = "Shrinking volumes is not supported by layer 'DRBD'. Volumes can only grow in size.";
        return Err(call.refuse(&mut world, frame.error(206, message).details(own)));
    }
    let off = |node: &str| nodes.get(&key(node)).is_some_and(|node| !node.online);
    if wanted > current && definition.drbd() && definition.resources.values().any(|one| off(&one.node)) {
        let message = "Cannot resize volume, because we have a non-UpToDate DRBD device.";
        return Err(call.refuse(&mut world, frame.error(974, message).details(own)));
    }
    let cramped: Vec<_> = definition
        .resources
        .values()
        .filter_map(|resource| {
            let node = nodes.get(&key(&resource.node)).filter(|node| node.online)?;
            let pool = node.pools.get(&key(resource.props.get("StorPoolName")?))?;
            let thick = pool.provider == Provider::File;
            let free = place::free_kib(call.sim.dir(), &node.name, pool);
            (thick && wanted > current && wanted - current > free)
                .then(|| format!("\nNode: {}, StorPool: {}", node.name, pool.name))
        })
        .collect();
    if !cramped.is_empty() {
        let message = format!(
            "Cannot grow the volume definition by {}KiB, as the following storage pool do not have enough free space:{}",
            wanted - current,
            cramped.concat(),
        );
        return Err(call.refuse(&mut world, frame.error(980, message).details(own).reported()));
    }
    let Some(volume) = definition.volumes.get_mut(&number) else { return Ok(Answer::json(json!([]))) };
    volume.size_kib = wanted;
    volume.props.extend(request.override_props);
    request.delete_props.iter().for_each(|name| drop(volume.props.remove(name)));
    let message =
        format!("Volume definition with number '{number}' of resource definition '{name}' modified.");
    let details = format!(
        "Volume definition with number '{number}' of resource definition '{name}' UUID is: {}",
        volume.uuid
    );
    let modified = frame.success(MODIFIED, message).details(details).with("UUID", &volume.uuid);
    let same = request.size_kib.is_some() && wanted == current;
    let mut out = Vec::new();
    if same {
        let message =
            "VolumeDefinition already has the expected size, no satellite update will be triggered.";
        out.push(frame.warn(1023, message));
    }
    out.push(modified);
    if wanted != current {
        let fails = |tool| call.tool_fails(tool);
        let ground = Ground { dir: call.sim.dir(), fails: &fails };
        let updated = |node: &str| format!("Updated volume {number} of '{name}' on '{node}'");
        let resized = |node: &str| format!("Resized resource '{name}' on '{node}'");
        satellite::round(&mut world, ground, name, &frame, Some(&updated), &mut out);
        satellite::round(&mut world, ground, name, &frame, Some(&resized), &mut out);
        satellite::round(&mut world, ground, name, &frame, Some(&updated), &mut out);
    }
    Ok(call.answer(&mut world, 200, &out))
}

pub(super) fn delete(call: &Call<'_>) -> Answered {
    let (name, said) = (call.segment(2), call.segment(4));
    let frame = Frame::new(DELETE, object::VOLUME_DEFINITION, &[("RscDfn", name), ("VlmNr", said)]);
    let own = format!("Resource definition: {name}, Volume number: {said}");
    let number = number(call)?;
    let mut world = call.world();
    let found = world.definitions.get_mut(&key(name)).zip(number);
    let removed = found.and_then(|(definition, number)| {
        let gone = definition.volumes.remove(&number)?;
        let of_nodes =
            definition.resources.values_mut().filter_map(|resource| resource.volumes.remove(&number));
        of_nodes.filter_map(|volume| volume.file).for_each(|file| super::bytes::discard(&file));
        Some(gone)
    });
    let Some(gone) = removed else {
        let missing = frame.warn(3000, format!("{own} not found.")).details(own);
        return Ok(call.answer(&mut world, 200, &[missing]));
    };
    let what = format!("Volume definition with number '{said}' of resource definition '{name}'");
    let out = [
        frame
            .success(DELETED, format!("{what} marked for deletion."))
            .details(format!("{what} UUID is: {}", gone.uuid)),
        frame.success(DELETED, format!("{what} deleted.")).details(format!("{what} UUID was: {}", gone.uuid)),
    ];
    Ok(call.answer(&mut world, 200, &out))
}
