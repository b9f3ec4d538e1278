//! CloudStack's LINSTOR plug-in as it was recorded against a real controller: what it does with `cs-U`, traps included.
//!
//! A volume U on a LINSTOR pool is the resource `cs-U`. When CloudStack makes the volume on storage and finds that name,
//! the plug-in takes it for a template of its own and spawns nothing; when it does not, it spawns an empty one and says
//! nothing. Names are found by how they begin, so that a stray `cs-U-mk` is taken for `cs-U`.

use super::linstor::{Definition, Linstor};
use std::collections::BTreeMap;

const KIB_OF_GIB: u64 = 1024 * 1024;

/// The resource of a volume's path.
pub(super) fn resource(path: &str) -> String {
    format!("cs-{path}")
}

/// Makes the volume `id` on storage. On success its path is its id.
pub(super) fn create(
    linstor: &dyn Linstor,
    group: &str,
    id: &str,
    volume_name: &str,
    bytes: u64,
) -> Result<(), String> {
    let wanted = resource(id);
    let all = linstor.definitions()?;
    let begins =
        |definition: &&Definition| definition.name.to_lowercase().starts_with(&wanted.to_lowercase());
    let found: Vec<_> = all.iter().filter(begins).collect();
    let marker = format!("Aux/_cs-template-for-{group}");
    if found.is_empty() {
        spawn(linstor, group, &wanted, volume_name, bytes)?;
    } else if !has_marker(&found, &marker)? {
        if alike(linstor, group, &found)? {
            linstor.set_property(&wanted, &marker, "true")?;
        } else {
            // One in a group that selects otherwise is passed by: a stray is spawned, and `cs-U` is taken nevertheless.
            let own = all.iter().filter(|definition| definition.group == group).count();
            spawn(linstor, group, &format!("{wanted}-{own}"), volume_name, bytes)?;
        }
    }
    linstor.size_kib(&wanted)?;
    let placements = linstor.placements(&wanted)?;
    let has_device = placements.iter().any(|placement| placement.device.is_some());
    has_device
        .then_some(())
        .ok_or_else(|| format!("linstor: viewResources didn't find resource or volumes for {wanted}"))
}

fn has_marker(found: &[&Definition], marker: &str) -> Result<bool, String> {
    for definition in found {
        let Some(props) = &definition.props else {
            return Err("Cannot invoke \"com.linbit.linstor.api.model.Properties.containsKey(Object)\" because the \
                        return value of \"com.linbit.linstor.api.model.ResourceDefinition.getProps()\" is null"
                .to_owned());
        };
        if props.contains_key(marker) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one of them lies in a group that selects storage as the pool's does.
fn alike(linstor: &dyn Linstor, group: &str, found: &[&Definition]) -> Result<bool, String> {
    let own = linstor.select_filter(group)?;
    let mut seen = BTreeMap::new();
    for definition in found {
        let filter = linstor.select_filter(&definition.group)?;
        seen.insert(definition.group.clone(), filter == own);
    }
    Ok(seen.values().any(|alike| *alike))
}

fn spawn(linstor: &dyn Linstor, group: &str, name: &str, volume: &str, bytes: u64) -> Result<(), String> {
    linstor.spawn(group, name, bytes / 1024)?;
    linstor.set_property(name, "Aux/cs-name", volume)
}

/// What the agent does on the host before a machine starts; gives the device.
pub(super) fn connect(linstor: &dyn Linstor, path: &str, node: &str) -> Result<String, String> {
    let name = resource(path);
    linstor.make_available(&name, node)?;
    linstor.size_kib(&name)?;
    let placements = linstor.placements(&name)?;
    let here = placements.iter().find(|placement| placement.node == node).or_else(|| placements.first());
    here.and_then(|placement| placement.device.clone())
        .ok_or_else(|| format!("no device of {name} on {node}"))
}

/// What it does after a machine has stopped: a diskless device goes, a diskful one and a tie breaker stay.
pub(super) fn disconnect(linstor: &dyn Linstor, path: &str, node: &str) -> Result<(), String> {
    let name = resource(path);
    let placements = linstor.placements(&name)?;
    match placements.iter().find(|placement| placement.node == node) {
        Some(placement) if placement.diskless => linstor.drop_diskless(&name, node),
        _ => Ok(()),
    }
}

/// In whole GiB, as CloudStack sizes volumes.
pub(super) fn kib_of_gib(gib: u64) -> u64 {
    gib.saturating_mul(KIB_OF_GIB)
}
