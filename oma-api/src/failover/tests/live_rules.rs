//! The rules that keep data while a VM moves, each broken by somebody else: the storage, the source, an agent that comes
//! back. Each of these is red without its rule.

use super::site::{Site, Trouble, cycle};
use super::world::somebody;
use crate::compute::Stop;
use crate::failover::live::{Live, Mode};
use crate::failover::request::{Ready, Weight};
use crate::failover::{Request, names, source};
use crate::service::Waiting;
use crate::service::transfer::{OpenRequest, TransferError};
use crate::storage::VolumeId;
use crate::workflow::{Ask, JobState};
use bytes::Bytes;
use migratekit::manifest::leaf_hashes;
use migratekit::piece::Piece;
use shared::leaf::LEAF;
use shared::migration::{Action, Position};
use shared::range::{ByteRange, RangeSet};
use shared::vm::Power;
use std::time::Duration;

const SIZE: u64 = 2 * LEAF;

/// DESIGN §6 rule 10: a final delta that the storage lost makes no restore point, let alone a machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_delta_is_read_back_before_anything_starts_from_it() {
    let site = Site::sqlite().await;
    *site.trouble.lock().expect("whole") = Some(Trouble::Loses);
    let points = site.world.plant.app.store.snapshots_kept().await.expect("read");
    let id = site.begin().await;
    let job = site.drive(&id).await;
    assert_eq!(job.state, JobState::RolledBack, "{job:#?}");
    let error = job.error.expect("why");
    assert_eq!(error.reason, "FINAL_SYNC_FAILED");
    assert!(error.message.contains("READ_BACK_FAILED"), "{}", error.message);
    assert_eq!(site.world.plant.app.store.snapshots_kept().await.expect("read"), points, "no restore point");
    assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On));
    // What was lost is sent again, whatever the source says.
    let disk = site.world.plant.disks().await.swap_remove(0).id;
    let next = "job-29991231-235959".parse().expect("an id");
    let required = site.world.plant.app.store.required_load(&disk, &next).await.expect("read");
    assert!(required.contains(ByteRange::new(0, LEAF)), "{required:?}");
    *site.trouble.lock().expect("whole") = None;
    cycle(&site.world.plant, b'd', "6").await;
    let id = site.begin().await;
    assert_eq!(site.drive(&id).await.state, JobState::Succeeded);
}

/// Change ids of a source that ran, stood still and was switched on again are believed only after they were checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_ids_are_trusted_after_a_rollback_only_where_they_tell_the_truth() {
    let site = Site::sqlite().await;
    let id = site.begin().await;
    site.drive(&id).await;
    *site.trouble.lock().expect("whole") = Some(Trouble::Hides);
    let back = site.roll_back(&id).await;
    let job = site.drive(&back).await;
    assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
    let verified = job.output("verify").expect("done");
    assert_eq!(verified["trusted"], false, "{verified}");
    let disks = site.world.plant.disks().await;
    assert!(disks.iter().all(|d| d.needs_hash_diff), "all of it is compared by the next cycle");
    assert!(verified["warning"].as_str().is_some_and(|why| why.contains("calls unchanged")), "{verified}");
}

/// Blocks that a cycle left open cannot be compared: that is said, and not that change tracking lies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cycle_left_open_is_compared_after_a_rollback() {
    let site = Site::sqlite().await;
    let id = site.begin().await;
    site.drive(&id).await;
    let store = &site.world.plant.app.store;
    let disk = site.world.plant.disks().await.swap_remove(0);
    let open: RangeSet = [ByteRange::new(0, LEAF)].into_iter().collect();
    store.required_append(&disk.id, &open, jiff::Timestamp::now()).await.expect("stored");
    let back = site.roll_back(&id).await;
    let job = site.drive(&back).await;
    let verified = job.output("verify").expect("done");
    let why = verified["warning"].as_str().unwrap_or_default();
    assert!(why.contains("left blocks open") && why.ends_with(disk.key.as_str()), "{verified}");
    assert!(site.world.plant.disks().await.iter().all(|d| d.needs_hash_diff));
}

/// DESIGN §6 rule 14: an agent that was cut off in the middle of a cycle comes back after its VM has moved. Nothing that it
/// sends, under whatever epoch it knows, reaches the replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_comes_back_writes_no_byte() {
    let mut site = Site::sqlite().await;
    site.world.plant.act(Action::Sync).await;
    site.world.plant.step().await;
    let job = site.world.plant.job().await;
    site.world.plant.snapshot_taken(&job, "2").await;
    let d = &job.disks[0];
    let (of, disk) = (job.id.clone(), d.disk.clone());
    let mode = crate::service::transfer::Mode::Data;
    let request = OpenRequest { job: of, disk, epoch: d.epoch, size: SIZE, mode };
    let agent = site.world.plant.agent.clone();
    let transfers = std::sync::Arc::clone(&site.world.plant.app.transfers);
    let opened = transfers.open(&agent, &request).await.expect("opened");
    let piece = |offset: u64| {
        let data = Bytes::from(vec![b'x'; usize::try_from(LEAF).expect("small")]);
        Piece::Data { offset, hashes: leaf_hashes(&data), data }
    };
    let all = RangeSet::from_iter([ByteRange::new(0, SIZE)]);
    opened.transfer.intend(all).expect("open").await.expect("announced");
    opened.transfer.write(piece(0)).await.expect("half of it");
    site.world.plant.disconnect();
    site.world.plant.act(Action::Pause).await;
    site.world.plant.step().await;
    assert_eq!(site.position().await, Position::SyncPaused);

    let live = Live {
        mode: Mode::Unplanned,
        accepted_loss: Some(Duration::from_secs(3600)),
        override_reason: Some("the site is cut off".to_owned()),
        ..Live::default()
    };
    let request_live = Request { live: Some(live), ..site.request().await };
    let id = site.ask(&request_live).await.expect("taken").failover.record.job;
    assert_eq!(site.drive(&id).await.state, JobState::Succeeded);
    let replica = site.world.kept();
    for clone in &site.world.there().clones {
        assert_eq!(site.content(clone), Some(b'a'), "nothing of the broken cycle");
    }
    // It is back: its stream goes on where it was, it opens new ones, it asks for a cycle.
    site.world.plant.connect().await;
    assert!(opened.transfer.write(piece(LEAF)).await.is_err(), "its stream was closed");
    let again = transfers.open(&agent, &request).await.err();
    assert!(matches!(again, Some(TransferError::Overtaken { .. })), "{again:?}");
    let newer = OpenRequest { epoch: site.world.plant.disks().await.swap_remove(0).epoch, ..request.clone() };
    assert!(transfers.open(&agent, &newer).await.is_err(), "whatever epoch it guesses");
    site.world.plant.ask(&crate::service::act::Ask::new(Action::Sync)).await.expect_err("no cycle");
    site.world.plant.step().await;
    let desired = site.world.plant.desired().await;
    assert!(desired.cycle.is_none() && desired.power.is_none(), "{desired:?}");
    assert_eq!(site.world.kept(), replica, "not one byte");
    // The way back: what was half written is sent again before anything is committed.
    site.switch_source(Power::On);
    let back = site.roll_back(&id).await;
    assert_eq!(site.drive(&back).await.state, JobState::Succeeded);
    let of = site.world.plant.disks().await.swap_remove(0);
    let next = "job-29991231-235959".parse().expect("an id");
    let required = site.world.plant.app.store.required_load(&of.id, &next).await.expect("read");
    assert_eq!(required.total(), SIZE, "{required:?}");
    cycle(&site.world.plant, b'e', "7").await;
    assert_eq!(site.content(VolumeId::parse(of.volume).expect("a name").as_str()), Some(b'e'));
}

/// Nothing is stopped on the target that could not be switched on at the source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_back_while_its_source_cannot_be_switched_on() {
    let mut site = Site::sqlite().await;
    let id = site.begin().await;
    site.drive(&id).await;
    site.world.plant.disconnect();
    let refused = site.world.plant.app.failover_rollback(&somebody(), id.as_str()).await;
    assert_eq!(refused.expect_err("nobody is there").reason(), "AGENT_NOT_CONNECTED");
    assert!(site.target_runs());
    assert_eq!(site.position().await, Position::SwitchSuccessful);
    site.world.plant.connect().await;
    let back = site.roll_back(&id).await;
    assert_eq!(site.drive(&back).await.state, JobState::Succeeded);
}

/// A step may wait for minutes: whoever looks is told for whom.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_waited_for_is_named() {
    let mut site = Site::sqlite().await;
    let id = site.begin().await;
    let app = site.world.plant.app.clone();
    let warnings = async || app.failover_find(id.as_str()).await.expect("read").warnings;
    assert!(!warnings().await.iter().any(|warning| warning.contains("waits for")), "it has not begun");
    site.world.plant.disconnect();
    let engine = site.world.engine();
    tokio::select! {
        driven = Box::pin(engine.drive_now(&id)) => panic!("nobody answers: {driven:?}"),
        () = async {
            while !warnings().await.iter().any(|w| w.starts_with("AGENT_NOT_CONNECTED: source-state waits for")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    let report = app.failover_report(id.as_str()).await.expect("made");
    assert!(report.findings.iter().any(|f| f.code == "AGENT_NOT_CONNECTED"), "{:?}", report.findings);
    site.world.plant.connect().await;
    assert!(!warnings().await.iter().any(|warning| warning.contains("waits for")), "it is there");
}

/// Its VM is off by then: whoever looks is told what keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_delta_that_waits_says_why() {
    let site = Site::sqlite().await;
    *site.last.lock().expect("whole") = None;
    let id = site.begin().await;
    let app = &site.world.plant.app;
    let full = async {
        let cycle = loop {
            match site.failover(&id).await.final_job {
                Some(cycle) => break cycle,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let (reason, message) = ("TARGET_SPACE_LOW".to_owned(), "2 GiB are to stay free".to_owned());
        app.hub.set_waiting(&cycle, Waiting { reason, message });
        loop {
            let warnings = app.failover_find(id.as_str()).await.expect("read").warnings;
            if warnings.iter().any(|w| w.starts_with("TARGET_SPACE_LOW: final-cycle waits: 2 GiB")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        app.hub.not_waiting(&cycle);
        let warnings = app.failover_find(id.as_str()).await.expect("read").warnings;
        assert!(!warnings.iter().any(|warning| warning.contains("waits:")), "{warnings:?}");
        *site.last.lock().expect("whole") = Some(b'z');
    };
    let (job, ()) = tokio::join!(site.drive(&id), full);
    assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
}

/// The floor holds for a final delta as for any cycle: a VM that would wait there for room is not powered off at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_is_looked_for_before_the_source_is_powered_off() {
    let mut site = Site::sqlite().await;
    site.world.floor = "1000000TiB".parse().expect("a floor");
    let id = site.begin().await;
    let job = site.drive(&id).await;
    assert_eq!(job.state, JobState::RolledBack, "{job:#?}");
    let error = job.error.expect("why");
    assert!(error.message.contains("are to stay free"), "{error:?}");
    let untouched = job.steps.iter().find(|step| step.plan.name == source::POWER_OFF).expect("planned");
    assert_eq!((untouched.started_at, site.power()), (None, Power::On));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_that_runs_twice_is_said_to() {
    let site = Site::sqlite().await;
    let id = site.begin().await;
    site.drive(&id).await;
    let app = &site.world.plant.app;
    let warned = async || {
        let view = app.failover_find(id.as_str()).await.expect("read");
        view.warnings.iter().any(|warning| warning.starts_with("SOURCE_RUNNING"))
    };
    assert!(!warned().await);
    site.seen(Power::On).await;
    assert!(warned().await, "somebody switched it on");
    let refused = site.commit(&id).await.expect_err("which one counts?");
    assert_eq!(refused.reason(), "SOURCE_RUNNING");
    assert_eq!(site.position().await, Position::SwitchSuccessful);
    site.seen(Power::Off).await;
    // A moment ago, and its agent has not said so by itself.
    site.switch_source(Power::On);
    let refused = site.commit(&id).await.expect_err("it is asked");
    assert_eq!(refused.reason(), "SOURCE_RUNNING");
    assert!(refused.to_string().contains("agent vma-01 sees"), "{refused}");
    site.switch_source(Power::Off);
    site.commit(&id).await.expect("there is one");
    site.seen(Power::On).await;
    assert!(warned().await, "it is said after the commit, too");
}

/// What is handed over runs: there is no way back from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_has_stopped_is_shown_and_not_committed() {
    let site = Site::sqlite().await;
    let id = site.begin().await;
    site.drive(&id).await;
    let app = &site.world.plant.app;
    let name = names::machine_name(&site.failover(&id).await.record.name);
    app.compute.as_ref().expect("there is one").stop(&name, Stop::Now).await.expect("its process ended");
    let shown = app.failover_find(id.as_str()).await.expect("read").warnings;
    assert!(shown.iter().any(|warning| warning.starts_with("MACHINE_NOT_RUNNING")), "{shown:?}");
    let refused = site.commit(&id).await.expect_err("nothing runs");
    assert_eq!(refused.reason(), "NOTHING_TO_COMMIT");
    let back = site.roll_back(&id).await;
    assert_eq!(site.drive(&back).await.state, JobState::Succeeded);
}

/// Who asks for a check again means all of its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_waited_for_anew_where_that_is_asked_for() {
    let site = Site::sqlite().await;
    let mut request = site.request().await;
    request.ready = Ready::console("late:", Some("1s"), Weight::Required).ok();
    let id = site.ask(&request).await.expect("taken").failover.record.job;
    assert_eq!(site.drive(&id).await.state, JobState::NeedsAttention);
    site.world.engine().ask(&id, &Ask::Retry, "tester").await.expect("taken");
    let late = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        site.world.plant.machines.say(b"late: but ready\n");
    };
    let (job, ()) = tokio::join!(site.drive(&id), late);
    assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
    assert_eq!(site.position().await, Position::SwitchSuccessful);
}
