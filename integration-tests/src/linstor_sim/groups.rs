//! Calls about resource groups, their volume groups, and how much would fit.

use super::call::{Answer, Answered, Call};
use super::entries::{CREATE, CREATED, DELETE, DELETED, Frame, MODIFIED, MODIFY, object};
use super::model::{DEFAULT_GROUP, Filter, Group, World, key};
use super::place::{OVERSUBSCRIBED, Spot, spots};
use super::requests::{Modify, NewGroup, NewVolumeGroup};
use super::{names, setup, views};
use serde_json::{Value, json};

pub(super) fn list(call: &Call<'_>) -> Answered {
    let wanted = call.wanted("resource_groups");
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one.eq_ignore_ascii_case(name));
    let world = call.world();
    Ok(Answer::json(world.groups.values().filter(|group| asked(&group.name)).map(views::group).collect()))
}

/// The group that the path names; else the refusal of a question.
fn asked(call: &Call<'_>, world: &mut World) -> Result<Group, Answer> {
    let name = call.segment(2);
    let found = world.groups.get(&key(name)).cloned();
    found.ok_or_else(|| call.refuse(world, Frame::bare().missing(317, "Resource group", name)))
}

pub(super) fn get(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    Ok(Answer::json(views::group(&asked(call, &mut world)?)))
}

pub(super) fn create(call: &Call<'_>) -> Answered {
    let request: NewGroup = call.parse(400)?;
    let name = request.name.as_str();
    let frame = Frame::new(CREATE, object::GROUP, &[("RscGrp", name)]);
    let own = format!("Resource group: {name}");
    let mut world = call.world();
    const LAYERS: [&str; 7] = ["DRBD", "STORAGE", "LUKS", "NVME", "WRITECACHE", "CACHE", "BCACHE"];
    if let Some(layer) =
        request.select_filter.layer_stack.iter().find(|one| !LAYERS.contains(&key(one).as_str()))
    {
        let message = format!("Given layer kind '{layer}' is invalid");
        return Err(call.refuse(&mut world, Frame::bare().error(224, message)));
    }
    if let Some(why) = names::refused(name) {
        let message = format!("The given resource group name '{name}' is invalid.");
        return Err(call.refuse(&mut world, frame.error(237, message).details(own).cause(why).reported()));
    }
    if world.groups.contains_key(&key(name)) {
        let refusal = frame.error(522, format!("A {own} already exists."));
        return Err(call.refuse(&mut world, refusal.details(own).cause("The ResourceGroup already exists")));
    }
    let mut out = Vec::new();
    let exists = |pool: &&String| world.nodes.values().any(|node| node.pools.contains_key(&key(pool)));
    let missing: Vec<_> =
        request.select_filter.storage_pool_list.iter().filter(|pool| !exists(pool)).collect();
    if !missing.is_empty() {
        let names: String = missing.iter().map(|name| format!("\n\t{name}")).collect();
        let message = format!("The following configured storage pools do not exist on any node:{names}");
        out.push(Frame::bare().warn(3000, message));
    }
    let group = Group {
        description: request.description,
        props: request.props,
        ..setup::group(
            name,
            Filter { place_count: request.select_filter.place_count.or(Some(2)), ..request.select_filter },
        )
    };
    out.push(
        frame
            .success(CREATED, format!("New resource group '{name}' created."))
            .details(format!("Resource group '{name}' UUID is: {}", group.uuid))
            .with("UUID", &group.uuid),
    );
    world.groups.insert(key(name), group);
    Ok(call.answer(&mut world, 201, &out))
}

pub(super) fn modify(call: &Call<'_>) -> Answered {
    let request: Modify = call.parse(500)?;
    let name = call.segment(2);
    let frame = Frame::new(MODIFY, object::GROUP, &[("RscGrp", name)]);
    let mut world = call.world();
    let Some(group) = world.groups.get_mut(&key(name)) else {
        return Err(call.refuse(&mut world, frame.not_there(317, "Resource group", name)));
    };
    group.filter = group.filter.overridden(request.select_filter.as_ref());
    group.props.extend(request.override_props);
    request.delete_props.iter().for_each(|name| drop(group.props.remove(name)));
    group.description = request.description.or(group.description.take());
    let modified = frame.success(MODIFIED, format!("Resource group '{name}' modified."));
    let modified = modified.details(format!("Resource group '{name}' UUID is: {}", group.uuid));
    Ok(call.answer(&mut world, 200, &[modified]))
}

pub(super) fn delete(call: &Call<'_>) -> Answered {
    let name = call.segment(2);
    let frame = Frame::new(DELETE, object::GROUP, &[("RscGrp", name)]);
    let own = format!("Resource group: {name}");
    let mut world = call.world();
    if world.definitions.values().any(|definition| definition.group.eq_ignore_ascii_case(name)) {
        let message =
            format!("Cannot delete resource group '{name}' because it has existing resource definitions.");
        return Err(call.refuse(&mut world, frame.error(501, message).details(own)));
    }
    let gone = if name.eq_ignore_ascii_case(DEFAULT_GROUP) { None } else { world.groups.remove(&key(name)) };
    let entry = match gone {
        Some(group) => frame
            .success(DELETED, format!("Resource group '{name}' deleted."))
            .details(format!("Resource group '{name}' UUID was: {}", group.uuid)),
        None => frame.warn(3000, format!("{own} not found.")).details(own),
    };
    Ok(call.answer(&mut world, 200, &[entry]))
}

pub(super) fn volume_list(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    let group = asked(call, &mut world)?;
    let shown = group.volumes.iter().map(|(number, uuid)| json!({"volume_number": number, "uuid": uuid}));
    Ok(Answer::json(shown.collect()))
}

pub(super) fn volume_create(call: &Call<'_>) -> Answered {
    let request: NewVolumeGroup = call.parse(400)?;
    let name = call.segment(2);
    let frame = Frame::new(CREATE, object::VOLUME_GROUP, &[("VlmGrp", name)]);
    let own = format!("Volume groups for resource group '{name}'");
    let mut world = call.world();
    let used = world.definitions.values().any(|definition| definition.group.eq_ignore_ascii_case(name));
    let Some(group) = world.groups.get_mut(&key(name)) else {
        return Err(call.refuse(&mut world, frame.not_there(317, "Resource group", name).details(own)));
    };
    if used {
        let message =
            "Volume group cannot be created while the resource group has already resource definitions.";
        return Err(call.refuse(&mut world, frame.error(501, message).details(own).reported()));
    }
    let next = group.volumes.keys().last().map_or(0, |last| last + 1);
    let number = request.volume_number.unwrap_or(next);
    if group.volumes.contains_key(&number) {
        let message =
            format!("A volume group with the number {number} already exists in resource group '{name}'.");
        let refusal =
            frame.error(523, message).of(object::VOLUME_DEFINITION).cause("The VolumeGroup already exists");
        let refusal = refusal.details(format!("Resource group: {name}, Volume number: {number}\n{own}"));
        let refusal = refusal.with("RscGrp", name).with("VlmNr", number.to_string());
        return Err(call.refuse(&mut world, refusal));
    }
    group.volumes.insert(number, setup::uuid());
    let message = format!("New volume group with number '{number}' of resource group '{name}' created.");
    let made = frame.success(CREATED, message).with("RscGrp", name).with("VlmNr", number.to_string());
    Ok(call.answer(&mut world, 201, &[made]))
}

/// What could be spawned by this group: 20 times what is free, as the real one reports of thin pools.
fn space(world: &World, call: &Call<'_>, group: &Group) -> Value {
    let count = usize::try_from(group.filter.place_count.unwrap_or(2)).unwrap_or(2);
    let all: Vec<_> = spots(world, call.sim.dir(), &group.filter, 0);
    let capacity: u64 = all.iter().map(|spot| spot.capacity_kib).min().unwrap_or(0);
    let Some(last) = count.checked_sub(1).and_then(|last| all.get(last)).filter(|_| !all.is_empty()) else {
        return json!({
            "max_vlm_size_in_kib": 0, "available_size_in_kib": 0, "capacity_in_kib": capacity,
            "default_max_oversubscription_ratio": 20.0,
        });
    };
    let promised = |spot: &Spot| match spot.provider {
        super::model::Provider::FileThin => spot.free_kib * OVERSUBSCRIBED,
        _ => spot.free_kib,
    };
    let next: Vec<_> = all[..count]
        .iter()
        .map(|spot| {
            json!({
                "node_name": spot.node, "stor_pool_name": spot.pool, "stor_pool_oversubscription_ratio": 20.0,
            })
        })
        .collect();
    json!({
        "max_vlm_size_in_kib": promised(last), "available_size_in_kib": last.free_kib, "capacity_in_kib": capacity,
        "default_max_oversubscription_ratio": 20.0, "next_spawn_result": next,
    })
}

pub(super) fn size_info(call: &Call<'_>) -> Answered {
    let world = call.world();
    let Some(group) = world.groups.get(&key(call.segment(2))) else {
        let missing = Frame::bare().not_there(317, "Resource group", call.segment(2));
        return Ok(Answer::json(json!({"reports": [missing.json(None)]})));
    };
    Ok(Answer::json(json!({"space_info": space(&world, call, group)})))
}

pub(super) fn all_size_info(call: &Call<'_>) -> Answered {
    let world = call.world();
    let mut result = json!({});
    for group in world.groups.values() {
        result[group.name.as_str()] = json!({"space_info": space(&world, call, group)});
    }
    Ok(Answer::json(json!({"result": result})))
}

pub(super) fn max_volume_size(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    let group = asked(call, &mut world)?;
    candidates(call, &mut world, &group.filter)
}

pub(super) fn max_volume_size_of_filter(call: &Call<'_>) -> Answered {
    let filter: Filter = call.parse(400)?;
    candidates(call, &mut call.world(), &filter)
}

/// Real free space, a pool at a time.
fn candidates(call: &Call<'_>, world: &mut World, filter: &Filter) -> Answered {
    let count = usize::try_from(filter.place_count.unwrap_or(2)).unwrap_or(2);
    let mut all = spots(world, call.sim.dir(), filter, 0);
    all.sort_by_key(|spot| key(&spot.pool));
    let pools: Vec<_> =
        all.chunk_by(|one, other| one.pool == other.pool).filter(|of| of.len() >= count).collect();
    if pools.is_empty() {
        return Err(call.refuse(world, Frame::bare().error(996, "Not enough nodes")));
    }
    let shown = pools.iter().map(|of| {
        let nodes: Vec<_> = of.iter().take(count).map(|spot| &spot.node).collect();
        json!({
            "storage_pool": of[0].pool, "max_volume_size_kib": of.iter().map(|spot| spot.free_kib).min(),
            "node_names": nodes, "all_thin": of.iter().all(|spot| spot.provider == super::model::Provider::FileThin),
        })
    });
    let shown: Vec<_> = shown.collect();
    Ok(Answer::json(json!({"candidates": shown, "default_max_oversubscription_ratio": 20.0})))
}

/// Places what is missing of the group's definitions: nothing ever is here.
pub(super) fn adjust(call: &Call<'_>) -> Answered {
    let name = call.segment(2);
    let frame = Frame::new(CREATE, object::GROUP, &[("RscGrp", name)]);
    let mut world = call.world();
    if !world.groups.contains_key(&key(name)) {
        return Err(call.refuse(&mut world, frame.not_there(317, "Resource group", name)));
    }
    let of_group = world.definitions.values().filter(|one| one.group.eq_ignore_ascii_case(name));
    let out: Vec<_> = of_group
        .map(|definition| {
            let nodes: Vec<_> = definition.resources.values().map(|one| format!("'{}'", one.node)).collect();
            let deployed = format!("was already deployed on {} nodes. Skipping.", nodes.len());
            frame
                .warn(1006, format!("Resource '{}' {deployed}", definition.name))
                .details(format!("Used nodes: {}\nResource group: {name}", nodes.join(", ")))
        })
        .collect();
    Ok(call.answer(&mut world, 200, &out))
}
