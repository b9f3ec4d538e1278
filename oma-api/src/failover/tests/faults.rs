//! Every sub-step fails in every way, and its undo too: who decides what then, and what is left.

use super::world::{At, Fault, World, somebody};
use crate::failover::Request;
use crate::failover::status::{Status, public_steps};
use crate::service::orphans::Chosen;
use crate::workflow::{Ask, JobState, StepState};

/// Of a test of two disks that is waited for.
const STEPS: [&str; 8] =
    ["validate", "clone-0", "clone-1", "snapshot", "define", "attach-0", "attach-1", "start"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_is_made_of_clones_and_leaves_nothing() {
    for world in [World::sqlite().await, World::mariadb().await] {
        let id = world.begin().await;
        let job = world.drive(&id).await;
        assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
        let steps: Vec<_> = job.steps.iter().map(|s| s.plan.name.as_str()).collect();
        assert_eq!(steps, STEPS);
        let shown: Vec<_> = public_steps(&job).into_iter().map(|s| (s.name, s.status)).collect();
        let public = ["validation", "snapshot", "test-vm-creation", "volume-attachment", "test-vm-startup"];
        assert_eq!(shown, public.map(|name| (name.to_owned(), Status::Completed)));
        world.check(&id).await;
        // Whatever the machine writes, nothing else sees it.
        let clone = world.there().clones.first().cloned().expect("a clone");
        let path = world.plant.folder.path().join("storage/volumes").join(format!("{clone}.img"));
        std::fs::write(path, b"the guest writes").expect("written");
        world.check(&id).await;
        // Cycles go on meanwhile, and commit; the restore point that the test is of stays.
        let point = world.failover(&id).await.record.restore_point;
        for change in ["2", "3", "4"] {
            world.plant.cycle(change).await;
        }
        let points = world.plant.app.store.restore_point_list(&world.plant.migration().await.id).await;
        let points: Vec<_> = points.expect("read").into_iter().map(|p| p.id).collect();
        assert!(points.len() == 3 && points[0] == point, "two, and the one in use: {points:?}");

        let cleanup = world.clean(&id).await;
        assert_eq!(world.clean(&id).await, cleanup, "again: the same");
        assert_eq!(world.drive(&cleanup).await.state, JobState::Succeeded);
        assert!(world.nothing_there(), "{:?}", world.there());
        world.plant.cycle("5").await;
        let points = world.plant.app.store.restore_point_list(&world.plant.migration().await.id).await;
        assert_eq!(points.expect("read").len(), 2, "it went with the next commit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_step_that_fails_takes_back_all_of_it() {
    for step in STEPS {
        for faults in [&[Fault::Permanent; 1][..], &[Fault::SaidFailed; 1], &[Fault::Transient; 9]] {
            let world = World::sqlite().await;
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
async fn an_answer_that_is_lost_is_looked_up() {
    for step in STEPS {
        let world = World::sqlite().await;
        world.fails(step, At::Act, &[Fault::AnswerLost]);
        let id = world.begin().await;
        let job = world.drive(&id).await;
        assert_eq!(job.state, JobState::Succeeded, "{step}: {job:#?}");
        world.check(&id).await;
    }
    let world = World::sqlite().await;
    let id = world.begin().await;
    world.drive(&id).await;
    let cleanup = world.clean(&id).await;
    for step in ["stop", "remove", "drop-snapshot", "drop-clone-0", "drop-clone-1", "nothing-there"] {
        world.fails(step, At::Act, &[Fault::AnswerLost, Fault::Transient]);
    }
    let job = world.drive(&cleanup).await;
    assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
    world.check(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_that_fails_waits_for_a_decision() {
    for step in STEPS {
        let world = World::sqlite().await;
        world.fails("start", At::Act, &[Fault::SaidFailed]);
        world.fails(step, At::Undo, &[Fault::Permanent]);
        let id = world.begin().await;
        let job = world.drive(&id).await;
        assert_eq!((job.state, Status::of(&job)), (JobState::NeedsAttention, Status::Failed), "{step}");
        world.check(&id).await;
        assert!(world.failover(&id).await.is_there(), "nobody takes it for gone");
        world.engine().ask(&id, &Ask::Retry, "tester").await.expect("taken");
        assert_eq!(world.drive(&id).await.state, JobState::RolledBack, "{step}");
        world.check(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_up_that_fails_waits_and_is_repeated() {
    for step in ["stop", "remove", "drop-snapshot", "drop-clone-0", "drop-clone-1", "nothing-there"] {
        let world = World::sqlite().await;
        let id = world.begin().await;
        world.drive(&id).await;
        let cleanup = world.clean(&id).await;
        world.fails(step, At::Act, &[Fault::Permanent]);
        let job = world.drive(&cleanup).await;
        // What said that it had failed may be found to have happened.
        if job.state == JobState::NeedsAttention {
            world.check(&id).await;
            assert!(world.failover(&id).await.is_there(), "{step}");
            world.engine().ask(&cleanup, &Ask::Retry, "tester").await.expect("taken");
            assert_eq!(world.drive(&cleanup).await.state, JobState::Succeeded, "{step}");
        }
        assert!(world.nothing_there(), "{step}: {:?}", world.there());
        world.check(&id).await;
    }
}

/// A machine that somebody else removed, and clones that are gone, are no trouble for a clean-up; a clone that another
/// process has open is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_that_is_open_elsewhere_is_not_removed() {
    let world = World::sqlite().await;
    let id = world.begin().await;
    world.drive(&id).await;
    let clone = world.there().clones.first().cloned().expect("a clone");
    let path = world.plant.folder.path().join("storage/volumes").join(format!("{clone}.img"));
    let mut held = tokio::process::Command::new("sleep");
    let mut held = held
        .arg("600")
        .kill_on_drop(true)
        .stdin(std::fs::File::open(&path).expect("open"))
        .spawn()
        .expect("a process");
    let cleanup = world.clean(&id).await;
    let job = world.drive(&cleanup).await;
    assert_eq!(job.state, JobState::NeedsAttention, "{job:#?}");
    let error = job.error.as_ref().expect("why it stays");
    assert_eq!(error.reason, "VOLUME_IN_USE");
    let holder = format!("volume {} is open in process {} (sleep)", clone, held.id().expect("it runs"));
    assert!(error.message.contains(&holder), "{}", error.message);
    assert!(path.exists());
    held.kill().await.expect("ended");
    world.engine().ask(&cleanup, &Ask::Retry, "tester").await.expect("taken");
    assert_eq!(world.drive(&cleanup).await.state, JobState::Succeeded);
    assert!(world.nothing_there());
    assert!(job.steps.iter().any(|s| s.state == StepState::Failed || s.error.is_some()));
}

/// It ends all the same, and says what it left; that is an orphan from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_whose_removal_is_skipped_is_left_as_an_orphan() {
    let world = World::sqlite().await;
    let id = world.begin().await;
    world.drive(&id).await;
    let cleanup = world.clean(&id).await;
    world.fails("drop-clone-0", At::Act, &[Fault::Permanent]);
    assert_eq!(world.drive(&cleanup).await.state, JobState::NeedsAttention);
    world.engine().ask(&cleanup, &Ask::Skip { why: "later".to_owned() }, "tester").await.expect("taken");
    let job = world.drive(&cleanup).await;
    assert_eq!(job.state, JobState::Succeeded, "{job:#?}");
    let clone = world.there().clones.first().cloned().expect("it is left");
    let app = &world.plant.app;
    let view = app.failover_find(id.as_str()).await.expect("read");
    assert!(view.warnings.iter().any(|w| w.contains(&clone) && w.contains("skipped")), "{:?}", view.warnings);
    let gone = app.orphans_remove(&somebody(), &Chosen::Named(vec![clone])).await.expect("taken");
    assert!(gone.iter().all(|removal| removal.kept.is_none()), "{gone:?}");
    assert!(world.nothing_there());
}

/// What the storage has of a restore point is a part of it: nothing starts from that, whatever is to be skipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_point_that_was_cut_short_makes_no_machine() {
    let world = World::sqlite().await;
    let storage = world.plant.folder.path().join("storage/snapshots");
    let point = std::fs::read_dir(storage).expect("listed").next().expect("one").expect("read").path();
    let disk = std::fs::read_dir(point).expect("listed").next().expect("one").expect("read").path();
    let size = std::fs::metadata(&disk).expect("there").len();
    let mut mode = std::fs::metadata(&disk).expect("there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
    std::fs::set_permissions(&disk, mode).expect("set");
    let cut = |to| std::fs::File::options().write(true).open(&disk).and_then(|file| file.set_len(to));
    for skip_validation in [false, true] {
        cut(size / 2).expect("cut");
        let request = Request { skip_validation, ..world.request().await };
        let id = world.ask(&request).await.expect("taken");
        let job = world.drive(&id).await;
        let why = job.error.as_ref().map(|e| (e.reason.as_str(), e.message.contains("damaged")));
        assert_eq!((job.state, why), (JobState::RolledBack, Some(("VALIDATION_FAILED", true))), "{job:#?}");
        assert!(world.nothing_there());
    }
}
