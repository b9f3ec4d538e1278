//! Calls about nodes and storage pools.

use super::call::{Answer, Answered, Call};
use super::entries::{CREATE, CREATED, DELETE, DELETED, Frame, MODIFIED, object};
use super::model::{Pool, Provider, key};
use super::requests::{NewNode, NewPool};
use super::{names, open, pool_folder, setup, views};
use serde_json::{Value, json};
use std::net::IpAddr;

pub(super) fn list(call: &Call<'_>) -> Answered {
    let wanted = call.wanted("nodes");
    let world = call.world();
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one.eq_ignore_ascii_case(name));
    Ok(Answer::json(world.nodes.values().filter(|node| asked(&node.name)).map(views::node).collect()))
}

pub(super) fn get(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    match world.nodes.get(&key(call.segment(2))) {
        Some(node) => Ok(Answer::json(views::node(node))),
        None => Err(call.refuse(&mut world, Frame::bare().missing(300, "Node", call.segment(2)))),
    }
}

pub(super) fn interfaces(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    match world.nodes.get(&key(call.segment(2))) {
        Some(node) => Ok(Answer::json(json!(node.interfaces))),
        None => Err(call.refuse(&mut world, Frame::bare().missing(300, "Node", call.segment(2)))),
    }
}

pub(super) fn create(call: &Call<'_>) -> Answered {
    let request: NewNode = call.parse(400)?;
    let name = request.name.as_str();
    let frame = Frame::new(CREATE, object::NODE, &[("Node", name)]);
    let registration = format!("Registration of node '{name}' failed.");
    let own = format!("Node: {name}");
    let mut world = call.world();
    let refusal = if let Some(why) = names::node_refused(name) {
        let message = format!("The given node name '{name}' is invalid.");
        Some(frame.error(200, message).details(own.as_str()).cause(why).reported())
    } else if !["CONTROLLER", "SATELLITE", "COMBINED", "AUXILIARY"].contains(&key(&request.kind).as_str()) {
        let refused = frame.error(201, format!("The specified node type '{}' is invalid.", request.kind));
        let valid = "Valid node types are:\nCONTROLLER\nSATELLITE\nCOMBINED\nAUXILIARY\n";
        Some(refused.details(own.as_str()).cause("No such type").correction(valid).reported())
    } else if world.nodes.contains_key(&key(name)) {
        let cause =
            format!("A node with the specified name '{name}' already exists.\nThe Node already exists");
        let correction = "- Specify another name for the new node\nor\n- Delete the existing node before creating a new \
                          node with the same name";
        Some(frame.error(500, registration).details(own.as_str()).cause(cause).correction(correction))
    } else if request.net_interfaces.is_empty() {
        let correction = "At least one network interface has to be given and be marked to be used for \
                          controller-satellite communitaction.";
        let refused =
            frame.error(603, registration).details(own.as_str()).cause("No network interfaces were given.");
        Some(refused.correction(correction).reported())
    } else if let Some(bad) = request.net_interfaces.iter().find(|one| one.address.parse::<IpAddr>().is_err())
    {
        let address = &bad.address;
        let details = format!("The specified input '{address}' is not a valid IP address.\n{own}");
        let refused = frame.error(210, "Failed to parse IP address").details(details);
        let cause = format!("The specified IP address is not valid\n{address}");
        Some(refused.cause(cause).correction("Specify a valid IPv4 or IPv6 address.").reported())
    } else {
        None
    };
    if let Some(refusal) = refusal {
        return Err(call.refuse(&mut world, refusal));
    }
    let interfaces: Vec<_> = request
        .net_interfaces
        .iter()
        .enumerate()
        .map(|(at, one)| {
            json!({
                "name": one.name, "address": one.address, "satellite_port": one.satellite_port,
                "satellite_encryption_type": one.satellite_encryption_type.as_deref().map(key),
                "is_active": at == 0, "uuid": setup::uuid(),
            })
        })
        .collect();
    let node = setup::node(name, &key(&request.kind), interfaces, &call.sim.options);
    let connected = request
        .net_interfaces
        .iter()
        .any(|one| one.satellite_port.is_some() && one.satellite_encryption_type.is_some());
    if !connected {
        let refusal = frame.error(609, format!("No satellite connection defined for node '{name}'"));
        return Err(call.refuse(&mut world, refusal.details(own.as_str()).reported()));
    }
    let layers = if node.drbd { "[drbd, storage]" } else { "[storage]" };
    let mut out = vec![
        frame
            .success(CREATED, format!("New node '{name}' registered."))
            .details(format!("Node '{name}' UUID is: {}", node.uuid))
            .with("UUID", &node.uuid),
        frame.success(9, format!("Node '{name}' authenticated")).details(format!(
            "Supported storage providers: [diskless, file, file_thin, remote_spdk, ebs_init, ebs_target]\nSupported \
             resource layers  : {layers}"
        )),
    ];
    if node.host != name {
        let message = format!("Linstor node name '{name}' and hostname '{}' doesn't match.", node.host);
        out.push(frame.info(10001, message));
    }
    world.nodes.insert(key(name), node);
    Ok(call.answer(&mut world, 201, &out))
}

/// Takes its resources and snapshots with it.
pub(super) fn delete(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    let frame = Frame::new(DELETE, object::NODE, &[("Node", call.segment(2))]);
    let Some(node) = world.nodes.get(&key(call.segment(2))).cloned() else {
        let gone = frame.warn(3000, format!("Node '{}' not found.", call.segment(2)));
        return Ok(call.answer(&mut world, 200, &[gone]));
    };
    let used = world.definitions.values().find(|one| one.drbd() && open::is_used(one, &key(&node.name)));
    if let Some(used) = used {
        let message = format!("Resource '{}' is still in use.", used.name);
        let cause = "Resource is mounted/in use.";
        let of_resource = frame.error(997, message).cause(cause).correction("Un-mount resource first.");
        let message = "Cannot delete node, because it has in use or last diskful resources.";
        let of_node = frame.error(233, message).cause(cause).details(format!("Node: {}", node.name));
        return Ok(call.answer(&mut world, 500, &[of_resource, of_node]));
    }
    let mut out = vec![frame.success(DELETED, format!("Node '{}' marked for deletion.", node.name))];
    for definition in world.definitions.values_mut() {
        if let Some(resource) = definition.resources.remove(&key(&node.name)) {
            let files = resource.volumes.values().filter_map(|volume| volume.file.as_deref());
            files.for_each(super::bytes::discard);
            let message = format!("Deleted resource '{}' on '{}'", definition.name, node.name);
            out.push(frame.success(MODIFIED, message));
        }
        for snapshot in definition.snapshots.values_mut() {
            let Some(replica) = snapshot.replicas.remove(&key(&node.name)) else { continue };
            let files = replica.volumes.values().filter_map(|volume| volume.file.as_deref());
            files.for_each(super::bytes::discard);
            let message =
                format!("Deleted snapshot '{}' of '{}' on '{}'", snapshot.name, definition.name, node.name);
            out.push(frame.success(MODIFIED, message));
        }
        definition.snapshots.retain(|_, snapshot| !snapshot.replicas.is_empty());
    }
    world.nodes.remove(&key(&node.name));
    let deleted = frame.success(DELETED, format!("Node '{}' deleted.", node.name));
    out.push(deleted.details(format!("Node '{}' UUID was: {}", node.name, node.uuid)));
    Ok(call.answer(&mut world, 200, &out))
}

pub(super) fn pool_create(call: &Call<'_>) -> Answered {
    let request: NewPool = call.parse(400)?;
    let (node, name) = (call.segment(2), request.storage_pool_name.as_str());
    let frame = Frame::new(CREATE, object::POOL, &[("StorPoolDfn", name), ("Node", node)]);
    let mut world = call.world();
    const KNOWN: [&str; 12] = [
        "LVM",
        "LVM_THIN",
        "ZFS",
        "ZFS_THIN",
        "FILE",
        "FILE_THIN",
        "SPDK",
        "REMOTE_SPDK",
        "DISKLESS",
        "EBS_INIT",
        "EBS_TARGET",
        "STORAGE_SPACES",
    ];
    if !KNOWN.contains(&request.provider_kind.as_str()) {
        let message = format!("Given provider kind '{}' is invalid", request.provider_kind);
        let refused = call.refuse(&mut world, Frame::bare().error(224, message));
        return Err(Answer { status: 400, ..refused });
    }
    let Some(found) = world.nodes.get_mut(&key(node)) else {
        return Err(call.refuse(&mut world, frame.not_there(300, "Node", node)));
    };
    let provider = match request.provider_kind.as_str() {
        "FILE" => Some(Provider::File),
        "FILE_THIN" => Some(Provider::FileThin),
        _ => None,
    };
    let Some(provider) = provider.filter(|_| found.online) else {
        let message = format!("The satellite does not support the device provider {}", request.provider_kind);
        return Err(call.refuse(&mut world, frame.error(989, message)));
    };
    if found.pools.contains_key(&key(name)) {
        let message = format!("Node: {node}, Storage pool name: {name} already exists.");
        return Err(call.refuse(&mut world, frame.error(510, message)));
    }
    // Folders are the simulator's own; this one stands for those whose parent is not there.
    let said = request.props.get("StorDriver/FileDir").cloned().unwrap_or_default();
    let pool = Pool {
        name: name.to_owned(),
        provider,
        broken: said.starts_with("/nonexistent"),
        said,
        capacity_kib: call.sim.options.capacity_kib,
        uuid: setup::uuid(),
    };
    let made = std::fs::create_dir_all(pool_folder(call.sim.dir(), node, name));
    let details = format!("Storage pool '{name}' on node '{node}' UUID is: {}", pool.uuid);
    let mut out = vec![
        frame.success(CREATED, "Successfully set property key(s): StorDriver/StorPoolName"),
        frame
            .success(CREATED, format!("New storage pool '{name}' on node '{node}' registered."))
            .details(details)
            .with("UUID", &pool.uuid),
    ];
    if pool.broken || made.is_err() {
        let why = format!("df: {}: No such file or directory", pool.said);
        let message = format!(
            "Registration of storage pool '{name}' on node '{node}' failed due to an unhandled exception of type \
             DelayedApiRcException. Exceptions have been converted to responses"
        );
        out.push(frame.error(990, format!("({node}) External command failed")).details(why));
        out.push(
            frame.error(998, message).details(format!("Node: {node}, Storage pool name: {name}")).reported(),
        );
    } else {
        let changed = format!("({node}) Changes applied to storage pool '{name}' of node '{node}'");
        out.push(frame.success(MODIFIED, changed));
        out.push(frame.success(MODIFIED, format!("Storage pool updated on '{node}'")));
    }
    found.pools.insert(key(name), pool);
    Ok(call.answer(&mut world, 201, &out))
}

pub(super) fn pool_list(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    match world.nodes.get(&key(call.segment(2))) {
        Some(node) => Ok(Answer::json(json!(views::pools(node, call.sim.dir(), call.says("cached"))))),
        None => Err(call.refuse(&mut world, Frame::bare().not_there(300, "Node", call.segment(2)))),
    }
}

pub(super) fn pool_get(call: &Call<'_>) -> Answered {
    let (name, pool) = (call.segment(2), call.segment(4));
    let mut world = call.world();
    let Some(node) = world.nodes.get(&key(name)) else {
        return Err(call.refuse(&mut world, Frame::bare().not_there(300, "Node", name)));
    };
    let shown = views::pools(node, call.sim.dir(), false);
    let found = shown
        .into_iter()
        .find(|one| one["storage_pool_name"].as_str().is_some_and(|this| this.eq_ignore_ascii_case(pool)));
    found.map(Answer::json).ok_or_else(|| {
        let message = format!("Storage pool '{pool}' on node '{name}' not found.");
        call.refuse(&mut world, Frame::bare().error(310, message))
    })
}

pub(super) fn pool_delete(call: &Call<'_>) -> Answered {
    let (node, name) = (call.segment(2), call.segment(4));
    let frame = Frame::new(DELETE, object::POOL, &[("StorPoolDfn", name), ("Node", node)]);
    let own = format!("Node: {node}, Storage pool name: {name}");
    let mut world = call.world();
    let resources = world.definitions.values().flat_map(|definition| definition.resources.get(&key(node)));
    if resources.flat_map(|one| one.volumes.values()).any(|volume| volume.pool.eq_ignore_ascii_case(name)) {
        let refusal = frame.error(520, format!("{own} has volumes and cannot be deleted."));
        return Err(call.refuse(&mut world, refusal.details(own)));
    }
    let Some(pool) = world.nodes.get_mut(&key(node)).and_then(|node| node.pools.remove(&key(name))) else {
        let gone = frame.warn(3000, format!("{own} not found.")).details(own);
        return Ok(call.answer(&mut world, 200, &[gone]));
    };
    let deleted = frame.success(DELETED, format!("{own} deleted."));
    let deleted = deleted.details(format!("{own} UUID was: {}", pool.uuid)).with("UUID", &pool.uuid);
    Ok(call.answer(&mut world, 200, &[deleted]))
}

pub(super) fn pool_view(call: &Call<'_>) -> Answered {
    let (nodes, pools) = (call.wanted("nodes"), call.wanted("storage_pools"));
    let asked = |list: &[String], name: &str| {
        list.is_empty() || list.iter().any(|one| one.eq_ignore_ascii_case(name))
    };
    let world = call.world();
    let cached = call.says("cached");
    let shown = world.nodes.values().filter(|node| asked(&nodes, &node.name));
    let shown = shown.flat_map(|node| views::pools(node, call.sim.dir(), cached));
    let shown = shown.filter(|one| asked(&pools, one["storage_pool_name"].as_str().unwrap_or_default()));
    Ok(Answer::json(shown.collect::<Value>()))
}

pub(super) fn pool_definitions(call: &Call<'_>) -> Answered {
    let world = call.world();
    let names = world.nodes.values().flat_map(|node| node.pools.values());
    let mut names: Vec<_> = names.map(|pool| pool.name.clone()).chain(["DfltStorPool".to_owned()]).collect();
    names.sort_by_key(|name| key(name));
    names.dedup_by_key(|name| key(name));
    Ok(Answer::json(names.iter().map(|name| json!({"storage_pool_name": name})).collect()))
}
