//! What a configuration may hold at most, and what contradicts itself.

use super::{Configuration, Mac};
use crate::ids::{DeviceKey, DiskKey};
use std::collections::BTreeSet;

/// Bytes of the JSON form. Some databases end a text at 64 KiB; all VMs of an agent travel in one message of 4 MiB.
pub const MOST_JSON: usize = 48 << 10;

/// VMware has at most 4 SCSI, 4 SATA, 4 NVMe and 2 IDE controllers, 10 NICs and 256 disks.
const MOST_CONTROLLERS: usize = 32;
const MOST_NICS: usize = 32;
const MOST_DISKS: usize = 256;
const MOST_ADDRESSES: usize = 64;
const MOST_TAGS: usize = 64;
/// Characters of a name, and of notes.
const LONGEST_NAME: usize = 256;
const LONGEST_NOTES: usize = 4096;

/// A configuration that cannot be taken; the text goes on from its name: "memory is 0: …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("{what} is 0: say how much the VM has, or leave it out")]
    Zero { what: &'static str },
    #[error(
        "cpus is {cpus}, which is no multiple of cores_per_socket, {cores}: correct the one that is wrong"
    )]
    Cores { cpus: u32, cores: u32 },
    #[error("secure_boot needs firmware = \"efi\": a BIOS has none")]
    SecureBootOfBios,
    #[error("there are two controllers {key}: each needs a key of its own")]
    ControllerTwice { key: DeviceKey },
    #[error("there are two NICs {key}: each needs a key of its own")]
    NicTwice { key: DeviceKey },
    #[error("two NICs have the MAC address {mac}: one VM cannot have it twice")]
    MacTwice { mac: Mac },
    #[error("disk {key} stands there twice: give it one place")]
    DiskTwice { key: DiskKey },
    #[error("disk {disk} hangs on controller {controller}, which is not among the controllers: add it")]
    NoController { disk: DiskKey, controller: DeviceKey },
    #[error("disk {disk} hangs at unit {unit} of controller {controller}, where another disk hangs")]
    PlaceTaken { disk: DiskKey, controller: DeviceKey, unit: u32 },
    #[error("there are {count} {what}, and at most {most} can be taken")]
    TooMany { what: &'static str, count: usize, most: usize },
    #[error("{what} has {length} characters, and at most {most} can be taken")]
    TooLong { what: &'static str, length: usize, most: usize },
    #[error(
        "all of it together is {bytes} bytes as JSON, and at most {MOST_JSON} can be taken: shorten notes or tags"
    )]
    TooLarge { bytes: usize },
}

impl Configuration {
    /// What whoever receives one holds against it: sizes only, since a source may well be odd.
    ///
    /// # Errors
    /// [`Unusable::TooMany`], [`Unusable::TooLong`], [`Unusable::TooLarge`].
    pub fn check_bounds(&self) -> Result<(), Unusable> {
        let counts = [
            ("controllers", self.controllers.len(), MOST_CONTROLLERS),
            ("NICs", self.nics.len(), MOST_NICS),
            ("disks", self.disks.len(), MOST_DISKS),
            ("tags", self.tags.len(), MOST_TAGS),
            (
                "addresses of a NIC",
                self.nics.iter().map(|n| n.addresses.len()).max().unwrap_or(0),
                MOST_ADDRESSES,
            ),
        ];
        if let Some(&(what, count, most)) = counts.iter().find(|(_, count, most)| count > most) {
            return Err(Unusable::TooMany { what, count, most });
        }
        let named = |what, text: &Option<String>, most| {
            (what, text.as_deref().map_or(0, |t| t.chars().count()), most)
        };
        let texts = [
            named("guest_id", &self.guest_id, LONGEST_NAME),
            named("guest_name", &self.guest_name, LONGEST_NAME),
            named("notes", &self.notes, LONGEST_NOTES),
        ];
        let tags = self.tags.iter().map(|tag| ("a tag", tag.chars().count(), LONGEST_NAME));
        let networks = self.nics.iter().map(|nic| named("the network of a NIC", &nic.network, LONGEST_NAME));
        let longer = |&(_, length, most): &(_, usize, usize)| length > most;
        if let Some((what, length, most)) = texts.into_iter().chain(tags).chain(networks).find(longer) {
            return Err(Unusable::TooLong { what, length, most });
        }
        match self.to_json().len() {
            bytes if bytes > MOST_JSON => Err(Unusable::TooLarge { bytes }),
            _ => Ok(()),
        }
    }

    /// What whoever writes one by hand must get right, bounds included.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn check(&self) -> Result<(), Unusable> {
        let zero = |what| Err(Unusable::Zero { what });
        match (self.cpus, self.cores_per_socket, self.memory_bytes) {
            (Some(0), ..) => return zero("cpus"),
            (_, Some(0), _) => return zero("cores_per_socket"),
            (.., Some(0)) => return zero("memory"),
            (Some(cpus), Some(cores), _) if cpus % cores != 0 => return Err(Unusable::Cores { cpus, cores }),
            _ => {}
        }
        if self.secure_boot == Some(true) && self.firmware == super::Firmware::Bios {
            return Err(Unusable::SecureBootOfBios);
        }
        let mut controllers = BTreeSet::new();
        if let Some(twice) = self.controllers.iter().find(|c| !controllers.insert(&c.key)) {
            return Err(Unusable::ControllerTwice { key: twice.key.clone() });
        }
        let (mut nics, mut macs) = (BTreeSet::new(), BTreeSet::new());
        for nic in &self.nics {
            if !nics.insert(&nic.key) {
                return Err(Unusable::NicTwice { key: nic.key.clone() });
            }
            if let Some(mac) = nic.mac.filter(|mac| !macs.insert(*mac)) {
                return Err(Unusable::MacTwice { mac });
            }
        }
        let (mut disks, mut places) = (BTreeSet::new(), BTreeSet::new());
        for disk in &self.disks {
            if !disks.insert(&disk.key) {
                return Err(Unusable::DiskTwice { key: disk.key.clone() });
            }
            let Some(controller) = &disk.controller else { continue };
            let disk = disk.key.clone();
            if !controllers.contains(controller) {
                return Err(Unusable::NoController { disk, controller: controller.clone() });
            }
            let unit = self.disks.iter().find(|d| d.key == disk).and_then(|d| d.unit);
            if let Some(unit) = unit.filter(|unit| !places.insert((controller, *unit))) {
                return Err(Unusable::PlaceTaken { disk, controller: controller.clone(), unit });
            }
        }
        self.check_bounds()
    }

    /// What the database keeps.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists have a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    fn nic(key: &str, mac: Option<&str>) -> Nic {
        Nic {
            key: key.parse().expect("a key"),
            mac: mac.map(|m| m.parse().expect("a MAC")),
            model: NicModel::Vmxnet3,
            network: Some("VM Network".to_owned()),
            addresses: vec![],
        }
    }

    fn place(key: &str, controller: &str, unit: u32) -> DiskPlace {
        let (key, controller) = (key.parse().expect("a key"), Some(controller.parse().expect("a key")));
        DiskPlace { key, controller, unit: Some(unit) }
    }

    #[test]
    fn what_contradicts_itself_is_refused_where_people_write_it() {
        let controller =
            || Controller { key: "1000".parse().expect("a key"), kind: ControllerKind::ParaVirtual };
        let base = || Configuration { controllers: vec![controller()], ..Configuration::default() };
        base().check().expect("nothing is needed");
        let mac = Some("00:50:56:8a:01:02");
        for (wrong, says) in [
            (Configuration { memory_bytes: Some(0), ..base() }, "memory is 0"),
            (Configuration { cpus: Some(0), ..base() }, "cpus is 0"),
            (Configuration { cpus: Some(3), cores_per_socket: Some(2), ..base() }, "no multiple"),
            (
                Configuration { firmware: Firmware::Bios, secure_boot: Some(true), ..base() },
                "a BIOS has none",
            ),
            (Configuration { nics: vec![nic("4000", None), nic("4000", None)], ..base() }, "two NICs 4000"),
            (Configuration { nics: vec![nic("4000", mac), nic("4001", mac)], ..base() }, "00:50:56:8a:01:02"),
            (
                Configuration { controllers: vec![controller(), controller()], ..base() },
                "two controllers 1000",
            ),
            (Configuration { disks: vec![place("a", "1001", 0)], ..base() }, "controller 1001"),
            (
                Configuration { disks: vec![place("a", "1000", 0), place("b", "1000", 0)], ..base() },
                "another disk",
            ),
            (Configuration { disks: vec![place("a", "1000", 0), place("a", "1000", 1)], ..base() }, "twice"),
        ] {
            let error = wrong.check().expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
            wrong.check_bounds().expect("a source may be odd");
        }
    }

    #[test]
    fn what_has_no_end_is_refused_from_everybody() {
        let long = |n| Some("ü".repeat(n));
        let c = Configuration::default;
        for (wrong, says) in [
            (Configuration { nics: (0..33).map(|n| nic(&n.to_string(), None)).collect(), ..c() }, "33 NICs"),
            (Configuration { tags: vec![String::new(); 65], ..c() }, "65 tags"),
            (Configuration { tags: vec!["x".repeat(257)], ..c() }, "a tag has 257"),
            (Configuration { notes: long(4097), ..c() }, "notes has 4097"),
            (Configuration { guest_name: long(257), ..c() }, "guest_name has 257"),
            (Configuration { tags: vec!["😀".repeat(256); 64], ..c() }, "as JSON"),
        ] {
            let error = wrong.check_bounds().expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
        Configuration { notes: long(4096), guest_name: long(256), ..c() }.check_bounds().expect("just so");
    }
}
