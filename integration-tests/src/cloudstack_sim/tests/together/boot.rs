//! What was handed over boots: a guest that checks its own disks, in a QEMU behind the management server.

use super::*;
use crate::cloudstack_sim::hypervisor::qemu::{Options as QemuOptions, Qemu};
use crate::cloudstack_sim::hypervisor::{Hypervisor as _, Power, Stop};
use crate::guest::{Drivers, Found, Image, Sizes, Tools};
use crate::zone::Options;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The volume of the guest's second disk.
const D: &str = "44444444-0000-4000-8000-000000000002";

/// Holes stay holes.
fn pour(image: &Path, device: &Path) {
    const PIECE: usize = 1 << 20;
    let from = File::open(image).unwrap();
    let to = OpenOptions::new().write(true).open(device).unwrap();
    let (mut at, mut piece) = (0, vec![0; PIECE]);
    while let Ok(read) = from.read_at(&mut piece, at) {
        if read == 0 {
            break;
        }
        if piece[..read].iter().any(|byte| *byte != 0) {
            to.write_all_at(&piece[..read], at).unwrap();
        }
        at += read as u64;
    }
}

impl Both {
    async fn with_qemu() -> (Self, Arc<Qemu>) {
        let dir = tempfile::tempdir().unwrap();
        let (options, qemu) = Options::new(dir.path()).with_qemu().unwrap();
        (Self::of(Zone::start_with(options).await.unwrap(), dir), qemu)
    }

    /// A machine with the guest's two disks, which went through the hand-over by attach.
    async fn guest(&self, tools: &Tools, name: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let image = Image::make(tools, dir.path(), Sizes::default(), Drivers::All).unwrap();
        let vm = self.placeholder(name).await;
        for (device, (id, image)) in [(U, &image.root), (D, &image.data)].into_iter().enumerate() {
            let (replica, kib) = (format!("mk-{device}"), image.metadata().unwrap().len() / 1024);
            let body = json!({"resource_definition_name": replica, "volume_sizes": [kib]});
            self.ask("POST", &format!("resource-groups/{OWN_GROUP}/spawn"), Some(body));
            // Written where the OMA would: on its node, which has no disk.
            self.ask(
                "POST",
                &format!("resource-definitions/{replica}/resources/oma/make-available"),
                Some(json!({"diskful": false})),
            );
            pour(image, &self.device(&replica, "oma").unwrap());
            let snapshots = format!("resource-definitions/{replica}/snapshots");
            self.ask("POST", &snapshots, Some(json!({"name": "rp-1"})));
            self.clone_of(&replica, &cs(id), GROUP);
            let volume = format!("resource-definitions/{}/volume-definitions/0", cs(id));
            self.ask("PUT", &volume, Some(json!({"size_kib": GIB})));
            self.volume(id, 1).await;
            self.attach(id, &vm, &device.to_string()).await.done();
        }
        vm
    }

    async fn state(&self, vm: &str) -> Value {
        self.admin.ok("listVirtualMachines", &[("id", vm)]).await["virtualmachine"][0]["state"].clone()
    }

    /// Until the server says so.
    async fn becomes(&self, vm: &str, state: &str) {
        let begun = Instant::now();
        while self.state(vm).await != state {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", self.state(vm).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// It boots, answers, is found again by another server, obeys its button, powers itself off, and is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_boots_on_what_was_handed_over_and_outlives_the_server() {
    let Ok(tools) = Tools::find().inspect_err(|error| eprintln!("SKIPPED: {error:#}")) else { return };
    let (mut both, qemu) = Both::with_qemu().await;
    let vm = both.guest(&tools, "moved").await;
    both.on("startVirtualMachine", &vm).await;
    let console = qemu.console(&vm);
    let found = console.booted(1).unwrap();
    assert_eq!(found, Found { boot: 1, first: 0, last: 0 });
    // Nobody else gets its disk while it runs.
    let twin = both.placeholder("twin").await;
    let other = "44444444-0000-4000-8000-000000000003";
    both.volume(other, 1).await;
    let steal = [("id", other), ("storageid", &both.ids.pool), ("path", U), ("state", "Ready")];
    both.admin.job("updateVolume", &steal).await.done();
    both.attach(other, &twin, "0").await.done();
    let refused = both.admin.job("startVirtualMachine", &[("id", twin.as_str())]).await;
    let (code, text) = refused.refused();
    assert!(code == 530 && text.contains("lock"), "{text}");
    assert_eq!(both.state(&twin).await, "Stopped");

    // LINSTOR knows it, and where.
    let users: Vec<_> =
        both.resources(&cs(U)).into_iter().filter(|one| one["state"]["in_use"] == true).collect();
    assert!(users.len() == 1 && users[0]["node_name"] == "kvm1", "{users:#?}");
    let there = format!("resource-definitions/{}", cs(U));
    assert!(both.try_ask("DELETE", &there, None).unwrap_err().contains("in use"));

    both.zone.restart_cloudstack().await.unwrap();
    assert_eq!(both.state(&vm).await, "Running");
    let progress = console.status().unwrap();
    assert!(progress.boot == 1 && progress.record > 0, "it has written on: {progress:?}");
    both.on("stopVirtualMachine", &vm).await;
    assert!(console.said().unwrap().iter().any(|line| line == "powering off"), "it was asked");
    assert_eq!(qemu.state(&vm), Power::Off);
    assert!(both.resources(&cs(U)).iter().all(|one| one["state"]["in_use"] == false));

    both.on("startVirtualMachine", &vm).await;
    let found = console.booted(2).unwrap();
    assert!(found.last >= progress.record, "{found:?} after {progress:?}");
    console.ask("poweroff").unwrap();
    both.becomes(&vm, "Stopped").await;
    let hosted = both.admin.ok("listVirtualMachines", &[("id", &vm)]).await;
    assert_eq!(hosted["virtualmachine"][0].get("hostid"), None);
    both.on("startVirtualMachine", &vm).await;
    both.admin.job("stopVirtualMachine", &[("id", vm.as_str()), ("forced", "true")]).await.done();
    assert_eq!(qemu.state(&vm), Power::Off, "at once, whatever it was at");
}

/// With EFI the firmware speaks; a guest that hears no button is killed when patience ends; another Qemu on the folder
/// knows the machine, and what a host still runs is Running again whatever the server had written down.
#[tokio::test(flavor = "multi_thread")]
async fn firmware_speaks_and_what_hosts_report_counts() {
    let dir = tempfile::tempdir().unwrap();
    let machines =
        QemuOptions { patience: Duration::from_secs(1), ..QemuOptions::for_test(dir.path().join("q")) };
    let qemu = Arc::new(Qemu::new(machines.clone()).unwrap());
    let options = Options { hypervisor: Some(qemu.clone()), ..Options::new(dir.path()) };
    let both = Both::of(Zone::start_with(options).await.unwrap(), dir);
    for (id, mode) in [(U, "LEGACY"), (D, "SECURE")] {
        let vm = both.placeholder(&format!("efi-{}", mode.to_lowercase())).await;
        both.admin.ok("updateVirtualMachine", &[("id", vm.as_str()), ("details[0].UEFI", mode)]).await;
        both.volume(id, 1).await;
        both.attach(id, &vm, "0").await.done();
        both.on("startVirtualMachine", &vm).await;
        let (console, begun) = (qemu.console(&vm), Instant::now());
        while !console.all().unwrap().contains("BdsDxe") {
            assert!(begun.elapsed() < Duration::from_secs(90), "{mode}: {}", console.all().unwrap());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let next = Qemu::new(QemuOptions { ..QemuOptions::new(&machines.dir) }).unwrap();
        assert_eq!(next.state(&vm), Power::Running);
        assert_eq!(next.reports().unwrap(), [(vm.clone(), "kvm1".to_owned())]);
        if mode == "LEGACY" {
            // As if it had been switched off beside the server.
            next.stop(&vm, Stop::Forced).unwrap();
            both.becomes(&vm, "Stopped").await;
        } else {
            both.on("stopVirtualMachine", &vm).await;
            assert_eq!(next.state(&vm), Power::Off);
        }
    }
}
