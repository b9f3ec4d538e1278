//! On a clock that the tests move; the places themselves hang for real in the end-to-end tests.

use super::*;
use crate::testing::Plant;
use shared::cycle::CycleEvent;
use shared::migration::{Action, Position};

const STALLED: Duration = Duration::from_secs(600);

struct Scene {
    plant: Plant,
    watch: Watch,
}

impl Scene {
    /// With a cycle that has its snapshot.
    async fn new() -> Self {
        let plant = Plant::begun().await;
        plant.act(Action::Sync).await;
        plant.step().await;
        plant.snapshot_taken(&plant.job().await, "1").await;
        let mut scene = Self { plant, watch: Watch::default() };
        scene.after(Duration::ZERO).await;
        scene
    }

    async fn after(&mut self, span: Duration) {
        tokio::time::pause();
        tokio::time::advance(span).await;
        tokio::time::resume();
        look(&self.plant.app, &mut self.watch, STALLED).await.expect("looked");
        while self.watch.ends.join_next().await.is_some() {}
    }

    /// The agent lives.
    async fn heartbeat(&self) {
        self.plant.app.agent_seen(&self.plant.agent);
    }

    async fn read(&self, bytes: u64) {
        let job = self.plant.job().await;
        let said = DiskProgress {
            disk: Some(job.disks[0].disk.clone()),
            size: 128 << 10,
            read: bytes,
            epoch: Some(job.disks[0].epoch),
            ..DiskProgress::default()
        };
        self.plant.say(&job, CycleEvent::Progress(vec![said])).await;
    }

    async fn error(&self) -> Option<Failure> {
        self.plant.migration().await.error
    }
}

#[tokio::test]
async fn a_cycle_that_hangs_is_interrupted_once_and_then_fails() {
    let mut scene = Scene::new().await;
    let before = scene.plant.job().await;
    scene.after(STALLED - Duration::from_secs(1)).await;
    assert_eq!(scene.plant.job().await.disks, before.disks, "not yet");
    scene.after(Duration::from_secs(1)).await;
    let interrupted = scene.plant.job().await;
    assert_eq!((&interrupted.id, interrupted.status), (&before.id, JobStatus::Running));
    assert!(interrupted.disks.iter().zip(&before.disks).all(|(now, then)| now.epoch > then.epoch));
    let view = scene.plant.app.migration_view(&before.migration).await.expect("read");
    assert_eq!(view.waiting.map(|w| w.reason).as_deref(), Some(REASON));
    scene.after(STALLED / 2).await;
    assert_eq!(scene.plant.migration().await.position, Position::SyncRunning, "it is given its time");
    scene.after(STALLED / 2).await;
    assert_eq!(scene.plant.migration().await.position, Position::SyncFailed);
    let error = scene.error().await.expect("it says why");
    assert!(error.reason == REASON && error.message.contains("hangs at the wire"), "{error:?}");
}

#[tokio::test]
async fn an_agent_that_lives_and_reads_nothing_hangs_at_its_source() {
    let mut scene = Scene::new().await;
    for _ in 0..2 {
        scene.after(STALLED - Duration::from_secs(1)).await;
        scene.heartbeat().await;
        scene.after(Duration::from_secs(1)).await;
    }
    let error = scene.error().await.expect("it says why");
    assert!(error.message.contains("hangs at the source"), "{error:?}");
}

#[tokio::test]
async fn the_slowest_progress_is_progress() {
    let mut scene = Scene::new().await;
    for n in 1..6 {
        scene.after(STALLED - Duration::from_secs(1)).await;
        scene.read(n).await;
        scene.after(Duration::ZERO).await;
    }
    assert_eq!(scene.plant.migration().await.position, Position::SyncRunning);
    // What got on after it was interrupted is interrupted again before it fails.
    scene.after(STALLED).await;
    let epoch = scene.plant.job().await.disks[0].epoch;
    scene.read(100).await;
    scene.after(Duration::from_secs(1)).await;
    scene.after(STALLED).await;
    assert_eq!(scene.plant.migration().await.position, Position::SyncRunning);
    assert!(scene.plant.job().await.disks[0].epoch > epoch);
}

#[tokio::test]
async fn what_waits_with_a_reason_and_what_waits_for_its_agent_does_not_hang() {
    let mut scene = Scene::new().await;
    let (reason, message) = ("SOURCE_UNAVAILABLE".to_owned(), "no answer".to_owned());
    scene.plant.say(&scene.plant.job().await, CycleEvent::Waiting { reason, message }).await;
    for _ in 0..5 {
        scene.after(STALLED).await;
    }
    assert_eq!(scene.plant.migration().await.position, Position::SyncRunning);
    scene.plant.app.hub.not_waiting(&scene.plant.job().await.id);
    scene.plant.disconnect();
    for _ in 0..5 {
        scene.after(STALLED).await;
    }
    assert_eq!(scene.plant.migration().await.position, Position::SyncRunning);
    let view = scene.plant.app.migration_view(&scene.plant.migration().await.id).await.expect("read");
    let waiting = view.waiting.expect("said");
    assert!(
        waiting.reason == REASON && waiting.message.contains("agent vma-01 has been away"),
        "{waiting:?}"
    );
    scene.plant.connect().await;
    scene.plant.app.hub.not_waiting(&scene.plant.job().await.id);
    scene.after(Duration::ZERO).await;
    scene.after(STALLED - Duration::from_secs(1)).await;
    let view = scene.plant.app.migration_view(&scene.plant.migration().await.id).await.expect("read");
    assert_eq!(view.waiting, None, "its time begins when it is back");
}

/// Red when what its agent says of the hang lets a cycle hang for ever.
#[tokio::test]
async fn what_the_agent_complains_of_after_an_interruption_does_not_begin_its_time_anew() {
    let mut scene = Scene::new().await;
    scene.after(STALLED).await;
    let (reason, message) = ("CONNECTION_LOST".to_owned(), "no answer to the opening within 60 s".to_owned());
    scene.plant.say(&scene.plant.job().await, CycleEvent::Waiting { reason, message }).await;
    scene.after(STALLED / 2).await;
    assert_eq!(scene.plant.migration().await.position, Position::SyncRunning, "it is given its time");
    scene.after(STALLED / 2).await;
    let error = scene.error().await.expect("it has failed");
    assert_eq!(error.reason, REASON);
    assert!(
        error.message.contains("hangs at the wire") && error.message.contains("no answer to the opening"),
        "{error:?}"
    );
}

/// Red when an agent that is connected and does nothing can keep a cycle from being paused.
#[tokio::test]
async fn a_pause_that_the_agent_does_not_carry_out_is_carried_out_without_it() {
    let mut scene = Scene::new().await;
    scene.plant.act(Action::Pause).await;
    scene.after(Duration::ZERO).await;
    scene.after(PAUSING - Duration::from_secs(1)).await;
    assert_eq!(scene.plant.job().await.status, JobStatus::Running, "it is given its time");
    scene.after(Duration::from_secs(1)).await;
    assert_eq!(scene.plant.job().await.status, JobStatus::Paused);
    assert_eq!(scene.plant.migration().await.position, Position::SyncPaused);
    let before = scene.plant.job().await;
    scene.plant.act(Action::Sync).await;
    scene.plant.step().await;
    let after = scene.plant.job().await;
    assert_eq!((after.id, after.status), (before.id, JobStatus::Running), "it goes on");
}

#[tokio::test]
async fn a_commit_that_takes_long_is_said_and_let_alone() {
    let mut scene = Scene::new().await;
    let job = scene.plant.job().await;
    scene.plant.seal(&job).await;
    scene
        .plant
        .app
        .store
        .job_transition(&job.id, &JobStep::Committing, scene.plant.app.clock.now())
        .await
        .expect("sealed");
    for _ in 0..3 {
        scene.after(STALLED).await;
    }
    let view = scene.plant.app.migration_view(&job.migration).await.expect("read");
    let waiting = view.waiting.expect("said");
    assert!(waiting.reason == REASON && waiting.message.contains("commit has taken"), "{waiting:?}");
    scene.plant.step().await;
    assert!(scene.plant.migration().await.has_committed);
}

#[test]
fn what_is_nearest_to_us_is_named() {
    let at = |work: AtWork, sealed: bool| Mark(vec![(None, work, sealed), (None, AtWork::default(), false)]);
    let pending = AtWork { pending: 1, ..AtWork::default() };
    let busy = AtWork { is_busy: true, ..AtWork::default() };
    for (mark, silent, found) in [
        (at(pending, false), true, Place::Target),
        (at(pending, false), false, Place::Target),
        (at(busy, false), false, Place::Target),
        (at(AtWork::default(), false), true, Place::Wire),
        (at(AtWork::default(), false), false, Place::Source),
        // What is sealed is done with.
        (at(busy, true), false, Place::Source),
    ] {
        assert_eq!(place(&mark, silent), found, "{mark:?}");
    }
}
