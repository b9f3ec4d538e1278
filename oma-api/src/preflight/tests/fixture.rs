//! A VM with which all is well.

use super::super::*;
use crate::storage::PointCost;
use shared::cycle::{CAPABILITIES, PROTOCOL_VERSIONS, Vm, VmDisk};
use shared::ids::{MigrationId, VmUuid};
use shared::profile::{Backend, MacPolicy, NetworkMap, Settings};
use shared::vm::{
    Configuration, Controller, ControllerKind, DiskPlace, Firmware, Nic, NicModel, Power, Tools,
};

pub(super) const GIB: u64 = 1 << 30;

pub(super) fn uuid(n: u8) -> VmUuid {
    format!("00000000-0000-4000-8000-0000000000{n:02x}").parse().expect("a uuid")
}

pub(super) fn id(n: u8) -> MigrationId {
    format!("00000000-0000-7000-8000-0000000000{n:02x}").parse().expect("an id")
}

pub(super) fn disk(key: &str, size: u64) -> VmDisk {
    VmDisk { key: key.parse().expect("a key"), size }
}

pub(super) fn space(free: u64, total: u64) -> Space {
    Space::Known { free, total, cost: PointCost::Shared, points: 2, reserves: vec![] }
}

pub(super) fn configuration(address: &str) -> Configuration {
    Configuration {
        cpus: Some(4),
        cores_per_socket: Some(2),
        memory_bytes: Some(8 << 30),
        firmware: Firmware::Bios,
        secure_boot: Some(false),
        tpm: Some(false),
        controllers: vec![Controller {
            key: "1000".parse().expect("a key"),
            kind: ControllerKind::VirtioScsi,
        }],
        disks: vec![DiskPlace {
            key: "2000".parse().expect("a key"),
            controller: Some("1000".parse().expect("a key")),
            unit: Some(0),
        }],
        nics: vec![Nic {
            key: "4000".parse().expect("a key"),
            mac: Some("00:50:56:8a:01:02".parse().expect("a MAC")),
            model: NicModel::Vmxnet3,
            network: Some("VM Network".to_owned()),
            addresses: vec![address.parse().expect("an address")],
        }],
        guest_id: Some("debian12_64Guest".to_owned()),
        guest_name: None,
        power: Power::On,
        tags: vec!["shop".to_owned()],
        notes: None,
        tools: Tools::Running,
        change_tracking: Some(true),
    }
}

pub(super) fn all_well() -> Facts {
    let mut settings = Settings::new(Backend::CloudStack);
    settings.zone = Some("zone-1".to_owned());
    settings.networks = vec![NetworkMap {
        source: "VM Network".to_owned(),
        live: Some("production".to_owned()),
        test: Some("isolated".to_owned()),
    }];
    Facts {
        vm: Vm {
            uuid: uuid(1),
            name: "web-1".to_owned(),
            disks: vec![disk("2000", 2 * GIB)],
            configuration: Some(configuration("192.0.2.10")),
        },
        agent: Agent {
            id: "vma-01".parse().expect("an id"),
            link: Link::Connected { capabilities: CAPABILITIES.iter().map(|c| (*c).to_owned()).collect() },
            protocol_version: PROTOCOL_VERSIONS[0],
            software_version: "1.0.0".to_owned(),
            our_version: "1.0.0",
        },
        unfinished: None,
        left: Vec::new(),
        target: Target::Well,
        space: space(60 * GIB, 100 * GIB),
        profile: Some(Profile { name: "shop".parse().expect("a name"), settings }),
        others: vec![],
    }
}

pub(super) fn of_target(n: u8, name: &str, configuration: Option<Configuration>) -> Other {
    let place = Place::Target { migration: id(n), macs: MacPolicy::Keep };
    Other { vm: uuid(n), name: name.to_owned(), place, configuration }
}

pub(super) fn of_source(n: u8, name: &str, configuration: Configuration) -> Other {
    let place = Place::Source { agent: "vma-02".parse().expect("an id") };
    Other { vm: uuid(n), name: name.to_owned(), place, configuration: Some(configuration) }
}

pub(super) fn codes(facts: &Facts) -> Vec<Code> {
    report(facts).findings.iter().map(|finding| finding.code).collect()
}
