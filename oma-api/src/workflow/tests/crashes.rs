//! The program dies between any two of its awaits, and another run goes on.

use super::world::{At, Database, Fault, World, check, engine, new_job, until};
use super::*;
use crate::testing::cut;
use std::sync::Arc;

const STEPS: &[&str] = &["a", "b", "c no_return"];

/// Something that is wrong with the world.
type Wrong = (&'static str, At, &'static [Fault]);

/// What it may end as. (A failure that the program did not live to hear of was none, where the effect is found.)
const LIVES: &[(&str, &[Wrong], &[JobState])] = &[
    ("all is well", &[], &[JobState::Succeeded]),
    ("the second fails", &[("b", At::Act, &[Fault::Permanent; 4])], &[JobState::RolledBack]),
    ("the last fails", &[("c", At::Act, &[Fault::Permanent; 4])], &[JobState::RolledBack]),
    (
        "answers are lost",
        &[("a", At::Act, &[Fault::AnswerLost]), ("c", At::Act, &[Fault::AnswerLost])],
        &[JobState::Succeeded],
    ),
    (
        "done, and said to have failed",
        &[("b", At::Act, &[Fault::SaidFailed; 4])],
        &[JobState::RolledBack, JobState::Succeeded],
    ),
    (
        "done past return, and said to have failed",
        &[("c", At::Act, &[Fault::SaidFailed; 4])],
        &[JobState::Succeeded],
    ),
    ("later", &[("b", At::Act, &[Fault::Transient, Fault::Nothing])], &[JobState::Succeeded]),
    (
        "an undo later",
        &[("b", At::Act, &[Fault::Permanent; 4]), ("a", At::Undo, &[Fault::Transient])],
        &[JobState::RolledBack],
    ),
];

/// A job that dies after `first` polls, then after `second`, then is left to its end; whether the first cut met it.
async fn life(
    database: &Database,
    id: &str,
    faults: &[Wrong],
    first: u32,
    second: u32,
) -> (Job, Arc<World>, bool) {
    let world = World::new();
    for (step, at, faults) in faults {
        world.fails(step, *at, faults);
    }
    let of = |run: &str| engine(&database.store, &world, run);
    let id = of("oma").create(&new_job(id, STEPS)).await.expect("made").id;
    let died = cut(of("oma").drive_now(&id), first).await.is_none();
    check(&database.store.workflow_fetch(&id).await.expect("read"), &world);
    if died {
        cut(of("oma").drive_now(&id), second).await;
        check(&database.store.workflow_fetch(&id).await.expect("read"), &world);
        of("oma").drive_now(&id).await.expect("driven");
    }
    (database.store.workflow_fetch(&id).await.expect("read"), world, died)
}

/// Returns how many deaths there were.
async fn sweep(database: Database, every: u32) -> u32 {
    let mut deaths = 0;
    for (index, (what, faults, ends)) in LIVES.iter().enumerate() {
        let mut first = 0;
        loop {
            let id = format!("job-{index}-{first}");
            let (job, world, died) = life(&database, &id, faults, first, first * 7 % 41).await;
            assert!(ends.contains(&job.state), "{what}, cut at {first}: {job:#?}");
            check(&job, &world);
            assert!(job.ended_at.is_some() && job.wish.is_none(), "{what}: {job:#?}");
            if !died {
                break;
            }
            deaths += 1;
            first += every;
        }
    }
    deaths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_whole_or_gone_wherever_it_dies() {
    let deaths = sweep(Database::sqlite().await, 3).await;
    assert!(deaths > 100, "only {deaths}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_on_mariadb() {
    let deaths = sweep(Database::mariadb().await, 7).await;
    assert!(deaths > 50, "only {deaths}");
}

#[tokio::test]
async fn a_step_that_was_under_way_is_looked_up_and_not_doubled() {
    let (database, world) = (Database::sqlite().await, World::new());
    let of = || engine(&database.store, &world, "oma");
    let id = of().create(&new_job("job-1", STEPS)).await.expect("made").id;
    // It has acted, and dies before it can say so.
    world.open.send_replace(0);
    let dies = of();
    let driving = dies.drive_now(&id);
    tokio::select! {
        _ = driving => panic!("it waits"),
        () = until(|| !world.inventory().is_empty()) => {}
    }
    let job = database.store.workflow_fetch(&id).await.expect("read");
    assert_eq!((job.steps[0].state, job.steps[0].effect.as_deref()), (StepState::Started, Some("job-1.a")));
    world.open.send_replace(usize::MAX);
    of().drive_now(&id).await.expect("driven");
    let calls = world.calls.lock().expect("whole").clone();
    let of_a: Vec<_> = calls.iter().filter(|(step, _)| step == "a").map(|(_, at)| *at).collect();
    assert_eq!(of_a, [At::Act, At::LookUp], "looked up, and found");
    let job = database.store.workflow_fetch(&id).await.expect("read");
    assert_eq!(job.output("a"), Some(&serde_json::json!("job-1.a")), "what it gave is known all the same");
    check(&job, &world);
}
