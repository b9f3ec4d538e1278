use super::*;
use crate::service::Role;
use crate::testing::Plant;
use shared::migration::Position;

fn caller(n: usize) -> Caller {
    Caller { name: format!("operator-{n}"), role: Role::Operator }
}

/// Eight ask for the same at once: how many were heard, and what the others were told.
async fn race(plant: &Plant, action: Action) -> (Vec<String>, Vec<Error>) {
    let asked = (0..8).map(|n| {
        let app = plant.app.clone();
        tokio::spawn(async move { (n, app.act(&caller(n), "web-1", &Ask::new(action)).await) })
    });
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for one in asked.collect::<Vec<_>>() {
        match one.await.expect("no panic") {
            (n, Ok(_)) => won.push(caller(n).name),
            (_, Err(error)) => lost.push(error),
        }
    }
    (won, lost)
}

/// Red when the loser of a race is not told who won it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_ask_at_once_one_is_heard_and_the_others_are_told_who() {
    let plant = Plant::new().await;
    for (action, reason, after) in [
        (Action::Begin, "ALREADY_PROTECTED", Position::BeginRunning),
        (Action::Sync, "BUSY", Position::SyncRunning),
    ] {
        let (won, lost) = race(&plant, action).await;
        assert_eq!((won.len(), lost.len()), (1, 7), "{action}: {won:?} {lost:?}");
        for error in lost {
            assert_eq!(error.reason(), reason, "{action}: {error}");
            assert!(error.to_string().contains(&format!("{action} by {}", won[0])), "{error}");
        }
        assert_eq!(plant.migration().await.position, after);
        plant.step().await;
    }
}

/// Red when two requests under one key are both done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_requests_under_one_key_one_is_done_and_all_are_answered() {
    let plant = Plant::begun().await;
    let before = plant.migration().await.generation;
    let asked = (0..8).map(|_| {
        let app = plant.app.clone();
        let key = Key::parse("test", "k").expect("a key");
        let ask = Ask { key: Some(key), ..Ask::new(Action::Hold) };
        tokio::spawn(async move { app.act(&caller(0), "web-1", &ask).await })
    });
    for one in asked.collect::<Vec<_>>() {
        assert!(matches!(one.await.expect("no panic"), Ok(Acted::Done(view)) if view.migration.held));
    }
    assert_eq!(plant.migration().await.generation, before + 1);
}

/// Red when the id of what has ended is taken for a VM that nobody knows.
#[tokio::test]
async fn a_migration_that_has_ended_is_known_by_its_id() {
    let plant = Plant::begun().await;
    let ended = plant.migration().await.id;
    plant.act(Action::Abort).await;
    plant.step().await;
    let refused =
        plant.app.act(&caller(1), ended.as_str(), &Ask::new(Action::Sync)).await.expect_err("history");
    assert_eq!(refused.reason(), "MIGRATION_ENDED", "{refused}");
    plant.app.act(&caller(1), ended.as_str(), &Ask::new(Action::Begin)).await.expect("its VM, anew");
    assert_ne!(plant.migration().await.id, ended);
}

/// Red when a terminal could be written to by what somebody else asked.
#[tokio::test]
async fn what_is_shown_to_others_has_no_control_characters() {
    let plant = Plant::new().await;
    for ask in [
        Ask { affinity: vec!["\u{1b}[31mred".to_owned()], ..Ask::new(Action::Begin) },
        Ask { force: Some("a\nb".to_owned()), ..Ask::new(Action::Begin) },
    ] {
        let refused = plant.ask(&ask).await.expect_err("refused");
        assert!(refused.to_string().contains("control characters"), "{refused}");
    }
}

#[tokio::test]
async fn who_acts_by_hand_takes_over_from_automatic_and_from_a_set_time() {
    let plant = Plant::begun().await;
    let at = Schedule::At(Timestamp::now() + SignedDuration::from_secs(3600));
    plant.ask(&Ask { schedule: Some(at), ..Ask::new(Action::Switch) }).await.expect("scheduled");
    plant.ask(&Ask { max_cycles: Some(5), ..Ask::new(Action::Automatic) }).await.expect("automatic");
    plant.step().await;
    let wishes = plant.migration().await.wishes;
    assert!(wishes.scheduled_at.is_some() && wishes.automatic.is_some_and(|a| a.max_cycles == 5));
    plant.act(Action::Pause).await;
    assert_eq!(plant.migration().await.wishes.automatic, None);
    plant.act(Action::Abort).await;
    assert_eq!(plant.migration().await.wishes.scheduled_at, None);
}

/// Red when the end of `automatic` takes a switch at a set time with it.
#[tokio::test]
async fn a_switch_at_a_set_time_outlives_automatic() {
    let plant = Plant::begun().await;
    let at = Schedule::At(Timestamp::now() + SignedDuration::from_secs(3600));
    plant.ask(&Ask { schedule: Some(at), ..Ask::new(Action::Switch) }).await.expect("scheduled");
    plant.ask(&Ask { max_cycles: Some(5), ..Ask::new(Action::Automatic) }).await.expect("automatic");
    let failed = Migration { position: Position::SyncFailed, ..plant.migration().await };
    plant.app.store.migration_transition(&failed, Timestamp::now()).await.expect("stored");
    plant.step().await;
    let wishes = plant.migration().await.wishes;
    assert!(wishes.automatic.is_none() && wishes.scheduled_at.is_some(), "{wishes:?}");
}

/// Red when a cycle that was paused, asked for again and paused before it went on stays running for ever: the agent has
/// nothing to stop, and would never say that it has.
#[tokio::test]
async fn a_pause_of_a_cycle_that_was_not_gone_on_with_is_done_at_once() {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    plant.step().await;
    plant.act(Action::Pause).await;
    plant.app.step(&plant.job().await, crate::store::JobStep::Paused).await.expect("said by the agent");
    plant.act(Action::Sync).await;
    assert_eq!(plant.migration().await.position, Position::SyncRunning);
    plant.act(Action::Pause).await;
    assert_eq!(plant.migration().await.position, Position::SyncPaused);
    plant.step().await;
    assert_eq!(plant.migration().await.position, Position::SyncPaused, "and stays so");
    plant.act(Action::Sync).await;
    plant.step().await;
    assert_eq!(plant.job().await.status, crate::store::JobStatus::Running, "it goes on");
}
