//! Agents killed half-way, VMs killed, full scratch folders, changed disks: typed, repaired, never silent.

use integration_tests::live_vm::{Monitor as TestMonitor, Writer, WriterOptions};

use super::*;

/// A VM, a writer that never rests, and where the agent keeps its records.
struct Scene {
    // Dropped in this order.
    writer: Writer,
    vm: LiveVm,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vm = LiveVm::start(&dir.path().join("vm"), &[("root", 4 * MIB), ("data", 2 * MIB)]).unwrap();
        let writer = vm.writer(&WriterOptions { rate: Some(16 << 20), ..WriterOptions::default() }).unwrap();
        writer.wait_for_bytes(2 * MIB).unwrap();
        Self { writer, vm, dir }
    }

    fn agent(&self) -> QemuSource {
        source(&self.vm, &self.dir.path().join("agent"))
    }

    /// Snapshots are right, and nothing is left of them afterwards.
    async fn prove(&self, agent: &QemuSource, name: &SnapshotName, clean: &[String]) {
        let pause = self.writer.pause();
        agent.delete(name).await.unwrap();
        assert_eq!(inventory(&self.vm), clean, "after the repair");
        let expected = self.vm.read_disk("root").unwrap();
        let snapshot = agent.snapshot(name).await.unwrap();
        drop(pause);
        self.writer.wait_for_bytes(MIB / 2).unwrap();
        assert_eq!(content(agent, &self.vm, &snapshot, "root").await, expected);
        agent.delete(name).await.unwrap();
        assert_eq!(inventory(&self.vm), clean, "after the proof");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_anywhere_in_a_snapshot_makes_it_good() {
    let scene = Scene::new();
    let clean = inventory(&scene.vm);
    let base = scene.agent().snapshot(&name("base")).await.unwrap();
    let base_content = content(&scene.agent(), &scene.vm, &base, "root").await;
    scene.agent().delete(&base.name).await.unwrap();
    let keep: Vec<_> = base.disks.iter().map(|d| (d.key.clone(), d.change_id.clone().unwrap())).collect();
    for steps in 0.. {
        let name = name(&format!("job-{steps}"));
        let victim = scene.agent();
        // Needed, and so copied as soon as the snapshot is there.
        victim.forget_change_ids(&keep).await.unwrap();
        victim.monitor.faults.kill_after(steps);
        let made = victim.snapshot(&name).await;
        let agent = scene.agent();
        match (victim.monitor.faults.killed(), made) {
            (true, Err(Error::Qmp(qmp::Error::Killed { .. }))) => {
                let found = agent.find(&name).await.unwrap();
                assert_eq!(found, None, "killed after {steps}: a half-made one is none");
            }
            (true, made) => panic!("killed after {steps}, and yet {made:?}"),
            (false, made) => {
                assert!(steps > 20, "only {steps} steps were tried");
                assert_eq!(agent.find(&name).await.unwrap(), Some(made.unwrap()));
                break;
            }
        }
        if steps % 2 == 0 {
            let snapshot = agent.snapshot(&name).await.unwrap();
            assert_eq!(agent.find(&name).await.unwrap().as_ref(), Some(&snapshot));
            assert_eq!(scene.agent().snapshot(&name).await.unwrap(), snapshot, "the same again");
            let said = changed(&agent, &snapshot, "root", &id(&base, "root")).await;
            let now = content(&agent, &scene.vm, &snapshot, "root").await;
            assert!(said.contains_all(&difference(&base_content, &now)));
            assert_eq!(agent.snapshots().await.unwrap(), std::slice::from_ref(&name));
        }
        scene.prove(&agent, &name, &clean).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_anywhere_in_a_removal_removes_the_rest() {
    let scene = Scene::new();
    let clean = inventory(&scene.vm);
    let base = scene.agent().snapshot(&name("base")).await.unwrap();
    scene.agent().delete(&base.name).await.unwrap();
    for steps in 0.. {
        let name = name(&format!("job-{steps}"));
        let snapshot = scene.agent().snapshot(&name).await.unwrap();
        changed(&scene.agent(), &snapshot, "root", &id(&base, "root")).await;
        let victim = scene.agent();
        victim.monitor.faults.kill_after(steps);
        let deleted = victim.delete(&name).await;
        let agent = scene.agent();
        if !victim.monitor.faults.killed() {
            deleted.unwrap();
            assert!(steps > 15, "only {steps} steps were tried");
            assert_eq!(inventory(&scene.vm), clean);
            assert_eq!(agent.snapshots().await.unwrap(), []);
            break;
        }
        assert_eq!(agent.snapshots().await.unwrap(), std::slice::from_ref(&name), "killed after {steps}");
        let other = agent.snapshot(&SnapshotName::parse("mk-other").unwrap()).await;
        assert!(matches!(other, Err(Error::SnapshotExists { .. })));
        scene.prove(&agent, &name, &clean).await;
        agent.forget_change_ids(&[(key("root"), id(&base, "root"))]).await.unwrap();
        assert_eq!(bitmaps(&scene.vm, "root"), [id(&base, "root").as_str()]);
        assert_eq!(bitmaps(&scene.vm, "data"), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_anywhere_in_a_query_asks_again_and_misses_nothing() {
    let scene = Scene::new();
    let base = scene.agent().snapshot(&name("base")).await.unwrap();
    let before = content(&scene.agent(), &scene.vm, &base, "root").await;
    scene.agent().delete(&base.name).await.unwrap();
    scene.writer.wait_for_bytes(MIB / 2).unwrap();
    for steps in 0.. {
        let snapshot = scene.agent().snapshot(&name("job-1")).await.unwrap();
        let victim = scene.agent();
        victim.monitor.faults.kill_after(steps);
        let page = victim.changed(&snapshot, &key("root"), &id(&base, "root"), 0).await;
        assert_eq!(page.is_err(), victim.monitor.faults.killed());
        let agent = scene.agent();
        let said = changed(&agent, &snapshot, "root", &id(&base, "root")).await;
        let now = content(&agent, &scene.vm, &snapshot, "root").await;
        assert!(said.contains_all(&difference(&before, &now)), "killed after {steps}");
        agent.delete(&snapshot.name).await.unwrap();
        if page.is_ok() {
            assert!(steps > 3, "only {steps} steps were tried");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_records_an_agent_still_cleans_up() {
    let scene = Scene::new();
    let clean = inventory(&scene.vm);
    let agent = scene.agent();
    agent.snapshot(&name("job-1")).await.unwrap();
    std::fs::remove_dir_all(scene.dir.path().join("agent")).unwrap();
    assert_eq!(agent.find(&name("job-1")).await.unwrap(), None);
    assert_eq!(agent.snapshots().await.unwrap(), [name("job-1")]);
    agent.delete(&name("job-1")).await.unwrap();
    assert_eq!(inventory(&scene.vm), clean);
    assert_eq!(agent.snapshots().await.unwrap(), []);
    agent.delete(&name("job-1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_ids_survive_an_orderly_stop_and_no_other() {
    let Scene { writer, mut vm, dir } = Scene::new();
    drop(writer);
    let agent = source(&vm, &dir.path().join("agent"));
    let first = agent.snapshot(&name("job-1")).await.unwrap();
    let before = content(&agent, &vm, &first, "root").await;
    agent.delete(&first.name).await.unwrap();
    vm.guest("root").unwrap().write(MIB, &[9; 4096]).unwrap();
    vm.stop();
    vm.restart().unwrap();
    vm.guest("root").unwrap().write(2 * MIB, &[9; 4096]).unwrap();
    let second = agent.snapshot(&name("job-2")).await.unwrap();
    let said = changed(&agent, &second, "root", &id(&first, "root")).await;
    assert!(said.contains_all(&difference(&before, &content(&agent, &vm, &second, "root").await)));
    assert_eq!(said.total(), 2 * LEAF);
    vm.kill9();
    vm.restart().unwrap();
    assert_eq!(agent.find(&second.name).await.unwrap(), None);
    assert_eq!(
        kind(&agent.confirm(&second, &second.disks[0].key).await.unwrap_err()),
        Some(FindingKind::SnapshotLost)
    );
    let lost = agent.changed(&second, &key("root"), &id(&first, "root"), 0).await.unwrap_err();
    assert_eq!(kind(&lost), Some(FindingKind::SnapshotLost));
    agent.delete(&second.name).await.unwrap();
    let third = agent.snapshot(&name("job-3")).await.unwrap();
    for (since, why) in [(id(&first, "root"), "inconsistent"), (ChangeId::new("mk-job-0.0123"), "no bitmap")]
    {
        let unknown = agent.changed(&third, &key("root"), &since, 0).await.unwrap_err();
        assert_eq!(kind(&unknown), Some(FindingKind::ChangeIdUnknown));
        assert!(unknown.to_string().contains(why), "{unknown}");
    }
    agent.delete(&third.name).await.unwrap();
    agent.forget_change_ids(&[]).await.unwrap();
    assert_eq!(bitmaps(&vm, "root"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_made_again_has_another_change_id() {
    let Scene { writer, vm, dir } = Scene::new();
    drop(writer);
    let agent = source(&vm, &dir.path().join("agent"));
    let first = agent.snapshot(&name("job-1")).await.unwrap();
    agent.delete(&first.name).await.unwrap();
    agent.forget_change_ids(&[]).await.unwrap();
    vm.guest("root").unwrap().write(0, &[9; 512]).unwrap();
    agent.snapshot(&name("job-1")).await.unwrap();
    let second = agent.find(&name("job-1")).await.unwrap().unwrap();
    assert_ne!(id(&first, "root"), id(&second, "root"));
    let unknown = agent.changed(&second, &key("root"), &id(&first, "root"), 0).await.unwrap_err();
    assert_eq!(kind(&unknown), Some(FindingKind::ChangeIdUnknown));
    assert_eq!(
        kind(&agent.confirm(&first, &first.disks[0].key).await.unwrap_err()),
        Some(FindingKind::SnapshotLost)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_grow_come_and_go_are_findings() {
    let Scene { writer, mut vm, dir } = Scene::new();
    drop(writer);
    let state = dir.path().join("agent");
    let before = source(&vm, &state).describe().await.unwrap().disks;
    vm.resize_disk("root", 5 * MIB).unwrap();
    vm.add_disk("more", MIB).unwrap();
    let now = source(&vm, &state).describe().await.unwrap().disks;
    let kinds: Vec<_> = shared::cycle::compare_disks(&before, &now).into_iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [FindingKind::DiskResized, FindingKind::DiskAdded]);
    let snapshot = source(&vm, &state).snapshot(&name("job-1")).await.unwrap();
    assert_eq!(snapshot.disks.iter().map(|d| d.size).collect::<Vec<_>>(), [5 * MIB, 2 * MIB, MIB]);
    source(&vm, &state).delete(&name("job-1")).await.unwrap();
    let configured = source(&vm, &state);
    vm.remove_disk("data").unwrap();
    let missing = configured.describe().await.unwrap_err();
    assert_eq!(kind(&missing), Some(FindingKind::DiskRemoved));
    assert!(
        missing.to_string().contains("disk-data") || missing.to_string().contains("top-data"),
        "{missing}"
    );
}

/// A file system of 1 MiB, for as long as this lives.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&at).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_scratch_folder_costs_the_snapshot_and_not_the_guest() {
    let Scene { writer, vm, dir } = Scene::new();
    drop(writer);
    let Some(small) = Small::mount(dir.path().join("small")) else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let mut agent = source(&vm, &small.0);
    agent.config.scratch = Some(small.0.clone());
    let mut guest = vm.guest("root").unwrap();
    let noise: Vec<u8> = (0u32..1 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    guest.write(0, &noise).unwrap();
    let snapshot = agent.snapshot(&name("job-1")).await.unwrap();
    agent.confirm(&snapshot, &snapshot.disks[0].key).await.unwrap();
    // 4 MiB must be copied, and there is room for one.
    guest.write(0, &vec![1; noise.len()]).unwrap();
    assert_eq!(vm.read_disk("root").unwrap(), vec![1; noise.len()], "the guest's write went through");
    assert_ne!(content(&agent, &vm, &snapshot, "root").await, noise, "reads go on, with newer data");
    let lost = agent.confirm(&snapshot, &snapshot.disks[0].key).await.unwrap_err();
    assert_eq!(kind(&lost), Some(FindingKind::SnapshotLost), "{lost}");
    assert_eq!(agent.find(&snapshot.name).await.unwrap(), None);
    agent.delete(&snapshot.name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_in_use_is_waited_for() {
    let Scene { writer, vm, dir } = Scene::new();
    drop(writer);
    let held = TestMonitor::connect(&vm.agent_qmp()).unwrap();
    let mut agent = source(&vm, &dir.path().join("agent"));
    agent.monitor_mut().greeting = Duration::from_millis(100);
    assert!(matches!(agent.describe().await, Err(Error::Qmp(qmp::Error::Busy { .. }))));
    agent.monitor_mut().greeting = Duration::from_secs(20);
    let describe = tokio::spawn(async move { agent.describe().await.map(|vm| vm.disks.len()) });
    tokio::task::yield_now().await;
    drop(held);
    assert_eq!(describe.await.unwrap().unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_is_left_alone() {
    let Scene { writer, vm, dir } = Scene::new();
    drop(writer);
    let agent = source(&vm, &dir.path().join("agent"));
    for bitmap in ["backup-2026", "mk-", "mkjob.1"] {
        let add = json!({ "node": "disk-root", "name": bitmap, "persistent": true });
        vm.execute("block-dirty-bitmap-add", add).unwrap();
    }
    let snapshot = agent.snapshot(&name("job-1")).await.unwrap();
    agent.forget_change_ids(&[]).await.unwrap();
    assert_eq!(bitmaps(&vm, "root").len(), 4, "those of a snapshot that exists are kept");
    changed(&agent, &snapshot, "root", &id(&snapshot, "root")).await;
    agent.delete(&snapshot.name).await.unwrap();
    agent.forget_change_ids(&[]).await.unwrap();
    let mut left = bitmaps(&vm, "root");
    left.sort();
    assert_eq!(left, ["backup-2026", "mk-", "mkjob.1"]);
    assert_eq!(agent.power().await.unwrap(), PowerState::Unknown, "a storage daemon cannot tell");
    for switched in [agent.shut_down().await, agent.power_off().await, agent.power_on().await] {
        assert!(matches!(switched, Err(Error::PowerUnsupported { .. })), "{switched:?}");
    }
}
