//! `[vm.configuration]`: what an operator says of a VM that its source cannot be asked for.
//!
//! Strict, unlike what comes over the wire: a misspelt word here is a mistake that somebody can mend now, and would
//! find at the failover otherwise.

use serde::Deserialize;
use shared::config::ByteSize;
use shared::ids::{DeviceKey, DiskKey, InvalidId};
use shared::vm::{self, Controller, DiskPlace, InvalidMac, InvalidWord, Unusable};
use std::net::IpAddr;
use std::str::FromStr;

/// As it stands in the file; every key may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hardware {
    /// All cores counted.
    pub cpus: Option<u32>,
    pub cores_per_socket: Option<u32>,
    pub memory: Option<ByteSize>,
    pub firmware: Option<String>,
    pub secure_boot: Option<bool>,
    pub tpm: Option<bool>,
    pub guest_id: Option<String>,
    pub guest_name: Option<String>,
    pub power_state: Option<String>,
    pub tools: Option<String>,
    pub tags: Vec<String>,
    pub notes: Option<String>,
    pub controllers: Vec<HardwareController>,
    pub disks: Vec<HardwareDisk>,
    pub nics: Vec<HardwareNic>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardwareController {
    pub key: String,
    pub kind: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardwareDisk {
    /// Of a disk of the VM.
    pub key: String,
    pub controller: Option<String>,
    pub unit: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardwareNic {
    pub key: String,
    pub mac: Option<String>,
    pub model: Option<String>,
    pub network: Option<String>,
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// Why it cannot be used; the text goes on from the key at fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    #[error("cannot be used: {why}")]
    Word { place: String, why: InvalidWord },
    #[error("cannot be used: {why}")]
    Key { place: String, why: InvalidId },
    #[error("cannot be used: {why}")]
    Mac { place: String, why: InvalidMac },
    #[error("cannot be used: {text:?} is no IP address; write it without prefix, such as 192.0.2.10")]
    Address { place: String, text: String },
    #[error("names the disk {key}, which is none of this VM's")]
    NoSuchDisk { place: String, key: DiskKey },
    #[error("cannot be used: {0}")]
    Whole(#[from] Unusable),
}

impl Wrong {
    /// Below `configuration`, with the dot in front; empty where it is about all of it.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Word { place, .. }
            | Self::Key { place, .. }
            | Self::Mac { place, .. }
            | Self::Address { place, .. }
            | Self::NoSuchDisk { place, .. } => format!(".{place}"),
            Self::Whole(_) => String::new(),
        }
    }
}

impl Hardware {
    /// `disks` are the VM's, in its order, which is that of the result.
    ///
    /// # Errors
    /// See [`Wrong`].
    pub(super) fn read<'a>(
        &self,
        disks: impl Iterator<Item = &'a DiskKey>,
    ) -> Result<vm::Configuration, Wrong> {
        let mut places: Vec<_> =
            disks.map(|key| DiskPlace { key: key.clone(), controller: None, unit: None }).collect();
        for (index, said) in self.disks.iter().enumerate() {
            let at = |field: &str| format!("disks[{index}].{field}");
            let key: DiskKey = said.key.parse().map_err(|why| Wrong::Key { place: at("key"), why })?;
            let Some(found) = places.iter_mut().find(|p| p.key == key) else {
                return Err(Wrong::NoSuchDisk { place: at("key"), key });
            };
            if found.controller.is_some() || found.unit.is_some() {
                return Err(Unusable::DiskTwice { key }.into());
            }
            found.controller =
                said.controller.as_deref().map(|c| device(c, || at("controller"))).transpose()?;
            found.unit = said.unit;
        }
        let read = vm::Configuration {
            cpus: self.cpus,
            cores_per_socket: self.cores_per_socket,
            memory_bytes: self.memory.map(ByteSize::bytes),
            firmware: word(self.firmware.as_deref(), || "firmware".to_owned())?,
            secure_boot: self.secure_boot,
            tpm: self.tpm,
            controllers: self.controllers()?,
            disks: places,
            nics: self.nics()?,
            guest_id: self.guest_id.clone(),
            guest_name: self.guest_name.clone(),
            power: word(self.power_state.as_deref(), || "power_state".to_owned())?,
            tags: self.tags.clone(),
            notes: self.notes.clone(),
            tools: word(self.tools.as_deref(), || "tools".to_owned())?,
            // The kind of source decides it.
            change_tracking: None,
        };
        read.check()?;
        Ok(read)
    }

    fn controllers(&self) -> Result<Vec<Controller>, Wrong> {
        let one = |(index, said): (usize, &HardwareController)| {
            let at = |field: &str| format!("controllers[{index}].{field}");
            Ok(Controller {
                key: device(&said.key, || at("key"))?,
                kind: word(Some(&said.kind), || at("kind"))?,
            })
        };
        self.controllers.iter().enumerate().map(one).collect()
    }

    fn nics(&self) -> Result<Vec<vm::Nic>, Wrong> {
        let one = |(index, said): (usize, &HardwareNic)| {
            let at = |field: &str| format!("nics[{index}].{field}");
            let mac = said.mac.as_deref().map(str::parse).transpose();
            let address = |text: &String| {
                text.parse::<IpAddr>()
                    .map_err(|_| Wrong::Address { place: at("addresses"), text: text.clone() })
            };
            Ok(vm::Nic {
                key: device(&said.key, || at("key"))?,
                mac: mac.map_err(|why| Wrong::Mac { place: at("mac"), why })?,
                model: word(said.model.as_deref(), || at("model"))?,
                network: said.network.clone(),
                addresses: said.addresses.iter().map(address).collect::<Result<_, _>>()?,
            })
        };
        self.nics.iter().enumerate().map(one).collect()
    }
}

fn device(key: &str, place: impl Fn() -> String) -> Result<DeviceKey, Wrong> {
    key.parse().map_err(|why| Wrong::Key { place: place(), why })
}

fn word<T: FromStr<Err = InvalidWord> + Default>(
    said: Option<&str>,
    place: impl Fn() -> String,
) -> Result<T, Wrong> {
    said.map_or_else(|| Ok(T::default()), str::parse).map_err(|why| Wrong::Word { place: place(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<vm::Configuration, Wrong> {
        let hardware: Hardware =
            shared::config::parse(std::path::Path::new("x"), text).expect("nothing unknown");
        let disks = ["root", "data"].map(|key| key.parse::<DiskKey>().expect("a key"));
        hardware.read(disks.iter())
    }

    #[test]
    fn what_is_not_said_is_not_known_and_the_disks_keep_the_order_of_the_vm() {
        let bare = read("").expect("nothing is needed");
        assert_eq!((bare.cpus, bare.firmware, bare.disks.len()), (None, vm::Firmware::Unknown, 2));
        let placed = read(
            "[[controllers]]\nkey = '1000'\nkind = 'ide'\n[[disks]]\nkey = 'data'\ncontroller = '1000'\nunit = 1\n",
        );
        let disks = placed.expect("good").disks;
        assert_eq!((disks[0].key.as_str(), disks[0].unit), ("root", None));
        assert_eq!((disks[1].key.as_str(), disks[1].unit), ("data", Some(1)));
    }

    #[test]
    fn a_mistake_is_named_where_it_stands() {
        let nic = |line: &str| format!("[[nics]]\nkey = '4000'\n{line}\n");
        for (text, place, says) in [
            ("firmware = 'uefi'".to_owned(), ".firmware", "\"uefi\" is no firmware: write one of bios, efi"),
            ("memory = 0".to_owned(), "", "memory is 0"),
            (nic("mac = '00:50:56'"), ".nics[0].mac", "is no MAC address"),
            (nic("mac = 'ff:ff:ff:ff:ff:ff'"), ".nics[0].mac", "of a group"),
            (nic("model = 'vmxnet9'"), ".nics[0].model", "is no model of a NIC"),
            (nic("addresses = ['192.0.2.1/24']"), ".nics[0].addresses", "no IP address"),
            (nic("") + &nic(""), "", "two NICs 4000"),
            ("[[controllers]]\nkey = 'a b'\nkind = 'ide'".to_owned(), ".controllers[0].key", "device key"),
            ("[[disks]]\nkey = 'swap'".to_owned(), ".disks[0].key", "names the disk swap"),
            (
                "[[disks]]\nkey = 'data'\nunit = 0\n[[disks]]\nkey = 'data'".to_owned(),
                "",
                "disk data stands there twice",
            ),
            ("[[disks]]\nkey = 'data'\ncontroller = '7'".to_owned(), "", "controller 7, which is not among"),
        ] {
            let wrong = read(&text).expect_err(&text);
            assert_eq!(wrong.place(), place, "{text}");
            assert!(wrong.to_string().contains(says), "{wrong}");
        }
        let unknown = shared::config::parse::<Hardware>(std::path::Path::new("x"), "cpu = 1");
        assert!(unknown.expect_err("misspelt").to_string().contains("cpus"));
    }
}
