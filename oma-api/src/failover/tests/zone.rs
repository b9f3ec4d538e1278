//! The same on CloudStack and LINSTOR: every sub-step in every way, and afterwards both simulators' own records.

mod faults;

use super::site::{Site, cycle};
use super::world::{At, Fault, World};
use crate::failover::status::{Status, public_steps};
use crate::preflight::Code;
use crate::storage::VolumeId;
use crate::testing::cut;
use crate::workflow::{Ask, JobState};
use integration_tests::mariadb::Server;
use shared::migration::Position;
use shared::vm::Power;
use std::os::unix::fs::FileExt as _;

/// Of a test of two disks.
const STEPS: [&str; 11] = [
    "validate", "clone-0", "clone-1", "snapshot", "define", "shed", "adopt-0", "attach-0", "adopt-1",
    "attach-1", "start",
];

/// Of its clean-up.
const CLEANUP: [&str; 11] = [
    "begin",
    "stop",
    "detach-0",
    "detach-1",
    "remove",
    "release-0",
    "release-1",
    "drop-snapshot",
    "drop-clone-0",
    "drop-clone-1",
    "nothing-there",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_is_handed_over_and_leaves_nothing() {
    let mariadb = Server::shared().database().expect("a database");
    for world in [World::zone(None).await, World::zone(Some(mariadb)).await] {
        // A plan asks the target, and it could.
        let checked = world.plant.app.check("web-1", None).await.expect("checked");
        let of_target = |code: &Code| matches!(code, Code::TargetCannotRun | Code::TargetUnknown);
        assert!(!checked.report.findings.iter().any(|f| of_target(&f.code)), "{:?}", checked.report.findings);
        let id = world.begin().await;
        let job = world.drive(&id).await;
        assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
        let steps: Vec<_> = job.steps.iter().map(|s| s.plan.name.as_str()).collect();
        assert_eq!(steps, STEPS);
        let shown: Vec<_> = public_steps(&job).into_iter().map(|s| (s.name, s.status)).collect();
        let public = ["validation", "snapshot", "test-vm-creation", "volume-attachment", "test-vm-startup"];
        assert_eq!(shown, public.map(|name| (name.to_owned(), Status::Completed)));
        world.check(&id).await;
        let cleanup = world.clean(&id).await;
        let job = world.drive(&cleanup).await;
        assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
        let steps: Vec<_> = job.steps.iter().map(|s| s.plan.name.as_str()).collect();
        assert_eq!(steps, CLEANUP);
        world.check(&id).await;
        assert!(world.nothing_there(), "{:?}", world.there());
        let zone = world.plant.ground.zone.as_ref().expect("a zone");
        assert_eq!(zone.cloudstack().unknown_parameters(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_step_that_fails_takes_back_all_of_it() {
    let world = World::zone(None).await;
    for step in STEPS {
        for faults in [&[Fault::SaidFailed; 1][..], &[Fault::Transient; 9]] {
            world.fails(step, At::Act, faults);
            let id = world.begin().await;
            let job = world.drive(&id).await;
            assert_eq!(job.state, JobState::RolledBack, "{step} {faults:?}: {job:#?}");
            assert_eq!(job.error.as_ref().map(|e| e.reason.as_str()), Some("FAULT"));
            world.check(&id).await;
            assert!(world.nothing_there() && !world.failover(&id).await.is_there());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_is_looked_up_and_an_undo_that_fails_waits() {
    let world = World::zone(None).await;
    for step in STEPS {
        world.fails(step, At::Act, &[Fault::AnswerLost]);
        world.fails("start", At::Act, &[Fault::SaidFailed]);
        world.fails(step, At::Undo, &[Fault::Permanent]);
        let id = world.begin().await;
        let job = world.drive(&id).await;
        assert_eq!(
            (job.state, Status::of(&job)),
            (JobState::NeedsAttention, Status::Failed),
            "{step}: {job:#?}"
        );
        world.check(&id).await;
        world.engine().ask(&id, &Ask::Retry, "tester").await.expect("taken");
        assert_eq!(world.drive(&id).await.state, JobState::RolledBack, "{step}");
        world.check(&id).await;
        assert!(world.nothing_there(), "{step}: {:?}", world.there());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_up_that_fails_waits_and_is_repeated() {
    let world = World::zone(None).await;
    // A clean-up that has not begun may end.
    for step in &CLEANUP[1..] {
        let id = world.begin().await;
        world.drive(&id).await;
        let cleanup = world.clean(&id).await;
        world.fails(step, At::Act, &[Fault::AnswerLost, Fault::Permanent]);
        let mut job = world.drive(&cleanup).await;
        world.check(&id).await;
        // One of this step, and one that an earlier step had no use for.
        for _ in 0..2 {
            if job.state == JobState::NeedsAttention {
                world.engine().ask(&cleanup, &Ask::Retry, "tester").await.expect("taken");
                job = world.drive(&cleanup).await;
                world.check(&id).await;
            }
        }
        assert_eq!(job.state, JobState::Succeeded, "{step}: {job:#?}");
        assert!(world.nothing_there(), "{step}: {:?}", world.there());
        world.check(&id).await;
    }
}

/// Every so many polls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_is_whole_or_gone_wherever_it_dies() {
    let (world, mut first, mut deaths) = (World::zone(None).await, 0, 0);
    loop {
        let id = world.begin().await;
        let died = cut(world.engine().drive_now(&id), first).await.is_none();
        world.check(&id).await;
        if died {
            cut(world.engine().drive_now(&id), first * 7 % 41).await;
            world.check(&id).await;
        }
        let job = world.drive(&id).await;
        assert_eq!(job.state, JobState::Succeeded, "cut at {first}: {job:#?}");
        let cleanup = world.clean(&id).await;
        cut(world.engine().drive_now(&cleanup), first).await;
        world.check(&id).await;
        assert_eq!(world.drive(&cleanup).await.state, JobState::Succeeded, "cut at {first}");
        assert!(world.nothing_there(), "cut at {first}: {:?}", world.there());
        if !died {
            break;
        }
        deaths += 1;
        first += 17;
    }
    assert!(deaths > 5, "only {deaths}");
}

/// The byte that a volume begins with, on LINSTOR.
async fn byte(site: &Site, volume: &str) -> u8 {
    let path =
        site.world.plant.app.storage.path(&VolumeId::parse(volume).expect("a name")).await.expect("there");
    let mut byte = [0];
    std::fs::File::open(path).expect("open").read_exact_at(&mut byte, 0).expect("read");
    byte[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_moves_with_its_last_delta_and_comes_back() {
    let site = Site::zone().await;
    let id = site.begin().await;
    let job = site.drive(&id).await;
    assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
    assert_eq!((site.position().await, site.power()), (Position::SwitchSuccessful, Power::Off));
    assert!(site.target_runs());
    let there = site.world.there();
    assert_eq!((there.clones.len(), there.records == there.clones), (2, true), "{there:?}");
    for clone in &there.clones {
        assert_eq!(byte(&site, clone).await, b'z', "its last delta");
    }
    let replica = site.world.kept();
    let back = site.roll_back(&id).await;
    let job = site.drive(&back).await;
    assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
    let steps: Vec<_> = job.steps.iter().map(|s| s.plan.name.as_str()).collect();
    let wanted = [
        "begin",
        "stop",
        "detach-0",
        "detach-1",
        "keep",
        "remove",
        "release-0",
        "release-1",
        "drop-snapshot",
        "power-on",
        "verify",
    ];
    assert_eq!(steps, wanted);
    assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On));
    assert_eq!(site.world.kept(), replica, "the replica is untouched");
    let kept = site.world.there();
    assert_eq!(
        (kept.clones, kept.records.len(), kept.machines.len()),
        (there.clones, 0, 0),
        "what it wrote is kept"
    );
    assert!(kept.snapshots.iter().all(|name| name.ends_with("-kept")) && kept.snapshots.len() == 1);
    let cleanup = site.world.clean(&id).await;
    assert_eq!(site.world.drive(&cleanup).await.state, JobState::Succeeded);
    assert!(site.world.nothing_there(), "{:?}", site.world.there());
}

/// Every so many polls, on both ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_is_here_or_there_wherever_it_dies() {
    let (site, mut first, mut deaths) = (Site::zone().await, 0, 0);
    loop {
        let id = site.begin().await;
        let died = site.drive_and_die(&id, first).await;
        let job = site.drive(&id).await;
        assert_eq!(job.state, JobState::Succeeded, "cut at {first}: {job:#?}");
        assert_eq!((site.position().await, site.power()), (Position::SwitchSuccessful, Power::Off));
        let replica = site.world.kept();
        let back = site.roll_back(&id).await;
        site.drive_and_die(&back, first % 97).await;
        let job = site.drive(&back).await;
        assert_eq!(job.state, JobState::Succeeded, "cut at {first}: {job:#?}");
        assert_eq!(site.world.kept(), replica, "the replica is the cycles'");
        let cleanup = site.world.clean(&id).await;
        assert_eq!(site.world.drive(&cleanup).await.state, JobState::Succeeded);
        assert_eq!((site.position().await, site.power()), (Position::SyncPaused, Power::On), "{first}");
        assert!(site.world.nothing_there(), "cut at {first}: {:?}", site.world.there());
        cycle(&site.world.plant, b'a', "5").await;
        if !died {
            break;
        }
        deaths += 1;
        first += 151;
    }
    assert!(deaths > 3, "only {deaths}");
}
