//! What is in QEMU's block graph now, and what things of ours are called there.
//!
//! Node names have at most 31 bytes in QEMU, so those of a snapshot are made of a hash of its name and the disk's
//! key; bitmaps and exports carry readable names.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use shared::ids::DiskKey;

use super::super::{ChangeId, SnapshotName};
use super::jobs;
use super::qmp::{Error, Session};

/// Bitmaps that hold the changes between a change id and a snapshot begin with this.
const FROZEN: &str = "frozen:";

/// Names of what a snapshot consists of, for one disk.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The scratch image's file, and the image itself.
    pub(super) file: String,
    pub(super) overlay: String,
    /// The filter that copies before the guest writes.
    pub(super) filter: String,
    /// Reads through the filter; fails once the snapshot is broken.
    pub(super) canary: String,
    /// Ids of exports.
    pub(super) export_id: String,
    pub(super) canary_export_id: String,
    /// Names of exports, for NBD clients.
    pub(super) export: String,
    pub(super) canary_export: String,
    /// Export of the file while the scratch image is laid out in it; id and name.
    pub(super) layout_export: String,
    /// Id of the job that creates the file.
    pub(super) job: String,
}

impl Names {
    pub(super) fn new(snapshot: &SnapshotName, disk: &DiskKey) -> Self {
        let hash = hash(&[snapshot.as_str(), disk.as_str()]);
        let name = |role: &str| format!("mk-{role}-{hash:016x}");
        Self {
            file: name("file"),
            overlay: name("over"),
            filter: name("cbw"),
            canary: name("view"),
            export_id: name("data"),
            canary_export_id: name("canary"),
            export: format!("{snapshot}.{disk}"),
            canary_export: format!("{snapshot}.{disk}.canary"),
            layout_export: name("layout"),
            job: name("job"),
        }
    }
}

/// Names of what one query for changes needs.
#[derive(Clone, Debug)]
pub(super) struct FrozenNames {
    pub(super) bitmap: String,
    pub(super) export_id: String,
    pub(super) export: String,
}

impl FrozenNames {
    pub(super) fn new(snapshot: &SnapshotName, disk: &DiskKey, since: &ChangeId) -> Self {
        Self::of_bitmap(format!("{FROZEN}{snapshot}:{since}"), disk)
    }

    /// From the bitmap alone: that is how those of a snapshot are found again.
    pub(super) fn of_bitmap(bitmap: String, disk: &DiskKey) -> Self {
        let id = format!("mk-since-{:016x}", hash(&[&bitmap, disk.as_str()]));
        Self { bitmap, export: id.clone(), export_id: id }
    }
}

/// The snapshot that a frozen bitmap belongs to; `None` for bitmaps of another kind.
pub(super) fn frozen_of(bitmap: &str) -> Option<SnapshotName> {
    let (snapshot, _) = bitmap.strip_prefix(FROZEN)?.split_once(':')?;
    SnapshotName::parse(snapshot).ok()
}

/// A name for a new change-tracking bitmap. The random part is never used twice: a bitmap that was lost and made
/// again under a name that somebody still holds would call changes "none" that it never saw.
pub(super) fn new_change_id(snapshot: &SnapshotName) -> ChangeId {
    let random = uuid::Uuid::new_v4().simple().to_string();
    ChangeId::new(format!("{snapshot}.{}", &random[..12]))
}

/// The snapshot that a change-tracking bitmap was made with; `None` where it is not one of ours.
pub(super) fn snapshot_of(bitmap: &str) -> Option<SnapshotName> {
    let (snapshot, _) = bitmap.rsplit_once('.')?;
    SnapshotName::parse(snapshot).ok()
}

/// FNV-1a over the parts, each ended by a byte that no part has. Stable for ever: an agent of another version must
/// find the same names.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A dirty bitmap.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Bitmap {
    #[serde(default)]
    pub(super) name: String,
    pub(super) granularity: u64,
    /// Takes note of new writes.
    #[serde(default)]
    pub(super) recording: bool,
    /// Not stored when QEMU ended: it says nothing.
    #[serde(default)]
    pub(super) inconsistent: bool,
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Bytes.
    pub(super) size: u64,
    pub(super) bitmaps: Vec<Bitmap>,
    file: String,
}

impl Node {
    pub(super) fn bitmap(&self, name: &str) -> Option<&Bitmap> {
        self.bitmaps.iter().find(|bitmap| bitmap.name == name)
    }
}

/// Nodes, bitmaps and exports at one moment.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    exports: HashSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawNode {
    node_name: Option<String>,
    #[serde(default)]
    dirty_bitmaps: Vec<Bitmap>,
    image: RawImage,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawImage {
    virtual_size: u64,
    #[serde(default)]
    filename: String,
}

#[derive(Deserialize)]
struct RawExport {
    id: String,
}

impl Graph {
    pub(super) async fn read(session: &mut Session) -> Result<Self, Error> {
        jobs::none_creates(session).await?;
        let nodes: Vec<RawNode> = session.execute("query-named-block-nodes", json!({ "flat": true })).await?;
        let exports: Vec<RawExport> = session.execute("query-block-exports", json!({})).await?;
        let node = |raw: RawNode| {
            let node =
                Node { size: raw.image.virtual_size, bitmaps: raw.dirty_bitmaps, file: raw.image.filename };
            Some((raw.node_name?, node))
        };
        Ok(Self {
            nodes: nodes.into_iter().filter_map(node).collect(),
            exports: exports.into_iter().map(|export| export.id).collect(),
        })
    }

    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    pub(super) fn has_node(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    pub(super) fn has_export(&self, id: &str) -> bool {
        self.exports.contains(id)
    }

    /// Snapshots that have a scratch file open; with the agent's folder gone, the only trace of them.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = SnapshotName> + '_ {
        let ours = self.nodes.iter().filter(|(name, _)| name.starts_with("mk-file-"));
        ours.filter_map(|(_, node)| {
            let folder = Path::new(&node.file).parent()?.file_name()?;
            SnapshotName::parse(folder.to_str()?).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_lead_back() {
        let snapshot = SnapshotName::parse(&format!("mk-{}", "j".repeat(64))).unwrap();
        let disk = DiskKey::parse("d".repeat(64)).unwrap();
        let names = Names::new(&snapshot, &disk);
        for node in [&names.file, &names.overlay, &names.filter, &names.canary] {
            assert!(node.len() <= 31, "{node}");
        }
        let id = new_change_id(&snapshot);
        assert_ne!(id, new_change_id(&snapshot));
        assert_eq!(snapshot_of(id.as_str()), Some(snapshot.clone()));
        let frozen = FrozenNames::new(&snapshot, &disk, &id);
        assert_eq!(frozen_of(&frozen.bitmap), Some(snapshot));
        assert_eq!(frozen_of(id.as_str()), None);
        assert_eq!(snapshot_of(&frozen.bitmap), None);
        // Another agent must find the same nodes.
        let job = SnapshotName::parse("mk-job-20261121-132200").unwrap();
        assert_eq!(Names::new(&job, &DiskKey::parse("root").unwrap()).filter, "mk-cbw-ac13293b91fbb494");
    }
}
