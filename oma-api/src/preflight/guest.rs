//! What of the machine and its guest does not go over, or makes cycles dear.

use super::{Code, Facts, Finding};
use shared::vm::{Firmware, Power, Tools};

pub(super) fn look(facts: &Facts, found: &mut Vec<Finding>) {
    let mut add = |code, what: String, action: &str| found.push(Finding::new(code, "vm", what, action));
    let Some(c) = &facts.vm.configuration else {
        let what = "its agent does not say what it is made of";
        let action =
            "update vma-agent; its disks are protected, but the VM cannot be made from what is recorded";
        return add(Code::ConfigurationUnknown, what.to_owned(), action);
    };
    let mut missing = Vec::new();
    if c.cpus.is_none() {
        missing.push("cpus".to_owned());
    }
    if c.memory_bytes.is_none() {
        missing.push("memory".to_owned());
    }
    if c.firmware == Firmware::Unknown {
        missing.push("firmware".to_owned());
    }
    missing
        .extend(c.nics.iter().filter(|nic| nic.mac.is_none()).map(|nic| format!("MAC of nic {}", nic.key)));
    if !missing.is_empty() {
        let what = format!("not known: {}", missing.join(", "));
        let action =
            "let the source tell it (`[vm.configuration]` where a person writes it): it is recorded at begin";
        add(Code::ConfigurationIncomplete, what, action);
    }
    if c.firmware == Firmware::Efi {
        let what = "the variables of its EFI firmware, boot entries among them, stay behind";
        let action = "see to it that the guest starts from \\EFI\\BOOT, the path without an entry; most installers write it";
        add(Code::FirmwareVariablesLost, what.to_owned(), action);
    }
    if c.secure_boot == Some(true) {
        let what = "Secure Boot is on: keys and databases that were enrolled in the VM stay behind";
        let action = "enrol them anew, or sign with the usual keys; try a test failover first";
        add(Code::SecureBootLost, what.to_owned(), action);
    }
    if c.tpm == Some(true) {
        let what = "it has a virtual TPM, and what is sealed in it cannot be taken out";
        let action =
            "have the recovery keys at hand (BitLocker, LUKS), or suspend protection before the switch";
        add(Code::TpmLost, what.to_owned(), action);
    }
    tracking(facts, c.change_tracking, &mut add);
    match c.power {
        Power::Off => add(
            Code::PoweredOff,
            "it is powered off".to_owned(),
            "nothing: cycles copy it all the same; without writes one is enough",
        ),
        Power::Suspended => add(
            Code::Suspended,
            "it is suspended: what it holds in memory is not on its disks".to_owned(),
            "resume it, or power it off, before the last cycle",
        ),
        Power::On | Power::Unknown => {}
    }
    let absent = match c.tools {
        Tools::NotInstalled => Some("are not installed"),
        Tools::NotRunning => Some("do not run"),
        Tools::Running | Tools::Old | Tools::Unknown => None,
    };
    if let Some(absent) = absent.filter(|_| c.power != Power::Off) {
        let what = format!("the source's tools {absent} in the guest: snapshots are as after a power cut");
        let action = "install or start them, so that the guest can be shut down in order and its file systems be frozen";
        add(Code::ToolsAbsent, what, action);
    }
}

fn tracking(facts: &Facts, offered: Option<bool>, add: &mut impl FnMut(Code, String, &str)) {
    let mib = facts.size() >> 20;
    match offered {
        Some(true) => {}
        Some(false) => add(
            Code::NoChangeTracking,
            format!(
                "the source cannot tell what changed: every cycle reads all {mib} MiB and compares hashes"
            ),
            "switch change tracking on (CBT; a persistent bitmap), or have cycles seldom; only what differs is sent",
        ),
        None => add(
            Code::ChangeTrackingUnknown,
            "whether the source can tell what changed is not known".to_owned(),
            "nothing: the first cycle finds out; if it cannot, every cycle compares hashes of all of it",
        ),
    }
}
