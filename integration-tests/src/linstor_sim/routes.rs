//! Which call is which.

use super::call::{Answer, Answered, Call};
use super::entries::Frame;
use super::{
    available, definitions, groups, misc, nodes, resources, restore, rollback, snapshots, spawn, volumes,
};

type Handler = fn(&Call<'_>) -> Answered;

/// Answers a call; writes the state down before, when it may have changed it.
pub(super) fn answer(call: &Call<'_>, path: &str) -> Answered {
    let segments: Vec<_> = call.segments.iter().map(String::as_str).collect();
    let method = if call.method == "HEAD" { "GET" } else { call.method.as_str() };
    if let Some(handler) = find(method, &segments) {
        let answered = handler(call);
        if method != "GET" {
            call.sim.save(&call.world());
        }
        return answered;
    }
    let known =
        ["GET", "POST", "PUT", "DELETE", "OPTIONS"].iter().any(|other| find(other, &segments).is_some());
    if known && method == "OPTIONS" {
        return Ok(Answer { status: 200, body: None });
    }
    let (status, message, details) = if known {
        let message = format!("Method '{}' not allowed on path '{path}'.", call.method);
        (405, message, "HTTP 405 Method Not Allowed")
    } else {
        (404, format!("Path '{path}' not found on server."), "HTTP 404 Not Found")
    };
    let refusal = Answer::refusal(&Frame::bare().error(998, message).details(details));
    Err(Answer { status, ..refusal })
}

fn find(method: &str, segments: &[&str]) -> Option<Handler> {
    let Some((&"v1", rest)) = segments.split_first() else {
        return match (method, segments) {
            ("GET", []) => Some(misc::root),
            // Something is there, and fails.
            ("GET", ["metrics"]) => Some(|_| {
                let entry = Frame::bare().error(998, "An unknown error occurred.").reported();
                Err(Answer::refusal(&entry.details("HTTP 500 Internal Server Error")))
            }),
            _ => None,
        };
    };
    let (first, rest) = rest.split_first()?;
    match *first {
        "nodes" => of_nodes(method, rest),
        "resource-groups" => of_groups(method, rest),
        "resource-definitions" => of_definitions(method, rest),
        "key-value-store" => match (method, rest) {
            ("GET", []) => Some(misc::store_list),
            ("GET", [_]) => Some(misc::store_get),
            ("PUT", [_]) => Some(misc::store_modify),
            ("DELETE", [_]) => Some(misc::store_delete),
            _ => None,
        },
        "controller" => match (method, rest) {
            ("GET", ["version"]) => Some(misc::version),
            ("GET", ["config"]) => Some(misc::config),
            ("GET", ["properties"]) => Some(misc::props),
            ("POST", ["properties"]) => Some(misc::props_modify),
            ("GET", ["properties", "info"]) => Some(misc::props_info),
            ("DELETE", ["properties", _, ..]) => Some(misc::props_delete),
            _ => None,
        },
        "view" => match (method, rest) {
            ("GET", ["resources"]) => Some(resources::view),
            ("GET", ["snapshots"]) => Some(snapshots::view),
            ("GET", ["storage-pools"]) => Some(nodes::pool_view),
            _ => None,
        },
        other => of_the_rest(method, other, rest),
    }
}

fn of_the_rest(method: &str, first: &str, rest: &[&str]) -> Option<Handler> {
    match (method, first, rest) {
        ("POST", "actions", ["snapshot", "multi"]) => Some(snapshots::create_multi),
        ("GET", "storage-pool-definitions", []) => Some(nodes::pool_definitions),
        ("OPTIONS", "query-max-volume-size", []) => Some(groups::max_volume_size_of_filter),
        ("POST", "queries", ["resource-groups", "query-all-size-info"]) => Some(groups::all_size_info),
        ("GET", "error-reports", [] | [_]) => Some(misc::reports),
        ("GET", "space-report", []) => Some(misc::space_report),
        ("GET", "encryption", ["passphrase"]) => Some(misc::passphrase),
        ("GET", "physical-storage", []) => Some(misc::physical_storage),
        _ => None,
    }
}

fn of_nodes(method: &str, rest: &[&str]) -> Option<Handler> {
    match (method, rest) {
        ("GET", []) => Some(nodes::list),
        ("POST", []) => Some(nodes::create),
        ("GET", [_]) => Some(nodes::get),
        ("DELETE", [_]) => Some(nodes::delete),
        ("GET", [_, "net-interfaces"]) => Some(nodes::interfaces),
        ("GET", [_, "storage-pools"]) => Some(nodes::pool_list),
        ("POST", [_, "storage-pools"]) => Some(nodes::pool_create),
        ("GET", [_, "storage-pools", _]) => Some(nodes::pool_get),
        ("DELETE", [_, "storage-pools", _]) => Some(nodes::pool_delete),
        _ => None,
    }
}

fn of_groups(method: &str, rest: &[&str]) -> Option<Handler> {
    match (method, rest) {
        ("GET", []) => Some(groups::list),
        ("POST", []) => Some(groups::create),
        ("GET", [_]) => Some(groups::get),
        ("PUT", [_]) => Some(groups::modify),
        ("DELETE", [_]) => Some(groups::delete),
        ("GET", [_, "volume-groups"]) => Some(groups::volume_list),
        ("POST", [_, "volume-groups"]) => Some(groups::volume_create),
        ("POST", [_, "spawn"]) => Some(spawn::spawn),
        ("POST", [_, "adjust"]) => Some(groups::adjust),
        ("POST", [_, "query-size-info"]) => Some(groups::size_info),
        ("GET", [_, "query-max-volume-size"]) => Some(groups::max_volume_size),
        _ => None,
    }
}

fn of_definitions(method: &str, rest: &[&str]) -> Option<Handler> {
    match (method, rest) {
        ("GET", []) => Some(definitions::list),
        ("POST", []) => Some(definitions::create),
        ("GET", ["properties", "info"]) => Some(misc::props_info),
        ("GET", [_]) => Some(definitions::get),
        ("PUT", [_]) => Some(definitions::modify),
        ("DELETE", [_]) => Some(definitions::delete),
        ("GET", [_, "volume-definitions"]) => Some(volumes::list),
        ("POST", [_, "volume-definitions"]) => Some(volumes::create),
        ("GET", [_, "volume-definitions", _]) => Some(volumes::get),
        ("PUT", [_, "volume-definitions", _]) => Some(volumes::modify),
        ("DELETE", [_, "volume-definitions", _]) => Some(volumes::delete),
        ("GET", [_, "sync-status"]) => Some(misc::sync_status),
        ("POST", [_, "autoplace"]) => Some(resources::autoplace),
        ("POST", [_, "clone"]) => Some(misc::clone),
        ("GET", [_, "clone", _]) => Some(misc::clone_status),
        ("PUT", [_, "resource-connections", _, _]) => Some(misc::connection_modify),
        ("GET", [_, "resources"]) => Some(resources::list),
        ("POST", [_, "resources"] | [_, "resources", _]) => Some(resources::create),
        ("GET", [_, "resources", _]) => Some(resources::get),
        ("PUT", [_, "resources", _]) => Some(resources::modify),
        ("DELETE", [_, "resources", _]) => Some(resources::delete),
        ("GET", [_, "resources", _, "volumes"] | [_, "resources", _, "volumes", _]) => {
            Some(resources::volume_list)
        }
        ("POST", [_, "resources", _, "make-available"]) => Some(available::make_available),
        ("PUT", [_, "resources", _, "toggle-disk", "diskless"]) => Some(available::toggle_disk),
        ("PUT", [_, "resources", _, "toggle-disk", "diskful"]) => Some(available::toggle_disk),
        ("PUT", [_, "resources", _, "toggle-disk", "diskful" | "diskless", _]) => {
            Some(available::toggle_disk)
        }
        ("GET", [_, "snapshots"]) => Some(snapshots::list),
        ("POST", [_, "snapshots"]) => Some(snapshots::create),
        ("GET", [_, "snapshots", _]) => Some(snapshots::get),
        ("DELETE", [_, "snapshots", _]) => Some(snapshots::delete),
        ("POST", [_, "snapshot-restore-volume-definition", _]) => Some(restore::volume_definitions),
        ("POST", [_, "snapshot-restore-resource", _]) => Some(restore::resource),
        ("POST", [_, "snapshot-rollback", _]) => Some(rollback::rollback),
        _ => None,
    }
}
