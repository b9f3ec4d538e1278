mod away;

use super::{Work, one, run};
use crate::service::{Caller, Error, Role};
use crate::storage::{SnapshotName, VolumeId};
use crate::store::{self, Failure, JobStep, NewDisk, NewMigration, VolumeContent, Wishes};
use crate::testing::Plant;
use shared::cycle::Strategy;
use shared::ids::{DiskId, MigrationId};
use shared::migration::{Action, Position};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Volumes that were being made when the operator gave up go with the abort.
#[tokio::test]
async fn an_abort_during_begin_leaves_no_volume() {
    let plant = Plant::new().await;
    plant.act(Action::Begin).await;
    let beginning = plant.migration().await;
    plant.act(Action::Abort).await;
    // The work for begin/running was under way.
    let _ = one(&plant.app, &beginning).await;
    assert_eq!(plant.migration().await.position, Position::AbortRunning);
    plant.step().await;
    let aborted = plant.migration().await;
    assert_eq!((aborted.position, aborted.release_pending), (Position::AbortAborted, true));
    let volumes = std::fs::read_dir(plant.folder.path().join("storage/volumes")).expect("there");
    assert_eq!(volumes.count(), 0);
}

/// A defect in one migration's work stops neither that migration for ever nor the others.
#[tokio::test]
async fn work_that_panicked_is_done_again_after_a_pause() {
    let (broken, other) = (MigrationId::generate(), MigrationId::generate());
    for (pause, again) in [(Duration::from_secs(3600), false), (Duration::ZERO, true)] {
        let mut work: Work<MigrationId, Error> = Work::new(pause);
        work.start(broken.clone(), async { panic!("a defect") });
        assert!(!work.may_start(&broken) && work.may_start(&other));
        let (id, failure) = work.ended().await.expect("it ended");
        let failure = failure.map(super::waiting);
        assert_eq!((id, failure.map(|f| f.reason)), (broken.clone(), Some("INTERNAL".to_owned())));
        assert_eq!(work.may_start(&broken), again);
        work.start(other.clone(), async { Ok(()) });
        assert!(matches!(work.ended().await, Some((ref id, None)) if *id == other));
        assert!(work.may_start(&other));
        assert!(work.ended().await.is_none());
    }
}

/// What the agent cannot see, the operator is told: a commit that has no room waits with its reason.
#[tokio::test]
async fn a_commit_that_cannot_be_made_says_why() {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    plant.snapshot_taken(&job, "1").await;
    plant.seal(&job).await;
    let snapshots = plant.folder.path().join("storage/snapshots");
    std::fs::remove_dir(&snapshots).expect("empty");
    let stop = CancellationToken::new();
    let guards = super::Guards { floor: "0%".parse().expect("a floor"), stalled: Duration::from_secs(600) };
    let running = tokio::spawn(run(plant.app.clone(), guards, stop.clone()));
    let mut changes = plant.app.hub.watch(&job.migration);
    let waiting = loop {
        let view = plant.app.migration_view(&job.migration).await.expect("read");
        match view.waiting {
            Some(waiting) => break waiting,
            None => changes.changed().await.expect("the hub lives"),
        }
    };
    assert_eq!(waiting.reason, "STORAGE_FAILED");
    assert!(waiting.message.contains("snapshots"), "{}", waiting.message);
    stop.cancel();
    running.await.expect("it ended");
    std::fs::create_dir(&snapshots).expect("made again");
    plant.step().await;
    assert!(plant.migration().await.has_committed);
    assert_eq!(plant.app.migration_view(&job.migration).await.expect("read").waiting, None);
}

/// Manifests of cycles that did not commit go, also half-made ones; those of commits and of other migrations stay.
#[tokio::test]
async fn only_manifests_that_are_referred_to_stay() {
    let plant = Plant::begun().await;
    plant.cycle("1").await;
    let manifests = plant.folder.path().join("manifests");
    let disks = plant.app.store.disk_list(&plant.migration().await.id).await.expect("read");
    let committed = disks[0].manifest.clone().expect("committed").file;
    let lost = format!("{}.job-20260101-000000.manifest", disks[0].id);
    let other = format!("{}.job-20260101-000000.manifest", MigrationId::generate());
    for file in [&committed, &lost, &format!("{lost}.tmp"), &other] {
        std::fs::write(manifests.join(file), "").expect("written");
    }
    super::leftovers::remove(&plant.app).await;
    let left: std::collections::BTreeSet<_> = std::fs::read_dir(&manifests)
        .expect("there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    assert_eq!(left, [committed, other].into());
}

/// Volumes of before labels say after the next start whose they are.
#[tokio::test]
async fn a_start_labels_volumes_that_say_nothing() {
    let plant = Plant::begun().await;
    let labels = async || -> Vec<_> {
        plant.app.storage.volumes().await.expect("listed").into_iter().map(|v| v.label).collect()
    };
    let made = labels().await;
    assert!(made.iter().flatten().count() == 2, "{made:?}");
    for volume in plant.app.storage.volumes().await.expect("listed") {
        let file = format!("storage/labels/{}.json", volume.volume);
        std::fs::remove_file(plant.folder.path().join(file)).expect("there");
    }
    super::leftovers::remove(&plant.app).await;
    assert_eq!(labels().await, made);
}

/// A cycle that a backup knows as running may have been committed since: what has its snapshot's name stays. One that
/// is known to have ended without a commit loses it.
#[tokio::test]
async fn a_snapshot_of_which_a_restored_database_knows_too_little_stays() {
    for restored in [true, false] {
        let plant = Plant::begun().await;
        plant.act(Action::Sync).await;
        plant.step().await;
        let job = plant.job().await;
        let storage = &plant.app.storage;
        let volumes: Vec<_> =
            storage.volumes().await.expect("listed").into_iter().map(|v| v.volume).collect();
        let name = SnapshotName::of_commit(&job.id).expect("a name");
        storage.snapshot(&volumes, &name).await.expect("taken");
        match restored {
            true => {
                let none = std::collections::BTreeSet::new();
                plant.app.store.restored(&none, &none, plant.app.clock.now()).await.expect("restored");
            }
            false => {
                let failure = Failure { reason: "ANY".to_owned(), message: "any".to_owned() };
                plant.app.step(&job, JobStep::Failed(failure)).await.expect("failed");
            }
        }
        super::leftovers::remove(&plant.app).await;
        let left = storage.snapshots().await.expect("listed");
        assert_eq!(left.iter().any(|s| s.name == name), restored);
    }
}

/// Nothing that an adopted volume holds is believed, and nothing of it is copied that is equal.
#[tokio::test]
async fn the_first_cycle_of_an_adopted_replica_compares_all_of_it() {
    let plant = Plant::new().await;
    let caller = Caller { name: "tester".to_owned(), role: Role::Operator };
    let named: Vec<_> =
        ["root", "data"].map(|key| (key.to_owned(), format!("mk-{key}"))).into_iter().collect();
    for (_, volume) in &named {
        let volume = VolumeId::parse(volume.clone()).expect("a name");
        plant.app.storage.create(&volume, 128 << 10).await.expect("made");
    }
    plant.app.adopt(&caller, "web-1", &named).await.expect("adopted");
    plant.step().await;
    let adopted = plant.migration().await;
    assert_eq!((adopted.position, adopted.has_committed), (Position::BeginPaused, false));
    for disk in plant.app.store.disk_list(&adopted.id).await.expect("disks") {
        assert_eq!((disk.content, disk.needs_hash_diff), (VolumeContent::Unknown, true));
    }
    plant.act(Action::Sync).await;
    plant.step().await;
    assert!(plant.job().await.disks.iter().all(|d| d.strategy == Strategy::HashDiff));
    // Another VM's migration may not have them, whatever anybody looked at before.
    let disk = |(key, volume): &(String, String)| NewDisk {
        id: DiskId::generate(),
        key: key.parse().expect("a key"),
        size: 128 << 10,
        volume: volume.clone(),
    };
    let other = NewMigration {
        id: MigrationId::generate(),
        vm: "00000000-0000-4000-8000-0000000000ff".parse().expect("a uuid"),
        vm_name: "other".to_owned(),
        agent: plant.agent.clone(),
        disks: named.iter().map(disk).collect(),
        wishes: Wishes::default(),
        attempt: None,
        configuration: None,
        target_profile: None,
        preflight: None,
    };
    let taken = plant.app.store.migration_adopt(&other, plant.app.clock.now()).await;
    assert!(matches!(taken, Err(store::Error::VolumeTaken { .. })), "{taken:?}");
}
