use super::*;
use crate::schedule::Spec;
use crate::schedule::rpo::Rpo;

fn every(seconds: u64) -> Spec {
    Spec {
        every_seconds: Some(seconds),
        blackout: vec!["daily 22:00-06:00 Europe/Berlin".into()],
        ..Spec::default()
    }
}

async fn kinds(f: &Fixture) -> Vec<String> {
    let events = f.store.event_list(0, None, 1000).await.expect("events");
    let others = ["migration_changed", "cycle_changed"];
    let ours = |kind: &String| !others.contains(&kind.as_str());
    events.into_iter().map(|e| e.kind).filter(ours).collect()
}

#[tokio::test]
async fn a_schedule_is_one_a_migration_and_outlives_a_restart() {
    let mut f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::BeginPaused).await;
    assert_eq!(f.store.schedule_fetch(&m.id).await.expect("read"), None);
    f.store.schedule_set(&m.id, &every(60), at(0)).await.expect("set");
    let row = f.store.schedule_set(&m.id, &every(900), at(5)).await.expect("set again");
    f.restart().await;
    assert_eq!(f.store.schedule_fetch(&m.id).await.expect("read"), Some(row.clone()));
    assert_eq!((row.spec.clone(), row.set_at, row.anchor), (every(900), at(5), at(5)));
    // Whoever looked before it was changed must not move it.
    let old = ScheduleRow { set_at: at(0), ..row.clone() };
    assert!(!f.store.schedule_dealt_with(&old, at(9)).await.expect("nothing"));
    assert!(f.store.schedule_dealt_with(&row, at(9)).await.expect("moved"));
    assert!(!f.store.schedule_dealt_with(&row, at(9)).await.expect("nothing"));
    let listed = f.store.schedule_list().await.expect("list");
    assert_eq!((listed[0].row.anchor, listed[0].taken_at), (at(9), None));
    whole_cycle(&f.store, &m.id, at(20)).await;
    whole_cycle(&f.store, &m.id, at(30)).await;
    assert_eq!(f.store.schedule_list().await.expect("list")[0].taken_at, Some(at(30)));
    f.store.schedule_delete(&m.id, at(40)).await.expect("gone");
    f.store.schedule_delete(&m.id, at(41)).await.expect("none is success");
    assert!(f.store.schedule_list().await.expect("list").is_empty());
    assert_eq!(kinds(&f).await, ["schedule_set", "schedule_set", "schedule_deleted"]);
    let nobody = MigrationId::generate();
    let refused = f.store.schedule_set(&nobody, &every(60), at(0)).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_breach_is_said_when_it_begins_and_when_it_ends() {
    let mut f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncPaused).await;
    f.store.schedule_set(&m.id, &every(60), at(0)).await.expect("set");
    let rpo = |breached| Rpo { age: None, target: None, breached };
    for (breached, said) in [(false, false), (true, true), (true, false), (false, true), (false, false)] {
        assert_eq!(f.store.rpo_say(&m.id, rpo(breached), at(1)).await.expect("said"), said);
        f.restart().await;
    }
    assert_eq!(kinds(&f).await, ["schedule_set", "rpo_breached", "rpo_recovered"]);
}

#[tokio::test]
async fn a_cycle_is_held_back_and_let_go_as_one_with_its_memory() {
    let mut f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(1)).await;
    let why = Failure { reason: "BLACKOUT".into(), message: "until six".into() };
    let pause = SystemPause {
        migration: m.id.clone(),
        job: job.id.clone(),
        why,
        paused_at: at(2),
        until: Some(at(60)),
    };
    // Somebody was faster: nothing is remembered, and the cycle runs.
    let stale = Migration { generation: m.generation - 1, ..m.clone() };
    let refused = f.store.cycle_hold_back(&stale, &pause, at(2)).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    assert_eq!(f.store.job_fetch(&job.id).await.expect("job").wanted, Wanted::Run);
    assert_eq!(f.store.system_pause_list().await.expect("list"), []);
    f.store.cycle_hold_back(&m, &pause, at(2)).await.expect("held back");
    f.restart().await;
    assert_eq!(f.store.job_fetch(&job.id).await.expect("job").wanted, Wanted::Pause);
    assert_eq!(f.store.system_pause_list().await.expect("read"), std::slice::from_ref(&pause));
    let (_, paused) = f.store.job_transition(&job.id, &JobStep::Paused, at(3)).await.expect("stopped");
    let on = Migration { position: Position::SyncRunning, ..paused };
    f.store.cycle_let_go(&pause, Some(&on), at(60)).await.expect("let go");
    assert_eq!(f.store.job_fetch(&job.id).await.expect("job").wanted, Wanted::Run);
    assert_eq!(f.store.migration_fetch(&m.id).await.expect("read").position, Position::SyncRunning);
    assert_eq!(f.store.system_pause_list().await.expect("list"), []);
    assert_eq!(kinds(&f).await, ["cycle_held_back", "cycle_let_go"]);
}
