//! What was accepted of a source that changed: volumes that are to be made or made larger, and volumes of disks that left.
//!
//! Everything is done from what the database says, so that a crash at any point is taken up here.

use super::leftovers;
use crate::service::{App, Error};
use crate::storage::VolumeId;
use crate::store::{Disk, Migration, VolumeContent, VolumeWork};
use migratekit::replica::ReadsZero;
use tracing::info;

/// Makes every volume that is pending.
pub(super) async fn volumes(app: &App, migration: &Migration) -> Result<(), Error> {
    let disks = app.store.disk_list(&migration.id).await?;
    let mut made = false;
    for disk in disks.iter().filter(|d| d.work == VolumeWork::Pending) {
        let content = volume(app, disk).await?;
        // Whose it is, should the database be lost.
        app.storage
            .label(&VolumeId::parse(disk.volume.clone())?, &super::begin::label(migration, disk))
            .await?;
        app.store.disk_volume_made(&disk.id, disk.size, content).await?;
        info!(migration_id = %migration.id, disk_id = %disk.id, volume = %disk.volume, size = disk.size,
              "volume of an accepted disk is ready");
        made = true;
    }
    if made {
        app.touched(&migration.id).await;
    }
    Ok(())
}

async fn volume(app: &App, disk: &Disk) -> Result<VolumeContent, Error> {
    let volume = VolumeId::parse(disk.volume.clone())?;
    // One that is there may have been written: it is never taken for a new one.
    if app.storage.volume(&volume).await?.is_some() {
        app.storage.resize(&volume, disk.size).await?;
        return Ok(VolumeContent::Unknown);
    }
    match app.storage.create(&volume, disk.size).await?.reads_zero {
        // What is committed is not in it.
        ReadsZero::Yes if disk.manifest.is_none() => Ok(VolumeContent::Zeros),
        ReadsZero::Yes | ReadsZero::Unknown => Ok(VolumeContent::Unknown),
    }
}

/// Removes the volumes of retired disks that no restore point names any more (DESIGN §6 rule 9).
pub(super) async fn retired(app: &App, migration: &Migration) -> Result<(), Error> {
    let mut gone = false;
    for disk in app.store.disk_list_retired(&migration.id).await? {
        if disk.restore_points > 0 {
            continue;
        }
        app.storage.delete(&VolumeId::parse(disk.volume.clone())?).await?;
        // Before it is forgotten: a crash between the two must leave somebody who still knows of them.
        leftovers::remove_all_manifests_of(app, &disk.disk).await;
        app.store.disk_volume_gone(&disk.disk).await?;
        info!(migration_id = %migration.id, disk_id = %disk.disk, disk = %disk.key, "volume of a retired disk removed");
        gone = true;
    }
    if gone {
        app.touched(&migration.id).await;
    }
    Ok(())
}
