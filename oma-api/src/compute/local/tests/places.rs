//! Boards, buses, cards, firmware, and where they lie.

use super::super::super::{Bus, Compute, Definition, Firmware, Isolation, State};
use super::super::{Accel, LocalCompute, accel, command::Processor};
use super::host::{Guest, HELLO, Host, card, plain, volume};

#[tokio::test]
async fn every_bus_boots_its_first_disk_with_as_many_as_it_takes() {
    for (bus, disks) in [(Bus::VirtioBlk, 17), (Bus::VirtioScsi, 9), (Bus::Sata, 13), (Bus::Ide, 4)] {
        let host = Host::new().await;
        let cards = vec![card(2, Isolation::Isolated), card(3, Isolation::Connected)];
        let definition = Definition { bus, nics: cards, cpus: 2, ..plain() };
        let machine = host.machine("m", &definition, Guest::Deaf).await;
        for position in 1..disks {
            let more = volume(&format!("more-{position}"));
            host.empty_volume(&more).await;
            host.compute.attach(&machine, position, &more).await.expect("attached");
        }
        host.compute.start(&machine).await.unwrap_or_else(|e| panic!("{bus}: {e}"));
        host.says(&machine, HELLO).await;
        host.cut(&machine).await;
    }
}

#[tokio::test]
async fn the_most_of_everything_is_accepted() {
    for (bus, disks) in [(Bus::VirtioBlk, 64), (Bus::VirtioScsi, 64), (Bus::Sata, 30)] {
        let host = Host::new().await;
        let nics = (0..10).map(|n| card(n, Isolation::Isolated)).collect();
        let machine = host.machine("m", &Definition { bus, nics, ..plain() }, Guest::Deaf).await;
        for position in 1..disks {
            let more = volume(&format!("more-{position}"));
            host.empty_volume(&more).await;
            host.compute.attach(&machine, position, &more).await.expect("attached");
        }
        host.compute.start(&machine).await.unwrap_or_else(|e| panic!("{bus}: {e}"));
        host.cut(&machine).await;
    }
}

#[tokio::test]
async fn efi_firmware_starts_and_keeps_its_own_variables() {
    let host = Host::new().await;
    let definition = Definition { firmware: Firmware::Efi, memory_bytes: 256 << 20, ..plain() };
    let machine = host.machine("m", &definition, Guest::Deaf).await;
    host.compute.start(&machine).await.expect("started");
    // A boot sector is nothing to it; it says so on the serial console.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
    let said = async || {
        let log = host.compute.console(&machine, 0, 1 << 20).await.expect("a log");
        String::from_utf8_lossy(&log.data).into_owned()
    };
    while !said().await.contains("BdsDxe") {
        assert!(tokio::time::Instant::now() < deadline, "{}", said().await);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let vars = host.folder(&machine).join("vars.fd");
    host.cut(&machine).await;
    let template = std::fs::read("/usr/share/OVMF/OVMF_VARS_4M.fd").expect("installed");
    let kept = std::fs::read(&vars).expect("there");
    assert!(kept.len() == template.len() && kept != template, "it wrote into its own copy");
    host.compute.start(&machine).await.expect("started again, with them");
}

#[tokio::test]
async fn a_deep_root_is_no_matter() {
    let deep = ["a-folder-with-a-long-name"; 8].join("/");
    let host = Host::below(&deep).await;
    let machine = host.up(&"m".repeat(64), Guest::Deaf).await;
    assert!(host.folder(&machine).join("qmp.sock").as_os_str().len() > 107);
    host.compute.type_text(&machine, "typed").await.expect("typed");
    host.says(&machine, "typed").await;
    let picture = host.compute.screenshot(&machine).await.expect("asked").expect("it has a screen");
    assert!(picture.starts_with(b"\x89PNG"));
    host.cut(&machine).await;
}

#[tokio::test]
async fn kvm_is_taken_only_where_a_guest_gets_on_with_it() {
    let host = Host::new().await;
    let qemu = std::path::Path::new("qemu-system-x86_64");
    // The trial itself works: without KVM, a guest gets to its end.
    accel::run(Processor::Tcg, qemu, &host.root).await.expect("the trial's guest ran");
    let wrong =
        accel::run(Processor::Tcg, std::path::Path::new("false"), &host.root).await.expect_err("no QEMU");
    assert!(wrong.contains("exit status: 1"), "{wrong}");
    // Whatever is chosen, a machine starts with it.
    let auto = LocalCompute::open(&host.root, host.storage.clone(), Accel::Auto).await.expect("a host");
    let machine = host.machine("m", &plain(), Guest::Deaf).await;
    auto.start(&machine).await.expect("started");
    assert_eq!(auto.find(&machine).await.expect("looked").expect("there").state, State::Running);
    host.says(&machine, HELLO).await;
    let left = std::fs::read_dir(host.machines()).expect("there").count();
    assert_eq!(left, 1, "the trial left nothing behind");
}
