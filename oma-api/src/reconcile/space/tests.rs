//! On a small file system of its own, that fills and empties.

use super::*;
use crate::reconcile::schedule;
use crate::service::{Caller, act::Ask};
use crate::storage::LocalStorage;
use crate::store::Wanted;
use crate::testing::Plant;
use shared::cycle::CycleEvent;
use shared::migration::Action;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

/// 100 MiB; unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    /// `None`: who runs the tests may not mount.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=100m", "tmpfs"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self, bytes: u64) {
        let noise = vec![1; usize::try_from(bytes).expect("small")];
        std::fs::write(self.path().join("another's"), noise).expect("written");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).output();
    }
}

async fn events(plant: &Plant, kind: &str) -> usize {
    let all = plant.app.store.event_list(0, None, 1000).await.expect("read");
    all.iter().filter(|event| event.kind == kind).count()
}

#[tokio::test]
async fn cycles_stop_before_the_floor_and_go_on_when_there_is_room_again() {
    let Some(small) = Small::mount() else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let mut plant = Plant::begun().await;
    plant.app.storage = Arc::new(LocalStorage::open(small.path()).await.expect("opened"));
    let floor: Floor = "10%".parse().expect("a floor");
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    plant.snapshot_taken(&job, "1").await;
    look(&plant.app, floor).await.expect("looked");
    assert_eq!((plant.job().await.wanted, plant.app.hub.space_low()), (Wanted::Run, None), "there is room");

    // 10 MiB is the floor, and what the two disks may still write is above it.
    small.fill(90 * MIB - 100 * 1024);
    for _ in 0..2 {
        look(&plant.app, floor).await.expect("looked");
    }
    assert_eq!(plant.job().await.wanted, Wanted::Pause);
    plant.say(&plant.job().await, CycleEvent::Paused).await;
    let view = plant.app.migration_view(&job.migration).await.expect("read");
    let waiting = view.waiting.expect("it says why");
    assert_eq!(waiting.reason, "TARGET_SPACE_LOW");
    assert!(
        waiting.message.contains("MiB of 100 MiB free") && waiting.message.contains("10%"),
        "{waiting:?}"
    );

    // Nothing starts, and nobody starts it.
    let asked = plant.app.act(&Caller::internal("tester"), "web-1", &Ask::new(Action::Sync)).await;
    assert_eq!(asked.map(|_| ()).map_err(|error| error.reason()), Err("TARGET_SPACE_LOW"));
    let mut rates = schedule::Memory::default();
    schedule::pass(&plant.app, &mut rates).await;
    assert_eq!(plant.migration().await.position, Position::SyncPaused);

    // A little more than at which it stopped is not enough.
    small.fill(89 * MIB);
    look(&plant.app, floor).await.expect("looked");
    schedule::pass(&plant.app, &mut rates).await;
    assert_eq!(plant.migration().await.position, Position::SyncPaused);
    small.fill(80 * MIB);
    look(&plant.app, floor).await.expect("looked");
    schedule::pass(&plant.app, &mut rates).await;
    assert_eq!(plant.migration().await.position, Position::SyncRunning);
    plant.step().await;
    assert_eq!((plant.job().await.id, plant.job().await.wanted), (job.id, Wanted::Run), "the same cycle");
    for kind in ["guard_raised", "guard_lowered", "cycle_held_back", "cycle_let_go"] {
        assert_eq!(events(&plant, kind).await, 1, "{kind}");
    }
}

/// What an operator paused stays paused.
#[tokio::test]
async fn room_again_is_no_reason_to_resume_what_an_operator_paused() {
    let Some(small) = Small::mount() else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let mut plant = Plant::begun().await;
    plant.app.storage = Arc::new(LocalStorage::open(small.path()).await.expect("opened"));
    plant.act(Action::Sync).await;
    plant.step().await;
    plant.act(Action::Pause).await;
    plant.say(&plant.job().await, CycleEvent::Paused).await;
    let floor: Floor = "10%".parse().expect("a floor");
    small.fill(95 * MIB);
    look(&plant.app, floor).await.expect("looked");
    assert!(plant.app.hub.space_low().is_some());
    small.fill(MIB);
    look(&plant.app, floor).await.expect("looked");
    schedule::pass(&plant.app, &mut schedule::Memory::default()).await;
    assert_eq!(plant.migration().await.position, Position::SyncPaused);
}
