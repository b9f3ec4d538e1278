//! A resource definition with its volumes and resources out of a resource group, in one call.

use super::call::{Answer, Answered, Call};
use super::entries::{CREATE, CREATED, Entry, Frame, object};
use super::model::{Definition, Filter, VolumeDefinition, World, key};
use super::requests::{Size, Spawn};
use super::satellite::{self, Ground};
use super::{definitions, names, place};

pub(super) fn spawn(call: &Call<'_>) -> Answered {
    let request: Spawn = call.parse(500)?;
    let (group, name) = (call.segment(2), request.resource_definition_name.as_str());
    let frame = Frame::new(CREATE, object::GROUP, &[("RscDfn", name), ("RscGrp", group)]);
    let mut world = call.world();
    let (filter, partial) = refuse(call, &mut world, &request, &frame)?;
    let (definition, volumes) = written(call, &mut world, &request, &filter, &frame)?;
    let mut out = Vec::new();
    if partial {
        let message = "Resource-group doesn't have any volume-groups, automatically assume partial mode.";
        out.push(frame.info(0, message));
    }
    let sizes = volumes.iter().map(|(_, size)| *size).sum();
    let count = usize::try_from(filter.place_count.unwrap_or(2)).unwrap_or(2);
    let spots = place::spots(&world, call.sim.dir(), &filter, sizes);
    if spots.len() < count && !request.definitions_only {
        return Err(call.refuse(&mut world, place::not_enough(&frame, &filter, sizes)));
    }
    let nodes: Vec<_> = spots.iter().take(count).map(|spot| spot.node.clone()).collect();
    if let Some(refusal) = place::unsupported(&world, &frame, definition.drbd(), &nodes)
        && !request.definitions_only
    {
        return Err(call.refuse(&mut world, refusal));
    }
    for (number, _) in &volumes {
        let message = format!(
            "Volume definition with number '{number}' successfully  created in resource definition '{name}'."
        );
        let made = frame.success(CREATED, message).of(object::VOLUME_DEFINITION);
        out.push(made.with("VlmNr", number.to_string()));
    }
    out.push(definitions::created(&frame, &definition).of(object::DEFINITION));
    world.definitions.insert(key(name), definition);
    if request.definitions_only {
        let message =
            format!("Resource definition {name} and {} created but no resources deployed", volumes.len());
        out.push(frame.info(10000, message).cause("--definitions-only was set"));
        return Ok(call.answer(&mut world, 201, &out));
    }
    let Some(definition) = world.definitions.get_mut(&key(name)) else {
        return Err(call.refuse(&mut world, frame.not_there(301, "Resource definition", name)));
    };
    let mut placed =
        frame.success(CREATED, format!("Resource '{name}' successfully autoplaced on {count} nodes"));
    let mut used = Vec::new();
    for (at, spot) in spots.iter().take(count).enumerate() {
        place::register(definition, &spot.node, &spot.pool, spot.provider);
        let set =
            frame.success(CREATED, "Successfully set property key(s): StorPoolName").of(object::RESOURCE);
        out.push(set);
        placed = placed
            .with(&format!("Node/{at}"), &spot.node)
            .with(&format!("StoragePool/{at}/0"), format!("{},{}", spot.pool, spot.provider.word()));
        used.push(format!("'{} ({})'", spot.node, spot.pool));
    }
    out.push(placed.details(format!("Used nodes (storage pool name): {}", used.join(", "))));
    place::tie_breaker(&mut world, name, &frame, &mut out);
    drop(world);
    call.point("registered")?;
    let mut world = call.world();
    let fails = |tool| call.tool_fails(tool);
    let ground = Ground { dir: call.sim.dir(), fails: &fails };
    let after = |node: &str| format!("Created resource '{name}' on '{node}'");
    satellite::round(&mut world, ground, name, &frame, Some(&after), &mut out);
    if volumes.is_empty() {
        out.push(frame.warn(3000, format!("No volumes have been defined for resource '{name}'")));
    }
    Ok(call.answer(&mut world, 201, &out))
}

/// What is wrong with the request, in the order in which the real one looks. Else where to place, and whether the group says
/// nothing of volumes.
fn refuse(
    call: &Call<'_>,
    world: &mut World,
    request: &Spawn,
    frame: &Frame,
) -> Result<(Filter, bool), Answer> {
    let (name, sizes) = (request.resource_definition_name.as_str(), request.volume_sizes.len());
    let said = call.segment(2);
    let own = format!("Resource group: {said}");
    let Some(group) = world.groups.get(&key(said)).cloned() else {
        return Err(call.refuse(world, frame.not_there(317, "Resource group", said).details(own)));
    };
    if name.is_empty() {
        return Err(call.refuse(world, definitions::nameless(frame).details(own)));
    }
    if let Some(why) = names::refused(name) {
        let refusal = frame.error(202, format!("The specified resource name '{name}' is invalid."));
        return Err(call.refuse(world, refusal.details(own).cause(why).reported()));
    }
    if world.definitions.contains_key(&key(name)) {
        return Err(call.refuse(world, definitions::exists(frame, name).details(own)));
    }
    let groups = group.volumes.len();
    let partial = groups == 0 && !request.partial;
    if groups != sizes && !request.partial && !partial {
        let message = format!("Invalid count of volume sizes to spawn resource group '{said}'");
        let details = format!(
            "The resource group '{said}' has {groups} Volume groups, but only {sizes} sizes were provided.\n{own}"
        );
        let correction = "Either provide the correct count of volume sizes or use the 'partial' option";
        return Err(call.refuse(world, frame.error(228, message).details(details).correction(correction)));
    }
    Ok((group.filter.overridden(request.select_filter.as_ref()), partial))
}

/// The definition and its volumes, not yet in the state.
fn written(
    call: &Call<'_>,
    world: &mut World,
    request: &Spawn,
    filter: &Filter,
    frame: &Frame,
) -> Result<(Definition, Vec<(u32, u64)>), Answer> {
    let name = request.resource_definition_name.as_str();
    let group = world.groups.get(&key(call.segment(2))).map_or_else(String::new, |group| group.name.clone());
    let mut definition = definitions::new(name, &group);
    definition.layers.clone_from(&filter.layer_stack);
    definition.props.clone_from(&request.props);
    let mut volumes = Vec::new();
    for (number, Size(size)) in (0..).zip(&request.volume_sizes) {
        let Some(size) = definitions::size(*size) else {
            let refusal = definitions::bad_size(frame, name, number, *size);
            return Err(call.refuse(world, nowhere(refusal, number)));
        };
        definition.volumes.insert(number, definitions::volume(world, size));
        volumes.push((number, size));
    }
    Ok((definition, volumes))
}

fn nowhere(refusal: Entry, number: u32) -> Entry {
    refusal.of(object::VOLUME_DEFINITION).with("VlmNr", number.to_string())
}

/// Sizes that a definition promises on each node.
pub(super) fn promised_kib(definition: &Definition) -> u64 {
    definition.volumes.values().map(|volume: &VolumeDefinition| volume.size_kib).sum()
}
