//! What QEMU is told; that it obeys is tested where machines boot.

use super::super::{Disk, Interface, Machine};
use super::{Accel, command};
use std::path::Path;

fn machine() -> Machine {
    let disk = |at: u64, path: &str| Disk {
        volume: format!("v-{at}"),
        device_id: at,
        path: path.to_owned(),
        size: 1 << 30,
    };
    Machine {
        id: "m".to_owned(),
        instance_name: "i-2-3-VM".to_owned(),
        cpus: 2,
        memory_mib: 512,
        disks: vec![disk(0, "/a,b/root"), disk(1, "/mnt/pool/data")],
        nics: vec![Interface { network: "n".to_owned(), mac: "02:00:00:00:00:01".to_owned() }],
        ..Machine::default()
    }
}

fn told(machine: &Machine) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("plain")).unwrap();
    let arguments = command::arguments(dir.path(), Path::new("/nowhere"), Accel::Tcg, machine).unwrap();
    let plain = dir.path().join("plain/v-1.img");
    assert_eq!(plain.metadata().unwrap().len(), 1 << 30, "there is no such pool here");
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
    words.join(" ")
}

#[test]
fn disks_hang_where_the_details_say_and_networks_lead_nowhere() {
    let mut machine = machine();
    let plain = told(&machine);
    for part in [
        "-machine pc ",
        "-accel tcg",
        r#""filename":"/a,b/root""#,
        r#""locking":"on""#,
        "user,id=net0,restrict=on",
        r#""mac":"02:00:00:00:00:01""#,
    ] {
        assert!(plain.contains(part), "{part}: {plain}");
    }
    assert_eq!(plain.matches("virtio-blk-pci").count(), 2);
    assert!(!plain.contains("pflash"));
    machine.details.insert("rootDiskController".to_owned(), "scsi".to_owned());
    machine.details.insert("nicAdapter".to_owned(), "e1000".to_owned());
    machine.nics.push(machine.nics[0].clone());
    let other = told(&machine);
    assert_eq!((other.matches("virtio-blk-pci").count(), other.matches("scsi-hd").count()), (1, 1));
    assert_eq!(other.matches(r#""driver":"e1000""#).count(), 2);
    machine.nics.clear();
    assert!(told(&machine).contains("-nic none"));
}
