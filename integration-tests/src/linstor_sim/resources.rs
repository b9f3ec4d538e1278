//! Calls about resources: a definition on a node.

use super::call::{Answer, Answered, Call};
use super::entries::{CREATE, CREATED, DELETE, DELETED, Entry, Frame, MODIFIED, MODIFY, object};
use super::model::{DISKLESS_POOL, Definition, Flag, Props, Provider, World, key};
use super::requests::{AutoPlace, Modify, NewResource};
use super::satellite::{self, Ground};
use super::{definitions, open, place, spawn, views};
use serde_json::json;

/// Open for writing somewhere: the refusal. Only DRBD knows.
pub(super) fn in_use(definition: &Definition, frame: &Frame) -> Option<Entry> {
    if !definition.drbd() {
        return None;
    }
    let node = open::users(definition).pop_first()?;
    let node = definition.resources.get(&node).map_or(node.as_str(), |resource| resource.node.as_str());
    Some(used(frame, format!("Resource '{}' on node '{node}' is still in use.", definition.name)))
}

fn used(frame: &Frame, message: String) -> Entry {
    frame.error(997, message).cause("Resource is mounted/in use.").correction("Un-mount resource first.")
}

pub(super) fn view(call: &Call<'_>) -> Answered {
    let (resources, nodes) = (call.wanted("resources"), call.wanted("nodes"));
    let pools = call.wanted("storage_pools");
    let asked = |list: &[String], name: &str| {
        list.is_empty() || list.iter().any(|one| one.eq_ignore_ascii_case(name))
    };
    let world = call.world();
    let mut shown = Vec::new();
    for definition in world.definitions.values().filter(|one| asked(&resources, &one.name)) {
        let fitting = definition.resources.values().filter(|one| {
            asked(&nodes, &one.node)
                && asked(&pools, one.props.get("StorPoolName").map_or("", String::as_str))
        });
        shown.extend(fitting.map(|resource| views::resource(&world, definition, resource, true)));
    }
    Ok(Answer::json(json!(shown)))
}

pub(super) fn list(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    let definition = definitions::asked(call, &mut world)?.clone();
    let shown =
        definition.resources.values().map(|resource| views::resource(&world, &definition, resource, false));
    Ok(Answer::json(shown.collect()))
}

pub(super) fn get(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    let definition = definitions::asked(call, &mut world)?.clone();
    let found = definition.resources.get(&key(call.segment(4)));
    let shown = found.map(|resource| views::resource(&world, &definition, resource, false));
    shown.map(Answer::json).ok_or_else(|| call.refuse(&mut world, not_deployed(call)))
}

pub(super) fn not_deployed(call: &Call<'_>) -> Entry {
    let message = format!("Resource '{}' on node '{}' not found.", call.segment(2), call.segment(4));
    Frame::bare().error(302, message)
}

pub(super) fn volume_list(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    let definition = definitions::asked(call, &mut world)?;
    let wanted = (call.segments.len() > 6).then(|| call.segment(6).parse::<u32>());
    let Some(resource) = definition.resources.get(&key(call.segment(4))) else {
        return Err(call.refuse(&mut world, not_deployed(call)));
    };
    let show = |(number, volume): (&u32, _)| views::volume(definition, resource, *number, volume);
    let shown = match wanted {
        None => Some(resource.volumes.iter().map(show).collect()),
        Some(number) => number.ok().and_then(|number| resource.volumes.get_key_value(&number)).map(show),
    };
    shown
        .map(Answer::json)
        .ok_or_else(|| call.refuse(&mut world, Frame::bare().missing(304, "Volume", call.segment(6))))
}

/// `POST resources` takes a list, `POST resources/NODE` one.
pub(super) fn create(call: &Call<'_>) -> Answered {
    let single = call.segments.len() > 4;
    let mut requests: Vec<NewResource> = if single { vec![call.parse(500)?] } else { call.parse_list(500)? };
    if single {
        requests.iter_mut().for_each(|one| call.segment(4).clone_into(&mut one.resource.node_name));
    }
    let name = call.segment(2);
    let frame = Frame::new(CREATE, object::RESOURCE, &[("RscDfn", name)]);
    let mut world = call.world();
    let nodes: Vec<_> = requests.iter().map(|one| one.resource.node_name.clone()).collect();
    let own = format!("Node(s): '{}', Resource: '{name}'", nodes.join("', '"));
    if let Some(unknown) = nodes.iter().find(|node| !world.nodes.contains_key(&key(node))) {
        return Err(call.refuse(&mut world, Frame::bare().not_there(300, "Node", unknown)));
    }
    let Some(definition) = world.definitions.get(&key(name)) else {
        return Err(call.refuse(&mut world, frame.not_there(301, "Resource definition", name).details(own)));
    };
    let (drbd, group) = (definition.drbd(), definition.group.clone());
    let present: Vec<_> =
        nodes.iter().filter(|node| definition.resources.contains_key(&key(node))).cloned().collect();
    let need = spawn::promised_kib(definition);
    let mut out = Vec::new();
    for request in requests.iter().filter(|one| !present.contains(&one.resource.node_name)) {
        let node = &request.resource.node_name;
        let diskless =
            request.resource.flags.iter().any(|flag| matches!(flag.as_str(), "DISKLESS" | "DRBD_DISKLESS"));
        let filter = world.groups.get(&key(&group)).map(|group| group.filter.clone()).unwrap_or_default();
        let said =
            request.resource.props.get("StorPoolName").cloned().or(filter.storage_pool_list.first().cloned());
        let pool = if diskless { DISKLESS_POOL.to_owned() } else { said.unwrap_or_default() };
        let found = world.nodes.get(&key(node)).and_then(|node| node.pools.get(&key(&pool)));
        if !diskless && !world.nodes.values().any(|node| node.pools.contains_key(&key(&pool))) {
            let refusal = frame
                .error(309, format!("Storage pool definition '{pool}' not found."))
                .cause(format!(
                    "The specified storage pool definition '{pool}' could not be found in the database"
                ))
                .correction(format!("Create a storage pool definition '{pool}' first."));
            return Err(call.refuse(&mut world, refusal.details(own)));
        }
        let provider = match found {
            _ if diskless => Provider::Diskless,
            Some(pool) => pool.provider,
            None => {
                let refusal = frame.error(310, format!("Storage pool '{pool}' on node '{node}' not found."));
                return Err(call.refuse(&mut world, refusal.details(own)));
            }
        };
        if let Some(refusal) = place::unsupported(&world, &frame, drbd, std::slice::from_ref(node)) {
            return Err(call.refuse(&mut world, refusal.details(own)));
        }
        let free = found.map_or(u64::MAX, |pool| place::free_kib(call.sim.dir(), node, pool));
        let online = world.nodes.get(&key(node)).is_some_and(|node| node.online);
        if online && !place::has_room(provider, free, need) {
            let refusal = frame
                .error(206, format!("Not enough free space available for volume 0 of resource '{name}'."));
            return Err(call.refuse(&mut world, refusal.details(own)));
        }
        register(&mut world, name, node, &pool, provider, &frame, &mut out);
    }
    if out.is_empty() {
        let already = present.iter().map(|node| {
            let message = format!("A resource '{name}' on node '{node}' already exists.");
            frame.info(10008, message).details(own.clone()).cause("Resource already exists")
        });
        let already: Vec<_> = already.collect();
        return Ok(call.answer(&mut world, 201, &already));
    }
    place::tie_breaker(&mut world, name, &frame, &mut out);
    drop(world);
    finish(call, name, &frame, out, 201)
}

/// Writes a resource down, and says so.
pub(super) fn register(
    world: &mut World,
    name: &str,
    node: &str,
    pool: &str,
    provider: Provider,
    frame: &Frame,
    out: &mut Vec<Entry>,
) {
    let Some(definition) = world.definitions.get_mut(&key(name)) else { return };
    let resource = place::register(definition, node, pool, provider);
    out.push(frame.success(CREATED, "Successfully set property key(s): StorPoolName"));
    let registered = frame.success(CREATED, format!("New resource '{name}' on node '{node}' registered."));
    let details = format!("Resource '{name}' on node '{node}' UUID is: {}", resource.uuid);
    out.push(registered.details(details).with("UUID", &resource.uuid));
    for (number, volume) in &resource.volumes {
        let message = format!(
            "Volume with number '{number}' on resource '{name}' on node '{node}' successfully registered"
        );
        let registered = frame.success(CREATED, message).of(object::VOLUME).with("VlmNr", number.to_string());
        out.push(registered.with("Node", node).details(format!("Volume UUID is: {}", volume.uuid)));
    }
}

/// Has it made by the satellites.
pub(super) fn finish(
    call: &Call<'_>,
    name: &str,
    frame: &Frame,
    mut out: Vec<Entry>,
    status: u16,
) -> Answered {
    call.point("registered")?;
    let mut world = call.world();
    let fails = |tool| call.tool_fails(tool);
    let ground = Ground { dir: call.sim.dir(), fails: &fails };
    let after = |node: &str| format!("Created resource '{name}' on '{node}'");
    satellite::round(&mut world, ground, name, frame, Some(&after), &mut out);
    Ok(call.answer(&mut world, status, &out))
}

pub(super) fn autoplace(call: &Call<'_>) -> Answered {
    let request: AutoPlace = call.parse(500)?;
    let name = call.segment(2);
    let frame = Frame::new(CREATE, object::RESOURCE, &[("RscDfn", name)]);
    let own = format!("Auto-placing resource: {name}");
    let mut world = call.world();
    let Some(definition) = world.definitions.get(&key(name)) else {
        return Err(call.refuse(&mut world, frame.not_there(301, "Resource definition", name).details(own)));
    };
    let filter =
        world.groups.get(&key(&definition.group)).map(|group| group.filter.clone()).unwrap_or_default();
    let filter = filter.overridden(request.select_filter.as_ref());
    let count = usize::try_from(filter.place_count.unwrap_or(2)).unwrap_or(2);
    let (need, drbd) = (spawn::promised_kib(definition), definition.drbd());
    let diskful: Vec<_> =
        definition.resources.values().filter(|one| !one.diskless()).map(|one| key(&one.node)).collect();
    if diskful.len() >= count {
        let message = format!("Resource '{name}' was already deployed on {} nodes. Skipping.", diskful.len());
        return Ok(call.answer(&mut world, 200, &[frame.warn(1006, message)]));
    }
    let spots: Vec<_> = place::spots(&world, call.sim.dir(), &filter, need)
        .into_iter()
        .filter(|spot| !definition_has(&world, name, &spot.node))
        .take(count - diskful.len())
        .collect();
    if spots.len() < count - diskful.len() {
        return Err(call.refuse(&mut world, place::not_enough(&frame, &filter, need)));
    }
    let nodes: Vec<_> = spots.iter().map(|spot| spot.node.clone()).collect();
    if let Some(refusal) = place::unsupported(&world, &frame, drbd, &nodes) {
        return Err(call.refuse(&mut world, refusal.details(own)));
    }
    let mut out = Vec::new();
    for spot in &spots {
        register(&mut world, name, &spot.node, &spot.pool, spot.provider, &frame, &mut out);
    }
    place::tie_breaker(&mut world, name, &frame, &mut out);
    drop(world);
    finish(call, name, &frame, out, 201)
}

fn definition_has(world: &World, name: &str, node: &str) -> bool {
    world.definitions.get(&key(name)).is_some_and(|definition| definition.resources.contains_key(&key(node)))
}

pub(super) fn modify(call: &Call<'_>) -> Answered {
    let request: Modify = call.parse(500)?;
    let (name, node) = (call.segment(2), call.segment(4));
    let frame = Frame::new(MODIFY, object::RESOURCE, &[("RscDfn", name), ("Node", node)]);
    let mut world = call.world();
    let found = world.definitions.get_mut(&key(name)).and_then(|one| one.resources.get_mut(&key(node)));
    let Some(resource) = found else { return Err(call.refuse(&mut world, not_deployed(call))) };
    resource.props.extend::<Props>(request.override_props);
    request.delete_props.iter().for_each(|name| drop(resource.props.remove(name)));
    let mut out = vec![frame.success(MODIFIED, format!("Node: {node}, Resource: {name} modified."))];
    satellite::round(&mut world, Ground::sound(call.sim.dir()), name, &frame, None, &mut out);
    Ok(call.answer(&mut world, 200, &out))
}

/// Snapshots stay. With DRBD, a diskless one that ties would be without stays too.
pub(super) fn delete(call: &Call<'_>) -> Answered {
    let (name, node) = (call.segment(2), call.segment(4));
    let frame = Frame::new(DELETE, object::RESOURCE, &[("RscDfn", name), ("Node", node)]);
    let own = format!("Node: {node}, Resource: {name}");
    let mut world = call.world();
    let World { nodes, definitions, .. } = &mut *world;
    let definition = definitions.get_mut(&key(name)).filter(|one| one.resources.contains_key(&key(node)));
    let Some(definition) = definition else {
        let gone = frame.warn(3000, format!("{own} not found.")).details(own);
        return Ok(call.answer(&mut world, 200, &[gone]));
    };
    if definition.drbd() && open::is_used(definition, &key(node)) {
        let refusal = used(&frame, format!("Resource '{name}' is still in use.")).details(own);
        return Err(call.refuse(&mut world, refusal));
    }
    let diskful = definition.resources.values().filter(|one| !one.diskless()).count();
    let drbd = definition.drbd();
    let others = definition.resources.len() - diskful;
    let Some(resource) = definition.resources.get_mut(&key(node)) else { return Ok(Answer::json(json!([]))) };
    if drbd && resource.diskless() && diskful == 2 && others == 1 {
        resource.flags.insert(Flag::TieBreaker);
        let message = "The given resource will not be deleted but will be taken over as a linstor managed tiebreaker resource.";
        let out = [
            frame.info(10006, message),
            frame.success(MODIFIED, format!("Resource '{name}' updated on node '{node}'")),
        ];
        return Ok(call.answer(&mut world, 200, &out));
    }
    if drbd && !resource.diskless() && diskful == 1 && others > 0 {
        let message = format!("Last resource of '{name}' with disk still has diskless resources attached.");
        let refusal = used(&frame, message).details(own);
        return Err(call.refuse(&mut world, refusal));
    }
    let mut out = vec![
        frame
            .success(DELETED, format!("{own} marked for deletion."))
            .details(format!("{own} UUID is: {}", resource.uuid)),
    ];
    resource.flags.insert(Flag::Delete);
    if nodes.get(&key(node)).is_some_and(|node| !node.online) {
        out.push(frame.offline(node));
        return Ok(call.answer(&mut world, 200, &out));
    }
    let fails = |tool| call.tool_fails(tool);
    let ground = Ground { dir: call.sim.dir(), fails: &fails };
    if let Err(entry) = satellite::remove(ground, name, resource, &frame, &mut out) {
        out.push(*entry);
        return Ok(call.answer(&mut world, 200, &out));
    }
    let uuid = resource.uuid.clone();
    definition.resources.remove(&key(node));
    out.push(frame.success(MODIFIED, format!("Cleaning up '{name}' on '{node}'")));
    place::tie_breaker(&mut world, name, &frame, &mut out);
    let complete = frame.success(DELETED, format!("{own} deletion complete."));
    out.push(complete.details(format!("{own} UUID was: {uuid}")));
    Ok(call.answer(&mut world, 200, &out))
}
