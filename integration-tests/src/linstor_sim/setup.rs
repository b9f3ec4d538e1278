//! How a simulator begins: empty as a fresh controller, or with what an operator asked for.

use super::model::{DEFAULT_GROUP, Filter, Group, Node, Pool, Props, Provider, World, key};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What it is given.
#[derive(Clone, Debug)]
pub struct Options {
    /// The port may be 0.
    pub listen: SocketAddr,
    /// State and bytes. What is there goes on.
    pub dir: PathBuf,
    /// Nodes of a new state.
    pub nodes: Vec<String>,
    /// Those among them that get no pool.
    pub diskless: Vec<String>,
    /// Pools that each of the others gets.
    pub pools: Vec<PoolSpec>,
    /// Resource groups of a new state: name and pool, as many replicas as there are nodes, at most two.
    pub groups: Vec<(String, String)>,
    /// Whether satellites have DRBD: then resources are in use, have tie breakers, and may be diskless.
    pub drbd: bool,
    /// What satellites say their machine is called. None: as the node.
    pub host: Option<String>,
    /// For so long after a start all nodes are OFFLINE: 7 to 15 s with the real one.
    pub reconnect: Duration,
    /// Of pools made by a call, which has no word for it.
    pub capacity_kib: u64,
    /// End the process when a rule says so. Without, only this simulator ends.
    pub abort_when_told_to_die: bool,
}

/// A pool to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    pub name: String,
    /// Blocks are taken when they are written (`FILE_THIN`), or at once (`FILE`).
    pub thin: bool,
    pub capacity_kib: u64,
}

impl Options {
    /// An empty one on a free port of this machine.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            dir: dir.into(),
            nodes: Vec::new(),
            diskless: Vec::new(),
            pools: Vec::new(),
            groups: Vec::new(),
            drbd: false,
            host: None,
            reconnect: Duration::ZERO,
            capacity_kib: 4_128_768,
            abort_when_told_to_die: false,
        }
    }

    /// With one node `oma`, its pools `thin` and `thick` of 4 GiB, and the group `cloudstack` on the thin one.
    #[must_use]
    pub fn usual(dir: impl Into<PathBuf>) -> Self {
        let pool = |name: &str, thin| PoolSpec { name: name.to_owned(), thin, capacity_kib: 4 << 20 };
        Self {
            nodes: vec!["oma".to_owned()],
            pools: vec![pool("thin", true), pool("thick", false)],
            groups: vec![("cloudstack".to_owned(), "thin".to_owned())],
            ..Self::new(dir)
        }
    }
}

pub(super) fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The state of a controller that nobody has used yet, and what the options add.
pub(super) fn fresh(options: &Options) -> World {
    let mut world = World { cluster: uuid(), ..World::default() };
    world.props = controller_props(&world.cluster);
    let filter = Filter { place_count: Some(2), ..Filter::default() };
    world.groups.insert(key(DEFAULT_GROUP), group(DEFAULT_GROUP, filter));
    for name in &options.nodes {
        let interface = json!({
            "name": "default", "address": "127.0.0.1", "satellite_port": 3366, "satellite_encryption_type": "PLAIN",
            "is_active": true, "uuid": uuid(),
        });
        let mut node = node(name, "COMBINED", vec![interface], options);
        let pools = options.pools.iter().filter(|_| !options.diskless.contains(name));
        for spec in pools {
            let provider = if spec.thin { Provider::FileThin } else { Provider::File };
            let pool = Pool {
                name: spec.name.clone(),
                provider,
                said: format!("/{}", spec.name),
                capacity_kib: spec.capacity_kib,
                uuid: uuid(),
                broken: false,
            };
            node.pools.insert(key(&spec.name), pool);
        }
        world.nodes.insert(key(name), node);
    }
    let replicas = u32::try_from(options.nodes.len().clamp(1, 2)).unwrap_or(1);
    for (name, pool) in &options.groups {
        let layers = if options.drbd { Vec::new() } else { vec!["STORAGE".to_owned()] };
        let filter = Filter {
            place_count: Some(replicas),
            storage_pool_list: vec![pool.clone()],
            layer_stack: layers,
            ..Filter::default()
        };
        let group = Group { volumes: BTreeMap::from([(0, uuid())]), ..group(name, filter) };
        world.groups.insert(key(name), group);
    }
    world
}

pub(super) fn node(name: &str, kind: &str, interfaces: Vec<serde_json::Value>, options: &Options) -> Node {
    Node {
        name: name.to_owned(),
        kind: kind.to_owned(),
        online: true,
        connecting: false,
        interfaces,
        uuid: uuid(),
        host: options.host.clone().unwrap_or_else(|| name.to_owned()),
        drbd: options.drbd,
        pools: BTreeMap::new(),
        diskless_uuid: uuid(),
    }
}

pub(super) fn group(name: &str, filter: Filter) -> Group {
    Group {
        name: name.to_owned(),
        description: None,
        filter,
        uuid: uuid(),
        props: Props::new(),
        volumes: BTreeMap::new(),
    }
}

fn controller_props(cluster: &str) -> Props {
    let set = CONTROLLER.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    set.chain([("Cluster/LocalID".to_owned(), cluster.to_owned())]).collect()
}

/// As a fresh controller has them.
const CONTROLLER: [(&str, &str); 33] = [
    ("DrbdOptions/AutoEvictAllowEviction", "True"),
    ("DrbdOptions/Resource/on-no-quorum", "io-error"),
    ("DrbdOptions/auto-add-quorum-tiebreaker", "True"),
    ("DrbdOptions/auto-diskful-allow-cleanup", "True"),
    ("DrbdOptions/auto-resync-after-disable", "true"),
    ("DrbdOptions/auto-verify-algo-allowed-list", "crct10dif;crc32c;sha384;sha512;sha256;sha1;md5;windrbd"),
    ("NetCom/DebugSslConnector/BindAddress", "::0"),
    ("NetCom/DebugSslConnector/Enabled", "true"),
    ("NetCom/DebugSslConnector/KeyPasswd", "linstor"),
    ("NetCom/DebugSslConnector/KeyStore", "ssl/keystore.jks"),
    ("NetCom/DebugSslConnector/KeyStorePasswd", "linstor"),
    ("NetCom/DebugSslConnector/Port", "3373"),
    ("NetCom/DebugSslConnector/SslProtocol", "TLSv1.2"),
    ("NetCom/DebugSslConnector/TrustStore", "ssl/certificates.jks"),
    ("NetCom/DebugSslConnector/TrustStorePasswd", "linstor"),
    ("NetCom/DebugSslConnector/Type", "SSL"),
    ("NetCom/PlainConnector/BindAddress", ""),
    ("NetCom/PlainConnector/Enabled", "true"),
    ("NetCom/PlainConnector/Port", "3376"),
    ("NetCom/PlainConnector/Type", "Plain"),
    ("NetCom/SslConnector/BindAddress", ""),
    ("NetCom/SslConnector/Enabled", "true"),
    ("NetCom/SslConnector/KeyPasswd", "linstor"),
    ("NetCom/SslConnector/KeyStore", "ssl/keystore.jks"),
    ("NetCom/SslConnector/KeyStorePasswd", "linstor"),
    ("NetCom/SslConnector/Port", "3377"),
    ("NetCom/SslConnector/SslProtocol", "TLSv1.2"),
    ("NetCom/SslConnector/TrustStore", "ssl/certificates.jks"),
    ("NetCom/SslConnector/TrustStorePasswd", "linstor"),
    ("NetCom/SslConnector/Type", "SSL"),
    ("defaultDebugSslConnector", "DebugSslConnector"),
    ("defaultPlainConSvc", "PlainConnector"),
    ("defaultSslConSvc", ""),
];
