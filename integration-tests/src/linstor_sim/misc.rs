//! What is about the controller itself: version, properties, key-value stores, error reports, and questions that have one
//! answer here.

use super::call::{Answer, Answered, Call};
use super::definitions;
use super::entries::{CREATE, CREATED, DELETE, DELETED, Frame, MODIFIED, MODIFY, object};
use super::model::key;
use super::requests::Modify;
use super::satellite::{self, Ground};
use serde_json::{Value, json};

pub(super) fn version(_: &Call<'_>) -> Answered {
    Ok(Answer::json(json!({
        "version": "1.33.3", "git_hash": "1ff3a1ea5cb5c77100265ec442bb9a492b225145",
        "build_time": "2026-11-21T10:38:23+00:00", "rest_api_version": "1.27.0",
    })))
}

pub(super) fn root(_: &Call<'_>) -> Answered {
    Ok(Answer { status: 200, body: None })
}

pub(super) fn config(call: &Call<'_>) -> Answered {
    let dir = call.sim.dir();
    Ok(Answer::json(json!({
        "config": {"dir": dir},
        "debug": {"console_enabled": false},
        "log": {
            "print_stack_trace": false, "directory": dir, "level": "info", "level_linstor": "info",
            "rest_access_log_path": dir.join("rest-access.log"), "rest_access_mode": "APPEND",
        },
        "db": {
            "connection_url": "jdbc:h2:linstordb", "version_check_disabled": false,
            "etcd": {"operations_per_transaction": 128, "prefix": "/LINSTOR/"},
            "k8s": {"request_retries": 3, "max_rollback_entries": 100},
        },
        "http": {"enabled": true, "listen_address": "127.0.0.1", "port": 3370},
        "https": {"enabled": false, "listen_address": "::", "port": 3371},
        "ldap": {"enabled": false, "public_access_allowed": false, "uri": "ldap://localhost", "dn": "uid={user}"},
    })))
}

pub(super) fn props(call: &Call<'_>) -> Answered {
    Ok(Answer::json(json!(call.world().props)))
}

/// Reaches all volumes on all nodes.
pub(super) fn props_modify(call: &Call<'_>) -> Answered {
    let request: Modify = call.parse(400)?;
    let frame = Frame::new(MODIFY, object::CONTROLLER, &[]);
    let mut world = call.world();
    let mut out = Vec::new();
    for (name, value) in request.override_props {
        let message = format!("Successfully set property '{name}' to value '{value}'");
        out.push(frame.success(CREATED, message).op(CREATE));
        world.props.insert(name, value);
    }
    for name in request.delete_props {
        world.props.remove(&name);
        out.push(frame.success(DELETED, format!("Successfully deleted property '{name}'")).op(DELETE));
    }
    let names: Vec<_> = world.definitions.values().map(|definition| definition.name.clone()).collect();
    let ground = Ground::sound(call.sim.dir());
    names.iter().for_each(|name| satellite::round(&mut world, ground, name, &frame, None, &mut out));
    let online = world.nodes.values().filter(|node| node.online);
    out.extend(online.map(|node| frame.info(0, format!("({}) Controller properties applied", node.name))));
    Ok(call.answer(&mut world, 201, &out))
}

pub(super) fn props_delete(call: &Call<'_>) -> Answered {
    let name = call.segments.get(3..).unwrap_or_default().join("/");
    let frame = Frame::new(DELETE, object::CONTROLLER, &[]);
    let mut world = call.world();
    world.props.remove(&name);
    let deleted = frame.success(DELETED, format!("Successfully deleted property '{name}'"));
    Ok(call.answer(&mut world, 200, &[deleted]))
}

/// A few; the real one knows hundreds.
pub(super) fn props_info(_: &Call<'_>) -> Answered {
    Ok(Answer::json(json!({
        "StorDriver/Zfs/RollbackStrategy": {
            "info": "", "prop_type": "regex", "value": "(?:Clone|Dynamic|Rollback)", "dflt": "Dynamic",
        },
        "Cache/Blocksize": {"info": "Block size", "prop_type": "long", "dflt": "4096"},
    })))
}

pub(super) fn store_list(call: &Call<'_>) -> Answered {
    let world = call.world();
    Ok(Answer::json(world.stores.iter().map(|(name, props)| json!({"name": name, "props": props})).collect()))
}

pub(super) fn store_get(call: &Call<'_>) -> Answered {
    let name = call.segment(2);
    let mut world = call.world();
    match world.stores.get(name) {
        Some(props) => Ok(Answer::json(json!([{"name": name, "props": props}]))),
        None => {
            let refusal =
                Frame::bare().error(316, format!("Could not find key value store instance '{name}'."));
            Err(call.refuse(&mut world, refusal))
        }
    }
}

pub(super) fn store_modify(call: &Call<'_>) -> Answered {
    let request: Modify = call.parse(400)?;
    let mut world = call.world();
    let store = world.stores.entry(call.segment(2).to_owned()).or_default();
    store.extend(request.override_props);
    request.delete_props.iter().for_each(|name| drop(store.remove(name)));
    store.retain(|name, _| !request.delete_namespaces.iter().any(|space| name.starts_with(space)));
    world.stores.retain(|_, store| !store.is_empty());
    let updated =
        Frame::new(MODIFY, object::CONTROLLER, &[]).success(MODIFIED, "Successfully updated properties");
    Ok(call.answer(&mut world, 200, &[updated]))
}

pub(super) fn store_delete(call: &Call<'_>) -> Answered {
    let name = call.segment(2);
    let mut world = call.world();
    let entry = match world.stores.remove(name) {
        Some(_) => {
            Frame::bare().success(DELETED, format!("Kvs '{name}' deleted.")).details(format!("Kvs '{name}'"))
        }
        None => Frame::bare().warn(3000, format!("Could not find key value store instance '{name}'.")),
    };
    Ok(call.answer(&mut world, 200, &[entry]))
}

/// Newest first.
pub(super) fn reports(call: &Call<'_>) -> Answered {
    let world = call.world();
    let only = call.segments.get(2);
    let taken = call.number("limit").unwrap_or(usize::MAX);
    let found =
        world.reports.iter().rev().filter(|report| only.is_none_or(|only| *only == report.id)).take(taken);
    let content = call.says("withContent") || only.is_some();
    let shown = found.map(|report| {
        let mut shown = json!({
            "node_name": "linstor-sim", "error_time": report.time, "filename": format!("ErrorReport-{}.log", report.id),
            "module": "CONTROLLER", "version": "1.33.3", "peer": "RestClient(127.0.0.1)",
            "exception": "ApiRcException", "exception_message": report.message,
            "origin_file": "linstor-sim", "origin_method": "call", "origin_line": 1,
        });
        if content {
            shown["text"] = json!(format!("ERROR REPORT {}\n\n{}\n", report.id, report.message));
        }
        shown
    });
    Ok(Answer::json(shown.collect()))
}

pub(super) fn sync_status(call: &Call<'_>) -> Answered {
    let mut world = call.world();
    if !world.definitions.contains_key(&key(call.segment(2))) {
        let refusal = Frame::bare().not_there(301, "Resource definition", call.segment(2));
        return Err(call.refuse(&mut world, refusal));
    }
    definitions::asked(call, &mut world)?;
    Ok(Answer::json(json!({"synced_on_all": true})))
}

pub(super) fn space_report(_: &Call<'_>) -> Answered {
    Ok(Answer::json(json!({"reportText": "The SpaceTracking service is not installed."})))
}

pub(super) fn passphrase(_: &Call<'_>) -> Answered {
    Ok(Answer::json(json!({"status": "unset"})))
}

pub(super) fn physical_storage(call: &Call<'_>) -> Answered {
    let world = call.world();
    let shown = world.nodes.values().map(|node| {
        let mut nodes = json!({});
        nodes[node.name.as_str()] = json!([{"device": "/dev/vda"}]);
        json!({"size": 274_877_906_944_u64, "rotational": true, "nodes": nodes})
    });
    Ok(Answer::json(shown.collect::<Value>()))
}

pub(super) fn connection_modify(call: &Call<'_>) -> Answered {
    let request: Modify = call.parse(500)?;
    let refs = [("RscDfn", call.segment(2)), ("FirstNode", call.segment(4)), ("SecondNode", call.segment(5))];
    let frame = Frame::new(MODIFY, object::CONNECTION, &refs);
    let mut world = call.world();
    definitions::asked(call, &mut world)?;
    let keys: Vec<_> = request.override_props.keys().map(String::as_str).collect();
    let message = format!("Successfully set property key(s): {}", keys.join(","));
    let modified = format!("Resource connection between nodes '{}' and '{}' modified.", refs[1].1, refs[2].1);
    let out = [frame.success(CREATED, message).op(CREATE), frame.success(MODIFIED, modified)];
    Ok(call.answer(&mut world, 200, &out))
}

/// Files cannot be cloned so: the real one refuses it of FILE and FILE_THIN as well.
pub(super) fn clone(call: &Call<'_>) -> Answered {
    let request: Value = call.parse(500)?;
    let (source, wanted) = (call.segment(2), request["name"].as_str().unwrap_or_default());
    let frame = Frame::new(CREATE, object::DEFINITION, &[]);
    let refusal = frame.error(227, "Clone source contains unsupported storage pools");
    let body = json!({
        "location": format!("/v1/resource-definitions/{source}/clone/{wanted}"), "source_name": source,
        "clone_name": wanted, "messages": [refusal.details("FILE and FILE_THIN cannot be cloned").json(None)],
    });
    Ok(Answer { status: 500, body: Some(body) })
}

pub(super) fn clone_status(call: &Call<'_>) -> Answered {
    Err(call.refuse(&mut call.world(), Frame::bare().error(301, "Cloned resource not found.")))
}
