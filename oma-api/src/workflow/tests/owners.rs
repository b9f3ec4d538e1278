//! Whose a job is: one driver at a time, and none that was overtaken does anything more.

use super::world::{At, Database, Fault, World, check, engine, new_job, until};
use super::*;
use crate::clock::Clock;
use crate::store;
use crate::testing::cut;
use crate::workflow::lease::Owner;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_millis(400);

/// With a lease that ends within a test.
fn short(database: &Database, world: &Arc<World>, instance: &str) -> Engine {
    let options = Options {
        lease: LEASE,
        period: Duration::from_millis(20),
        ..Options::new(Owner::new(instance), Clock::wall())
    };
    Engine::new(database.store.clone(), vec![Arc::new(super::world::Toy(Arc::clone(world)))], options)
}

/// The first stands still in the middle of a step for longer than its lease, as a process under SIGSTOP does; the second
/// carries the job to its end; the first wakes up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_overtaken_does_nothing_more() {
    let (database, world) = (Database::sqlite().await, World::new());
    let first = short(&database, &world, "oma-1");
    let id = first.create(&new_job("job-1", &["a", "b"])).await.expect("made").id;
    world.open.send_replace(0);
    // No beats: nobody runs its engine.
    let driving = tokio::spawn({
        let (first, id) = (first.clone(), id.clone());
        async move { first.drive_now(&id).await }
    });
    until(|| !world.inventory().is_empty()).await;
    let seen = database.store.workflow_fetch(&id).await.expect("read");
    let (stop, second) = (CancellationToken::new(), short(&database, &world, "oma-2"));
    let running = tokio::spawn({
        let (second, stop) = (second.clone(), stop.clone());
        async move { second.run(stop).await }
    });
    // Its lease is over, and it knows.
    let ended = driving.await.expect("no panic");
    assert!(matches!(ended, Err(Error::Lost { epoch: 1, .. })), "{ended:?}");
    world.open.send_replace(usize::MAX);
    let job = database.ends(&id).await;
    check(&job, &world);
    assert_eq!((job.state, job.held.epoch), (JobState::Succeeded, 2), "another owner's");
    // What it would write now is refused.
    let late = database
        .store
        .workflow_save(&seen, &Job { state: JobState::Unwinding, ..seen.clone() }, seen.created_at)
        .await;
    assert!(matches!(late, Err(store::Error::WorkflowMoved { .. })), "{late:?}");
    stop.cancel();
    running.await.expect("it ends");
    let released = database.store.workflow_fetch(&id).await.expect("read").held;
    assert_eq!(released.owner, None, "given up at the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_lives_keeps_its_job_for_as_long_as_it_takes() {
    let (database, world) = (Database::mariadb().await, World::new());
    let stop = CancellationToken::new();
    let run = |engine: Engine| {
        let stop = stop.clone();
        tokio::spawn(async move { engine.run(stop).await })
    };
    let first = short(&database, &world, "oma-1");
    world.open.send_replace(0);
    let running = run(first.clone());
    let id = first.create(&new_job("job-1", &["a", "b"])).await.expect("made").id;
    until(|| !world.inventory().is_empty()).await;
    let other = run(short(&database, &world, "oma-2"));
    tokio::time::sleep(LEASE * 4).await;
    let held = database.store.workflow_fetch(&id).await.expect("read").held;
    assert_eq!(held.epoch, 1, "nobody took it: {held:?}");
    assert!(held.beat > 3, "it says that it lives: {held:?}");
    world.open.send_replace(usize::MAX);
    check(&database.ends(&id).await, &world);
    stop.cancel();
    running.await.expect("it ends");
    other.await.expect("it ends");
}

/// Two that take it at once: one does.
#[tokio::test]
async fn of_two_that_take_a_job_one_gets_it() {
    let database = Database::mariadb().await;
    let world = World::new();
    let id = engine(&database.store, &world, "oma").create(&new_job("job-1", &["a"])).await.expect("made").id;
    let seen = database.store.workflow_fetch(&id).await.expect("read").held;
    let take = |owner: &'static str| database.store.workflow_take(&id, &seen, owner);
    let (one, two) = tokio::join!(take("oma-1/x"), take("oma-2/y"));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    assert_eq!(database.store.workflow_fetch(&id).await.expect("read").held.epoch, 1);
}

/// Killed at any time and started again, many at once: all end, nothing is doubled or left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_taken_up_by_the_next_run() {
    let (database, world) = (Database::sqlite().await, World::new());
    let of = || engine(&database.store, &world, "oma");
    let mut ids = vec![];
    for n in 0..20 {
        ids.push(of().create(&new_job(&format!("job-{n}"), &["a", "b", "c"])).await.expect("made").id);
    }
    // Each run is killed: dropped with all its drivers.
    for polls in [3, 10, 30, 60] {
        let (engine, stop) = (of(), CancellationToken::new());
        cut(engine.run(stop), polls).await;
    }
    let (engine, stop) = (of(), CancellationToken::new());
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { engine.run(stop).await }
    });
    for id in &ids {
        assert_eq!(database.ends(id).await.state, JobState::Succeeded);
    }
    assert_eq!(world.inventory().len(), 60);
    stop.cancel();
    running.await.expect("it ends");
}

/// A defect of a step ends neither the engine nor the job's story.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_panics_is_tried_again_and_given_up() {
    let (database, world) = (Database::sqlite().await, World::new());
    let (engine, stop) = (engine(&database.store, &world, "oma"), CancellationToken::new());
    let running = tokio::spawn({
        let (engine, stop) = (engine.clone(), stop.clone());
        async move { engine.run(stop).await }
    });
    for (panics, end) in [(2, JobState::Succeeded), (5, JobState::RolledBack)] {
        world.fails("b", At::Act, &vec![Fault::Panic; panics]);
        let new = new_job(&format!("job-{panics}"), &["a", "b"]);
        let id = engine.create(&new).await.expect("made").id;
        let job = database.ends(&id).await;
        assert_eq!(job.state, end, "{job:#?}");
    }
    assert_eq!(world.inventory().into_iter().collect::<Vec<_>>(), ["job-2.a", "job-2.b"]);
    stop.cancel();
    running.await.expect("it ends");
}
