//! What cannot be made of its disks as they are.

use super::{Code, Facts, Finding};
use shared::config::ByteSize;
use shared::ids::DiskKey;
use shared::vm::{Configuration, ControllerKind};
use std::collections::BTreeSet;

/// CloudStack's volumes are whole GiB.
const GIB: u64 = 1 << 30;

/// DRBD's largest device.
const LARGEST: u64 = 1 << 50;

/// Data disks that CloudStack lets a KVM guest have (max_data_volumes_limit as it is delivered), and the root.
const MOST: usize = 64 + 1;

/// Keys that one finding names.
const NAMED: usize = 8;

/// As the target makes it; `None` beyond all sizes.
pub(super) fn made(size: u64) -> Option<u64> {
    size.max(1).checked_next_multiple_of(GIB)
}

/// What it hangs on, where the source said so.
pub(super) fn controller_of(configuration: &Configuration, disk: &DiskKey) -> Option<ControllerKind> {
    let place = configuration.disks.iter().find(|place| place.key == *disk)?;
    let on = place.controller.as_ref()?;
    let kind = configuration.controllers.iter().find(|controller| controller.key == *on)?.kind;
    (kind != ControllerKind::Unknown).then_some(kind)
}

/// CloudStack's device id of the n-th disk: 0 is the root, 3 the CD drive.
pub(super) fn device_id(index: usize) -> usize {
    if index < 3 { index } else { index + 1 }
}

/// What the target has of its own, so that nothing changes.
pub(super) fn is_virtio(kind: ControllerKind) -> bool {
    matches!(kind, ControllerKind::VirtioBlk | ControllerKind::VirtioScsi)
}

/// Some, and how many more.
fn keys<'a>(all: impl Iterator<Item = &'a DiskKey>) -> Option<String> {
    let all: Vec<_> = all.map(DiskKey::as_str).collect();
    let more = all.len().saturating_sub(NAMED);
    let named = all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match (all.len(), more) {
        (0, _) => None,
        (_, 0) => Some(named),
        (_, more) => Some(format!("{named} and {more} more")),
    }
}

pub(super) fn look(facts: &Facts, found: &mut Vec<Finding>) {
    let disks = &facts.vm.disks;
    let mut add = |code, subject: &str, what: String, action: &str| {
        found.push(Finding::new(code, subject, what, action));
    };
    if disks.is_empty() {
        let action = "see what the agent's log says of it: a VM without disks has nothing to protect";
        add(Code::NoDisks, "vm", "its agent tells of no disk".to_owned(), action);
    }
    if disks.len() > MOST {
        let what = format!("it has {} disks, and the target takes {MOST}", disks.len());
        add(Code::TooManyDisks, "vm", what, "join disks in the guest, or detach some before it is begun");
    }
    let of = |wanted: &dyn Fn(u64) -> bool| {
        keys(disks.iter().filter(|disk| wanted(disk.size)).map(|disk| &disk.key))
    };
    if let Some(keys) = of(&|size| size == 0) {
        let action =
            "detach it, or let the agent look again: a size of 0 is what a source says that cannot read it";
        add(Code::DiskEmpty, "disks", format!("{keys}: 0 bytes"), action);
    }
    if let Some(keys) = of(&|size| size > LARGEST) {
        let what =
            format!("{keys}: larger than {}, which is as large as the target makes one", ByteSize(LARGEST));
        add(Code::DiskTooLarge, "disks", what, "make it smaller, or spread it over several");
    }
    if let Some(keys) = of(&|size| size > 0 && !size.is_multiple_of(GIB)) {
        let what = format!(
            "{keys}: no whole number of GiB; on the target it will be one, and what is added reads zero"
        );
        add(
            Code::DiskRoundedUp,
            "disks",
            what,
            "nothing: the plan has the sizes; partitions stay as they are",
        );
    }
    if let Some(configuration) = &facts.vm.configuration {
        controllers(facts, configuration, found);
    }
}

fn controllers(facts: &Facts, configuration: &Configuration, found: &mut Vec<Finding>) {
    let kind = |disk: &DiskKey| controller_of(configuration, disk);
    let kinds: BTreeSet<_> =
        facts.vm.disks.iter().filter_map(|disk| kind(&disk.key)).map(ControllerKind::as_str).collect();
    if kinds.len() > 1 {
        let all = kinds.into_iter().collect::<Vec<_>>().join(", ");
        let what =
            format!("its disks hang on controllers of several kinds ({all}), on the target all on one");
        let action = "see to it that the guest mounts by UUID or label: names such as /dev/sda change";
        found.push(Finding::new(Code::ControllersMixed, "disks", what, action));
    }
    let odd = |kind| matches!(kind, ControllerKind::Nvme | ControllerKind::BusLogic);
    let of = |wanted: &dyn Fn(ControllerKind) -> bool| {
        keys(facts.vm.disks.iter().map(|disk| &disk.key).filter(|key| kind(key).is_some_and(wanted)))
    };
    if let Some(keys) = of(&odd) {
        let what =
            format!("{keys}: on NVMe or BusLogic, which the target does not have; virtio takes its place");
        let action =
            "see to it that the guest has virtio drivers and mounts by UUID or label, not as /dev/nvme0n1";
        found.push(Finding::new(Code::ControllerUnsupported, "disks", what, action));
    }
    if let Some(keys) = of(&|kind| !odd(kind) && !is_virtio(kind)) {
        let what = format!("{keys}: virtio takes the place of its controller");
        let action = "nothing: the conversion gives the guest its drivers";
        found.push(Finding::new(Code::ControllerReplaced, "disks", what, action));
    }
}
