//! What `oma-api --check-targets` asks of LINSTOR: whether its controllers answer, this host is a node of theirs, and the resource
//! group can hold replicas. Only asks.

use super::settings::{Settings, is_here};
use super::{LinstorStorage, zeros_of};
use crate::linstor::{Group, Node, Pool};
use crate::storage::Space;
use crate::targets::{Finding, secret};
use jiff::Timestamp;
use migratekit::replica::ReadsZero;
use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;

const GIB: u64 = 1 << 30;

impl LinstorStorage {
    /// See the module. With no controller that answers there is nothing more to say than that.
    pub async fn survey(&self, settings: &Settings) -> Vec<Finding> {
        let mut found = Vec::new();
        found.extend(settings.token_file.as_deref().map(|path| secret("LINSTOR token file", path)));
        let (controllers, active) = controllers(settings).await;
        found.extend(controllers);
        let Some(active) = active else { return found };
        let client = self.cluster.client();
        let nodes = match client.nodes().await {
            Ok(nodes) => nodes,
            Err(error) => {
                found.push(Finding::unasked("LINSTOR nodes", &error));
                return found;
            }
        };
        found.push(own_node(&nodes, &settings.node, is_here(&active)));
        found.extend(self.devices(&settings.node).await);
        match client.group(&self.group).await {
            Ok(Some(group)) => found.extend(self.of_group(settings, &group, &nodes).await),
            Ok(None) => {
                let why = format!(
                    "there is no resource group {}: name one of `linstor resource-group list` in storage.resource_group",
                    self.group
                );
                found.push(Finding::missing("LINSTOR resource group", why));
            }
            Err(error) => found.push(Finding::unasked("LINSTOR resource group", &error)),
        }
        found
    }

    /// Whether devices that this host should have are there.
    async fn devices(&self, node: &str) -> Option<Finding> {
        const WHAT: &str = "LINSTOR devices";
        let resources = match self.cluster.client().resources_on(node).await {
            Ok(resources) => resources,
            Err(error) => return Some(Finding::unasked(WHAT, &error)),
        };
        let volumes = resources.into_iter().flat_map(|resource| resource.volumes);
        let paths: Vec<PathBuf> = volumes.filter_map(|volume| volume.device_path).collect();
        let is_absent = |path: &&PathBuf| !path.as_os_str().is_empty() && !path.exists();
        match (paths.iter().find(is_absent), paths.len()) {
            (_, 0) => None,
            (None, there) => Some(Finding::well(WHAT, format!("{there} of node {node} are on this host"))),
            (Some(absent), _) => {
                let why = format!(
                    "LINSTOR says that node {node} has {}, which is not on this host: storage.node is another host's, or its \
                     satellite is in trouble (`linstor node list`, `linstor volume list`)",
                    absent.display()
                );
                Some(Finding::missing(WHAT, why))
            }
        }
    }

    async fn of_group(&self, settings: &Settings, group: &Group, nodes: &[Node]) -> Vec<Finding> {
        const WHAT: &str = "LINSTOR resource group";
        let asked = Timestamp::now();
        let pools = match self.pools().await {
            Ok(pools) => pools,
            Err(error) => return vec![Finding::unasked(WHAT, &error)],
        };
        let copies = usize::try_from(group.select_filter.place_count.unwrap_or(1)).unwrap_or(usize::MAX);
        let on: BTreeSet<_> = pools.iter().map(|pool| pool.node_name.as_str()).collect();
        let against = match &group.select_filter.storage_pool_list {
            wanted if pools.is_empty() && wanted.is_empty() => {
                Some("has no storage pool on any node".to_owned())
            }
            wanted if pools.is_empty() => Some(format!("names {}, which no node has", wanted.join(", "))),
            _ if on.len() < copies => {
                Some(format!("wants {copies} copies, and {} nodes have its pools", on.len()))
            }
            _ => None,
        };
        let against = against.map(|what| {
            format!("{} {what}: see `linstor storage-pool list`, or name another group", self.group)
        });
        let copies = if copies == 1 { "one copy".to_owned() } else { format!("{copies} copies") };
        let mut found =
            vec![Finding::of(WHAT, format!("{}, {copies}, on {} nodes", self.group, on.len()), against)];
        found.extend(pools.iter().flat_map(|pool| of_pool(settings, pool, asked)));
        found.extend(nodes.iter().filter(|node| node.name != settings.node).map(|node| {
            let off = format!(
                "{} is {}: what has a copy there can be neither snapshotted nor restored; look at linstor-satellite there",
                node.name, node.connection_status
            );
            let what = format!("LINSTOR node {}", node.name);
            match (node.is_online(), on.contains(node.name.as_str())) {
                (true, _) => Finding::well(what, "online"),
                (false, true) => Finding::missing(what, off),
                (false, false) => Finding::doubtful(what, format!("it is {}", node.connection_status)),
            }
        }));
        found
    }
}

/// Of each, and which one answers.
async fn controllers(settings: &Settings) -> (Vec<Finding>, Option<String>) {
    let (mut active, mut tried) = (None, Vec::new());
    for url in &settings.controllers {
        let what = format!("LINSTOR controller {url}");
        let asked = match settings.client(std::slice::from_ref(url)) {
            Ok(client) => client.version().await.map_err(|error| Finding::unasked(&what, &error)),
            Err(error) => Err(Finding::unasked(&what, &error)),
        };
        tried.push(match asked {
            Ok(version) => {
                active.get_or_insert_with(|| url.clone());
                let by = match (url.starts_with("https"), settings.token_file.is_some()) {
                    (true, true) => ", its certificate and our token accepted",
                    (true, false) => ", its certificate accepted",
                    (false, _) => ", in clear",
                };
                let (version, api) = (version.version, version.rest_api_version);
                Finding::well(what, format!("it answers: LINSTOR {version} (REST {api}){by}"))
            }
            Err(silent) => silent,
        });
    }
    // One answers at a time: the others are standbys, as far as anybody can tell.
    if active.is_some() {
        for finding in tried.iter_mut().filter(|finding| finding.is_missing()) {
            let why =
                format!("it gives no answer, as a standby does, and another one does ({})", finding.why);
            *finding = Finding::doubtful(finding.what.clone(), why);
        }
    }
    (tried, active)
}

/// Whether it is known, online, and this host's.
fn own_node(nodes: &[Node], wanted: &str, controller_is_here: bool) -> Finding {
    const WHAT: &str = "LINSTOR node of this host";
    let Some(node) = nodes.iter().find(|node| node.name.eq_ignore_ascii_case(wanted)) else {
        let known: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        let why = format!(
            "LINSTOR knows no node {wanted}, but {}: add this host (`linstor node create`), or name it in storage.node",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
        return Finding::missing(WHAT, why);
    };
    if !node.is_online() {
        let why = format!("{wanted} is {}: look at linstor-satellite on this host", node.connection_status);
        return Finding::missing(WHAT, why);
    }
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if node.host().is_some_and(|host| host == own) {
        return Finding::well(
            WHAT,
            format!("{wanted} is online, and its satellite's host is called {own} as this one"),
        );
    }
    let addresses = node.net_interfaces.iter().filter_map(|interface| interface.address.parse().ok());
    let ours = addresses.into_iter().find(|address| is_ours(*address, controller_is_here));
    if let Some(address) = ours {
        return Finding::well(WHAT, format!("{wanted} is online, and its address {address} is this host's"));
    }
    let host = node.host().unwrap_or("nobody knows what");
    let why = format!(
        "{wanted} is online, but its satellite's host is called {host}, and this one {own}: if that is another host, the devices \
         appear there and not here; name this host's node in storage.node"
    );
    Finding::doubtful(WHAT, why)
}

/// Whether this host has that address: it could listen there. Everybody has the loopback address, which says something only
/// to a controller on this host.
fn is_ours(address: IpAddr, controller_is_here: bool) -> bool {
    (controller_is_here || !address.is_loopback()) && TcpListener::bind((address, 0)).is_ok()
}

/// Room, snapshots and zeros.
fn of_pool(settings: &Settings, pool: &Pool, asked: Timestamp) -> [Finding; 2] {
    let what = format!("LINSTOR pool {} on {}", pool.storage_pool_name, pool.node_name);
    let gib = |kib: u64| format!("{}.{} GiB", kib >> 20, ((kib & ((1 << 20) - 1)) * 10) >> 20);
    let room = match (pool.free_capacity, pool.total_capacity) {
        (Some(free), Some(total)) => {
            let space = Space { free: free.saturating_mul(1024), total: total.saturating_mul(1024) };
            let room =
                format!("{} of {} are free, as of {}", gib(free), gib(total), asked.strftime("%H:%M:%S UTC"));
            let floor = settings.floor.of(space.total);
            let low = settings.floor.is_low(space, 0, false).then(|| {
                format!("{room}; storage.floor keeps {} GiB: no cycle is started", floor.div_ceil(GIB))
            });
            Finding::of(format!("{what}, room"), room, low)
        }
        _ => {
            let why = "the controller does not know how much is free: is the node off?";
            Finding::doubtful(format!("{what}, room"), why)
        }
    };
    let provider = &pool.provider_kind;
    let zeros = match zeros_of(provider) {
        ReadsZero::Yes => "new volumes read zero",
        ReadsZero::Unknown => "zeros are written to new volumes, as nobody says that they read so",
    };
    let against = (!pool.supports_snapshots).then(|| {
        format!("provider {provider} takes no snapshots: use a thin pool (LVM_THIN, ZFS, ZFS_THIN)")
    });
    let provider = match provider.as_str() {
        "FILE" | "FILE_THIN" if against.is_none() => Finding::doubtful(
            format!("{what}, provider"),
            format!("{provider}: for a rehearsal; CloudStack's own snapshots fail there; {zeros}"),
        ),
        _ => Finding::of(format!("{what}, provider"), format!("{provider}: {zeros}"), against),
    };
    [room, provider]
}
