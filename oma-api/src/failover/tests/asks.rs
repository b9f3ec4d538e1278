//! What operators ask: of a test that runs, of a migration that has one, of too many; and what ends by itself.

use super::world::{World, somebody};
use crate::failover::request::{Check, Ready, Weight};
use crate::service::Error;
use crate::service::failovers::{FailoverFilter, Refused};
use crate::store;
use crate::testing::{Plant, cut};
use crate::workflow::{self, Ask, JobState};
use shared::migration::Action;
use shared::profile::{Backend, NetworkMap, Settings};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Wherever it is: between two steps, and in the middle of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_can_be_cancelled_until_it_has_ended() {
    let world = World::sqlite().await;
    let mut at = 0;
    loop {
        let id = world.begin().await;
        let stopped = cut(world.engine().drive_now(&id), at).await.is_none();
        if !stopped {
            let denied = world.engine().ask(&id, &Ask::Cancel, "tester").await.expect_err("it has ended");
            assert!(matches!(denied, workflow::Error::Denied(_)), "{denied:?}");
            break;
        }
        if let Err(denied) = world.engine().ask(&id, &Ask::Cancel, "tester").await {
            // Its last transaction was under way when it was cut, and came to its end.
            assert!(matches!(denied, workflow::Error::Denied(_)), "cut at {at}: {denied:?}");
            assert_eq!(world.drive(&id).await.state, JobState::Succeeded);
            break;
        }
        let job = world.drive(&id).await;
        assert_eq!(job.state, JobState::RolledBack, "cut at {at}: {job:#?}");
        assert_eq!(job.error.as_ref().map(|e| e.reason.as_str()), Some("CANCELLED"));
        world.check(&id).await;
        assert!(world.nothing_there(), "cut at {at}: {:?}", world.there());
        at += 5;
    }
    assert!(at > 40, "only {at}");
}

#[tokio::test]
async fn five_tests_are_there_at_a_time_and_no_abort_takes_their_ground() {
    let world = World::sqlite().await;
    let mut tests = vec![];
    for _ in 0..5 {
        tests.push(world.begin().await);
    }
    let refused = world.ask(&world.request().await).await.expect_err("one too many");
    assert_eq!(refused.reason(), "TOO_MANY_FAILOVERS", "{refused}");
    let refused =
        world.plant.ask(&crate::service::act::Ask::new(Action::Abort)).await.expect_err("in the way");
    assert!(matches!(&refused, Error::Store(store::Error::FailoverThere { .. })), "{refused:?}");
    for test in &tests {
        assert_eq!(world.drive(test).await.state, JobState::Succeeded);
        let cleanup = world.clean(test).await;
        assert_eq!(world.drive(&cleanup).await.state, JobState::Succeeded);
    }
    assert!(world.nothing_there());
    world.plant.act(Action::Abort).await;
    let refused = world.ask(&world.request().await).await.expect_err("it is ending");
    assert_eq!(refused.reason(), "MIGRATION_ENDED", "{refused}");
}

#[tokio::test]
async fn a_request_that_means_nothing_is_refused() {
    let world = World::sqlite().await;
    let good = world.request().await;
    let reason = async |request| world.ask(&request).await.expect_err("refused").reason();
    let with = |change: fn(&mut crate::failover::Request)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let nobody = "00000000-0000-4000-8000-00000000000f";
    assert_eq!(reason(with(|r| r.vm_id = "web-1".to_owned())).await, "VM_NOT_FOUND");
    assert_eq!(
        reason(crate::failover::Request { vm_id: nobody.to_owned(), ..good.clone() }).await,
        "VM_NOT_FOUND"
    );
    assert_eq!(reason(with(|r| r.vm_name = "web-2".to_owned())).await, "INVALID_REQUEST");
    assert_eq!(reason(with(|r| r.test_duration = Some("soon".to_owned()))).await, "INVALID_REQUEST");
    let point = with(|r| r.restore_point = Some("rp-job-20200101-000000".to_owned()));
    assert_eq!(reason(point).await, "RESTORE_POINT_NOT_FOUND");
    assert!(world.nothing_there());
    let page = world.plant.app.failover_list(&FailoverFilter::default()).await.expect("read");
    assert_eq!((page.total, page.failovers.len()), (0, 0));
    // And before anything was committed.
    let plant = Plant::begun().await;
    let migration = plant.migration().await;
    let early = crate::failover::Request {
        vm_id: migration.vm.to_string(),
        vm_name: migration.vm_name,
        ..crate::failover::Request::default()
    };
    let refused = plant.app.failover_test(&somebody(), &early).await.expect_err("nothing to start from");
    assert!(matches!(&refused, Error::Failover(Refused::NoRestorePoint { .. })), "{refused:?}");
}

#[tokio::test]
async fn lists_are_filtered_and_paged_newest_first() {
    let world = World::sqlite().await;
    let (first, second) = (world.begin().await, world.begin().await);
    world.drive(&first).await;
    let list = async |filter: FailoverFilter| {
        let page = world.plant.app.failover_list(&filter).await.expect("read");
        let ids: Vec<_> = page.failovers.into_iter().map(|v| v.failover.record.job).collect();
        (ids, page.total, page.next_before)
    };
    let of = |status: &str| FailoverFilter { status: status.to_owned(), ..FailoverFilter::default() };
    assert_eq!(list(FailoverFilter::default()).await, (vec![second.clone(), first.clone()], 2, None));
    assert_eq!(list(of("completed")).await, (vec![first.clone()], 1, None));
    assert_eq!(list(of("pending")).await, (vec![second.clone()], 1, None));
    assert_eq!(list(of("failed")).await, (vec![], 0, None));
    let kind = FailoverFilter { kind: "live".to_owned(), ..FailoverFilter::default() };
    assert_eq!(list(kind).await.1, 0);
    let page = FailoverFilter { limit: Some(1), ..FailoverFilter::default() };
    assert_eq!(list(page).await, (vec![second.clone()], 2, Some(second.clone())));
    let next = FailoverFilter { limit: Some(1), before: second.to_string(), ..FailoverFilter::default() };
    assert_eq!(list(next).await, (vec![first], 2, None));
    assert!(world.plant.app.failover_list(&of("done")).await.is_err(), "no status");
}

/// A guest that says what was waited for is ready; one that does not fails a test only where that was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_waited_for() {
    let ready = |text: &str, within: u64, weight| {
        let check = Check::Console { text: text.to_owned() };
        Some(Ready { check, within: Duration::from_millis(within), weight })
    };
    for (text, weight, state, warned) in [
        ("guest boots", Weight::Required, JobState::Succeeded, false),
        ("login:", Weight::Advisory, JobState::Succeeded, true),
        ("login:", Weight::Required, JobState::RolledBack, false),
    ] {
        let world = World::sqlite().await;
        let mut request = world.request().await;
        request.ready = ready(text, 1000, weight);
        let id = world.ask(&request).await.expect("taken");
        let job = world.drive(&id).await;
        assert_eq!(job.state, state, "{text}: {job:#?}");
        let view = world.plant.app.failover_find(id.as_str()).await.expect("read");
        assert_eq!(!view.warnings.is_empty(), warned, "{view:#?}");
        if state == JobState::RolledBack {
            let error = job.error.expect("why");
            assert_eq!(error.reason, "VM_NOT_READY");
            assert!(error.message.contains("the guest boots"), "with its console: {}", error.message);
            assert!(world.nothing_there());
        }
    }
}

/// A wait can be cut short, and one that the program died in goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_cancelled_at_once() {
    let world = World::sqlite().await;
    let mut request = world.request().await;
    let check = Check::Console { text: "login:".to_owned() };
    request.ready = Some(Ready { check, within: Duration::from_secs(3600), weight: Weight::Required });
    let id = world.ask(&request).await.expect("taken");
    let engine = world.engine();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (engine, stop) = (engine.clone(), stop.clone());
        async move { engine.run(stop).await }
    });
    let store = &world.plant.app.store;
    let reaches = async |wanted: fn(&crate::workflow::Job) -> bool| {
        let found = async {
            loop {
                let job = store.workflow_fetch(&id).await.expect("read");
                if wanted(&job) {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.expect("in time")
    };
    reaches(|job| job.steps.last().is_some_and(|s| s.started_at.is_some())).await;
    engine.ask(&id, &Ask::Cancel, "tester").await.expect("taken");
    let job = reaches(|job| job.state.ended()).await;
    assert_eq!(job.state, JobState::RolledBack);
    assert!(world.nothing_there());
    stop.cancel();
    running.await.expect("ended");
}

/// After its time a test cleans itself up; one that is to be kept is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_ends_after_its_duration() {
    let world = World::sqlite().await;
    let mut request = world.request().await;
    request.test_duration = Some("1s".to_owned());
    let kept = world.ask(&request).await.expect("taken");
    request.auto_cleanup = true;
    let ends = world.ask(&request).await.expect("taken");
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (app, stop) = (world.plant.app.clone(), stop.clone());
        async move { app.failovers_run(stop).await }
    });
    let cleaned = async {
        while world.failover(&ends).await.cleanup.is_none_or(|job| job.state != JobState::Succeeded) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), cleaned).await.expect("in time");
    stop.cancel();
    running.await.expect("ended");
    let (ended, left) = (world.failover(&ends).await, world.failover(&kept).await);
    let took = ended.cleanup.and_then(|c| Some(c.created_at.duration_since(ended.job.ended_at?)));
    assert!(took.is_some_and(|took| took.as_secs() >= 1), "not before: {took:?}");
    assert!(left.cleanup.is_none() && left.is_there());
    assert_eq!(world.plant.machines.inventory().len(), 1);
}

/// A copy of the VM never meets production, whoever maps its card there, and whatever is to be skipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_live_for_anybody_is_refused() {
    let world = World::sqlite().await;
    let map = NetworkMap { source: "LAN".to_owned(), live: Some("prod".to_owned()), test: None };
    let settings = Settings { networks: vec![map], ..Settings::new(Backend::Local) };
    let name = "others".parse().expect("a name");
    world.plant.app.profile_create(&name, settings).await.expect("made");
    for (network, ends) in [("prod", JobState::RolledBack), ("lab", JobState::Succeeded)] {
        let mut request = world.request().await;
        request.skip_validation = true;
        request.network_mappings.insert("LAN".to_owned(), network.to_owned());
        let id = world.ask(&request).await.expect("taken");
        let job = world.drive(&id).await;
        assert_eq!(job.state, ends, "{network}: {job:#?}");
        if let Some(error) = job.error {
            assert!(error.reason == "VALIDATION_FAILED" && error.message.contains("prod"), "{error:?}");
        }
    }
}
