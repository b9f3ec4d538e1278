//! Copies of change-tracking bitmaps as they were right after a snapshot: what its cycle asks for changes.
//!
//! The tracking goes on in the bitmap itself. A copy that is made later tells more (what was written since the snapshot,
//! which is then read in this cycle and in the next), never less.

use super::super::{ChangeId, SnapshotName};
use super::graph::{FrozenNames, Graph};
use super::make::Part;
use super::qmp::{self, Session};
use super::usable;
use serde_json::json;
use shared::ids::DiskKey;

/// Copies the change ids that the cycle may ask, those that are needed. One that cannot be copied is tried again when it is
/// asked for, and refused then.
pub(super) async fn copy_kept(
    session: &mut Session,
    graph: &Graph,
    snapshot: &SnapshotName,
    parts: &[Part],
    kept: &[(DiskKey, ChangeId)],
) -> Result<(), qmp::Error> {
    for (key, since) in kept {
        let Some(part) = parts.iter().find(|part| part.key == *key) else { continue };
        let node = part.nodes.node.as_str();
        let Ok(granularity) = usable(graph, node, since.as_str()) else { continue };
        let names = FrozenNames::new(snapshot, &part.key, since);
        match copy(session, node, &names, since.as_str(), granularity).await {
            Err(error) if error.is_refusal() => {
                tracing::debug!(%snapshot, disk = %part.key, %error, "a change id is copied later");
            }
            result => result?,
        }
    }
    Ok(())
}

/// Both or none: a copy without its content would say that nothing changed.
pub(super) async fn copy(
    session: &mut Session,
    node: &str,
    names: &FrozenNames,
    since: &str,
    granularity: u64,
) -> Result<(), qmp::Error> {
    let actions = json!([
        { "type": "block-dirty-bitmap-add",
          "data": { "node": node, "name": names.bitmap, "granularity": granularity, "disabled": true } },
        { "type": "block-dirty-bitmap-merge",
          "data": { "node": node, "target": names.bitmap, "bitmaps": [since] } },
    ]);
    session.run("transaction", json!({ "actions": actions })).await
}
