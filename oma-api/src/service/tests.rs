use crate::testing::Plant;
use shared::migration::Action;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the agent is told to keep is of the same moment as the cycle it is told to run: told that there is no cycle
/// and to keep the ids of the commit before, it would remove the change tracking that the next cycle starts from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_desired_state_is_of_one_moment() {
    let plant = Arc::new(Plant::begun().await);
    let begun = Arc::new(AtomicU64::new(0));
    let (watched, at_least) = (Arc::clone(&plant), Arc::clone(&begun));
    let watching = tokio::spawn(async move {
        loop {
            let cycle = at_least.load(Ordering::SeqCst);
            if cycle == u64::MAX {
                return;
            }
            let told = watched.desired().await;
            for (key, id) in told.keep.iter().filter(|_| told.cycle.is_none()) {
                let of: u64 = id.parse().expect("a number");
                assert!(of >= cycle, "cycle {cycle} had begun; told of none, and to keep {id} of {key}");
            }
        }
    });
    for number in 1..=40 {
        plant.act(Action::Sync).await;
        plant.step().await;
        let job = plant.job().await;
        begun.store(number, Ordering::SeqCst);
        plant.snapshot_taken(&job, &number.to_string()).await;
        plant.seal(&job).await;
        plant.step().await;
    }
    begun.store(u64::MAX, Ordering::SeqCst);
    watching.await.expect("consistent");
}
