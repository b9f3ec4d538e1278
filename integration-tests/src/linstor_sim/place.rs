//! Room: how much a pool has, where resources may go, and which one is chosen.

use super::entries::{Entry, Frame};
use super::model::{
    DISKLESS_POOL, Definition, Filter, Flag, Pool, Props, Provider, Resource, Volume, World, key,
};
use super::setup::uuid;
use super::{bytes, pool_folder};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Thin pools promise so many times what they have.
pub(super) const OVERSUBSCRIBED: u64 = 20;

/// A place for a replica.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) node: String,
    pub(super) pool: String,
    pub(super) provider: Provider,
    pub(super) free_kib: u64,
    pub(super) capacity_kib: u64,
}

pub(super) fn free_kib(dir: &Path, node: &str, pool: &Pool) -> u64 {
    if pool.broken {
        return 0;
    }
    pool.capacity_kib.saturating_sub(bytes::folder_allocated_kib(&pool_folder(dir, node, &pool.name)))
}

/// Whether so much more may be promised.
pub(super) fn has_room(provider: Provider, free_kib: u64, need_kib: u64) -> bool {
    match provider {
        Provider::File => need_kib <= free_kib,
        Provider::FileThin => need_kib <= free_kib.saturating_mul(OVERSUBSCRIBED),
        Provider::Diskless => true,
    }
}

fn named(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|one| one.eq_ignore_ascii_case(name))
}

/// Where a replica of that size could be now, the emptiest first; one a node.
pub(super) fn spots(world: &World, dir: &Path, filter: &Filter, need_kib: u64) -> Vec<Spot> {
    let mut spots = Vec::new();
    for node in world.nodes.values().filter(|node| node.online && named(&filter.node_name_list, &node.name)) {
        let fitting = node.pools.values().filter(|pool| {
            !pool.broken
                && named(&filter.storage_pool_list, &pool.name)
                && named(&filter.provider_list, pool.provider.word())
        });
        let of = |pool: &Pool| Spot {
            node: node.name.clone(),
            pool: pool.name.clone(),
            provider: pool.provider,
            free_kib: free_kib(dir, &node.name, pool),
            capacity_kib: pool.capacity_kib,
        };
        let roomy = fitting.map(of).filter(|spot| has_room(spot.provider, spot.free_kib, need_kib));
        spots.extend(roomy.max_by_key(|spot| spot.free_kib));
    }
    spots.sort_by(|one, other| other.free_kib.cmp(&one.free_kib).then_with(|| one.node.cmp(&other.node)));
    spots
}

/// The refusal when there are not enough of them.
pub(super) fn not_enough(frame: &Frame, filter: &Filter, need_kib: u64) -> Entry {
    let pools = filter.storage_pool_list.join(", ");
    frame.error(996, "Not enough available nodes").details(format!(
        "Not enough nodes fulfilling the following auto-place criteria:\n * has a deployed storage pool named [{pools}]\n \
         * the storage pools have to have at least '{need_kib}' free space\n * the current access context has enough \
         privileges to use the node and the storage pool\n * the node is online\n\nAuto-place configuration details:\n   \
         Replica count: {}",
        filter.place_count.unwrap_or(2),
    ))
}

/// Nodes among these whose satellites lack a layer that the definition needs: the refusal.
pub(super) fn unsupported(world: &World, frame: &Frame, drbd: bool, nodes: &[String]) -> Option<Entry> {
    let lacking =
        nodes.iter().find(|node| drbd && world.nodes.get(&key(node)).is_some_and(|node| !node.drbd))?;
    let message = format!("Satellite '{lacking}' does not support the following layers: [DRBD]");
    Some(frame.error(988, message).reported())
}

/// Writes a resource down. Nothing is made yet.
pub(super) fn register(definition: &mut Definition, node: &str, pool: &str, provider: Provider) -> Resource {
    let diskless = provider == Provider::Diskless;
    let flags = if diskless { BTreeSet::from([Flag::Diskless, Flag::DrbdDiskless]) } else { BTreeSet::new() };
    let volumes = definition.volumes.keys().map(|number| (*number, volume(pool, provider)));
    let resource = Resource {
        node: node.to_owned(),
        uuid: uuid(),
        flags,
        props: Props::from([("StorPoolName".to_owned(), pool.to_owned())]),
        created: None,
        volumes: volumes.collect::<BTreeMap<_, _>>(),
    };
    definition.resources.insert(key(node), resource.clone());
    quorum(definition);
    if !definition.layers.is_empty() {
        definition.volumes.values_mut().for_each(|volume| volume.layered = true);
    }
    resource
}

pub(super) fn volume(pool: &str, provider: Provider) -> Volume {
    Volume { uuid: uuid(), pool: pool.to_owned(), provider, file: None, size_kib: 0, restore: None }
}

/// As many resources as a majority needs: two replicas and something that breaks ties.
fn quorum(definition: &mut Definition) {
    let diskful = definition.resources.values().filter(|resource| !resource.diskless()).count();
    let enough = definition.drbd() && diskful >= 2 && definition.resources.len() >= 3;
    let value = if enough { "majority" } else { "off" };
    definition.props.insert("DrbdOptions/Resource/quorum".to_owned(), value.to_owned());
}

/// Two replicas get a third voice without a disk, on a node that has none of it; one alone loses it.
pub(super) fn tie_breaker(world: &mut World, name: &str, frame: &Frame, out: &mut Vec<Entry>) {
    let World { nodes, definitions, .. } = world;
    let Some(definition) = definitions.get_mut(&key(name)).filter(|definition| definition.drbd()) else {
        return;
    };
    let diskful = definition.resources.values().filter(|resource| !resource.diskless()).count();
    let diskless = definition.resources.len() - diskful;
    if diskful == 2 && diskless == 0 {
        let free =
            nodes.values().find(|node| node.online && !definition.resources.contains_key(&key(&node.name)));
        let Some(node) = free.map(|node| node.name.clone()) else { return };
        register(definition, &node, DISKLESS_POOL, Provider::Diskless);
        if let Some(resource) = definition.resources.get_mut(&key(&node)) {
            resource.flags.insert(Flag::TieBreaker);
        }
        out.push(
            frame
                .success(1, "Successfully set property key(s): StorPoolName")
                .of(super::entries::object::RESOURCE),
        );
        out.push(frame.info(10003, format!("Tie breaker resource '{}' created on {node}", definition.name)));
    }
    if diskful < 2 {
        let before = definition.resources.len();
        definition.resources.retain(|_, resource| {
            let goes = resource.flags.contains(&Flag::TieBreaker);
            if goes {
                resource
                    .volumes
                    .values()
                    .filter_map(|volume| volume.file.as_deref())
                    .for_each(bytes::discard);
            }
            !goes
        });
        if definition.resources.len() < before {
            out.push(frame.info(10004, "Tie breaker marked for deletion"));
        }
        quorum(definition);
    }
}
