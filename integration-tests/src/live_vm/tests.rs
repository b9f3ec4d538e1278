//! The stand-in is what it says: its own instruments are checked before anything is measured with them.

use super::*;

#[test]
fn a_pause_stands_still_and_the_writer_goes_on_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let vm = LiveVm::start(dir.path(), &[("root", 8 << 20), ("data", 4 << 20)]).unwrap();
    let writer = vm.writer(&WriterOptions { rate: None, ..WriterOptions::default() }).unwrap();
    writer.wait_for_bytes(4 << 20).unwrap();
    let pause = writer.pause();
    let first = vm.hash_disk("root").unwrap();
    assert_eq!(first, vm.hash_disk("root").unwrap(), "nothing is written in a pause");
    assert_eq!(first, *blake3::hash(&vm.read_disk("root").unwrap()).as_bytes());
    drop(pause);
    writer.wait_for_bytes(4 << 20).unwrap();
    let _pause = writer.pause();
    assert_ne!(first, vm.hash_disk("root").unwrap());
    assert_ne!(vm.read_disk("root").unwrap(), vec![0; 8 << 20]);
}

#[test]
fn a_killed_vm_comes_back_and_its_guest_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut vm = LiveVm::start(dir.path(), &[("root", 1 << 20)]).unwrap();
    vm.guest("root").unwrap().write(512, &[7; 1024]).unwrap();
    vm.guest("root").unwrap().flush().unwrap();
    let writer = vm.writer_on(
        vec![WriterDisk { key: "root".into(), range: ByteRange::new(1 << 19, 1 << 20) }],
        &WriterOptions::default(),
    );
    vm.kill9();
    assert!(vm.guest("root").is_err());
    vm.restart().unwrap();
    writer.wait_for_bytes(1 << 20).unwrap();
    drop(writer);
    let disk = vm.read_disk("root").unwrap();
    assert_eq!(disk[512..1536], [7; 1024]);
    assert_eq!(disk[1536..1 << 19], vec![0; (1 << 19) - 1536], "the writer keeps to its range");
}

#[test]
fn disks_grow_and_join() {
    let dir = tempfile::tempdir().unwrap();
    let mut vm = LiveVm::start(dir.path(), &[("root", 1 << 20)]).unwrap();
    vm.resize_disk("root", 3 << 20).unwrap();
    assert_eq!(vm.guest("root").unwrap().size(), 3 << 20);
    vm.add_disk("data", 1 << 20).unwrap();
    assert_eq!(vm.guest("data").unwrap().size(), 1 << 20);
    vm.remove_disk("root").unwrap();
    assert!(vm.guest("root").is_err());
    assert_eq!(vm.guest("data").unwrap().size(), 1 << 20);
}

#[test]
fn a_meter_counts_what_it_hands_on() {
    let dir = tempfile::tempdir().unwrap();
    let vm = LiveVm::start(dir.path(), &[("root", 8 << 20)]).unwrap();
    let (socket, count) = (dir.path().join("metered.sock"), dir.path().join("metered-bytes"));
    let meter = Meter::start(&socket, &vm.nbd_socket(), &count).unwrap();
    vm.guest("root").unwrap().write(1 << 20, &[7; 4096]).unwrap();
    for _ in 0..2 {
        let mut nbd = Nbd::connect(&socket, &live_export("root")).unwrap();
        assert_eq!(read_all(&mut nbd).unwrap(), vm.read_disk("root").unwrap());
    }
    let (payload, counted) = (16 << 20, meter.bytes());
    assert!((payload..payload + payload / 1000).contains(&counted), "{counted} for {payload}");
    let in_file = || std::fs::read_to_string(&count).unwrap().trim().parse::<u64>().unwrap();
    daemon::wait_for("the count in its file", || Ok((in_file() == counted).then_some(()))).unwrap();
}
