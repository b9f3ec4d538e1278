//! begin/running: the replica's volumes.

use crate::service::{App, Error};
use crate::storage::{Label, VolumeId};
use crate::store::{Disk, Failure, Migration, VolumeContent};
use migratekit::replica::ReadsZero;
use shared::migration::{Event, Position, apply};
use tracing::info;

/// Makes every volume (one that is there already is taken) and ends the phase.
pub(super) async fn prepare(app: &App, migration: &Migration) -> Result<(), Error> {
    let made = volumes(app, migration).await;
    let mut changed = app.store.migration_fetch(&migration.id).await?;
    // Aborted meanwhile: `done` would be the abort's, and the volumes would stay. The next pass tears down.
    if changed.position != Position::BeginRunning {
        return Ok(());
    }
    let event = match &made {
        Ok(()) => Event::Done,
        Err(error) => {
            let reason = "REPLICA_NOT_MADE".to_owned();
            changed.error = Some(Failure { reason, message: shared::error::chain(error) });
            Event::Failed
        }
    };
    let next = apply(Some(changed.position), event, changed.facts())?;
    changed.position = next.to;
    app.store.migration_transition(&changed, app.clock.now()).await?;
    info!(migration_id = %migration.id, position = %next.to, "replica prepared");
    app.touched(&migration.id).await;
    made
}

async fn volumes(app: &App, migration: &Migration) -> Result<(), Error> {
    for disk in app.store.disk_list(&migration.id).await? {
        let volume = VolumeId::parse(disk.volume.clone())?;
        let made = app.storage.create(&volume, disk.size).await?;
        // Before anything is written to it: whoever finds it without the database knows whose it is.
        app.storage.label(&volume, &label(migration, &disk)).await?;
        let content = match made.reads_zero {
            ReadsZero::Yes => VolumeContent::Zeros,
            ReadsZero::Unknown => VolumeContent::Unknown,
        };
        app.store.disk_content_set(&disk.id, content).await?;
    }
    Ok(())
}

/// What the volume of a disk says of itself.
pub(super) fn label(migration: &Migration, disk: &Disk) -> Label {
    Label {
        vm: migration.vm.clone(),
        vm_name: migration.vm_name.clone(),
        disk: disk.key.clone(),
        size: disk.size,
        migration: migration.id.clone(),
    }
}
