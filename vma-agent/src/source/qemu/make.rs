//! Puts a snapshot into QEMU's block graph and takes it out again.
//!
//! ```text
//!  before                 while there is a snapshot
//!
//!  guest                  guest                       reader
//!    │                      │                           │ read-only export
//!   top                    top                       overlay (qcow2, empty at first) ─► scratch file
//!    │                      │                        ▲     │ backing
//!   node (bitmaps)        filter (copy-before-write) ┘     │
//!    │                      └──────────► node ◄────────────┘
//! ```
//!
//! Before the guest changes an area the filter copies what was there into the overlay; the reader sees the overlay and,
//! through it, what has not changed. The filter writes to the overlay as a serialising request, so a reader never
//! gets the new content of an area whose copy is still under way.
//!
//! Two things of QEMU 7.2 shape this (both measured):
//! - its `snapshot-access` node, which was made for the purpose, reads and reports the *live* content where a request
//!   begins in a copied area and ends in one that is not. So it is not used for reading, only as a canary: it fails
//!   all reads once the filter gave up (scratch space full), where the overlay would go on with newer data;
//! - swapping the filter out while the overlay still is backed by the node aborts the process. So the overlay lets go
//!   of it first.

use std::time::Duration;

use serde_json::{Value, json};
use shared::ids::DiskKey;
use tokio::time::{Instant, sleep};

use super::super::{Error, SnapshotName};
use super::config::Nodes;
use super::graph::{FrozenNames, Graph, Names, frozen_of};
use super::jobs::dismiss;
use super::qmp::{self, Session};

/// The longest that a copy may hold up a write of the guest, in seconds; then the snapshot is given up.
const LONGEST_COPY: u64 = 30;

/// The longest wait for an export to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// One disk's part of a snapshot.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) key: DiskKey,
    pub(super) nodes: Nodes,
    pub(super) names: Names,
}

impl Part {
    pub(super) fn new(snapshot: &SnapshotName, key: &DiskKey, nodes: &Nodes) -> Self {
        Self { key: key.clone(), nodes: nodes.clone(), names: Names::new(snapshot, key) }
    }

    fn top_over(&self, child: &str) -> Value {
        let mut options = self.nodes.top_options.clone();
        options.insert("driver".to_owned(), Value::from("raw"));
        options.insert("node-name".to_owned(), Value::from(self.nodes.top.as_str()));
        options.insert("file".to_owned(), Value::from(child));
        Value::Object(options)
    }
}

/// Puts everything in place but the swap: the guest does not notice. The scratch image is there.
pub(super) async fn prepare(session: &mut Session, part: &Part) -> Result<(), qmp::Error> {
    let names = &part.names;
    let overlay = json!({ "driver": "qcow2", "node-name": names.overlay, "file": names.file, "backing": part.nodes.node });
    session.run("blockdev-add", overlay).await?;
    let filter = json!({
        "driver": "copy-before-write",
        "node-name": names.filter,
        "file": part.nodes.node,
        "target": names.overlay,
        // The guest never pays for a snapshot that cannot be kept.
        "on-cbw-error": "break-snapshot",
        "cbw-timeout": LONGEST_COPY,
        "discard": "unmap",
    });
    session.run("blockdev-add", filter).await
}

/// The point in time, of all disks at once: QEMU drains all of them before it swaps any.
pub(super) async fn swap_in(session: &mut Session, parts: &[Part]) -> Result<(), qmp::Error> {
    let options: Vec<_> = parts.iter().map(|part| part.top_over(&part.names.filter)).collect();
    session.run("blockdev-reopen", json!({ "options": options })).await
}

/// Lets readers in.
pub(super) async fn publish(session: &mut Session, part: &Part) -> Result<(), qmp::Error> {
    let names = &part.names;
    let canary = json!({ "driver": "snapshot-access", "node-name": names.canary, "file": names.filter });
    session.run("blockdev-add", canary).await?;
    for (id, name, node) in [
        (&names.canary_export_id, &names.canary_export, &names.canary),
        (&names.export_id, &names.export, &names.overlay),
    ] {
        let export = json!({ "type": "nbd", "id": id, "name": name, "node-name": node });
        session.run("block-export-add", export).await?;
    }
    Ok(())
}

/// Whether all that [`prepare`] and [`publish`] make is there; else what is missing.
pub(super) fn missing(graph: &Graph, part: &Part) -> Option<String> {
    let names = &part.names;
    let nodes = [&names.file, &names.overlay, &names.filter, &names.canary];
    let node = nodes.into_iter().find(|name| !graph.has_node(name));
    let exports = [&names.export_id, &names.canary_export_id];
    let export = exports.into_iter().find(|id| !graph.has_export(id));
    let what = node.map(|name| format!("node {name}")).or(export.map(|id| format!("export {id}")))?;
    Some(format!("disk {} has no {what} any more: was the VM's process started again?", part.key))
}

/// Takes out whatever is there of the parts, in any state that a killed agent can have left.
pub(super) async fn take_down(
    session: &mut Session,
    snapshot: &SnapshotName,
    parts: &[Part],
) -> Result<(), Error> {
    let graph = Graph::read(session).await?;
    let mut exports = Vec::new();
    let mut frozen = Vec::new();
    for part in parts {
        let names = &part.names;
        exports.extend([&names.export_id, &names.canary_export_id, &names.layout_export].map(String::clone));
        for bitmap in graph.node(&part.nodes.node).map_or(&[][..], |node| &node.bitmaps) {
            if frozen_of(&bitmap.name).as_ref() == Some(snapshot) {
                let names = FrozenNames::of_bitmap(bitmap.name.clone(), &part.key);
                exports.push(names.export_id.clone());
                frozen.push((part, names.bitmap));
            }
        }
    }
    exports.retain(|id| graph.has_export(id));
    unexport(session, snapshot, &exports).await?;
    for (part, bitmap) in frozen {
        let bitmap = json!({ "node": part.nodes.node, "name": bitmap });
        session.run("block-dirty-bitmap-remove", bitmap).await?;
    }
    for part in parts {
        remove_node(session, &graph, &part.names.canary).await?;
    }
    for Part { names, .. } in parts.iter().filter(|part| graph.has_node(&part.names.overlay)) {
        let alone =
            json!({ "driver": "qcow2", "node-name": names.overlay, "file": names.file, "backing": null });
        session.run("blockdev-reopen", json!({ "options": [alone] })).await?;
    }
    let filtered = |part: &&Part| graph.has_node(&part.names.filter) && graph.has_node(&part.nodes.top);
    let options: Vec<_> = parts.iter().filter(filtered).map(|part| part.top_over(&part.nodes.node)).collect();
    if !options.is_empty() {
        session.run("blockdev-reopen", json!({ "options": options })).await?;
    }
    for part in parts {
        // The job that makes the file holds it: of an agent that was killed it may still run.
        dismiss(session, &part.names.job).await?;
        for node in [&part.names.filter, &part.names.overlay, &part.names.file] {
            remove_node(session, &graph, node).await?;
        }
    }
    Ok(())
}

async fn remove_node(session: &mut Session, graph: &Graph, node: &str) -> Result<(), qmp::Error> {
    match graph.has_node(node) {
        true => session.run("blockdev-del", json!({ "node-name": node })).await,
        false => Ok(()),
    }
}

/// Removes exports, readers or not, and waits until they are gone.
pub(super) async fn unexport(
    session: &mut Session,
    snapshot: &SnapshotName,
    ids: &[String],
) -> Result<(), Error> {
    for id in ids {
        let gone = session.run("block-export-del", json!({ "id": id, "mode": "hard" })).await;
        // "Already shutting down" and "not found" are refusals; the wait below tells whether it goes.
        gone.or_else(|error| if error.is_refusal() { Ok(()) } else { Err(error) })?;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let graph = Graph::read(session).await?;
        let Some(left) = ids.iter().find(|id| graph.has_export(id)) else { return Ok(()) };
        if Instant::now() >= deadline {
            let what = format!("export {left}");
            return Err(Error::NotGone { name: snapshot.clone(), what, seconds: PATIENCE.as_secs() });
        }
        sleep(Duration::from_millis(10)).await;
    }
}
