use crate::service::{Caller, Error, Role};
use crate::storage::VolumeId;
use crate::store::{VolumeContent, VolumeWork};
use crate::testing::Plant;
use shared::cycle::{CycleEvent, FindingKind, SnapshotDisk, Strategy, Vm, VmDisk};
use shared::ids::DiskKey;
use shared::migration::{Action, Position};

const SIZE: u64 = 128 << 10;

fn key(text: &str) -> DiskKey {
    text.parse().expect("a key")
}

/// The agent tells what the VM has now.
async fn tell(plant: &Plant, disks: &[(&str, u64)]) {
    let agent = plant.app.store.agent_fetch(&plant.agent).await.expect("known");
    let disks = disks.iter().map(|&(text, size)| VmDisk { key: key(text), size }).collect();
    let vm = Vm { disks, ..agent.inventory.into_iter().next().expect("a VM") };
    plant.app.agent_inventory(&plant.agent, &[vm]).await.expect("taken");
}

async fn accept(plant: &Plant, keys: &[&str]) -> Result<crate::service::MigrationView, Error> {
    let caller = Caller { name: "tester".to_owned(), role: Role::Operator };
    let keys: Vec<_> = keys.iter().map(|text| key(text)).collect();
    plant.app.accept(&caller, "web-1", &keys).await
}

/// A sync whose snapshot has these disks.
async fn sync(plant: &Plant, disks: &[(&str, u64)]) {
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    let disk = |&(text, size): &(&str, u64)| SnapshotDisk {
        key: key(text),
        size,
        change_id: Some(format!("{text}/{}", job.id)),
    };
    let taken = CycleEvent::SnapshotTaken {
        snapshot: format!("mk-{}", job.id),
        taken_at: plant.app.clock.now(),
        disks: disks.iter().map(disk).collect(),
    };
    plant.say(&job, taken).await;
}

/// Of the migration as it is, what a pass of the reconciler does.
async fn works(plant: &Plant) -> Vec<VolumeWork> {
    plant.disks().await.into_iter().map(|d| d.work).collect()
}

#[tokio::test]
async fn a_finding_names_both_ways_and_stops_until_one_is_taken() {
    let plant = Plant::begun().await;
    plant.cycle("1").await;
    sync(&plant, &[("root", SIZE), ("data", SIZE), ("more", SIZE)]).await;
    let failed = plant.migration().await;
    assert_eq!(failed.position, Position::SyncFailed);
    let message = &failed.findings[0].message;
    for way in ["`migratekit migration accept web-1 --disk more`", "`migratekit migration hold web-1`"] {
        assert!(message.contains(way), "{message}");
    }
    // The inventory does not show it yet.
    let early = accept(&plant, &[]).await;
    assert!(matches!(early, Err(Error::NothingToAccept { finding: "DISK_ADDED", .. })), "{early:?}");
    let other = accept(&plant, &["other"]).await;
    assert!(matches!(other, Err(Error::DiskUnknown { .. })), "{other:?}");

    tell(&plant, &[("root", SIZE), ("data", SIZE), ("more", SIZE), ("most", SIZE)]).await;
    let view = accept(&plant, &["more"]).await.expect("accepted");
    assert!(view.migration.findings.is_empty() && view.migration.error.is_none());
    assert_eq!((view.disks.len(), view.migration.position), (3, Position::SyncFailed));
    let again = accept(&plant, &["more"]).await.expect("the same");
    assert_eq!((again.disks, again.migration.generation), (view.disks, view.migration.generation));
    // The other one is found in its turn.
    sync(&plant, &[("root", SIZE), ("data", SIZE), ("more", SIZE), ("most", SIZE)]).await;
    let found = plant.migration().await.findings;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].kind, found[0].disk.clone()), (FindingKind::DiskAdded, Some(key("most"))));
}

#[tokio::test]
async fn disks_are_accepted_between_cycles_and_never_the_last_one_away() {
    let mut plant = Plant::begun().await;
    plant.cycle("1").await;
    plant.act(Action::Sync).await;
    tell(&plant, &[("root", SIZE)]).await;
    let running = accept(&plant, &[]).await;
    assert!(matches!(running, Err(Error::NotBetweenCycles { .. })), "{running:?}");
    plant.step().await;
    plant.act(Action::Pause).await;
    plant.say(&plant.job().await, CycleEvent::Paused).await;
    let paused = accept(&plant, &[]).await;
    assert!(matches!(paused, Err(Error::CycleRunning { .. })), "{paused:?}");
    plant.act(Action::Sync).await;
    plant.step().await;
    let (reason, message) = ("GIVEN_UP".to_owned(), "it ends here".to_owned());
    plant.say(&plant.job().await, CycleEvent::Failed { reason, message }).await;
    tell(&plant, &[]).await;
    let none = accept(&plant, &[]).await;
    assert!(matches!(none, Err(Error::NoDiskLeft { .. })), "{none:?}");
    plant.disconnect();
    let away = accept(&plant, &[]).await;
    assert!(matches!(away, Err(Error::AgentAway { .. })), "{away:?}");
    assert_eq!(plant.disks().await.len(), 2);
    plant.connect().await;
    tell(&plant, &[("data", SIZE)]).await;
    let view = accept(&plant, &[]).await.expect("accepted");
    assert_eq!((view.disks.len(), view.retired.len()), (1, 1));
    // Its failure was not about disks, but nothing of it stands in the way of the next sync.
    plant.act(Action::Sync).await;
}

/// Whatever was done of it before a crash: the volume is somebody's, and never taken for a fresh one.
#[tokio::test]
async fn volumes_of_an_accept_that_was_cut_short_are_taken_up() {
    let plant = Plant::begun().await;
    plant.cycle("1").await;
    tell(&plant, &[("root", 2 * SIZE), ("data", SIZE), ("a", SIZE), ("b", SIZE)]).await;
    let view = accept(&plant, &[]).await.expect("accepted");
    assert_eq!(
        works(&plant).await,
        [VolumeWork::Pending, VolumeWork::Done, VolumeWork::Pending, VolumeWork::Pending]
    );
    // Made and grown, and then the program ended.
    let volume = |index: usize| VolumeId::parse(view.disks[index].volume.clone()).expect("a name");
    plant.app.storage.create(&volume(2), SIZE).await.expect("made");
    plant.app.storage.resize(&volume(0), 2 * SIZE).await.expect("grown");
    plant.step().await;
    plant.step().await;
    let disks = plant.disks().await;
    assert!(disks.iter().all(|d| d.work == VolumeWork::Done), "{disks:?}");
    assert_eq!(disks[2].content, VolumeContent::Unknown, "it was there: it may have been written");
    assert_eq!(disks[3].content, VolumeContent::Zeros);
    assert_eq!(disks[0].content, VolumeContent::Unknown);
    for (index, size) in [2 * SIZE, SIZE, SIZE, SIZE].into_iter().enumerate() {
        let there = plant.app.storage.volume(&volume(index)).await.expect("asked").expect("there");
        assert_eq!(there.size, size);
    }
    let files = std::fs::read_dir(plant.folder.path().join("storage/volumes")).expect("there");
    assert_eq!(files.count(), 4);
    sync(&plant, &[("root", 2 * SIZE), ("data", SIZE), ("a", SIZE), ("b", SIZE)]).await;
    let strategies: Vec<_> = plant.job().await.disks.into_iter().map(|d| d.strategy).collect();
    let since = Strategy::Changed { since: "1".to_owned() };
    assert_eq!(strategies, [Strategy::HashDiff, since, Strategy::Full, Strategy::Full]);
}

/// DESIGN §6 rule 9, and that nothing stays without an owner.
#[tokio::test]
async fn a_retired_volume_goes_after_its_last_restore_point_and_with_an_abort() {
    let plant = Plant::begun().await;
    plant.cycle("1").await;
    let volumes = || std::fs::read_dir(plant.folder.path().join("storage/volumes")).expect("there").count();
    tell(&plant, &[("root", SIZE)]).await;
    accept(&plant, &[]).await.expect("accepted");
    for (points, left) in [(1, 2), (2, 2), (2, 1)] {
        plant.step().await;
        let view = plant.app.migration_view(&plant.migration().await.id).await.expect("read");
        assert_eq!((view.restore_points.len(), volumes()), (points, left), "{:?}", view.retired);
        sync(&plant, &[("root", SIZE)]).await;
        plant.seal(&plant.job().await).await;
        plant.step().await;
    }
    tell(&plant, &[("root", SIZE / 2)]).await;
    accept(&plant, &[]).await.expect("accepted");
    plant.step().await;
    assert_eq!(volumes(), 2);
    plant.act(Action::Abort).await;
    plant.step().await;
    assert_eq!((plant.migration().await.position, volumes()), (Position::AbortAborted, 0));
}
