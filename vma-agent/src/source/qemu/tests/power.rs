//! The power of a real guest: it can be switched, and nothing of what replication needs goes with it.

use std::sync::Arc;
use std::time::Instant;

use integration_tests::guest::{Bus, LiveGuest, Options, Sizes, Tools, boot};
use shared::cycle::{DesiredState, DesiredVm, How, PowerOrder, PowerReport, PowerWish};
use shared::ids::MigrationId;
use tonic::transport::Endpoint;

use super::*;
use crate::cycle::Outgoing;
use crate::cycle::tests::start_of;

/// For a guest that is emulated on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of every disk.
type Contents = Vec<(String, Vec<u8>)>;

/// A guest that is up, and the agent's view of it. The guest's kernel comes from the network, so it may be missing.
fn guest(dir: &Path) -> Option<(LiveGuest, QemuSource)> {
    if let Err(error) = Tools::find() {
        eprintln!("SKIPPED: {error:#}");
        return None;
    }
    let sizes = Sizes { root: 96 * MIB, data: 56 * MIB };
    let guest = LiveGuest::start(&dir.join("vm"), Options { sizes, ..Options::default() }).unwrap();
    guest.ready().unwrap();
    let disk = |disk: &integration_tests::live_vm::LiveDisk| DiskConfig {
        key: key(&disk.key),
        nodes: Nodes::new(&disk.node, &disk.top),
    };
    let config = Config {
        qmp: guest.agent_qmp(),
        nbd: NbdServer::Unix(guest.nbd_socket()),
        scratch: None,
        disks: guest.disks().iter().map(disk).collect(),
    };
    let source = QemuSource::new(VmUuid::parse(VM).unwrap(), "guest", config, &dir.join("state"));
    Some((guest, source))
}

/// Every disk of the snapshot, read as the engine does.
async fn contents(source: &QemuSource, snapshot: &Snapshot) -> Contents {
    let mut all = Vec::new();
    for disk in &snapshot.disks {
        let open = source.open(snapshot, &disk.key).await.unwrap();
        let (bytes, _) = blocking(move || Ok(engine_content(&open.uri, MIB))).await.unwrap();
        source.confirm(snapshot, &disk.key).await.unwrap();
        all.push((disk.key.as_str().to_owned(), bytes));
    }
    all
}

/// A snapshot, what it holds, and whether all that differs from the one before was told of.
async fn cycle(source: &QemuSource, job: &str, base: Option<&(Snapshot, Contents)>) -> (Snapshot, Contents) {
    let snapshot = source.snapshot(&name(job)).await.unwrap();
    let now = contents(source, &snapshot).await;
    if let Some((before, was)) = base {
        for ((disk, old), (_, new)) in was.iter().zip(&now) {
            let told = changed(source, &snapshot, disk, &id(before, disk)).await;
            let missed = difference(old, new).iter().find(|range| !told.contains(*range));
            assert_eq!(missed, None, "{disk}: differs, and was not told of");
        }
    }
    source.delete(&snapshot.name).await.unwrap();
    (snapshot, now)
}

/// Presses the button until the machine is off.
async fn shut_down(source: &QemuSource) {
    let (begun, mut pressed) = (Instant::now(), None::<Instant>);
    while source.power().await.unwrap() != PowerState::Off {
        assert!(begun.elapsed() < PATIENCE, "the guest did not power itself off");
        if pressed.is_none_or(|at| at.elapsed() > Duration::from_secs(5)) {
            source.shut_down().await.unwrap();
            pressed = Some(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn until(source: &QemuSource, state: PowerState) {
    let begun = Instant::now();
    while source.power().await.unwrap() != state {
        assert!(begun.elapsed() < PATIENCE, "it is not {state:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a guest on a copy of these disks finds.
fn found(dir: &Path, disks: &Contents) -> integration_tests::guest::Found {
    std::fs::create_dir_all(dir).unwrap();
    let images: Vec<_> = disks
        .iter()
        .map(|(key, bytes)| {
            let image = dir.join(format!("{key}.img"));
            std::fs::write(&image, bytes).unwrap();
            image
        })
        .collect();
    boot(&dir.join("vm"), &images, Bus::VirtioBlk).unwrap().ready().unwrap()
}

/// Off by its button in a QEMU that would have ended with it, by a cut, and by a cut while it was paused: the change ids
/// live, a snapshot of it is what the guest wrote last, and it boots again each time.
#[tokio::test(flavor = "multi_thread")]
async fn off_and_on_again_with_its_change_ids() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut guest, source)) = guest(dir.path()) else { return };
    // As one that was started without -no-shutdown.
    guest.machine().power().execute("set-action", json!({ "shutdown": "poweroff" })).unwrap();
    assert_eq!(source.power().await.unwrap(), PowerState::Running);
    source.power_on().await.unwrap();
    let first = cycle(&source, "job-1", None).await;
    let written = guest.wait_for_records(3).unwrap();

    shut_down(&source).await;
    guest.machine().ensure_running().unwrap();
    source.shut_down().await.unwrap();
    source.power_off().await.unwrap();
    let described = source.describe().await.unwrap();
    assert_eq!(described.configuration.unwrap().power, vm::Power::Off);
    let second = cycle(&source, "job-2", Some(&first)).await;
    assert_ne!(first.1, second.1, "nothing was written: this proves nothing");
    let copy = found(&dir.path().join("copy"), &second.1);
    assert!(copy.boot == 2 && copy.last >= written.record, "{copy:?} after {written:?}");

    source.power_on().await.unwrap();
    assert_eq!(source.power().await.unwrap(), PowerState::Running);
    let again = guest.console().booted(2).unwrap();
    assert_eq!((again.boot, again.last), (copy.boot, copy.last), "the copy was of all that it wrote");
    let running = source.snapshot(&name("job-3")).await.unwrap();
    let in_it = contents(&source, &running).await;
    let written = guest.wait_for_records(3).unwrap();
    source.power_off().await.unwrap();
    until(&source, PowerState::Off).await;
    guest.machine().ensure_running().unwrap();
    assert!(contents(&source, &running).await == in_it, "a point in time outlives the power");
    source.delete(&running.name).await.unwrap();
    let third = cycle(&source, "job-4", Some(&second)).await;
    let copy = found(&dir.path().join("cut"), &third.1);
    assert!(copy.boot == 3 && copy.last >= written.record, "{copy:?} after {written:?}");

    // By hand: what a reset does is as it was.
    guest.power_on().unwrap();
    assert!(guest.console().booted(3).unwrap().last >= written.record);
    guest.wait_for_records(1).unwrap();
    guest.machine().power().execute("stop", json!({})).unwrap();
    assert_eq!(source.power().await.unwrap(), PowerState::Running, "its state is in memory");
    source.power_on().await.unwrap();
    source.power_off().await.unwrap();
    until(&source, PowerState::Off).await;
    cycle(&source, "job-5", Some(&third)).await;
    source.power_on().await.unwrap();
    // Its reboots are reboots, and the button works as before.
    guest.console().booted(4).unwrap();
    shut_down(&source).await;
    guest.machine().ensure_running().unwrap();
}

/// Through the task of the VM: one that ignores its button loses its power, boots again when it is told to, and hears its
/// button then.
#[tokio::test(flavor = "multi_thread")]
async fn orders_reach_a_real_guest() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut guest, source)) = guest(dir.path()) else { return };
    guest.deafen().unwrap();
    let uuid = VmUuid::parse(VM).unwrap();
    let (manager, mut outgoing) = start_of(uuid.clone(), Arc::new(source));
    let connect = || manager.connected(Endpoint::from_static("http://127.0.0.1:1").connect_lazy());
    connect();
    let wanted = DesiredVm {
        vm: uuid,
        migration: MigrationId::generate(),
        release: false,
        keep: vec![],
        rate: 0,
        cycle: None,
        power: None,
    };
    let mut order = async |number: u8, wish, graceful, force| -> PowerReport {
        let graceful = Duration::from_secs(graceful);
        let power = Some(PowerOrder { id: format!("order-{number}"), wish, graceful, force });
        let vms = vec![DesiredVm { power, ..wanted.clone() }];
        manager.desire(DesiredState { revision: 1, vms });
        match tokio::time::timeout(PATIENCE, outgoing.recv()).await {
            Ok(Some(Outgoing::Power(report))) => report,
            other => panic!("{other:?}"),
        }
    };
    let state = |report: &PowerReport| (report.state, report.how);
    let report = order(1, PowerWish::Off, 7, false).await;
    assert_eq!(report.failure.as_ref().map(|f| f.reason.as_str()), Some("POWER_OFF_TIMEOUT"), "{report:?}");
    assert_eq!(state(&report), (vm::Power::On, None));
    let written = guest.wait_for_records(1).unwrap();
    let report = order(2, PowerWish::Off, 1, true).await;
    assert_eq!(state(&report), (vm::Power::Off, Some(How::Forced)), "{report:?}");
    connect();
    let report = order(2, PowerWish::Off, 1, true).await;
    assert_eq!(state(&report), (vm::Power::Off, Some(How::Already)), "{report:?}");
    let report = order(3, PowerWish::On, 0, false).await;
    assert_eq!(state(&report), (vm::Power::On, Some(How::Graceful)), "{report:?}");
    // Pressed again until it has booted so far that it hears.
    let report = order(4, PowerWish::Off, 100, false).await;
    assert_eq!(state(&report), (vm::Power::Off, Some(How::Graceful)), "{report:?}");
    let said = guest.console().said().unwrap().len();
    let report = order(5, PowerWish::On, 0, false).await;
    assert_eq!(state(&report), (vm::Power::On, Some(How::Graceful)), "{report:?}");
    guest.machine().ensure_running().unwrap();
    guest.console().wait_for("ready", said, PATIENCE).unwrap();
    assert!(guest.status().unwrap().record >= written.record);
    let report = order(6, PowerWish::Report, 0, false).await;
    assert_eq!(state(&report), (vm::Power::On, None), "{report:?}");
    manager.stop().await;
}
