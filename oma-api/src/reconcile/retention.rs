//! Restore points that are not kept any more: they go after a commit, and at looks in between, for those that grew too old
//! and those that a failover needed until now (`retention` says which, and the store which of them are in use).

use super::{accept, leftovers};
use crate::service::{App, Error};
use crate::storage::SnapshotName;
use crate::store::{self, Migration};
use shared::migration::Position;
use tracing::info;

/// What is not kept goes with its volumes and manifests. During a cycle it waits for the commit; a switch needs all that
/// there is, and after one there is nobody who makes new ones.
pub(super) async fn look(app: &App, migration: &Migration) -> Result<(), Error> {
    let idle = matches!(migration.position, Position::SyncPaused | Position::SyncFailed);
    if idle && prune(app, migration).await? {
        accept::retired(app, migration).await?;
        leftovers::remove_manifests(app, &migration.id).await?;
        app.touched(&migration.id).await;
    }
    Ok(())
}

/// Removes them, oldest first; whether there were any.
pub(super) async fn prune(app: &App, migration: &Migration) -> Result<bool, Error> {
    let points = app.store.restore_point_list(&migration.id).await?;
    let mut gone = false;
    for old in app.retention.surplus(points, app.clock.now()) {
        // The row first: a restore point that is shown has its snapshot. One without a row goes with the next start.
        match app.store.restore_point_delete(&old.id, app.clock.now()).await {
            // It goes with the next look after that.
            Err(store::Error::RestorePointInUse { .. }) => continue,
            done => done?,
        }
        app.storage.delete_snapshot(&SnapshotName::parse(old.snapshot_name.clone())?).await?;
        info!(migration_id = %migration.id, restore_point = %old.id, taken_at = %old.taken_at, "restore point removed: it is kept no longer");
        gone = true;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::tests::world::World;
    use crate::reconcile::{Guards, run};
    use crate::retention::Retention;
    use crate::storage::Floor;
    use crate::store::RestorePoint;
    use crate::workflow::JobState;
    use shared::config::Period;
    use shared::migration::Action;
    use std::collections::BTreeSet;
    use std::time::Duration;
    use tokio_util::sync::CancellationToken;

    impl World {
        fn keeps(&mut self, count: u32, max_age: Option<Period>) {
            self.plant.app.retention = Retention { count: count.try_into().expect("not 0"), max_age };
        }

        /// Those that there are, oldest first; each has its snapshot, and nobody else has.
        async fn points(&self) -> Vec<RestorePoint> {
            let app = &self.plant.app;
            let points = app.store.restore_point_list(&self.plant.migration().await.id).await.expect("read");
            let there = app.storage.snapshots().await.expect("read");
            let there: BTreeSet<_> = there.into_iter().map(|s| s.name.as_str().to_owned()).collect();
            let named = points.iter().map(|p| p.snapshot_name.clone()).collect();
            let ours = there.into_iter().filter(|name| name.starts_with("rp-")).collect::<BTreeSet<_>>();
            assert_eq!(ours, named);
            points
        }

        async fn looked(&self) {
            look(&self.plant.app, &self.plant.migration().await).await.expect("looked");
        }
    }

    async fn a_failover_keeps_its_restore_point(mut world: World) {
        let first = world.points().await.remove(0).id;
        let test = world.begin().await;
        assert_eq!(world.drive(&test).await.state, JobState::Succeeded);
        world.keeps(1, Some(Period::seconds(1)));
        for change in ["2", "3", "4"] {
            world.plant.cycle(change).await;
            world.looked().await;
            let points = world.points().await;
            assert_eq!((points.len(), &points[0].id), (2, &first), "its own and the newest");
        }
        world.plant.act(Action::Hold).await;
        let cleanup = world.clean(&test).await;
        // Until all of it is removed.
        world.looked().await;
        assert_eq!(world.points().await.len(), 2);
        assert_eq!(world.drive(&cleanup).await.state, JobState::Succeeded);
        world.looked().await;
        let left = world.points().await;
        assert!(left.len() == 1 && left[0].id != first, "without another cycle: {left:?}");
        world.looked().await;
        assert_eq!(world.points().await, left, "the newest stays");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_a_failover_needs_goes_after_it_and_no_sooner() {
        a_failover_keeps_its_restore_point(World::sqlite().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn and_on_mariadb() {
        a_failover_keeps_its_restore_point(World::mariadb().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn as_many_are_kept_as_is_said_and_none_that_is_older() {
        let mut world = World::sqlite().await;
        world.keeps(4, None);
        for change in ["2", "3", "4", "5", "6"] {
            world.plant.cycle(change).await;
        }
        let four = world.points().await;
        assert_eq!(four.len(), 4);
        world.keeps(3, None);
        // A cycle that runs has it wait.
        world.plant.act(Action::Sync).await;
        world.looked().await;
        assert_eq!(world.points().await, four);
        world.plant.step().await;
        let job = world.plant.job().await;
        world.plant.snapshot_taken(&job, "7").await;
        world.plant.seal(&job).await;
        world.plant.step().await;
        let three = world.points().await;
        assert_eq!((three.len(), &three[..2]), (3, &four[2..]), "the oldest went");
        tokio::time::sleep(Duration::from_millis(1100)).await;
        world.keeps(3, Some(Period::seconds(1)));
        world.looked().await;
        assert_eq!(world.points().await, three[2..], "all are older, and the newest stays");
    }

    /// By itself, soon after a start.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_look_is_taken_without_a_cycle() {
        let mut world = World::sqlite().await;
        world.plant.cycle("2").await;
        assert_eq!(world.points().await.len(), 2);
        world.keeps(1, None);
        let stop = CancellationToken::new();
        let guards = Guards { floor: Floor::default(), stalled: Duration::from_secs(600) };
        let running = tokio::spawn(run(world.plant.app.clone(), guards, stop.clone()));
        let migration = world.plant.migration().await.id;
        let one = async {
            while world.plant.app.store.restore_point_list(&migration).await.expect("read").len() > 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), one).await.expect("it goes");
        stop.cancel();
        running.await.expect("ended");
        assert_eq!(world.points().await.len(), 1);
    }
}
