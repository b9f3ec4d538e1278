//! On a clock that the tests move: a real store, the real use cases, one pass after the other.

use super::*;
use crate::schedule::{RateSpec, Spec};
use crate::testing::Plant;
use jiff::Timestamp;
use shared::cycle::{CycleEvent, Finding, FindingKind};
use std::time::Duration as Span;

const MINUTE: Span = Span::from_secs(60);

struct Scene {
    plant: Plant,
    memory: Memory,
}

impl Scene {
    /// At `start`, with a prepared migration that has this schedule.
    async fn at(start: &str, spec: &Spec) -> Self {
        let mut plant = Plant::begun().await;
        plant.app.clock = crate::clock::Clock::from(start.parse().expect("a time"));
        plant.app.schedule_set("web-1", spec).await.expect("set");
        Self { plant, memory: Memory::default() }
    }

    /// Time passes, and the reconciler looks.
    async fn after(&mut self, span: Span) {
        // Not while the database is at work: its own deadlines would pass with the clock.
        tokio::time::pause();
        tokio::time::advance(span).await;
        tokio::time::resume();
        pass(&self.plant.app, &mut self.memory).await;
    }

    fn now(&self) -> Timestamp {
        self.plant.app.clock.now()
    }

    async fn position(&self) -> Position {
        self.plant.migration().await.position
    }

    /// Takes the cycle that was begun to its end.
    async fn commit(&self) {
        self.plant.step().await;
        let job = self.plant.job().await;
        self.plant.snapshot_taken(&job, "1").await;
        self.plant.seal(&job).await;
        self.plant.step().await;
        assert_eq!(self.position().await, Position::SyncPaused);
    }

    async fn cycles(&self) -> usize {
        let id = self.plant.migration().await.id;
        self.plant.app.store.job_list(&id).await.expect("read").len()
    }

    async fn events(&self, kind: &str) -> usize {
        let all = self.plant.app.store.event_list(0, None, 10_000).await.expect("read");
        all.iter().filter(|event| event.kind == kind).count()
    }
}

fn every(minutes: u64) -> Spec {
    Spec { every_seconds: Some(minutes * 60), ..Spec::default() }
}

const FRIDAY: &str = "2026-11-20T07:00:00Z";

#[tokio::test]
async fn a_cycle_starts_when_it_is_due_and_not_twice() {
    let mut scene = Scene::at(FRIDAY, &every(15)).await;
    scene.after(MINUTE * 14).await;
    assert_eq!(scene.position().await, Position::BeginPaused);
    scene.after(MINUTE).await;
    assert_eq!(scene.position().await, Position::SyncRunning);
    // Not while one runs, however long it takes.
    scene.after(MINUTE * 10).await;
    scene.commit().await;
    scene.after(Span::ZERO).await;
    assert_eq!(scene.position().await, Position::SyncPaused);
    scene.after(MINUTE * 4).await;
    assert_eq!(scene.position().await, Position::SyncPaused);
    scene.after(MINUTE).await;
    assert_eq!(scene.position().await, Position::SyncRunning, "07:30, the interval's own minutes");
}

#[tokio::test]
async fn an_outage_of_days_is_made_up_by_one_cycle() {
    let mut scene = Scene::at(FRIDAY, &every(15)).await;
    scene.after(MINUTE * 60 * 24 * 3).await;
    scene.commit().await;
    for _ in 0..5 {
        scene.after(MINUTE).await;
    }
    assert_eq!((scene.cycles().await, scene.position().await), (1, Position::SyncPaused));
}

#[tokio::test]
async fn what_was_due_while_a_cycle_ran_is_made_up_once() {
    let mut scene = Scene::at(FRIDAY, &every(5)).await;
    scene.after(MINUTE * 5).await;
    scene.plant.step().await;
    scene.after(MINUTE * 12).await;
    scene.commit().await;
    scene.after(MINUTE).await;
    scene.commit().await;
    scene.after(MINUTE).await;
    assert_eq!((scene.cycles().await, scene.position().await), (2, Position::SyncPaused));
}

#[tokio::test]
async fn a_cycle_by_hand_counts_for_the_time_before_it() {
    let mut scene = Scene::at(FRIDAY, &every(15)).await;
    scene.plant.act(Action::Hold).await;
    scene.after(MINUTE * 16).await;
    assert_eq!(scene.position().await, Position::BeginPaused, "held");
    let view = scene.plant.app.schedule_find("web-1").await.expect("there");
    assert!(view.next.is_none() && view.text.contains("held"), "{view:?}");
    scene.plant.act(Action::Sync).await;
    scene.commit().await;
    scene.plant.act(Action::Release).await;
    scene.after(MINUTE).await;
    assert_eq!((scene.cycles().await, scene.position().await), (1, Position::SyncPaused));
    scene.after(MINUTE * 15).await;
    assert_eq!(scene.position().await, Position::SyncRunning);
}

/// A pass that was killed after the cycle began and before it could remember that begins no second one.
#[tokio::test]
async fn a_crash_between_the_start_and_its_memory_starts_no_second_cycle() {
    let mut scene = Scene::at(FRIDAY, &every(15)).await;
    let id = scene.plant.migration().await.id;
    scene.after(MINUTE * 14).await;
    let before = scene.plant.app.store.schedule_fetch(&id).await.expect("read").expect("a schedule");
    scene.after(MINUTE).await;
    scene.commit().await;
    let now = scene.plant.app.store.schedule_fetch(&id).await.expect("read").expect("a schedule");
    assert!(scene.plant.app.store.schedule_dealt_with(&now, before.anchor).await.expect("taken back"));
    scene.after(Span::ZERO).await;
    assert_eq!((scene.cycles().await, scene.position().await), (1, Position::SyncPaused));
}

#[tokio::test]
async fn nothing_starts_in_a_blackout_and_what_runs_ends() {
    let spec = Spec { blackout: vec!["mon-fri 08:00-18:00".to_owned()], ..every(30) };
    let mut scene = Scene::at(FRIDAY, &spec).await;
    scene.after(MINUTE * 59).await;
    assert_eq!(scene.position().await, Position::SyncRunning, "07:59");
    scene.plant.step().await;
    scene.after(MINUTE * 2).await;
    assert_eq!(scene.plant.job().await.wanted, Wanted::Run, "08:01: it is let end");
    scene.commit().await;
    for _ in 0..9 {
        scene.after(MINUTE * 60).await;
        assert_eq!(scene.position().await, Position::SyncPaused, "{}", scene.now());
    }
    scene.after(MINUTE * 59).await;
    assert_eq!(scene.position().await, Position::SyncRunning, "18:00");
}

#[tokio::test]
async fn a_blackout_may_pause_what_runs_and_it_goes_on_behind_it() {
    let blackout_running = BlackoutRunning::Pause;
    let spec = Spec { blackout: vec!["mon-fri 08:00-18:00".to_owned()], blackout_running, ..every(30) };
    let mut scene = Scene::at(FRIDAY, &spec).await;
    scene.after(MINUTE * 59).await;
    scene.plant.step().await;
    let job = scene.plant.job().await;
    scene.plant.snapshot_taken(&job, "1").await;
    scene.after(MINUTE * 2).await;
    assert_eq!(scene.plant.job().await.wanted, Wanted::Pause);
    // Not before it has stopped, and not before the blackout is over.
    scene.after(MINUTE).await;
    scene.plant.say(&scene.plant.job().await, CycleEvent::Paused).await;
    scene.after(MINUTE * 60 * 9).await;
    assert_eq!(scene.position().await, Position::SyncPaused);
    let view = scene.plant.app.migration_view(&job.migration).await.expect("read");
    assert_eq!(view.waiting.map(|w| w.reason).as_deref(), Some("BLACKOUT"));
    scene.after(MINUTE * 58).await;
    assert_eq!(scene.position().await, Position::SyncRunning, "18:00: {}", scene.now());
    scene.plant.step().await;
    assert_eq!(scene.plant.job().await.id, job.id, "the same cycle");
    scene.plant.seal(&scene.plant.job().await).await;
    scene.plant.step().await;
    assert_eq!((scene.events("cycle_held_back").await, scene.events("cycle_let_go").await), (1, 1));
    assert_eq!(scene.plant.app.store.system_pause_list().await.expect("read"), []);
}

#[tokio::test]
async fn who_resumes_by_hand_in_a_blackout_is_heeded() {
    let blackout_running = BlackoutRunning::Pause;
    let spec = Spec { blackout: vec!["mon-fri 08:00-18:00".to_owned()], blackout_running, ..every(30) };
    let mut scene = Scene::at(FRIDAY, &spec).await;
    scene.after(MINUTE * 59).await;
    scene.plant.step().await;
    scene.after(MINUTE * 2).await;
    scene.plant.say(&scene.plant.job().await, CycleEvent::Paused).await;
    scene.plant.act(Action::Sync).await;
    scene.plant.step().await;
    scene.after(MINUTE).await;
    assert_eq!(scene.plant.job().await.wanted, Wanted::Run);
    // And held behind the blackout, it stays where it is.
    scene.commit().await;
    scene.after(MINUTE * 60 * 11).await;
    assert_eq!(scene.plant.app.store.system_pause_list().await.expect("read"), []);
}

#[tokio::test]
async fn a_hold_keeps_what_the_system_paused() {
    let blackout_running = BlackoutRunning::Pause;
    let spec = Spec { blackout: vec!["mon-fri 08:00-18:00".to_owned()], blackout_running, ..every(30) };
    let mut scene = Scene::at(FRIDAY, &spec).await;
    scene.after(MINUTE * 59).await;
    scene.plant.step().await;
    scene.after(MINUTE * 2).await;
    scene.plant.say(&scene.plant.job().await, CycleEvent::Paused).await;
    scene.plant.act(Action::Hold).await;
    scene.after(MINUTE * 60 * 12).await;
    assert_eq!(scene.position().await, Position::SyncPaused);
    scene.plant.act(Action::Release).await;
    scene.after(MINUTE).await;
    assert_eq!(scene.position().await, Position::SyncRunning);
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_and_one_for_an_operator_is_said() {
    let mut scene = Scene::at(FRIDAY, &every(15)).await;
    scene.after(MINUTE * 15).await;
    scene.plant.step().await;
    let (reason, message) = ("SOURCE_AWAY".to_owned(), "it does not answer".to_owned());
    scene.plant.say(&scene.plant.job().await, CycleEvent::Failed { reason, message }).await;
    scene.after(MINUTE).await;
    assert_eq!(scene.position().await, Position::SyncFailed, "not before its next time");
    scene.after(MINUTE * 14).await;
    assert_eq!(scene.position().await, Position::SyncRunning);
    scene.plant.step().await;
    let message = "disk data has another size".to_owned();
    let resized = Finding { kind: FindingKind::DiskResized, disk: None, message };
    scene.plant.say(&scene.plant.job().await, CycleEvent::Findings(vec![resized])).await;
    scene.after(MINUTE * 60).await;
    assert_eq!(scene.position().await, Position::SyncFailed);
    let view = scene.plant.app.schedule_find("web-1").await.expect("there");
    assert!(view.next.is_none() && view.text.contains("DISK_RESIZED needs an operator"), "{view:?}");
    // One decides: the schedule goes on.
    let plant = &scene.plant;
    let mut vm = plant.app.store.agent_fetch(&plant.agent).await.expect("known").inventory.remove(0);
    vm.disks[1].size *= 2;
    plant.app.agent_inventory(&plant.agent, &[vm]).await.expect("taken");
    plant.app.accept(&crate::service::Caller::internal("tester"), "web-1", &[]).await.expect("accepted");
    scene.after(MINUTE * 15).await;
    assert_eq!(scene.position().await, Position::SyncRunning);
}

#[tokio::test]
async fn a_verification_is_let_end_and_the_cycle_is_made_up() {
    let mut scene = Scene::at(FRIDAY, &every(15)).await;
    scene.after(MINUTE * 15).await;
    scene.commit().await;
    let disks = scene.plant.disks().await;
    let disks = disks.iter().map(|d| (d.id.clone(), shared::cycle::Strategy::Full)).collect();
    let migration = scene.plant.migration().await.id;
    let verification = crate::store::NewJob { migration, kind: crate::store::JobKind::VerifySource, disks };
    let job = scene.plant.app.store.job_create(&verification, scene.now()).await.expect("made");
    scene.after(MINUTE * 20).await;
    assert_eq!(scene.position().await, Position::SyncPaused);
    let done = crate::store::JobStep::Compared;
    scene.plant.app.store.job_transition(&job.id, &done, scene.now()).await.expect("ended");
    scene.after(Span::ZERO).await;
    assert_eq!(scene.position().await, Position::SyncRunning);
}

#[tokio::test]
async fn a_breach_is_said_once_and_its_end_once() {
    let spec = Spec { rpo_seconds: Some(1800), ..every(15) };
    let mut scene = Scene::at(FRIDAY, &spec).await;
    scene.after(MINUTE * 15).await;
    scene.commit().await;
    scene.plant.act(Action::Hold).await;
    scene.after(MINUTE * 29).await;
    assert_eq!(scene.events("rpo_breached").await, 0);
    for _ in 0..3 {
        scene.after(MINUTE * 2).await;
        // As if the daemon had been started again.
        scene.memory = Memory::default();
    }
    assert_eq!(scene.events("rpo_breached").await, 1);
    let id = scene.plant.migration().await.id;
    let rpo = scene.plant.app.migration_view(&id).await.expect("read").rpo;
    assert_eq!((rpo.breached, rpo.target), (true, Some(MINUTE * 30)));
    assert!(rpo.age.is_some_and(|age| age >= MINUTE * 35 && age < MINUTE * 36), "{rpo:?}");
    scene.plant.act(Action::Release).await;
    scene.after(MINUTE).await;
    scene.commit().await;
    scene.after(MINUTE).await;
    assert_eq!((scene.events("rpo_breached").await, scene.events("rpo_recovered").await), (1, 1));
}

/// The data of a long cycle is as old as its source snapshot.
#[tokio::test]
async fn the_age_counts_from_the_source_snapshot_not_from_the_commit() {
    let spec = Spec { rpo_seconds: Some(1800), ..every(15) };
    let mut scene = Scene::at(FRIDAY, &spec).await;
    scene.after(MINUTE * 15).await;
    scene.plant.step().await;
    let job = scene.plant.job().await;
    scene.plant.snapshot_taken(&job, "1").await;
    scene.after(MINUTE * 40).await;
    scene.plant.seal(&job).await;
    scene.plant.step().await;
    scene.plant.act(Action::Hold).await;
    scene.after(MINUTE).await;
    let rpo = scene.plant.app.migration_view(&job.migration).await.expect("read").rpo;
    assert!(rpo.breached && rpo.age.is_some_and(|age| age >= MINUTE * 41), "{rpo:?}");
    assert_eq!((scene.events("rpo_breached").await, scene.events("rpo_recovered").await), (1, 0));
}

#[tokio::test]
async fn the_rate_changes_with_the_hour_and_the_agent_hears_of_it() {
    let day = RateSpec { window: "mon-fri 08:00-18:00".to_owned(), rate_bytes_per_second: 20 << 20 };
    let mut scene = Scene::at(FRIDAY, &Spec { bandwidth: vec![day], ..Spec::default() }).await;
    scene.plant.app.migration_limit("web-1", 50 << 20).await.expect("set");
    assert_eq!(scene.plant.desired().await.rate, 50 << 20);
    scene.after(MINUTE * 30).await;
    // What was told before this.
    scene.plant.told().await;
    scene.after(MINUTE * 30).await;
    assert!(scene.plant.told().await, "08:00");
    assert_eq!(scene.plant.desired().await.rate, 20 << 20);
    scene.after(MINUTE).await;
    assert!(!scene.plant.told().await, "nothing new");
}

#[tokio::test]
async fn an_agent_that_is_away_is_waited_for() {
    let mut scene = Scene::at(FRIDAY, &every(15)).await;
    scene.plant.disconnect();
    scene.after(MINUTE * 60).await;
    assert_eq!(scene.position().await, Position::BeginPaused);
    scene.plant.connect().await;
    scene.after(MINUTE).await;
    assert_eq!(scene.position().await, Position::SyncRunning);
}

/// The loop itself, whose periods pass with the same clock.
#[tokio::test]
async fn the_loop_looks_by_itself() {
    let scene = Scene::at(FRIDAY, &every(15)).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(scene.plant.app.clone(), stop.clone()));
    tokio::time::pause();
    tokio::time::advance(MINUTE * 15).await;
    tokio::time::resume();
    let id = scene.plant.migration().await.id;
    let mut changes = scene.plant.app.hub.watch(&id);
    while scene.position().await != Position::SyncRunning {
        changes.changed().await.expect("the hub lives");
    }
    stop.cancel();
    running.await.expect("it ended");
}
