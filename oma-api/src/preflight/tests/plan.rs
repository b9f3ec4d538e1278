//! The plan, as a person reads it.

use super::fixture::{GIB, all_well};
use super::*;
use shared::profile::AddressPolicy;

fn lines(facts: &Facts) -> Vec<String> {
    let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let line = |row: &Row| {
        format!("{} {}: {} > {}", row.change.as_str(), row.field, shown(&row.source), shown(&row.target))
    };
    report(facts).plan.iter().map(line).collect()
}

#[test]
fn every_field_is_kept_changed_added_or_lost_for_a_reason() {
    let mut facts = all_well();
    facts.vm.disks[0].size = 2 * GIB + 512;
    let expected = [
        "kept name: web-1 > web-1",
        "kept display_name: web-1 > web-1",
        "lost uuid: 00000000-0000-4000-8000-000000000001 > -",
        "added zone: - > zone-1",
        "kept cpus: 4 > 4",
        "kept cores_per_socket: 2 > 2",
        "kept memory: 8GiB > 8GiB",
        "kept firmware: bios > bios",
        "kept secure_boot: off > off",
        "changed disks[2000].size: 2147484160B > 3GiB",
        "kept disks[2000].controller: virtio-scsi > virtio-scsi",
        "added disks[2000].device_id: - > 0",
        "changed nics[4000].network.live: VM Network > production",
        "changed nics[4000].network.test: VM Network > isolated",
        "kept nics[4000].mac.live: 00:50:56:8a:01:02 > 00:50:56:8a:01:02",
        "changed nics[4000].mac.test: 00:50:56:8a:01:02 > a new one",
        "changed nics[4000].model: vmxnet3 > virtio",
        "kept nics[4000].addresses: 192.0.2.10 > 192.0.2.10",
        "changed guest_os: debian12_64Guest > the nearest OS type",
        "lost guest_tools: running > -",
        "lost tags: shop > -",
    ];
    assert_eq!(lines(&facts), expected);
    assert!(report(&facts).plan.iter().all(|row| !row.reason.is_empty()));
}

#[test]
fn what_is_not_mapped_is_lost_and_what_the_profile_says_is_done() {
    let mut facts = all_well();
    with(&mut facts, |c| {
        c.firmware = Firmware::Efi;
        c.tpm = Some(true);
    });
    let s = settings(&mut facts);
    s.networks[0].test = None;
    s.live_mac = MacPolicy::New;
    s.addresses = AddressPolicy::Dhcp;
    let lines = lines(&facts);
    for line in [
        "lost nics[4000].network.test: VM Network > -",
        "changed nics[4000].mac.live: 00:50:56:8a:01:02 > a new one",
        "changed nics[4000].addresses: 192.0.2.10 > by DHCP",
        "lost tpm: on > -",
        "lost firmware_variables: those of the VM > -",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line:?} is not in {lines:#?}");
    }
}

/// 3 is the CD drive.
#[test]
fn disks_get_device_ids_in_their_order() {
    let mut facts = all_well();
    facts.vm.disks = (0..5).map(|n| super::disk(&format!("d{n}"), GIB)).collect();
    let ids: Vec<_> =
        report(&facts).plan.into_iter().filter(|row| row.field.ends_with("device_id")).collect();
    let ids: Vec<_> = ids.iter().filter_map(|row| row.target.as_deref()).collect();
    assert_eq!(ids, ["0", "1", "2", "4", "5"]);
}

/// What nobody said is not made up; the disks are there all the same.
#[test]
fn a_vm_of_which_little_is_known_has_a_short_plan() {
    let mut facts = all_well();
    (facts.vm.configuration, facts.profile) = (None, None);
    let expected = [
        "kept name: web-1 > web-1",
        "kept display_name: web-1 > web-1",
        "lost uuid: 00000000-0000-4000-8000-000000000001 > -",
        "kept disks[2000].size: 2GiB > 2GiB",
        "added disks[2000].controller: - > virtio",
        "added disks[2000].device_id: - > 0",
    ];
    assert_eq!(lines(&facts), expected);
}
