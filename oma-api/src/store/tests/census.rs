use super::*;
use shared::migration::{Phase, State};

/// The same numbers on every database: sums and counts are where their types differ.
#[tokio::test]
async fn everything_is_counted_once() {
    let f = Fixture::new().await;
    let ended = migration_at(&f.store, 1, 1, Position::BeginPaused).await;
    f.store
        .migration_transition(&Migration { position: Position::AbortAborted, ..ended }, at(1))
        .await
        .expect("ended");
    let idle = migration_at(&f.store, 2, 1, Position::BeginPaused).await;
    let busy = migration_at(&f.store, 3, 2, Position::SyncRunning).await;
    let job = cycle(&f.store, &busy.id, at(5)).await;
    let census = f.store.census(10).await.expect("counted");
    let mut positions = census.positions;
    positions.sort_by_key(|(phase, state, _)| (phase.as_str(), state.as_str()));
    assert_eq!(
        positions,
        [
            (Phase::Abort, State::Aborted, 1),
            (Phase::Begin, State::Paused, 1),
            (Phase::Sync, State::Running, 1)
        ]
    );
    let mut named: Vec<_> =
        census.unfinished.into_iter().map(|m| (m.id, m.vm_name, m.restore_points)).collect();
    named.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(named, [(idle.id, "vm-2".to_owned(), 0), (busy.id.clone(), "vm-3".to_owned(), 0)]);
    let [active] = census.active.as_slice() else { panic!("one: {:?}", census.active) };
    assert_eq!((&active.id, &active.migration, active.status), (&job.id, &busy.id, JobStatus::Running));
    assert_eq!(census.agents, 0);
    assert_eq!(f.store.census(1).await.expect("counted").unfinished.len(), 1, "as many as were asked for");
}
