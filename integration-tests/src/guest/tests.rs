//! The guest is what it says: it boots, remembers, and finds damage. With real machines, where they can be had.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::console::found;
use super::initramfs::Archive;
use super::tools::dependencies;
use super::*;

/// The guest's kernel comes from the network, so it may be missing; all else that the tests need may not.
fn tools() -> Option<Tools> {
    Tools::find().inspect_err(|error| eprintln!("SKIPPED: {error:#}")).ok()
}

#[test]
fn an_archive_is_padded_and_ends() {
    let mut archive = Archive::default();
    archive.add("a", 0o100_644, b"hello");
    let bytes = archive.finish();
    let header = "070701\
                  00000001000081A400000000000000000000000100000000\
                  0000000500000000000000000000000000000000\
                  0000000200000000";
    assert_eq!(&bytes[..110], header.as_bytes());
    assert_eq!(&bytes[110..120], b"a\0hello\0\0\0");
    assert_eq!(&bytes[120..126], b"070701");
    assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
    assert_eq!(bytes.len() % 4, 0);
}

#[test]
fn a_module_names_what_it_depends_on() {
    assert_eq!(dependencies(b"x\0depends=virtio-ring,virtio\0name=y\0"), ["virtio_ring", "virtio"]);
    assert!(dependencies(b"x\0depends=\0name=y\0").is_empty());
    assert!(dependencies(b"no module").is_empty());
}

#[test]
fn what_the_guest_found_is_read() {
    let three = Found { boot: 3, first: 5, last: 1234 };
    assert_eq!(found("boot 3, last record 1234, records 5..1234 intact").unwrap(), three);
    assert_eq!(found("boot 1, no record yet").unwrap(), Found { boot: 1, first: 0, last: 0 });
    for bad in ["boot 3", "boot 3, last record 12, records 1..11 intact", "DAMAGED"] {
        assert!(found(bad).is_err(), "{bad}");
    }
}

/// Its power goes while it writes, and comes back; then it is asked to end, and started again in the same process.
#[test]
fn it_remembers_over_power_cuts_and_its_button_works() {
    if tools().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut guest = LiveGuest::start(dir.path(), Options::default()).unwrap();
    assert_eq!(guest.ready().unwrap(), Found { boot: 1, first: 0, last: 0 });
    let before = guest.wait_for_records(5).unwrap();
    guest.kill9();
    guest.power_on().unwrap();
    let after = guest.ready().unwrap();
    assert_eq!((after.boot, after.first), (2, 1));
    assert!(after.last >= before.record, "{after:?} after {before:?}");
    let before = guest.wait_for_records(2).unwrap();
    guest.power_off().unwrap();
    assert!(!guest.machine().power().is_on().unwrap());
    guest.power_on().unwrap();
    let after = guest.ready().unwrap();
    assert_eq!(after.boot, 3);
    assert!(after.last >= before.record, "{after:?} after {before:?}");
}

/// What a move is about: VMware's controller before it, virtio after it; a guest without drivers for the latter finds
/// nothing there, and runs where it has drivers.
#[test]
fn drivers_decide_where_it_boots() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let boot_on = |images: &Image, bus: Bus| {
        let name = format!("{bus:?}-{}", images.root.parent().unwrap().file_name().unwrap().display());
        boot(&dir.path().join(name), &[images.root.clone(), images.data.clone()], bus).unwrap()
    };
    let image = |name: &str, drivers| {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        Image::make(&tools, &dir, Sizes::default(), drivers).unwrap()
    };
    let prepared = image("prepared", Drivers::All);
    for bus in [Bus::Pvscsi, Bus::VirtioScsi] {
        assert_eq!(boot_on(&prepared, bus).ready().unwrap().boot, 1, "{bus:?}");
    }
    let bare = image("bare", Drivers::WithoutVirtio);
    let error = boot_on(&bare, Bus::VirtioBlk).ready().unwrap_err().to_string();
    assert!(error.contains("DAMAGED: no disk with the label"), "{error}");
    assert_eq!(boot_on(&bare, Bus::Ide).ready().unwrap().boot, 1);
}

/// Disks of two points in time, and a record that is not whole: both are found.
#[test]
fn it_finds_damage() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let image = Image::make(&tools, dir.path(), Sizes::default(), Drivers::All).unwrap();
    let (early, late) = (dir.path().join("early.img"), dir.path().join("late.img"));
    std::fs::copy(&image.data, &early).unwrap();
    let mut guest = LiveGuest::start(&dir.path().join("live"), Options::default()).unwrap();
    guest.ready().unwrap();
    guest.wait_for_records(3).unwrap();
    guest.power_off().unwrap();
    guest.machine().quit();
    let [root, data] = ["root", "data"].map(|key| {
        let raw = dir.path().join(format!("{key}-late.img"));
        let from = dir.path().join(format!("live/{key}.qcow2"));
        let [from, to] = [&from, &raw].map(|path| path.to_str().unwrap());
        crate::live_vm::daemon::run("qemu-img", &["convert", "-O", "raw", from, to]).unwrap();
        raw
    });
    let says = |name: &str, data: &Path| {
        let machine = boot(&dir.path().join(name), &[root.clone(), data.to_owned()], Bus::VirtioBlk).unwrap();
        machine.console().wait_for("ready", 0, Duration::from_secs(90)).unwrap_err().to_string()
    };
    let error = says("two-times", &early);
    assert!(error.contains("not of one point in time"), "{error}");
    // One byte in the middle of a record.
    let mut bytes = std::fs::read(&data).unwrap();
    let record = b"r0000000002b0001r0000000002b0001";
    let at = bytes.windows(record.len()).position(|window| window == record).unwrap();
    bytes[at + 2000] ^= 1;
    std::fs::write(&late, bytes).unwrap();
    let error = says("a-bit", &late);
    assert!(error.contains("data: record 2 is not whole"), "{error}");
    // And the disk as it was is well: it was the byte.
    let file = std::fs::File::options().write(true).open(&late).unwrap();
    let mut byte = [0];
    std::fs::File::open(&data).unwrap().read_exact_at(&mut byte, at as u64 + 2000).unwrap();
    file.write_all_at(&byte, at as u64 + 2000).unwrap();
    let machine = boot(&dir.path().join("well"), &[root.clone(), late], Bus::VirtioBlk).unwrap();
    assert!(machine.ready().unwrap().last >= 3);
}
