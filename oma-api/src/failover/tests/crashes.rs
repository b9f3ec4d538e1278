//! The program dies between any two of its awaits, in a test and in its clean-up, and another run goes on.

use super::world::{At, Fault, World};
use crate::testing::cut;
use crate::workflow::JobState;

/// Every so many polls, until one is not cut any more; a step that fails takes all back. Returns how many deaths there were.
async fn sweep(world: impl AsyncFn() -> World, every: u32) -> u32 {
    let mut deaths = 0;
    for failing in [None, Some("start")] {
        let (mut first, world) = (0, world().await);
        loop {
            if let Some(step) = failing {
                world.fails(step, At::Act, &[Fault::SaidFailed]);
            }
            let id = world.begin().await;
            let died = cut(world.engine().drive_now(&id), first).await.is_none();
            world.check(&id).await;
            if died {
                cut(world.engine().drive_now(&id), first * 7 % 41).await;
                world.check(&id).await;
            }
            let job = world.drive(&id).await;
            let ends = match failing {
                None => vec![JobState::Succeeded],
                // A failure that the program did not live to hear of was none.
                Some(_) => vec![JobState::RolledBack, JobState::Succeeded],
            };
            assert!(ends.contains(&job.state), "cut at {first}: {job:#?}");
            world.check(&id).await;
            if job.state == JobState::Succeeded {
                let cleanup = world.clean(&id).await;
                cut(world.engine().drive_now(&cleanup), first).await;
                world.check(&id).await;
                assert_eq!(world.drive(&cleanup).await.state, JobState::Succeeded, "cut at {first}");
            }
            assert!(world.nothing_there(), "cut at {first}: {:?}", world.there());
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
async fn a_test_is_whole_or_gone_wherever_it_dies() {
    let deaths = sweep(World::sqlite, 7).await;
    assert!(deaths > 20, "only {deaths}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_on_mariadb() {
    let deaths = sweep(World::mariadb, 19).await;
    assert!(deaths > 10, "only {deaths}");
}
