//! What failovers are made on, and what lies there by its own records, not by those of the control plane: files of a folder, or
//! both simulators' states.

use crate::compute::{CloudStackCompute, Compute, State};
use crate::storage::{LinstorStorage, LocalStorage, Storage};
use crate::testing::Machines;
use integration_tests::zone::{GROUP, OMA, Zone};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Ground {
    /// What its failovers make, where it is none of CloudStack's.
    pub(crate) machines: Arc<Machines>,
    pub(crate) zone: Option<Arc<Zone>>,
    /// Where replicas are, if it is neither a folder nor a zone.
    pub(crate) storage: Option<Arc<dyn Storage>>,
}

/// What there is of failovers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct There {
    pub(crate) clones: BTreeSet<String>,
    pub(crate) snapshots: BTreeSet<String>,
    pub(crate) machines: Vec<(String, Vec<String>, State)>,
    /// Of clones that were handed over, and of disks that nobody asked for.
    pub(crate) records: BTreeSet<String>,
}

impl Ground {
    /// A zone with somebody else's resource and machine in it.
    pub(crate) async fn zone(folder: &Path) -> Self {
        let zone = Zone::start(folder.join("zone")).await.expect("a zone");
        Self { zone: Some(Arc::new(zone)), ..Self::default() }
    }

    pub(crate) async fn open(&self, folder: &Path) -> (Arc<dyn Storage>, Arc<dyn Compute>) {
        if let Some(storage) = &self.storage {
            return (Arc::clone(storage), Arc::clone(&self.machines) as _);
        }
        let Some(zone) = &self.zone else {
            let local = LocalStorage::open(&folder.join("storage")).await.expect("storage");
            return (Arc::new(local), Arc::clone(&self.machines) as _);
        };
        let (storage, compute) = open(zone);
        (storage, compute)
    }

    /// Replicas and restore points, and all that is somebody else's, by their content.
    pub(crate) fn kept(&self, folder: &Path) -> BTreeMap<String, blake3::Hash> {
        match &self.zone {
            None => kept_files(&folder.join("storage")),
            Some(_) => kept_of_zone(&folder.join("zone")),
        }
    }

    pub(crate) fn there(&self, folder: &Path) -> There {
        match &self.zone {
            None => there_of_files(&folder.join("storage"), &self.machines),
            Some(_) => there_of_zone(&folder.join("zone")),
        }
    }
}

/// What `[storage]` and `[compute]` have beside their kinds, for that zone: quick to ask.
pub(crate) fn settings(zone: &Zone) -> (String, String) {
    let (ids, (key, secret)) = (zone.ids().expect("as made"), zone.admin_keys());
    let storage =
        format!("controllers = [{:?}]\nresource_group = {GROUP:?}\nnode = {OMA:?}\n", zone.linstor_url());
    let compute = format!(
        "endpoint = {:?}\napi_key_file = {key:?}\nsecret_key_file = {secret:?}\nzone = {:?}\npool = \"linstor\"\n\
         disk_offering = \"linstor-custom\"\ntemplate = {:?}\nisolated_network = \"l2a\"\npoll = \"5ms\"\n\
         job_deadline = \"3s\"\n",
        zone.cloudstack_url(),
        ids.zone,
        ids.template,
    );
    (storage, compute)
}

/// Both backends on a zone.
pub(crate) fn open(zone: &Zone) -> (Arc<LinstorStorage>, Arc<CloudStackCompute>) {
    let (storage, compute) = settings(zone);
    let storage = LinstorStorage::open(&toml::from_str(&storage).expect("settings")).expect("opened");
    let storage = Arc::new(storage);
    let settings = toml::from_str(&compute).expect("settings");
    let compute = CloudStackCompute::open(&settings, Arc::clone(&storage)).expect("opened");
    (storage, Arc::new(compute))
}

fn kept_files(root: &Path) -> BTreeMap<String, blake3::Hash> {
    let mut found = BTreeMap::new();
    for (folder, file) in files(&root.join("volumes")).chain(files(&root.join("snapshots"))) {
        let of_failover = file.starts_with("cs-")
            || folder.ends_with("volumes/cs")
            || folder.contains("/test-")
            || folder.contains("/live-");
        if !of_failover {
            let content = std::fs::read(format!("{folder}/{file}")).expect("readable");
            found.insert(format!("{folder}/{file}"), blake3::hash(&content));
        }
    }
    found
}

fn files(root: &Path) -> impl Iterator<Item = (String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).expect("a folder") {
        let path = entry.expect("an entry").path();
        let folder = root.display().to_string();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((folder, path.file_name().expect("a name").to_string_lossy().into_owned())),
        }
    }
    found.into_iter()
}

fn there_of_files(root: &Path, machines: &Machines) -> There {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root.join(folder)).expect("a folder");
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let clone = |name: String| match name.strip_suffix(".img") {
        Some(clone) => clone.starts_with("cs-").then(|| clone.to_owned()),
        None => name.ends_with(".tmp").then_some(name),
    };
    There {
        clones: names("volumes").into_iter().filter_map(clone).collect(),
        snapshots: names("snapshots").into_iter().filter(|name| !name.starts_with("rp-")).collect(),
        machines: machines.inventory(),
        records: BTreeSet::new(),
    }
}

fn state(zone: &Path, simulator: &str) -> Value {
    let text = std::fs::read(zone.join(simulator).join("state.json")).expect("its state");
    serde_json::from_slice(&text).expect("as written whole")
}

fn text(of: &Value, key: &str) -> String {
    of[key].as_str().unwrap_or_default().to_owned()
}

fn definitions(zone: &Path) -> Vec<Value> {
    let state = state(zone, "linstor");
    state["definitions"].as_object().into_iter().flatten().map(|(_, definition)| definition.clone()).collect()
}

/// Definitions that a failover made.
fn is_clone(definition: &Value) -> bool {
    let name = text(definition, "name");
    name.starts_with("cs-") && definition["props"].get(format!("Aux/mk-volume/{name}")).is_some()
}

fn there_of_zone(zone: &Path) -> There {
    let mut there = There::default();
    for definition in definitions(zone).iter().filter(|definition| is_clone(definition)) {
        there.clones.insert(text(definition, "name"));
        let snapshots = definition["snapshots"].as_object().into_iter().flatten();
        there.snapshots.extend(snapshots.map(|(_, snapshot)| text(snapshot, "name")));
    }
    // The properties of a snapshot are inherited: a point of a replica is none of a clone's.
    there.snapshots.retain(|name| !name.starts_with("rp-"));
    let cloudstack = state(zone, "cloudstack");
    let of = |kind: &str| cloudstack[kind].as_array().cloned().unwrap_or_default();
    let live = |kind: &str| of(kind).into_iter().filter(|one| one["removed"] == false).collect::<Vec<_>>();
    let volumes = live("volumes");
    for vm in live("vms").iter().filter(|vm| is_ours(vm)) {
        let mut disks: Vec<_> = volumes.iter().filter(|volume| volume["vm"] == vm["id"]).collect();
        disks.sort_by_key(|volume| volume["device"].as_u64());
        let disks = disks.iter().map(|volume| format!("cs-{}", text(volume, "id"))).collect();
        let state = match text(vm, "state").as_str() {
            "Running" => State::Running,
            "Stopped" => State::Stopped,
            _ => State::Unknown,
        };
        there.machines.push((text(vm, "name"), disks, state));
    }
    there.machines.sort_by(|a, b| a.0.cmp(&b.0));
    let theirs = |volume: &&Value| !text(volume, "name").starts_with(THEIRS) && !is_of(volume, &cloudstack);
    there.records.extend(volumes.iter().filter(theirs).map(|volume| format!("cs-{}", text(volume, "id"))));
    there
}

/// What is somebody else's is called so.
const THEIRS: &str = "theirs";

fn is_ours(vm: &Value) -> bool {
    !text(vm, "name").starts_with(THEIRS)
}

/// Whether it is a disk of somebody else's machine.
fn is_of(volume: &Value, cloudstack: &Value) -> bool {
    let vms = cloudstack["vms"].as_array().into_iter().flatten();
    let mut holders = vms.filter(|vm| vm["id"] == volume["vm"]);
    holders.any(|vm| !is_ours(vm))
}

fn kept_of_zone(zone: &Path) -> BTreeMap<String, blake3::Hash> {
    let mut kept = BTreeMap::new();
    for definition in definitions(zone).iter().filter(|definition| !is_clone(definition)) {
        let name = text(definition, "name");
        kept.insert(name.clone(), content(&definition["resources"]));
        for (_, snapshot) in definition["snapshots"].as_object().into_iter().flatten() {
            kept.insert(format!("{name} {}", text(snapshot, "name")), content(&snapshot["replicas"]));
        }
    }
    let cloudstack = state(zone, "cloudstack");
    for vm in cloudstack["vms"].as_array().into_iter().flatten().filter(|vm| !is_ours(vm)) {
        kept.insert(text(vm, "name"), blake3::hash(vm.to_string().as_bytes()));
        for volume in cloudstack["volumes"].as_array().into_iter().flatten().filter(|v| v["vm"] == vm["id"]) {
            kept.insert(text(volume, "id"), blake3::hash(volume.to_string().as_bytes()));
        }
    }
    kept
}

/// Of all copies: what is written in them.
fn content(copies: &Value) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for (node, copy) in copies.as_object().into_iter().flatten() {
        for (_, volume) in copy["volumes"].as_object().into_iter().flatten() {
            if let Some(file) = volume["file"].as_str() {
                hasher.update(node.as_bytes());
                written(Path::new(file), &mut hasher);
            }
        }
    }
    hasher.finalize()
}

/// Only what is no hole is read: volumes are large, and next to nothing is in them. Zeros count as a hole.
fn written(path: &Path, hasher: &mut blake3::Hasher) {
    use rustix::fs::{SeekFrom, seek};
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut at = 0;
    while let Ok(data) = seek(&file, SeekFrom::Data(at)) {
        let end = seek(&file, SeekFrom::Hole(data)).expect("a hole behind data");
        let mut bytes = vec![0; usize::try_from(end - data).expect("few")];
        file.read_exact_at(&mut bytes, data).expect("readable");
        for (n, block) in bytes.chunks(4096).enumerate().filter(|(_, block)| block.iter().any(|b| *b != 0)) {
            hasher.update(&(data + n as u64 * 4096).to_le_bytes());
            hasher.update(block);
        }
        at = end;
    }
}
