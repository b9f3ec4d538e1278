//! Boards, buses, cards, firmware, and where they lie.

use super::super::super::{Bus, Compute, Definition, Firmware, Isolation, MachineName, State};
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

/// What the kernel keeps of its process under `/proc`: texts that end with a NUL each.
fn of_process(host: &Host, machine: &MachineName, what: &str) -> Vec<String> {
    let process = host.process(machine).expect("it runs");
    let kept = std::fs::read(format!("/proc/{process}/{what}")).expect("readable");
    kept.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

#[tokio::test]
async fn its_process_is_told_what_is_asked_and_nothing_of_ours() {
    let host = Host::new().await;
    let nics = vec![card(2, Isolation::Isolated), card(3, Isolation::Connected)];
    let title = "web, 1,file=/etc/passwd\0\n-daemonize".to_owned();
    let definition = Definition { nics, title, cpus: 3, memory_bytes: (65 << 20) - 1, ..plain() };
    let machine = host.machine("m", &definition, Guest::Deaf).await;
    host.compute.start(&machine).await.expect("started");
    let arguments = of_process(&host, &machine, "cmdline");
    let after = |flag: &str| -> Vec<&str> {
        let pairs = arguments.iter().zip(arguments.iter().skip(1));
        pairs.filter(|(before, _)| *before == flag).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(after("-name"), ["guest=web,, 1,,file=/etc/passwd  -daemonize,process=mk-m,debug-threads=on"]);
    assert_eq!(after("-netdev"), ["user,id=net0,restrict=on", "user,id=net1,restrict=off"]);
    assert_eq!((after("-smp"), after("-m")), (vec!["3"], vec!["65M"]));
    assert_eq!(after("-uuid"), ["0190163d-8694-739b-aea5-966c26f8ad90"]);
    let devices = after("-device");
    for (position, mac) in ["00:50:56:8a:01:02", "00:50:56:8a:01:03"].iter().enumerate() {
        let net = format!("\"net{position}\"");
        assert!(devices.iter().any(|device| device.contains(mac) && device.contains(&net)), "{devices:?}");
    }
    // Of our environment, which may hold what a stranger's guest should never come near.
    assert!(std::env::vars().count() > 2);
    let environment = of_process(&host, &machine, "environ");
    let names: Vec<_> = environment.iter().filter_map(|text| Some(text.split_once('=')?.0)).collect();
    assert!(names.iter().all(|name| ["PATH", "LC_ALL"].contains(name)), "{names:?}");
    // Ctrl-C in our terminal is not for it.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", host.process(&machine).expect("it runs")));
    let stat = stat.expect("readable");
    let group = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(2));
    assert_ne!(group, Some(rustix::process::getpgrp().as_raw_nonzero().to_string().as_str()));
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
