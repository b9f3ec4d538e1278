//! Live failovers and their way back: who owns what, what runs where, and what every ending leaves.

use super::site::{Site, cycle};
use super::world::{At, Fault, somebody};
use crate::failover::live::{CommitPolicy, Live, Mode};
use crate::failover::request::{Ready, Weight};
use crate::failover::{Request, Standing};
use crate::service::act::Ask as Act;
use crate::workflow::{JobState, StepState};
use shared::migration::{Action, Position};
use shared::vm::Power;
use std::time::Duration;

/// Of a planned one of two disks.
pub(super) const STEPS: [&str; 13] = [
    "validate",
    "source-state",
    "drain",
    "power-off",
    "final-cycle",
    "clone-0",
    "clone-1",
    "snapshot",
    "define",
    "attach-0",
    "attach-1",
    "source-off",
    "start",
];

pub(super) const BACK: [&str; 7] = ["begin", "stop", "keep", "remove", "drop-snapshot", "power-on", "verify"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_moves_with_its_last_delta_and_comes_back() {
    for site in [Site::sqlite().await, Site::mariadb().await] {
        let id = site.begin().await;
        assert_eq!(site.position().await, Position::SwitchRunning, "in the transaction that made the job");
        let job = site.drive(&id).await;
        assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
        let steps: Vec<_> = job.steps.iter().map(|s| s.plan.name.as_str()).collect();
        assert_eq!(steps, STEPS);
        assert_eq!(site.position().await, Position::SwitchSuccessful);
        assert_eq!(site.power(), Power::Off);
        assert!(site.target_runs());
        // It runs on clones of what the source wrote last, and the replica is the same.
        let there = site.world.there();
        assert_eq!(there.clones.len(), 2);
        for volume in &there.clones {
            assert_eq!(site.content(volume), Some(b'z'), "{volume}");
        }
        let replica = site.world.kept();
        // The owner of the replica is the failover: no cycle, no schedule, no push.
        for action in [Action::Sync, Action::Automatic, Action::Switch, Action::Abort] {
            site.world.plant.ask(&Act::new(action)).await.expect_err("refused");
        }
        let clone = there.clones.first().cloned().expect("a clone");
        let path = site.world.plant.folder.path().join("storage/volumes").join(format!("{clone}.img"));
        std::fs::write(path, b"what it wrote at the target").expect("written");

        let back = site.roll_back(&id).await;
        assert_eq!(site.roll_back(&id).await, back, "again: the same");
        let cleaned = site.world.plant.app.failover_cleanup(&somebody(), id.as_str()).await;
        assert_eq!(cleaned.expect_err("it goes back").reason(), "ACTION_IN_PROGRESS");
        assert_eq!(site.position().await, Position::RollbackRunning);
        let job = site.drive(&back).await;
        assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
        assert_eq!(site.position().await, Position::SyncPaused);
        assert_eq!(site.power(), Power::On);
        assert!(site.world.there().machines.is_empty());
        assert_eq!(site.world.kept(), replica, "the replica is untouched");
        assert!(
            site.world.plant.disks().await.iter().all(|d| !d.needs_hash_diff),
            "its change ids are trusted"
        );
        let failover = site.failover(&id).await;
        assert_eq!(failover.standing(), Standing::Kept);
        let kept = site.world.there();
        assert_eq!(kept.clones.len(), 2, "what it wrote is kept");
        assert_eq!(kept.snapshots.len(), 1, "{kept:?}");
        assert!(kept.snapshots.iter().all(|name| name.ends_with("-kept")), "{kept:?}");
        assert!(failover.expires().is_some());
        // Replication goes on, and the VM may move again.
        cycle(&site.world.plant, b'b', "3").await;
        let again = site.begin().await;
        assert_eq!(site.drive(&again).await.state, JobState::Succeeded);
        let cleanup = site.world.clean(&id).await;
        assert_eq!(site.world.drive(&cleanup).await.state, JobState::Succeeded);
        assert_eq!(site.failover(&id).await.standing(), Standing::Gone);
        assert_eq!(site.world.there().clones.len(), 2, "those of the second are left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_stays_and_the_replica_goes() {
    for site in [Site::sqlite().await, Site::mariadb().await] {
        let id = site.begin().await;
        site.drive(&id).await;
        let app = &site.world.plant.app;
        let refused =
            site.world.ask(&site.world.request().await).await.expect_err("no test beside it").to_string();
        assert!(
            refused.contains("rollback") && refused.contains("commit") && !refused.contains("clean"),
            "{refused}"
        );
        let view = site.commit(&id).await.expect("taken");
        assert_eq!(view.failover.standing(), Standing::HandedOver);
        app.failover_rollback(&somebody(), id.as_str()).await.expect_err("there is no way back");
        site.world.plant.step().await;
        let migration = site.world.plant.app.store.migration_fetch(&view.failover.record.migration).await;
        let migration = migration.expect("read");
        assert_eq!(migration.position, Position::FinalizeSuccessful);
        assert!(migration.release_pending, "the source is let go");
        let (events, _) = tokio::sync::mpsc::channel(1);
        let verified = app.verify_replica(migration.id.as_str(), events, Default::default()).await;
        let refused = verified.expect_err("nothing is left to compare");
        assert_eq!(refused.reason(), "MIGRATION_ENDED");
        assert!(refused.to_string().contains("finalized, and its replica handed over"), "{refused}");
        assert!(site.target_runs() && site.power() == Power::Off);
        assert!(site.world.kept().is_empty(), "no replica, no restore point: {:?}", site.world.kept());
        let there = site.world.there();
        assert_eq!((there.clones.len(), there.snapshots.len()), (2, 0), "{there:?}");
        let orphans = app.orphans().await.expect("read");
        assert!(orphans.iter().all(|o| o.keep.is_some()), "production is no orphan: {orphans:?}");
    }
}

/// However a migration comes to be there: without a commit nothing takes a replica away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_goes_only_after_a_commit() {
    let site = Site::sqlite().await;
    let id = site.begin().await;
    site.drive(&id).await;
    let mut migration = site.world.plant.migration().await;
    migration.position = Position::FinalizeRunning;
    let app = &site.world.plant.app;
    app.store.migration_transition(&migration, app.clock.now()).await.expect("by hand");
    let kept = site.world.kept();
    site.world.plant.step().await;
    assert_eq!(site.world.kept(), kept);
    assert_eq!(site.position().await, Position::FinalizeRunning);
}

/// Before the machine has run, all is taken back: the source runs, and the VM is protected without anybody's doing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_step_that_fails_takes_back_all_of_it() {
    for step in STEPS {
        for faults in [&[Fault::Permanent; 1][..], &[Fault::SaidFailed; 1], &[Fault::Transient; 9]] {
            let site = Site::sqlite().await;
            site.world.fails(step, At::Act, faults);
            let id = site.begin().await;
            let job = site.drive(&id).await;
            // It said that it had failed, and runs.
            if step == "start" && faults[0] == Fault::SaidFailed {
                assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
                let back = site.roll_back(&id).await;
                assert_eq!(site.drive(&back).await.state, JobState::Succeeded);
            } else {
                // The machine is known not to have run.
                assert_eq!(job.state, JobState::RolledBack, "{step} {faults:?}: {job:#?}");
                assert!(site.world.nothing_there(), "{step} {faults:?}: {:?}", site.world.there());
                let migration = site.world.plant.migration().await;
                assert_eq!(migration.error.map(|e| e.reason), Some("FAULT".to_owned()));
            }
            assert_eq!(site.position().await, Position::SyncPaused, "{step} {faults:?}");
            assert_eq!(site.power(), Power::On, "{step} {faults:?}");
            cycle(&site.world.plant, b'c', "4").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_is_looked_up() {
    for step in STEPS {
        let site = Site::sqlite().await;
        site.world.fails(step, At::Act, &[Fault::AnswerLost]);
        let id = site.begin().await;
        let job = site.drive(&id).await;
        assert_eq!(job.state, JobState::Succeeded, "{step}: {job:#?}");
        for step in BACK {
            site.world.fails(step, At::Act, &[Fault::AnswerLost, Fault::Transient]);
        }
        let back = site.roll_back(&id).await;
        let job = site.drive(&back).await;
        assert_eq!(job.state, JobState::Succeeded, "{step}: {job:#?}");
        assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_that_fails_waits_for_a_decision() {
    for step in &STEPS[..STEPS.len() - 1] {
        let site = Site::sqlite().await;
        site.world.fails("source-off", At::Act, &[Fault::Permanent]);
        site.world.fails(step, At::Undo, &[Fault::Permanent]);
        let id = site.begin().await;
        let job = site.drive(&id).await;
        assert_eq!(job.state, JobState::NeedsAttention, "{step}: {job:#?}");
        assert_eq!(site.position().await, Position::SwitchFailed);
        // A rollback takes back what is left, and nothing more can be asked of the job it takes the place of.
        let back = site.roll_back(&id).await;
        let denied = site.world.engine().ask(&id, &crate::workflow::Ask::Retry, "tester").await;
        denied.expect_err("superseded");
        let job = site.drive(&back).await;
        assert_eq!(job.state, JobState::Succeeded, "{step}: {job:#?}");
        assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On), "{step}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_back_that_fails_waits_and_is_repeated() {
    for step in BACK {
        let site = Site::sqlite().await;
        let id = site.begin().await;
        site.drive(&id).await;
        site.world.fails(step, At::Act, &[Fault::Permanent]);
        let back = site.roll_back(&id).await;
        let job = site.drive(&back).await;
        // What said that it had failed may be found to have happened.
        if job.state != JobState::Succeeded {
            assert_eq!(site.position().await, Position::RollbackFailed, "{step}");
            let again = site.roll_back(&id).await;
            assert_eq!(again == back, step != "begin", "{step}: the same, but for one that never began");
            assert_eq!(site.drive(&again).await.state, JobState::Succeeded, "{step}");
        }
        assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On), "{step}");
        assert!(site.world.there().machines.is_empty());
    }
}

/// Two of one VM never run: neither while it moves, nor on its way back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_that_is_not_off_does_not_move() {
    let site = Site::sqlite().await;
    *site.deaf.lock().expect("whole") = true;
    let id = site.begin().await;
    let job = site.drive(&id).await;
    assert_eq!(job.state, JobState::RolledBack);
    assert_eq!(job.error.map(|e| e.reason), Some("POWER_OFF_TIMEOUT".to_owned()));
    assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On));
    assert!(site.world.nothing_there());
    // It obeys late, when nobody waits for it any more.
    let warned = async |power| {
        site.seen(power).await;
        let view = site.world.plant.app.failover_find(id.as_str()).await.expect("read");
        view.warnings.iter().any(|warning| warning.starts_with("SOURCE_OFF"))
    };
    assert!(!warned(Power::On).await && warned(Power::Off).await);
    // With permission its power is cut.
    let mut request = site.request().await;
    if let Some(live) = &mut request.live {
        live.force = true;
    }
    let id = site.ask(&request).await.expect("taken").failover.record.job;
    let job = site.drive(&id).await;
    assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
    let how = job.output("power-off").and_then(|o| o.get("how")?.as_str().map(str::to_owned));
    assert_eq!(how, Some("forced".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_that_somebody_switched_on_again_does_not_start_twice() {
    let site = Site::sqlite().await;
    site.world.fails("attach-1", At::Act, &[Fault::Transient]);
    let id = site.begin().await;
    let on = async {
        loop {
            let job = site.failover(&id).await.job;
            if job.steps.iter().any(|s| s.plan.name == "define" && s.state == StepState::Done) {
                return site.switch_source(Power::On);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (job, ()) = tokio::join!(site.drive(&id), on);
    assert_eq!(job.state, JobState::RolledBack, "{job:#?}");
    assert_eq!(job.error.map(|e| e.reason), Some("SOURCE_RUNNING".to_owned()));
    assert!(site.world.nothing_there());
}

/// What was off before stays off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_that_was_off_is_left_off() {
    let site = Site::sqlite().await;
    site.switch_source(Power::Off);
    site.world.fails("define", At::Act, &[Fault::Permanent]);
    let id = site.begin().await;
    assert_eq!(site.drive(&id).await.state, JobState::RolledBack);
    assert_eq!(site.power(), Power::Off);
    let id = site.begin().await;
    assert_eq!(site.drive(&id).await.state, JobState::Succeeded);
    let back = site.roll_back(&id).await;
    assert_eq!(site.drive(&back).await.state, JobState::Succeeded);
    assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::Off));
}

/// Without its source, as of its last restore point, for as much loss as was accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_source_costs_what_was_accepted() {
    let mut site = Site::sqlite().await;
    let unplanned = |loss: Option<Duration>| {
        let why = Some("the site burns".to_owned());
        Live { mode: Mode::Unplanned, accepted_loss: loss, override_reason: why, ..Live::default() }
    };
    let request = site.request().await;
    let of = |live| Request { live: Some(live), ..request.clone() };
    let refused = site.ask(&of(unplanned(None))).await.expect_err("nobody accepted it");
    assert_eq!(refused.reason(), "DATA_LOSS_NOT_ACCEPTED", "{refused}");
    // It can be reached, and runs.
    let hour = Some(Duration::from_secs(3600));
    let id = site.ask(&of(unplanned(hour))).await.expect("taken").failover.record.job;
    let job = site.drive(&id).await;
    assert_eq!(job.error.map(|e| e.reason), Some("SOURCE_RUNNING".to_owned()));
    assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On));

    site.world.plant.disconnect();
    let refused = site.ask(&request).await.expect_err("it cannot be planned");
    assert_eq!(refused.reason(), "AGENT_NOT_CONNECTED", "{refused}");
    let id = site.ask(&of(unplanned(hour))).await.expect("taken").failover.record.job;
    let job = site.drive(&id).await;
    assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
    assert!(!job.steps.iter().any(|s| matches!(s.plan.name.as_str(), "power-off" | "final-cycle")));
    for clone in &site.world.there().clones {
        assert_eq!(site.content(clone), Some(b'a'), "of the last restore point");
    }
}

#[tokio::test]
async fn policy_asks_for_a_test_and_for_both_arms() {
    let site = Site::sqlite().await;
    let mut request = site.request().await;
    request.live = Some(Live::default());
    let refused = site.ask(&request).await.expect_err("no test");
    assert_eq!(refused.reason(), "CHAIN_POLICY", "{refused}");
    let test = site.world.begin().await;
    assert_eq!(site.world.drive(&test).await.state, JobState::Succeeded);
    let refused = site.ask(&request).await.expect_err("the test is there");
    assert_eq!(refused.reason(), "ACTION_IN_PROGRESS", "{refused}");
    let cleanup = site.world.clean(&test).await;
    site.world.drive(&cleanup).await;
    // A full copy since: it says nothing of what is there now.
    let plant = &site.world.plant;
    let disk = plant.disks().await.remove(0).id;
    let old = jiff::Timestamp::now() - Duration::from_secs(31 * 24 * 3600);
    plant.app.store.disk_verified_set(&disk, crate::store::Arm::Source, old).await.expect("stored");
    let refused = site.ask(&request).await.expect_err("not verified");
    assert_eq!(refused.reason(), "VERIFICATION_DUE", "{refused}");
    let now = jiff::Timestamp::now();
    plant.app.store.disk_verified_set(&disk, crate::store::Arm::Source, now).await.expect("stored");
    site.ask(&request).await.expect("a test has passed, and all is verified");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_and_a_request_make_the_same_job() {
    let mut site = Site::sqlite().await;
    site.world.plant.app.policy.test_max_age = shared::config::Period::seconds(0);
    site.world.plant.act(Action::Switch).await;
    let migration = site.world.plant.migration().await;
    let live = site.world.plant.app.store.failover_live(&migration.id).await.expect("read").expect("made");
    assert_eq!((migration.position, live.job.kind.as_str()), (Position::SwitchRunning, "live-failover"));
    // This one would convert its guest, which nothing here can.
    assert_eq!(site.drive(&live.record.job).await.state, JobState::RolledBack);
    let id = site.begin().await;
    site.drive(&id).await;
    site.world.plant.act(Action::Rollback).await;
    let back = site.failover(&id).await.rollback.expect("made").id;
    assert_eq!(site.drive(&back).await.state, JobState::Succeeded);
    let id = site.begin().await;
    site.drive(&id).await;
    tokio::select! {
        _ = Box::pin(site.world.plant.act(Action::Finalize)) => {}
        () = Box::pin(site.agent()) => {}
    }
    assert_eq!(site.failover(&id).await.standing(), Standing::HandedOver);
}

/// An abort while it moves: all is taken back first, the source runs, and then the replica goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_takes_a_switch_back_first() {
    let site = Site::sqlite().await;
    *site.last.lock().expect("whole") = None;
    let id = site.begin().await;
    let abort = async {
        while site.power() == Power::On {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        site.world.plant.act(Action::Abort).await;
    };
    let (job, ()) = tokio::join!(site.drive(&id), abort);
    assert_eq!(job.state, JobState::RolledBack, "{job:#?}");
    assert_eq!(site.power(), Power::On);
    assert!(site.world.nothing_there());
    let of = site.failover(&id).await.record.migration;
    site.world.plant.step().await;
    let migration = site.world.plant.app.store.migration_fetch(&of).await.expect("read");
    assert_eq!(migration.position, Position::AbortAborted);
    assert!(site.world.kept().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_policy_decides_when_nobody_does() {
    for (commit_policy, ends) in [
        (CommitPolicy::None, Standing::There),
        (CommitPolicy::Commit, Standing::HandedOver),
        (CommitPolicy::Rollback, Standing::Kept),
    ] {
        let site = Site::sqlite().await;
        let mut request = site.request().await;
        if let Some(live) = &mut request.live {
            (live.commit_policy, live.decided_within) = (commit_policy, Duration::from_secs(1));
        }
        let id = site.ask(&request).await.expect("taken").failover.record.job;
        site.drive(&id).await;
        assert_eq!(site.failover(&id).await.standing(), Standing::There, "not before its time");
        tokio::time::sleep(Duration::from_millis(1100)).await;
        site.world.plant.app.failovers_decide().await;
        if let Some(back) = site.failover(&id).await.rollback {
            site.drive(&back.id).await;
        }
        assert_eq!(site.failover(&id).await.standing(), ends, "{commit_policy}");
    }
}

/// A machine that ran and never became ready is taken back too, where that was asked for; what it wrote is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_never_ready_comes_back_by_itself() {
    let site = Site::sqlite().await;
    let mut request = site.request().await;
    if let Some(live) = &mut request.live {
        (live.commit_policy, live.decided_within) = (CommitPolicy::Rollback, Duration::from_secs(1));
    }
    request.ready = Ready::console("login:", Some("1s"), Weight::Required).ok();
    let id = site.ask(&request).await.expect("taken").failover.record.job;
    let job = site.drive(&id).await;
    assert_eq!((job.state, site.position().await), (JobState::NeedsAttention, Position::SwitchFailed));
    site.world.plant.app.failovers_decide().await;
    let back = site.failover(&id).await.rollback.expect("its time is over").id;
    assert_eq!(site.drive(&back).await.state, JobState::Succeeded);
    assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On));
    assert_eq!(site.failover(&id).await.standing(), Standing::Kept);
}
