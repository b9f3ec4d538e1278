use super::*;
use crate::failover::tests::world::World;

/// Every state of its jobs, at every position: a migration never stays behind them, and never goes where the table does not.
#[tokio::test]
async fn a_migration_is_where_its_jobs_are() {
    let world = World::sqlite().await;
    let id = world.begin().await;
    let live = world.failover(&id).await;
    let facts = Facts { has_target: true, has_committed: true, ..Facts::default() };
    let states = [
        JobState::Queued,
        JobState::Running,
        JobState::AwaitingApproval,
        JobState::Paused,
        JobState::Unwinding,
        JobState::Succeeded,
        JobState::RolledBack,
        JobState::NeedsAttention,
    ];
    let mut seen = 0;
    for &at in Position::ALL {
        for job in states {
            for rollback in states.map(Some).into_iter().chain([None]) {
                let mut live = live.clone();
                live.job.state = job;
                live.rollback = rollback.map(|state| crate::workflow::Job { state, ..live.job.clone() });
                let mut now = at;
                for input in settle(at, &live) {
                    now = apply(Some(now), *input, facts).expect("the table has it").to;
                    seen += 1;
                }
                assert!(settle(now, &live).is_empty(), "{at} {job} {rollback:?}: {now} is not the end");
            }
        }
    }
    assert!(seen > 20, "{seen}");
}
