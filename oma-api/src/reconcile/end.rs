//! The end of a migration, aborted or finalized: its replica goes, and the source is let go.

use super::leftovers;
use crate::failover::{Failover, Standing, names};
use crate::service::{App, Error};
use crate::storage::{SnapshotName, VolumeId};
use crate::store::Migration;
use shared::migration::{Event, apply};
use tracing::info;

/// finalize/running: the machine on the target and its volumes are production, by their owner's word; what is ours goes.
pub(super) async fn finalize(app: &App, migration: &Migration) -> Result<(), Error> {
    let Some(live) = app.store.failover_live(&migration.id).await? else { return Ok(()) };
    // Nothing takes a replica away for a failover that could still be taken back.
    if live.standing() != Standing::HandedOver {
        return Ok(());
    }
    app.storage.delete_snapshot(&names::snapshot(&live.record.name)).await?;
    hand_over(app, &live).await?;
    let_go(app, migration).await?;
    info!(migration_id = %migration.id, "migration finalized");
    Ok(())
}

/// What is production now is nobody's to protect but its owner's.
async fn hand_over(app: &App, live: &Failover) -> Result<(), Error> {
    let Some(hand_over) = app.compute.as_ref().and_then(|compute| compute.hand_over()) else { return Ok(()) };
    let disks = live.job.params.get("disks").and_then(|disks| disks.as_array());
    for clone in disks.into_iter().flatten().filter_map(|disk| disk.get("clone")?.as_str()) {
        hand_over.let_go(&VolumeId::parse(clone)?).await?;
    }
    Ok(())
}

/// Removes the replica and all that belongs to it, and frees the VM. The source is released by the agent when it next
/// connects; until then the record says so.
pub(super) async fn let_go(app: &App, migration: &Migration) -> Result<(), Error> {
    let disks = app.store.disk_list(&migration.id).await?;
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
    app.touched(&migration.id).await;
    Ok(())
}
