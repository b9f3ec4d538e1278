//! A VM's configuration: messages ↔ [`crate::vm`].

use super::Invalid;
use crate::ids::{DeviceKey, DiskKey};
use crate::vm::*;
use proto::v1;

/// Words ↔ an enum of the schema. A number of a newer peer is `Unknown`, never a failure.
macro_rules! words {
    ($domain:ident, $wire:ident, $from:ident, $to:ident, { $($name:ident = $theirs:ident),* $(,)? }) => {
        pub(super) fn $from(value: i32) -> $domain {
            match v1::$wire::try_from(value) {
                $(Ok(v1::$wire::$theirs) => $domain::$name,)*
                Ok(v1::$wire::Unspecified) | Err(_) => $domain::Unknown,
            }
        }

        pub(super) fn $to(value: $domain) -> i32 {
            match value {
                $($domain::$name => v1::$wire::$theirs,)*
                $domain::Unknown => v1::$wire::Unspecified,
            }
            .into()
        }
    };
}

words!(Firmware, Firmware, firmware_from, firmware_to, { Bios = Bios, Efi = Efi });
words!(ControllerKind, ControllerKind, kind_from, kind_to, {
    BusLogic = Buslogic, LsiLogic = Lsilogic, LsiLogicSas = LsilogicSas, ParaVirtual = Pvscsi, Ahci = Ahci, Ide = Ide,
    Nvme = Nvme, VirtioScsi = VirtioScsi, VirtioBlk = VirtioBlk,
});
words!(NicModel, NicModel, model_from, model_to, {
    Vmxnet2 = Vmxnet2, Vmxnet3 = Vmxnet3, E1000 = E1000, E1000e = E1000e, Pcnet32 = Pcnet32, SrIov = Sriov,
    Virtio = Virtio,
});
words!(Power, PowerState, power_from, power_to, { On = On, Off = Off, Suspended = Suspended });
words!(Tools, GuestToolsState, tools_from, tools_to, {
    NotInstalled = NotInstalled, NotRunning = NotRunning, Running = Running, Old = Old,
});

impl From<Configuration> for v1::VmConfiguration {
    fn from(c: Configuration) -> Self {
        Self {
            cpus: c.cpus.unwrap_or(0),
            cores_per_socket: c.cores_per_socket.unwrap_or(0),
            memory_bytes: c.memory_bytes.unwrap_or(0),
            firmware: firmware_to(c.firmware),
            secure_boot: c.secure_boot,
            tpm: c.tpm,
            controllers: c.controllers.into_iter().map(controller_to).collect(),
            disks: c.disks.into_iter().map(place_to).collect(),
            nics: c.nics.into_iter().map(nic_to).collect(),
            guest_id: c.guest_id.unwrap_or_default(),
            guest_name: c.guest_name.unwrap_or_default(),
            power_state: power_to(c.power),
            tags: c.tags,
            notes: c.notes.unwrap_or_default(),
            tools: tools_to(c.tools),
            change_tracking: c.change_tracking,
        }
    }
}

impl TryFrom<v1::VmConfiguration> for Configuration {
    type Error = Invalid;
    fn try_from(c: v1::VmConfiguration) -> Result<Self, Invalid> {
        let known = |text: String| Some(text).filter(|t| !t.is_empty());
        let read = Self {
            cpus: Some(c.cpus).filter(|n| *n > 0),
            cores_per_socket: Some(c.cores_per_socket).filter(|n| *n > 0),
            memory_bytes: Some(c.memory_bytes).filter(|n| *n > 0),
            firmware: firmware_from(c.firmware),
            secure_boot: c.secure_boot,
            tpm: c.tpm,
            controllers: c.controllers.into_iter().map(controller_from).collect::<Result<_, _>>()?,
            disks: c.disks.into_iter().map(place_from).collect::<Result<_, _>>()?,
            nics: c.nics.into_iter().map(nic_from).collect::<Result<_, _>>()?,
            guest_id: known(c.guest_id),
            guest_name: known(c.guest_name),
            power: power_from(c.power_state),
            tags: c.tags,
            notes: known(c.notes),
            tools: tools_from(c.tools),
            change_tracking: c.change_tracking,
        };
        read.check_bounds().map_err(|e| Invalid::new("vm.configuration", e))?;
        Ok(read)
    }
}

impl From<Difference> for v1::ConfigurationChange {
    fn from(Difference { field, recorded, present }: Difference) -> Self {
        Self { field, recorded, present }
    }
}

fn device(field: &'static str, key: String) -> Result<DeviceKey, Invalid> {
    DeviceKey::parse(key).map_err(|e| Invalid::new(field, e))
}

fn controller_to(Controller { key, kind }: Controller) -> v1::VmController {
    v1::VmController { key: key.into(), kind: kind_to(kind) }
}

fn controller_from(c: v1::VmController) -> Result<Controller, Invalid> {
    Ok(Controller { kind: kind_from(c.kind), key: device("vm.configuration.controllers.key", c.key)? })
}

fn place_to(DiskPlace { key, controller, unit }: DiskPlace) -> v1::VmDiskPlace {
    v1::VmDiskPlace { key: key.into(), controller: controller.map(String::from).unwrap_or_default(), unit }
}

fn place_from(place: v1::VmDiskPlace) -> Result<DiskPlace, Invalid> {
    let controller = match place.controller.as_str() {
        "" => None,
        _ => Some(device("vm.configuration.disks.controller", place.controller)?),
    };
    let key = DiskKey::parse(place.key).map_err(|e| Invalid::new("vm.configuration.disks.key", e))?;
    Ok(DiskPlace { key, controller, unit: place.unit })
}

fn nic_to(nic: Nic) -> v1::VmNic {
    v1::VmNic {
        key: nic.key.into(),
        mac: nic.mac.map(String::from).unwrap_or_default(),
        model: model_to(nic.model),
        network: nic.network.unwrap_or_default(),
        addresses: nic.addresses.iter().map(ToString::to_string).collect(),
    }
}

fn nic_from(nic: v1::VmNic) -> Result<Nic, Invalid> {
    let mac = match nic.mac.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|e| Invalid::new("vm.configuration.nics.mac", e))?),
    };
    let address = |text: String| {
        let wrong = || Invalid::new("vm.configuration.nics.addresses", format!("{text:?} is no IP address"));
        text.parse().map_err(|_| wrong())
    };
    Ok(Nic {
        model: model_from(nic.model),
        key: device("vm.configuration.nics.key", nic.key)?,
        mac,
        network: Some(nic.network).filter(|n| !n.is_empty()),
        addresses: nic.addresses.into_iter().map(address).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Configuration {
        let key = |text: &str| text.parse().expect("a key");
        Configuration {
            cpus: Some(4),
            cores_per_socket: Some(2),
            memory_bytes: Some(8 << 30),
            firmware: Firmware::Efi,
            secure_boot: Some(false),
            tpm: Some(true),
            controllers: ControllerKind::ALL
                .iter()
                .map(|kind| Controller { key: key(&format!("{}", 1000 + *kind as u32)), kind: *kind })
                .collect(),
            disks: vec![DiskPlace {
                key: "root".parse().expect("a key"),
                controller: Some(key("1003")),
                unit: Some(0),
            }],
            nics: NicModel::ALL
                .iter()
                .map(|model| Nic {
                    key: key(&format!("{}", 4000 + *model as u32)),
                    mac: Some("00:50:56:8a:01:02".parse().expect("a MAC")),
                    model: *model,
                    network: Some("VM Network".to_owned()),
                    addresses: vec![
                        "192.0.2.7".parse().expect("an IP"),
                        "2001:db8::7".parse().expect("an IP"),
                    ],
                })
                .collect(),
            guest_id: Some("debian12_64Guest".to_owned()),
            guest_name: Some("Debian GNU/Linux 12".to_owned()),
            power: Power::On,
            tags: vec!["production".to_owned()],
            notes: Some("né\n💾".to_owned()),
            tools: Tools::Old,
            change_tracking: Some(true),
        }
    }

    #[test]
    fn a_configuration_comes_through_the_wire_and_the_database_as_it_was() {
        for configuration in [whole(), Configuration::default()] {
            let wire = v1::VmConfiguration::from(configuration.clone());
            assert_eq!(Configuration::try_from(wire), Ok(configuration.clone()));
            let read: Configuration = serde_json::from_str(&configuration.to_json()).expect("its own JSON");
            assert_eq!(read, configuration);
        }
    }

    #[test]
    fn words_of_a_newer_peer_are_unknown_and_fields_of_an_older_one_are_not_missed() {
        let mut wire = v1::VmConfiguration::from(whole());
        (wire.firmware, wire.power_state, wire.tools) = (99, 99, 99);
        (wire.controllers[0].kind, wire.nics[0].model) = (99, -1);
        let read = Configuration::try_from(wire).expect("no failure");
        assert_eq!(
            (read.firmware, read.power, read.tools),
            (Firmware::Unknown, Power::Unknown, Tools::Unknown)
        );
        assert_eq!(
            (read.controllers[0].kind, read.nics[0].model),
            (ControllerKind::Unknown, NicModel::Unknown)
        );
        let newer = r#"{"cpus": 2, "firmware": "coreboot", "cpu_hot_add": true}"#;
        let read: Configuration = serde_json::from_str(newer).expect("no failure");
        assert_eq!((read.cpus, read.firmware), (Some(2), Firmware::Unknown));
        let old = v1::Vm { uuid: "564d1d3a-0000-4000-8000-000000000001".to_owned(), ..v1::Vm::default() };
        assert_eq!(crate::cycle::Vm::try_from(old).map(|vm| vm.configuration), Ok(None));
    }

    #[test]
    fn what_is_no_address_or_has_no_end_is_named() {
        let refused = |change: fn(&mut v1::VmConfiguration)| {
            let mut wire = v1::VmConfiguration::from(whole());
            change(&mut wire);
            Configuration::try_from(wire).expect_err("refused").to_string()
        };
        assert!(refused(|w| w.nics[0].mac = "no".into()).contains("vm.configuration.nics.mac"));
        assert!(refused(|w| w.nics[0].addresses = vec!["192.0.2.7/24".into()]).contains("no IP address"));
        assert!(refused(|w| w.notes = "x".repeat(5000)).contains("notes has 5000"));
        assert!(refused(|w| w.controllers[0].key = "../x".into()).contains("controllers.key"));
    }
}
