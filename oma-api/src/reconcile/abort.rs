//! abort/running: everything that begin and the cycles made goes, on the operator's word (DESIGN §6 rule 9).

use super::leftovers;
use crate::service::{App, Error};
use crate::storage::{SnapshotName, VolumeId};
use crate::store::{Failure, JobStep, Migration};
use shared::migration::{Event, apply};
use tracing::info;

/// Stops the cycle, removes the replica, frees the VM. The source is released by the agent when it next connects;
/// until then the record says so.
pub(super) async fn tear_down(app: &App, migration: &Migration) -> Result<(), Error> {
    if let Some(job) = app.store.job_active(&migration.id).await? {
        let failure =
            Failure { reason: "ABORTED".to_owned(), message: "the migration was aborted".to_owned() };
        app.step(&job, JobStep::Aborted(failure)).await?;
    }
    let disks = app.store.disk_list(&migration.id).await?;
    let ids: Vec<_> = disks.iter().map(|d| d.id.clone()).collect();
    app.transfers.close(&ids, "the migration was aborted").await;
    for point in app.store.restore_point_list(&migration.id).await? {
        app.storage.delete_snapshot(&SnapshotName::parse(point.snapshot_name.clone())?).await?;
        app.store.restore_point_delete(&point.id, app.clock.now()).await?;
    }
    leftovers::remove_snapshots(app, &migration.id).await?;
    for disk in &disks {
        app.storage.delete(&VolumeId::parse(disk.volume.clone())?).await?;
    }
    for disk in app.store.disk_list_retired(&migration.id).await? {
        app.storage.delete(&VolumeId::parse(disk.volume.clone())?).await?;
        leftovers::remove_all_manifests_of(app, &disk.disk).await;
        app.store.disk_volume_gone(&disk.disk).await?;
    }
    leftovers::remove_all_manifests(app, &migration.id).await?;
    app.store.checkpoints_forget(&migration.id).await?;
    let mut changed = app.store.migration_fetch(&migration.id).await?;
    changed.position = apply(Some(changed.position), Event::Done, changed.facts())?.to;
    changed.release_pending = true;
    app.store.migration_transition(&changed, app.clock.now()).await?;
    if let Some(job) = app.store.job_last(&migration.id).await? {
        app.hub.live_forget(&job.id);
    }
    info!(migration_id = %migration.id, "migration aborted");
    app.touched(&migration.id).await;
    Ok(())
}
