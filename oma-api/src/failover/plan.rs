//! What a failover will make, decided once from what there is when it is asked for. Pure; kept with the job, so that every
//! step and every look-up means the same.

use super::live::Live;
use super::names;
use super::request::{Check, Ready, Request};
use super::{Kind, Record};
use crate::compute::{Bus, Definition, Firmware, Isolation, Method, Nic, Sees};
use crate::store::{Disk, Migration, RestorePoint, RetiredDisk};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shared::ids::{DiskId, MigrationId};
use shared::profile::{Purpose, Settings};
use shared::vm::{self, Configuration};
use std::collections::BTreeMap;

/// Where a card goes that nobody maps: a network of its own, which no other machine is in.
const NOWHERE: &str = "isolated";

/// The plan of a job, as its params hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub migration: MigrationId,
    pub vm_name: String,
    pub restore_point: String,
    /// Of the storage.
    pub point_snapshot: String,
    /// The time that the data is of.
    pub taken_at: Timestamp,
    /// In the VM's order.
    pub disks: Vec<PlannedDisk>,
    /// Of the machine, and of the snapshot of its clones.
    pub name: String,
    pub machine: Definition,
    /// Where the compute backend has records of volumes: how it takes them.
    #[serde(default)]
    pub hand_over: Option<Method>,
    /// The guest as its source names it, such as VMware's `debian12_64Guest`.
    pub guest_id: Option<String>,
    pub skip_validation: bool,
    pub ready: Option<Ready>,
    /// Of a live failover.
    #[serde(default)]
    pub live: Option<Live>,
    /// What somebody may not have meant.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What was left out because that was asked for.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// One disk of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDisk {
    pub key: String,
    /// The replica.
    pub volume: String,
    pub clone: String,
    /// Bytes of the source's disk.
    pub size: u64,
}

/// What a plan is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub kind: Kind,
    pub migration: &'a Migration,
    pub configuration: Option<&'a Configuration>,
    pub point: &'a RestorePoint,
    pub disks: &'a [Disk],
    pub retired: &'a [RetiredDisk],
    pub profile: Option<&'a Settings>,
    /// Of the compute backend.
    pub hand_over: Option<Method>,
    pub sees: Sees,
    /// The failover by which this VM was handed over before, if it was.
    pub handed_over: Option<&'a str>,
    pub requested_by: &'a str,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplannable {
    #[error(
        "disk {disk} of the restore point is none of the migration's any more: take another restore point"
    )]
    NoDisk { disk: DiskId },
    #[error(
        "how many processors or how much memory {vm} has is not known: its source did not say so when it was begun; put \
         \"cpu_count\" and \"memory_mb\" into custom_config"
    )]
    NoSize { vm: String },
    #[error(
        "wait_for_ready: {what} cannot be seen on this target: wait for a TCP port or an HTTP answer, or do not wait"
    )]
    Unseen { what: &'static str },
    #[error("custom_config.{key}: {why}")]
    Custom { key: &'static str, why: String },
}

impl Plan {
    /// The plan and the record of a job that begins at that second.
    ///
    /// # Errors
    /// See [`Unplannable`].
    pub fn make(
        facts: Facts<'_>,
        request: &Request,
        keep: std::time::Duration,
        seconds: i64,
    ) -> Result<(Self, Record), Unplannable> {
        let Facts { kind, migration, point, .. } = facts;
        match request.ready.as_ref().map(|ready| &ready.check) {
            Some(Check::Console { .. }) if !facts.sees.console => {
                return Err(Unplannable::Unseen { what: "a serial console" });
            }
            Some(Check::GuestAgent) if !facts.sees.guest_agent => {
                return Err(Unplannable::Unseen { what: "a guest agent" });
            }
            Some(_) | None => {}
        }
        let job = names::job(kind, &migration.vm, seconds);
        let name = names::name(kind, &migration.vm, seconds);
        let disks = point.disks.iter().map(|d| planned(&job, facts, &d.disk, d.size));
        let disks = disks.collect::<Result<Vec<_>, _>>()?;
        let (machine, networks) = machine(&job, &name, facts, request)?;
        let configuration = facts.configuration;
        let spec = json!({
            "cpu_count": machine.cpus,
            "memory_mb": machine.memory_bytes >> 20,
            "vm_id": migration.vm.as_str(),
            "vm_name": migration.vm_name,
            "firmware": configuration.map(|c| c.firmware.as_str()),
            "guest_id": configuration.and_then(|c| c.guest_id.clone()),
            "disks": disks.iter().map(|d| json!({ "key": d.key, "size_bytes": d.size })).collect::<Vec<_>>(),
        });
        let record = Record {
            kind,
            migration: migration.id.clone(),
            vm: migration.vm.clone(),
            vm_name: migration.vm_name.clone(),
            restore_point: point.id.clone(),
            name: name.clone(),
            protected: !request.skip_snapshot,
            machine: machine.uuid,
            source_vm_spec: spec,
            network_mappings: json!(networks),
            custom_config: request.custom_config.clone().map(Value::Object),
            notification_config: request.notification_config.clone().map(Value::Object),
            auto_cleanup: request.auto_cleanup,
            keep,
            test_duration: request.test_duration.clone(),
            requested_by: facts.requested_by.to_owned(),
            job,
        };
        let plan = Self {
            migration: migration.id.clone(),
            vm_name: migration.vm_name.clone(),
            restore_point: point.id.to_string(),
            point_snapshot: point.snapshot_name.clone(),
            taken_at: point.taken_at,
            disks,
            name,
            machine,
            hand_over: facts.hand_over,
            guest_id: configuration.and_then(|c| c.guest_id.clone()),
            skip_validation: request.skip_validation,
            ready: request.ready.clone(),
            live: request.live.clone(),
            notes: notes(facts, request, &record),
            left_out: left_out(request),
        };
        Ok((plan, record))
    }
}

/// Networks that are mapped and not there, a VM that moves to where nobody reaches it or that has moved before.
fn notes(facts: Facts<'_>, request: &Request, record: &Record) -> Vec<String> {
    let nics = facts.configuration.map_or(&[][..], |c| &c.nics);
    let known = |name: &String| nics.iter().any(|nic| nic.network.as_ref() == Some(name));
    let unknown = request.network_mappings.keys().filter(|name| !known(name));
    let mut notes: Vec<_> = unknown
        .map(|name| format!("network_mappings: {} has no network {name:?} at its source", record.vm_name))
        .collect();
    if facts.kind == Kind::Live
        && let Some(mapped) = record.network_mappings.as_object()
        && mapped.values().any(|network| network == NOWHERE)
    {
        let why = "a card of it is on a network of its own, where nobody reaches it: map its network, or give it a profile";
        notes.push(format!("{}: {why}", record.vm_name));
    }
    if request.notification_config.as_ref().is_some_and(|config| !config.contains_key("email")) {
        notes.push("notification_config: it has no \"email\", and nobody is told".to_owned());
    }
    if let Some(job) = facts.handed_over.filter(|_| facts.kind == Kind::Live) {
        let why = "its machine may still run, with the same cards and data of its own";
        notes.push(format!("{} was handed over before, by {job}: {why}", record.vm_name));
    }
    notes
}

/// What was not done because somebody asked so: a drill of less shows less.
fn left_out(request: &Request) -> Vec<String> {
    let all = [
        (request.skip_validation, "skip_validation: room and programs were not looked at"),
        (request.skip_snapshot, "skip_snapshot: there is no snapshot of the clones"),
        (request.skip_virtio_injection, "skip_virtio_injection: the guest was not made ready for virtio"),
    ];
    all.into_iter().filter(|(asked, _)| *asked).map(|(_, what)| what.to_owned()).collect()
}

/// A disk of the restore point may have left the VM since.
fn planned(
    job: &crate::workflow::WorkflowId,
    facts: Facts<'_>,
    disk: &DiskId,
    size: u64,
) -> Result<PlannedDisk, Unplannable> {
    let present = facts.disks.iter().find(|d| d.id == *disk).map(|d| (&d.key, &d.volume));
    let left = || facts.retired.iter().find(|d| d.disk == *disk).map(|d| (&d.key, &d.volume));
    let (key, volume) = present.or_else(left).ok_or_else(|| Unplannable::NoDisk { disk: disk.clone() })?;
    let clone = names::clone_of(job, disk).as_str().to_owned();
    Ok(PlannedDisk { key: key.to_string(), volume: volume.clone(), clone, size })
}

/// The machine, and which network each of the source's became.
fn machine(
    job: &crate::workflow::WorkflowId,
    name: &str,
    facts: Facts<'_>,
    request: &Request,
) -> Result<(Definition, BTreeMap<String, String>), Unplannable> {
    let unknown = Configuration::default();
    let configuration = facts.configuration.unwrap_or(&unknown);
    let custom = request.custom_config.as_ref();
    let vm = facts.migration.vm_name.clone();
    let missing = || Unplannable::NoSize { vm: vm.clone() };
    let cpus = number(custom, "cpu_count", 1..=512)?.or(configuration.cpus.map(u64::from));
    let memory = number(custom, "memory_mb", 16..=16 << 20)?.map(|mb| mb << 20);
    let purpose = match facts.kind {
        Kind::Test => Purpose::Test,
        Kind::Live => Purpose::Live,
    };
    let mut networks = BTreeMap::new();
    let nics = configuration.nics.iter().map(|nic| {
        let asked =
            nic.network.as_ref().and_then(|name| request.network_mappings.get(name)).map(|n| n.trim());
        let mapped = || facts.profile.and_then(|profile| profile.network_of(nic, purpose));
        let network = asked.or_else(mapped).unwrap_or(NOWHERE).to_owned();
        if let Some(source) = &nic.network {
            networks.insert(source.clone(), network.clone());
        }
        let isolation = match facts.kind {
            Kind::Test => Isolation::Isolated,
            Kind::Live => Isolation::Connected,
        };
        // The source's are in use: a test never takes them.
        let mac = match (facts.kind, nic.mac) {
            (Kind::Live, Some(mac))
                if facts.profile.is_none_or(|p| p.live_mac == shared::profile::MacPolicy::Keep) =>
            {
                mac
            }
            (Kind::Live | Kind::Test, _) => names::mac(job, &nic.key),
        };
        Nic { mac, network, isolation }
    });
    let nics = nics.collect();
    let definition = Definition {
        uuid: names::machine_name(name).uuid(0),
        title: vm.clone(),
        cpus: cpus.and_then(|n| u32::try_from(n).ok()).ok_or_else(missing)?,
        memory_bytes: memory.or(configuration.memory_bytes).ok_or_else(missing)?,
        firmware: firmware(configuration.firmware),
        bus: bus(custom)?,
        nics,
        guest_id: configuration.guest_id.clone(),
    };
    Ok((definition, networks))
}

/// A machine such as this VM would become, with the cards of a live failover and of a test together: for asking a target whether
/// it could take it. `None`: too little is known of it.
pub fn sketch(
    name: &str,
    configuration: Option<&Configuration>,
    profile: Option<&Settings>,
) -> Option<Definition> {
    let configuration = configuration?;
    let cards = [(Purpose::Live, Isolation::Connected), (Purpose::Test, Isolation::Isolated)];
    let nics = cards.into_iter().flat_map(|(purpose, isolation)| {
        configuration.nics.iter().filter_map(move |nic| {
            let network = profile?.network_of(nic, purpose)?.to_owned();
            Some(Nic { mac: nic.mac?, network, isolation })
        })
    });
    Some(Definition {
        uuid: uuid::Uuid::nil(),
        title: name.to_owned(),
        cpus: configuration.cpus?,
        memory_bytes: configuration.memory_bytes?,
        firmware: firmware(configuration.firmware),
        bus: Bus::VirtioBlk,
        nics: nics.collect(),
        guest_id: configuration.guest_id.clone(),
    })
}

fn firmware(of: vm::Firmware) -> Firmware {
    match of {
        vm::Firmware::Efi => Firmware::Efi,
        vm::Firmware::Bios | vm::Firmware::Unknown => Firmware::Bios,
    }
}

/// What its disks hang on: virtio, as on the target, unless somebody says otherwise.
fn bus(custom: Option<&Map<String, Value>>) -> Result<Bus, Unplannable> {
    let Some(word) = custom.and_then(|custom| custom.get("disk_bus")) else { return Ok(Bus::VirtioBlk) };
    serde_json::from_value(word.clone()).map_err(|_| Unplannable::Custom {
        key: "disk_bus",
        why: "is none of virtio-blk, virtio-scsi, sata, ide".to_owned(),
    })
}

fn number(
    custom: Option<&Map<String, Value>>,
    key: &'static str,
    bounds: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, Unplannable> {
    let Some(value) = custom.and_then(|custom| custom.get(key)) else { return Ok(None) };
    match value.as_u64().filter(|n| bounds.contains(n)) {
        Some(n) => Ok(Some(n)),
        None => {
            let why = format!("must be a whole number from {} to {}", bounds.start(), bounds.end());
            Err(Unplannable::Custom { key, why })
        }
    }
}
