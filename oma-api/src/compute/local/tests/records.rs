//! What is written of machines, without any QEMU.

use super::super::super::{Bus, Compute, Definition, Error, Isolation, State, Stop};
use super::super::{Accel, LocalCompute, Programs};
use super::host::{Host, card, name, plain, volume};
use crate::storage::{self, VolumeId};

#[tokio::test]
async fn what_is_defined_is_found_again() {
    let host = Host::new().await;
    let (one, two) = (name("b"), name("a"));
    assert_eq!(host.compute.find(&one).await.expect("looked"), None);
    let definition = Definition { nics: vec![card(2, Isolation::Isolated)], ..plain() };
    for _ in 0..2 {
        host.compute.define(&one, &definition).await.expect("the same again is success");
    }
    host.compute.define(&two, &plain()).await.expect("defined");
    let other = Definition { cpus: 3, ..definition.clone() };
    let refused = host.compute.define(&one, &other).await.expect_err("another machine");
    assert!(matches!(&refused, Error::OtherMachine { .. }));
    assert!(refused.to_string().contains("(cpus is 1, not 3)"), "{refused}");

    let found = host.again().await.list().await.expect("listed");
    let told: Vec<_> =
        found.iter().map(|m| (m.name.as_str(), m.fingerprint.clone(), m.disks.len(), m.state)).collect();
    assert_eq!(
        told,
        [("a", plain().fingerprint(), 0, State::Stopped), ("b", definition.fingerprint(), 0, State::Stopped),]
    );
    // Who can reach its sockets can do with the guest what he likes.
    use std::os::unix::fs::PermissionsExt;
    let mode = host.folder(&one).metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn disks_are_attached_in_order() {
    let host = Host::new().await;
    let (machine, a, b) = (name("m"), volume("a"), volume("b"));
    let attach = async |position, volume: &VolumeId| host.compute.attach(&machine, position, volume).await;
    assert!(matches!(attach(0, &a).await, Err(Error::NoMachine { .. })));
    host.compute.define(&machine, &Definition { bus: Bus::Ide, ..plain() }).await.expect("defined");
    assert!(matches!(attach(0, &a).await, Err(Error::Storage(storage::Error::NoVolume { .. }))));
    for id in [&a, &b] {
        host.empty_volume(id).await;
    }
    assert!(matches!(attach(1, &a).await, Err(Error::OutOfOrder { position: 1, disks: 0, .. })));
    for _ in 0..2 {
        attach(0, &a).await.expect("the same again is success");
    }
    assert!(matches!(attach(1, &a).await, Err(Error::AttachedAlready { position: 0, .. })));
    assert!(matches!(attach(0, &b).await, Err(Error::OtherDisk { position: 0, have, .. }) if have == a));
    attach(1, &b).await.expect("the next");
    let found = host.again().await.find(&machine).await.expect("looked").expect("there");
    assert_eq!(found.disks, [a.clone(), b.clone()]);
    for (position, id) in [(2, volume("c")), (3, volume("d"))] {
        host.empty_volume(&id).await;
        attach(position, &id).await.expect("IDE has four");
    }
    host.empty_volume(&volume("e")).await;
    let full = attach(4, &volume("e")).await.expect_err("IDE has four").to_string();
    assert!(full.contains("more than 4 disks on ide"), "{full}");
}

#[tokio::test]
async fn nothing_there_is_success_where_it_is_to_be_gone() {
    let host = Host::new().await;
    let machine = name("m");
    host.compute.stop(&machine, Stop::Now).await.expect("it does not run");
    host.compute.remove(&machine).await.expect("it is gone");
    assert!(matches!(host.compute.start(&machine).await, Err(Error::NoMachine { .. })));
    assert!(matches!(host.compute.console(&machine, 0, 1).await, Err(Error::NoMachine { .. })));
    assert!(matches!(host.compute.type_text(&machine, "x").await, Err(Error::NoMachine { .. })));
    assert!(matches!(host.compute.screenshot(&machine).await, Err(Error::NoMachine { .. })));
    host.compute.define(&machine, &plain()).await.expect("defined");
    assert!(matches!(host.compute.type_text(&machine, "x").await, Err(Error::NotRunning { .. })));
    assert_eq!(host.compute.screenshot(&machine).await.expect("asked"), None);
    let log = host.compute.console(&machine, 5, 10).await.expect("asked");
    assert_eq!((log.offset, log.data.len(), log.end), (0, 0, 0));
    for _ in 0..2 {
        host.compute.remove(&machine).await.expect("removed");
        assert_eq!(host.compute.find(&machine).await.expect("looked"), None);
    }
    assert_eq!(std::fs::read_dir(host.machines()).expect("there").count(), 0, "nothing is left");
}

#[tokio::test]
async fn what_a_crash_left_is_swept() {
    let host = Host::new().await;
    let machine = name("m");
    host.compute.define(&machine, &plain()).await.expect("defined");
    std::fs::rename(host.folder(&machine), host.machines().join("m.tmp")).expect("half removed");
    assert_eq!(host.compute.find(&machine).await.expect("looked"), None);
    assert_eq!(host.compute.list().await.expect("listed"), []);
    host.compute.define(&machine, &plain()).await.expect("made anew beside it");
    std::fs::create_dir(host.machines().join("n.tmp")).expect("half made");
    let found = host.again().await.list().await.expect("listed");
    assert_eq!(found.len(), 1);
    assert_eq!(std::fs::read_dir(host.machines()).expect("there").count(), 1);
}

#[tokio::test]
async fn a_damaged_record_is_no_machine_and_not_none() {
    let host = Host::new().await;
    let machine = name("m");
    host.compute.define(&machine, &plain()).await.expect("defined");
    let record = host.folder(&machine).join("machine.json");
    let good = std::fs::read_to_string(&record).expect("there");
    for bad in
        ["", "{", &good.replace("\"disks\": []", "\"disks\": [\"../x\"]"), &good.replace("bios", "coreboot")]
    {
        assert_ne!(bad, good);
        std::fs::write(&record, bad).expect("written");
        let refused = host.compute.find(&machine).await.expect_err("damaged");
        assert!(
            matches!(&refused, Error::Unreadable { place, .. } if *place == record.display().to_string())
        );
        assert!(host.compute.list().await.is_err());
        assert!(host.compute.define(&machine, &plain()).await.is_err());
    }
    host.compute.remove(&machine).await.expect("removed all the same");
}

#[tokio::test]
async fn what_cannot_be_had_here_is_named() {
    let host = Host::new().await;
    host.compute.check(&plain()).await.expect("QEMU is installed");
    for (wrong, what) in [
        (Definition { cpus: 0, ..plain() }, "0 processors"),
        (Definition { cpus: 256, ..plain() }, "256 processors"),
        (Definition { memory_bytes: 1 << 20, ..plain() }, "1048576 bytes of memory"),
        (
            Definition { nics: (0..11).map(|n| card(n, Isolation::Isolated)).collect(), ..plain() },
            "11 network",
        ),
    ] {
        let machine = name("wrong");
        for refused in [host.compute.check(&wrong).await, host.compute.define(&machine, &wrong).await] {
            let refused = refused.expect_err(what);
            assert!(refused.to_string().contains(what), "{refused}");
        }
    }
    let without = async |programs| {
        let compute = LocalCompute::open(&host.root, host.storage.clone(), Accel::Tcg).await.expect("a host");
        compute.with_programs(programs)
    };
    let efi = Definition { firmware: super::super::super::Firmware::Efi, ..plain() };
    host.compute.check(&efi).await.expect("OVMF is installed");
    let compute = without(Programs {
        efi: vec![("/nowhere/code".into(), "/nowhere/vars".into())],
        ..Programs::default()
    })
    .await;
    compute.check(&plain()).await.expect("a BIOS needs none");
    let missing = compute.check(&efi).await.expect_err("no firmware").to_string();
    assert!(missing.contains("/nowhere/code") && missing.contains("ovmf"), "{missing}");

    for qemu in ["no-such-qemu", "/nowhere/qemu", "/etc/passwd"] {
        let compute = without(Programs { qemu: qemu.into(), ..Programs::default() }).await;
        let missing = compute.check(&plain()).await.expect_err("no QEMU");
        assert!(matches!(&missing, Error::Missing { what, .. } if what.contains(qemu)), "{missing}");
        let machine = name("m");
        compute.define(&machine, &plain()).await.expect("that needs none");
        let missing = compute.start(&machine).await.expect_err("no QEMU");
        assert!(matches!(missing, Error::Missing { .. }), "{missing}");
    }
}
