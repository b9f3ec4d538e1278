//! What operators want, under which key they asked for it, and how it went.

use super::*;
use shared::migration::{Phase, State};

fn wished() -> Wishes {
    Wishes {
        affinity: vec!["instance!=web-2".to_owned()],
        automatic: Some(Automatic { since: at(3), max_downtime: Duration::from_millis(1500), max_cycles: 7 }),
        scheduled_at: Some(at(90)),
        forced: Some("the window closes tonight".to_owned()),
        last: Some(LastAction::new(Action::Automatic, "alice", at(4))),
    }
}

#[tokio::test]
async fn wishes_come_back_as_they_were_stored() {
    let mut f = Fixture::new().await;
    let made = f
        .store
        .migration_create(&NewMigration { wishes: wished(), ..new_migration(1, 1) }, at(0))
        .await
        .expect("create");
    assert_eq!(made.wishes, wished());
    let none = Migration { wishes: Wishes::default(), ..made };
    let stored = f.store.migration_transition(&none, at(1)).await.expect("changed");
    f.restart().await;
    assert_eq!(f.store.migration_fetch(&stored.id).await.expect("fetch").wishes, Wishes::default());
}

/// Red when the key is not written by the transaction of the action: then a crash between the two does it twice.
#[tokio::test]
async fn a_key_is_used_once_and_with_its_action_or_not_at_all() {
    let f = Fixture::new().await;
    let attempt = |key: &str| Attempt { key: key.to_owned(), fingerprint: "f".to_owned() };
    let new = NewMigration { attempt: Some(attempt("k1")), ..new_migration(1, 1) };
    let made = f.store.migration_create(&new, at(0)).await.expect("create");
    let kept = f.store.attempt_fetch("k1").await.expect("fetch").expect("there");
    assert_eq!(kept, Attempted { fingerprint: "f".to_owned(), migration: made.id.clone(), answer: None });
    f.store.attempt_answer("k1", b"the answer").await.expect("kept");
    assert_eq!(
        f.store.attempt_fetch("k1").await.expect("fetch").and_then(|a| a.answer).as_deref(),
        Some(&b"the answer"[..])
    );

    let held = Migration { held: true, ..made.clone() };
    let used = f.store.migration_direct(&held, None, Some(&attempt("k1")), at(1)).await;
    assert!(matches!(used, Err(Error::Attempted)), "{used:?}");
    assert_eq!(f.store.migration_fetch(&made.id).await.expect("fetch"), made, "nothing was done");

    let stale = Migration { generation: 9, ..held.clone() };
    let lost = f.store.migration_direct(&stale, None, Some(&attempt("k2")), at(1)).await;
    assert!(matches!(lost, Err(Error::Conflict { .. })), "{lost:?}");
    assert_eq!(f.store.attempt_fetch("k2").await.expect("fetch"), None, "its action was not done");
    f.store.migration_direct(&held, None, Some(&attempt("k2")), at(1)).await.expect("held");

    assert_eq!(f.store.attempt_delete(at(1)).await.expect("forget"), 1, "the older one");
    assert_eq!(f.store.attempt_fetch("k1").await.expect("fetch"), None);
}

#[tokio::test]
async fn a_history_has_a_row_for_each_run_of_a_phase() {
    let f = Fixture::new().await;
    let made = f.store.migration_create(&new_migration(1, 1), at(0)).await.expect("create");
    let id = made.id.clone();
    f.store
        .migration_transition(&Migration { position: Position::BeginPaused, ..made }, at(2))
        .await
        .expect("prepared");
    whole_cycle(&f.store, &id, at(3)).await;
    act(&f.store, &id, Action::Sync).await;
    let job = cycle(&f.store, &id, at(5)).await;
    let failure = Failure { reason: "SOURCE_LOST".into(), message: "the source is away".into() };
    f.store.job_transition(&job.id, &JobStep::Failed(failure), at(6)).await.expect("failed");
    act(&f.store, &id, Action::Sync).await;
    let job = cycle(&f.store, &id, at(7)).await;
    f.by_hand("UPDATE replication_jobs SET wanted = 'pause'").await;
    f.store.job_transition(&job.id, &JobStep::Paused, at(8)).await.expect("paused");
    act(&f.store, &id, Action::Sync).await;
    act(&f.store, &id, Action::Abort).await;

    let list = f.store.history_list(&id, 100).await.expect("history");
    let shown: Vec<_> = list.iter().map(|e| (e.number, e.phase, e.state, e.finished_at.is_some())).collect();
    assert_eq!(
        shown,
        [
            (1, Phase::Begin, State::Successful, true),
            (2, Phase::Sync, State::Successful, true),
            (3, Phase::Sync, State::Failed, true),
            (4, Phase::Sync, State::Paused, true),
            (5, Phase::Sync, State::Aborted, true),
            (6, Phase::Abort, State::Running, false),
        ]
    );
    assert_eq!((list[1].done, list[1].total), (65536, 65536), "of the cycle");
    assert_eq!(list[2].error.as_deref(), Some("the source is away"));
    assert_eq!(f.store.history_list(&id, 2).await.expect("history"), list[4..], "the newest");
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let f = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 1..=5 {
        let mut new = new_migration(n, 1);
        new.vm_name = format!("Web_{n}%");
        ids.push(f.store.migration_create(&new, at(i64::from(n))).await.expect("create").id);
    }
    ids.reverse();
    let all = PageOf {
        which: Which::Unfinished,
        phase: None,
        state: None,
        agent: None,
        text: None,
        before: None,
        limit: 2,
    };
    let page = async |of: PageOf| -> Vec<MigrationId> {
        let rows = f.store.migration_page(&of).await.expect("page");
        rows.into_iter().map(|m| m.id).collect()
    };
    assert_eq!(page(all.clone()).await, ids[..2]);
    assert_eq!(page(PageOf { before: Some(ids[1].clone()), ..all.clone() }).await, ids[2..4]);
    assert_eq!(page(PageOf { before: Some(ids[3].clone()), ..all.clone() }).await, ids[4..]);
    let text = async |text: &str| page(PageOf { text: Some(text.to_owned()), ..all.clone() }).await;
    assert_eq!(text("wEB_3").await, ids[2..3]);
    assert_eq!(text("_3%").await, ids[2..3], "signs of LIKE are meant as themselves");
    assert_eq!(text("web%3").await, [] as [MigrationId; 0]);
    assert_eq!(text(ids[4].as_str()).await, ids[4..]);
    let phase = PageOf { phase: Some(Phase::Sync), ..all.clone() };
    assert_eq!(page(phase).await, [] as [MigrationId; 0]);
    let both = PageOf { phase: Some(Phase::Begin), state: Some(State::Running), ..all.clone() };
    assert_eq!(page(both).await, ids[..2]);
    let other = PageOf { agent: Some(AgentId::parse("vma-02").expect("an id")), ..all };
    assert_eq!(page(other).await, [] as [MigrationId; 0]);
    let named = f.store.migration_named("Web_2%", Which::Unfinished).await.expect("named");
    assert_eq!(named.into_iter().map(|m| m.id).collect::<Vec<_>>(), ids[3..4]);
}
