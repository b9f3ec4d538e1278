//! How objects are shown. What is empty is left out, as the real one leaves it out.

use super::entries::Frame;
use super::model::{
    DISKLESS_POOL, Definition, Flag, Group, Node, Pool, Provider, Resource, Snapshot, SnapshotState, Volume,
    VolumeDefinition, World, key,
};
use super::{bytes, open, place};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// An object that leaves out what is empty.
#[derive(Default)]
pub(super) struct Shown(Map<String, Value>);

impl Shown {
    pub(super) fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.0.insert(name.to_owned(), json!(value));
        self
    }

    /// Unless it is nothing, an empty list or an empty object.
    pub(super) fn filled(self, name: &str, value: impl Serialize) -> Self {
        let value = json!(value);
        let empty = match &value {
            Value::Null => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        };
        if empty { self } else { self.with(name, value) }
    }

    pub(super) fn done(self) -> Value {
        Value::Object(self.0)
    }
}

const NO_WORD: &str = "No information from satellite yet";

pub(super) fn node(node: &Node) -> Value {
    let absent = |tool: &str| {
        format!(
            "IO exception occured when running '{tool}': Cannot run program: error=2, No such file or directory"
        )
    };
    let why = |tool: &str| if node.online { absent(tool) } else { NO_WORD.to_owned() };
    let zfs = [why("cat /sys/module/zfs/version"), why("zfs --version")];
    let mut providers = json!({
        "LVM": [why("lvm version")], "SPDK": [why("rpc.py spdk_get_version")], "STORAGE_SPACES": [why("none")],
        "ZFS_THIN": zfs, "ZFS": zfs, "STORAGE_SPACES_THIN": [why("none")], "LVM_THIN": [why("thin_check -V")],
    });
    let mut layers = json!({
        "LUKS": [why("cryptsetup --version")], "NVME": [why("modprobe nvmet_rdma"), why("modprobe nvme_rdma")],
        "WRITECACHE": [why("modprobe dm-writecache")], "CACHE": [why("modprobe dm-cache")],
        "BCACHE": [why("modprobe bcache")],
    });
    let mut has = vec!["DISKLESS", "REMOTE_SPDK", "EBS_INIT", "EBS_TARGET"];
    if node.online {
        has.splice(1..1, ["FILE", "FILE_THIN"]);
    } else {
        providers["FILE"] = json!([NO_WORD]);
        providers["FILE_THIN"] = json!([NO_WORD]);
    }
    let mut carried = vec!["STORAGE"];
    if node.drbd && node.online {
        carried.insert(0, "DRBD");
    } else {
        layers["DRBD"] = json!([why("drbdadm --version"), why("drbdadm --version")]);
    }
    let evicted = jiff::Timestamp::now().as_millisecond() + 3_600_000;
    Shown::default()
        .filled("eviction_timestamp", (!node.online && !node.connecting).then_some(evicted))
        .with("name", &node.name)
        .with("type", &node.kind)
        .with("props", json!({"CurStltConnName": "default", "NodeUname": node.host}))
        .filled("net_interfaces", &node.interfaces)
        .with("connection_status", if node.online { "ONLINE" } else { "OFFLINE" })
        .with("uuid", &node.uuid)
        .with("storage_providers", has)
        .with("resource_layers", carried)
        .with("unsupported_providers", providers)
        .with("unsupported_layers", layers)
        .done()
}

/// Pools of a node in the order of their names, the one without disks among them.
pub(super) fn pools(node: &Node, dir: &Path, cached: bool) -> Vec<Value> {
    let mut all: Vec<_> =
        node.pools.values().map(|one| (key(&one.name), pool(node, one, dir, cached))).collect();
    all.push((key(DISKLESS_POOL), diskless(node)));
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all.into_iter().map(|(_, shown)| shown).collect()
}

fn diskless(node: &Node) -> Value {
    json!({
        "storage_pool_name": DISKLESS_POOL, "node_name": node.name, "provider_kind": "DISKLESS",
        "static_traits": {"SupportsSnapshots": "false"}, "free_capacity": i64::MAX, "total_capacity": i64::MAX,
        "free_space_mgr_name": format!("{};{DISKLESS_POOL}", node.name), "uuid": node.diskless_uuid,
        "supports_snapshots": false, "external_locking": false,
    })
}

pub(super) fn pool(node: &Node, pool: &Pool, dir: &Path, cached: bool) -> Value {
    let frame = Frame::bare();
    let report = if !node.online {
        Some(frame.offline(&node.name))
    } else if pool.broken && !cached {
        let (node, name) = (&node.name, &pool.name);
        let message =
            format!("Node: '{node}', storage pool: '{name}' - Failed to query free space from storage pool");
        Some(frame.error(998, message).cause(format!("Parent directory of '{}' does not exist. ", pool.said)))
    } else {
        None
    };
    let provisioning = if pool.provider == Provider::File { "Fat" } else { "Thin" };
    let mut shown = Shown::default()
        .with("storage_pool_name", &pool.name)
        .with("node_name", &node.name)
        .with("provider_kind", pool.provider)
        .with(
            "props",
            json!({"StorDriver/StorPoolName": pool.said, "StorDriver/internal/AllocationGranularity": "1"}),
        )
        .with("static_traits", json!({"Provisioning": provisioning, "SupportsSnapshots": "true"}));
    if node.online {
        shown = shown
            .with("free_capacity", place::free_kib(dir, &node.name, pool))
            .with("total_capacity", if pool.broken { 0 } else { pool.capacity_kib });
    }
    shown
        .with("free_space_mgr_name", format!("{};{}", node.name, pool.name))
        .with("uuid", &pool.uuid)
        .filled("reports", report.map(|report| vec![report.json(None)]))
        .with("supports_snapshots", true)
        .with("external_locking", false)
        .done()
}

pub(super) fn group(group: &Group) -> Value {
    let mut filter = json!(group.filter);
    if let Some(first) = group.filter.storage_pool_list.first() {
        filter["storage_pool"] = json!(first);
    }
    Shown::default()
        .with("name", &group.name)
        .filled("description", &group.description)
        .filled("props", &group.props)
        .with("select_filter", filter)
        .with("uuid", &group.uuid)
        .done()
}

fn layers(definition: &Definition, drbd: &Value) -> Vec<Value> {
    let shown = definition.layers.iter().filter(|_| !definition.layers_hidden);
    let shown = shown.map(|layer| match layer.as_str() {
        "DRBD" => json!({"type": layer, "data": drbd}),
        _ => json!({"type": layer}),
    });
    shown.collect()
}

fn drbd_definition(definition: &Definition) -> Value {
    let secret: String = definition.uuid.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    json!({
        "peer_slots": 7, "al_stripes": 1, "al_stripe_size_kib": 32, "port": -1, "transport_type": "IP",
        "secret": secret, "down": false,
    })
}

pub(super) fn definition(definition: &Definition, with_volumes: bool) -> Value {
    let volumes =
        definition.volumes.iter().map(|(number, volume)| volume_definition(definition, *number, volume));
    let volumes: Vec<_> = if with_volumes { volumes.collect() } else { Vec::new() };
    Shown::default()
        .with("name", &definition.name)
        .filled("external_name", &definition.external_name)
        .filled("props", &definition.props)
        .filled("flags", definition.deleting.then_some(["DELETE"]))
        .filled("layer_data", layers(definition, &drbd_definition(definition)))
        .with("uuid", &definition.uuid)
        .with("resource_group_name", &definition.group)
        .filled("volume_definitions", volumes)
        .done()
}

pub(super) fn volume_definition(definition: &Definition, number: u32, volume: &VolumeDefinition) -> Value {
    let drbd = json!({"volume_number": number, "minor_number": volume.minor});
    let layers = if volume.layered { layers(definition, &drbd) } else { Vec::new() };
    let is_deployed = definition.drbd() && !definition.resources.is_empty();
    Shown::default()
        .with("volume_number", number)
        .with("size_kib", volume.size_kib)
        .filled("props", &volume.props)
        .filled("flags", is_deployed.then_some(["DRBD_INITIALIZED"]))
        .filled("layer_data", layers)
        .with("uuid", &volume.uuid)
        .done()
}

/// What is on the disk of a volume.
fn storage(number: u32, volume: &Volume, size_kib: u64) -> Value {
    let file = volume.file.as_deref().filter(|_| volume.provider != Provider::Diskless);
    let allocated = file.map(bytes::allocated_kib);
    let shown = Shown::default().with("volume_number", number).filled("device_path", file);
    if volume.provider == Provider::Diskless {
        return shown.with("allocated_size_kib", 0).with("usable_size_kib", size_kib).done();
    }
    // A thin one's usable size is what is allocated: a quirk of 1.33, and why it is resized all the time.
    let usable = match (volume.provider, allocated) {
        (Provider::FileThin, Some(allocated)) => allocated.max(8),
        _ => size_kib,
    };
    shown
        .with("allocated_size_kib", allocated.map_or(json!(-1), |kib| json!(kib.max(8))))
        .with("usable_size_kib", usable)
        .with("disk_state", "[]")
        .done()
}

fn drbd_volume(number: u32, minor: u64, volume: &Volume, size_kib: u64) -> Value {
    let backing = volume.file.as_deref().filter(|_| volume.provider != Provider::Diskless);
    Shown::default()
        .with("drbd_volume_definition", json!({"volume_number": number, "minor_number": minor}))
        .filled("device_path", volume.file.as_deref())
        .filled("backing_device", backing)
        .with("allocated_size_kib", backing.map_or(json!(-1), |_| json!(size_kib + 52)))
        .with("usable_size_kib", size_kib)
        .done()
}

/// A resource; its volumes too in `view/resources`.
pub(super) fn resource(
    world: &World,
    definition: &Definition,
    resource: &Resource,
    with_volumes: bool,
) -> Value {
    let node = world.nodes.get(&key(&resource.node));
    let online = node.is_some_and(|node| node.online);
    let connecting = node.is_some_and(|node| node.connecting);
    let size = |number: &u32| definition.volumes.get(number).map_or(0, |volume| volume.size_kib);
    let minor = |number: &u32| definition.volumes.get(number).map_or(0, |volume| volume.minor);
    let on_disk: Vec<_> =
        resource.volumes.iter().map(|(at, volume)| storage(*at, volume, size(at))).collect();
    let disk = json!({"type": "STORAGE", "storage": {"storage_volumes": on_disk}});
    let peers = definition.resources.values().filter(|peer| peer.node != resource.node);
    let made = resource.created.is_some();
    let layer = if definition.drbd() {
        let volumes: Vec<_> = resource
            .volumes
            .iter()
            .map(|(at, volume)| drbd_volume(*at, minor(at), volume, size(at)))
            .collect();
        let connected: Map<_, _> = peers
            .clone()
            .map(|peer| (peer.node.clone(), json!({"connected": true, "message": "Connected"})))
            .collect();
        let node_id = definition.resources.values().position(|one| one.node == resource.node).unwrap_or(0);
        let flags = if resource.diskless() { vec!["DISKLESS", "INITIALIZED"] } else { vec!["INITIALIZED"] };
        json!({
            "children": [disk], "type": "DRBD",
            "drbd": {
                "drbd_resource_definition": drbd_definition(definition), "node_id": node_id, "tcp_ports": [7000],
                "peer_slots": 7, "al_stripes": 1, "al_size": 32, "flags": flags, "drbd_volumes": volumes,
                "connections": connected, "promotion_score": 10101, "may_promote": true,
            },
        })
    } else {
        disk
    };
    let state = match definition.drbd() {
        true => json!({"in_use": open::is_used(definition, &key(&resource.node))}),
        false => json!({}),
    };
    let volumes = resource.volumes.iter().map(|(at, one)| volume(definition, resource, *at, one));
    let volumes: Vec<_> = if with_volumes { volumes.collect() } else { Vec::new() };
    let flags =
        resource.flags.iter().filter(|flag| **flag != Flag::Delete || !definition.resources.is_empty());
    let mut shown = Shown::default()
        .with("name", &definition.name)
        .with("node_name", &resource.node)
        .filled("props", &resource.props)
        .filled("flags", flags.collect::<Vec<_>>())
        .with("layer_object", layer);
    if (online && made) || connecting {
        shown = shown.with("state", state);
    }
    shown = shown.with("uuid", &resource.uuid).filled("create_timestamp", resource.created);
    if with_volumes { shown.with("volumes", volumes).done() } else { shown.done() }
}

/// A volume on a node.
pub(super) fn volume(definition: &Definition, resource: &Resource, number: u32, volume: &Volume) -> Value {
    let (size, minor) = definition.volumes.get(&number).map_or((0, 0), |one| (one.size_kib, one.minor));
    let disk = json!({"type": "STORAGE", "data": storage(number, volume, size)});
    let mut layers = vec![disk];
    let mut state = Value::Null;
    if definition.drbd() {
        layers.insert(0, json!({"type": "DRBD", "data": drbd_volume(number, minor, volume, size)}));
        let peers = definition.resources.values().filter(|peer| peer.node != resource.node);
        let established: Map<_, _> =
            peers.map(|peer| (peer.node.clone(), json!({"replication_state": "Established"}))).collect();
        let disk = if resource.diskless() { "Diskless" } else { "UpToDate" };
        if volume.file.is_some() {
            state = json!({"disk_state": disk, "replication_states": established});
        }
    }
    let allocated = match volume.provider {
        Provider::Diskless => 0,
        Provider::File | Provider::FileThin => volume.file.as_deref().map_or(0, bytes::allocated_kib),
    };
    let restore = volume.restore.as_ref().map(
        |restore| json!({"RestoreFromResource": restore.resource, "RestoreFromSnapshot": restore.snapshot}),
    );
    Shown::default()
        .with("volume_number", number)
        .with("storage_pool_name", &volume.pool)
        .with("provider_kind", volume.provider)
        .filled("device_path", volume.file.as_deref())
        .with("allocated_size_kib", allocated)
        .filled("props", restore)
        .filled("flags", resource.flags.contains(&Flag::Delete).then_some(["DELETE"]))
        .filled("state", state)
        .with("layer_data_list", layers)
        .with("uuid", &volume.uuid)
        .done()
}

pub(super) fn snapshot(definition: &Definition, snapshot: &Snapshot) -> Value {
    let own = json!({
        "BackupShipping/BackupNodeIdsToReset": "", "SequenceNumber": snapshot.sequence.to_string(),
    });
    let mut props = own.clone();
    for (name, value) in &snapshot.definition_props {
        props[name.as_str()] = json!(value);
    }
    let nodes: Vec<_> = snapshot.replicas.values().map(|replica| &replica.node).collect();
    let flags = match snapshot.state {
        SnapshotState::Making => None,
        SnapshotState::Successful => Some(["SUCCESSFUL"]),
        SnapshotState::Failed => Some(["FAILED_DEPLOYMENT"]),
    };
    let volumes: Vec<_> = snapshot
        .volumes
        .iter()
        .map(|(number, volume)| {
            json!({
                "volume_number": number, "size_kib": volume.size_kib, "volume_definition_props": volume.props,
            })
        })
        .collect();
    let replicas = snapshot.replicas.values().map(|replica| {
        let volumes = replica.volumes.iter();
        let volumes: Vec<_> =
            volumes.map(|(number, volume)| json!({"uuid": volume.uuid, "vlm_nr": number})).collect();
        Shown::default()
            .with("snapshot_name", &snapshot.name)
            .with("node_name", &replica.node)
            .filled("create_timestamp", replica.created)
            .with("uuid", &replica.uuid)
            .filled("resource_props", &replica.resource_props)
            .filled("snapshot_volumes", volumes)
            .done()
    });
    Shown::default()
        .with("name", &snapshot.name)
        .with("resource_name", &definition.name)
        .with("nodes", nodes)
        .with("props", props)
        .with("snapshot_definition_props", own)
        .filled("resource_definition_props", &snapshot.definition_props)
        .filled("flags", flags)
        .filled("volume_definitions", volumes)
        .with("uuid", &snapshot.uuid)
        .with("snapshots", replicas.collect::<Vec<_>>())
        .done()
}
