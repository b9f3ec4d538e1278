//! What an administrator has set up before anybody deploys anything: zones, hosts, pools, networks, offerings, templates.
//!
//! Kept as the objects that a real 4.22.0 listed, so that answers have their shape without a line of code for each. It is
//! a file of its own beside the state (`world.json`), which an operator may edit before the simulator is started.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Objects by what they are (`zone`, `storagepool`, …: the names that stand in CloudStack's lists).
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct World(BTreeMap<String, Vec<Value>>);

/// Where a pool's volumes live, where it is a LINSTOR pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinstorPool {
    /// The controller's address.
    pub(super) url: String,
    /// The resource group that volumes are spawned from.
    pub(super) group: String,
}

const RECORDED: &[u8] = include_bytes!("../../recordings/cloudstack-world-4.22.0.json.zst");

impl World {
    /// The world that was recorded: Apache's own simulator hypervisor, four hosts in two clusters, four NFS pools.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn recorded() -> anyhow::Result<Self> {
        let text = zstd::decode_all(RECORDED).context("the recorded world cannot be unpacked")?;
        serde_json::from_slice(&text).context("the recorded world cannot be read")
    }

    /// A world to move machines into: the recorded one with KVM hosts (one of which boots UEFI), a LINSTOR pool `linstor`
    /// of the whole zone with the storage tag `linstor`, an NFS pool, disk offerings `Custom` and `linstor-custom`, and a
    /// service offering `Custom Instance` of any size.
    ///
    /// # Errors
    /// As [`recorded`](Self::recorded).
    pub fn kvm(linstor_url: &str, linstor_group: &str) -> anyhow::Result<Self> {
        let mut world = Self::recorded()?;
        for kind in ["cluster", "host", "storagepool", "template"] {
            for object in world.0.entry(kind.to_owned()).or_default() {
                for key in ["hypervisor", "hypervisortype"] {
                    if object.get(key).is_some() {
                        object[key] = json!("KVM");
                    }
                }
            }
        }
        for template in world.0.entry("template".to_owned()).or_default() {
            template["format"] = json!("QCOW2");
        }
        for (at, host) in world.0.entry("host".to_owned()).or_default().iter_mut().enumerate() {
            host["name"] = json!(format!("kvm{}", at + 1));
            host["ueficapability"] = json!(at % 2 == 0);
        }
        let pools = world.0.entry("storagepool".to_owned()).or_default();
        let zone = pools.first().map(|pool| (pool["zoneid"].clone(), pool["zonename"].clone()));
        let (zone, zone_name) = zone.context("the recorded world has no pool")?;
        pools.push(json!({
            "id": "5d25f902-3c37-4b5c-bb06-e08b60705412", "zoneid": zone, "zonename": zone_name, "name": "linstor",
            "ipaddress": linstor_url, "path": linstor_group, "created": "2026-11-21T12:03:25+0000", "type": "Linstor",
            "capacitybytes": 1_099_511_627_776_u64, "disksizetotal": 1_099_511_627_776_u64, "disksizeallocated": 0,
            "disksizeused": 0, "tags": "linstor", "istagarule": false, "state": "Up", "scope": "ZONE",
            "overprovisionfactor": "2.0", "hypervisor": "KVM", "provider": "Linstor",
            "storagecapabilities": {
                "STORAGE_SYSTEM_SNAPSHOT": "false", "CAN_CREATE_VOLUME_FROM_VOLUME": "true",
                "CAN_CREATE_VOLUME_FROM_SNAPSHOT": "true", "CAN_REVERT_VOLUME_TO_SNAPSHOT": "true",
            },
            "managed": false, "details": {"resourceGroup": linstor_group}, "hasannotations": false,
        }));
        let offerings = world.0.entry("diskoffering".to_owned()).or_default();
        let custom = offerings.iter().find(|offering| offering["name"] == "Custom").cloned();
        let mut tagged = custom.context("the recorded world has no disk offering of any size")?;
        tagged["id"] = json!("0f2c9c0e-41c5-4b0e-9a5e-6f6c1f5f7a11");
        tagged["name"] = json!("linstor-custom");
        tagged["displaytext"] = json!("any size, on the LINSTOR pool");
        tagged["tags"] = json!("linstor");
        offerings.push(tagged);
        world.add(
            "configuration",
            json!({
                "category": "Advanced", "group": "Miscellaneous", "subgroup": "Backup & Recovery",
                "name": "lin.backup.snapshots", "value": "true", "defaultvalue": "true",
                "description": "Backup Linstor primary storage snapshots to secondary storage (deleting ps snapshot)",
                "isdynamic": true, "component": "LinstorConfigurationManager",
                "displaytext": "Lin backup snapshots", "type": "Boolean",
            }),
        );
        let offerings = world.0.entry("serviceoffering".to_owned()).or_default();
        let fixed = offerings.first().cloned();
        let mut open = fixed.context("the recorded world has no service offering")?;
        open["id"] = json!("38c9f805-aa43-4334-a862-899660bbe3ad");
        open["name"] = json!("Custom Instance");
        open["displaytext"] = json!("processors and memory as they are asked for");
        open["iscustomized"] = json!(true);
        open["serviceofferingdetails"] =
            json!({"mincpunumber": "1", "maxcpunumber": "8", "minmemory": "256", "maxmemory": "8192"});
        if let Some(open) = open.as_object_mut() {
            // It has none until a machine is made.
            ["cpunumber", "memory"].iter().for_each(|name| drop(open.remove(*name)));
        }
        offerings.push(open);
        Ok(world)
    }

    /// Objects of a kind.
    pub fn all(&self, kind: &str) -> &[Value] {
        self.0.get(kind).map_or(&[], Vec::as_slice)
    }

    /// Adds one of a kind.
    pub fn add(&mut self, kind: &str, object: Value) {
        self.0.entry(kind.to_owned()).or_default().push(object);
    }

    /// Takes away those of a kind that `keep` does not want, or changes them.
    pub fn retain(&mut self, kind: &str, keep: impl FnMut(&mut Value) -> bool) {
        self.0.entry(kind.to_owned()).or_default().retain_mut(keep);
    }

    /// The one with this id. Capitals do not matter, as in the server's database.
    pub fn get(&self, kind: &str, id: &str) -> Option<&Value> {
        self.all(kind).iter().find(|object| {
            object.get("id").and_then(Value::as_str).is_some_and(|own| own.eq_ignore_ascii_case(id))
        })
    }

    /// The id of the first one with this name.
    pub fn id_of(&self, kind: &str, name: &str) -> Option<String> {
        let named = self.all(kind).iter().find(|object| object["name"] == name)?;
        named["id"].as_str().map(str::to_owned)
    }

    /// A global setting's value.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.all("configuration").iter().find(|known| known["name"] == name)?["value"].as_str()
    }

    pub(super) fn linstor(&self, pool: &str) -> Option<LinstorPool> {
        let pool = self.get("storagepool", pool).filter(|pool| pool["provider"] == "Linstor")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(LinstorPool { url: text(&pool["ipaddress"])?, group: text(&pool["path"])? })
    }

    /// Pools that a disk offering's tags allow, those of the whole zone first.
    pub(super) fn pools_for(&self, tags: Option<&str>) -> Vec<&Value> {
        let list = |text: &str| text.split(',').map(|tag| tag.trim().to_owned()).collect::<Vec<_>>();
        let wanted = tags.map(list).unwrap_or_default();
        let fits = |pool: &&Value| {
            let has = pool.get("tags").and_then(Value::as_str).map(list).unwrap_or_default();
            // A pool with tags takes volumes without, too; the plain ones come first for those.
            wanted.iter().all(|tag| has.contains(tag)) && pool["state"] == "Up"
        };
        let mut pools: Vec<_> = self.all("storagepool").iter().filter(fits).collect();
        pools.sort_by_key(|pool| (wanted.is_empty() && pool.get("tags").is_some(), pool["scope"] != "ZONE"));
        pools
    }
}
