//! What a crash may leave: manifests of cycles that never committed, snapshots of commits that never were.
//!
//! It removes only what is provably nobody's: a snapshot that a known, ended cycle named and that is no restore point,
//! a manifest of a known disk that neither a commit nor the unfinished cycle refers to.

use crate::service::transfer::Transfers;
use crate::service::{App, Error};
use crate::storage::SnapshotName;
use crate::store::{self, INTERRUPTED_BY_RESTORE, Job};
use jiff::SignedDuration;
use shared::ids::{DiskId, MigrationId};
use std::collections::{BTreeMap, BTreeSet};
use tracing::{info, warn};

/// Events older than this are forgotten.
const EVENTS_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// At the start.
pub(super) async fn remove(app: &App) {
    if let Err(error) = app.store.event_delete(app.clock.now() - EVENTS_KEPT).await {
        warn!(error = %shared::error::chain(&error), "old events stay for now");
    }
    for result in [label_volumes(app).await, snapshots(app).await, manifests(app).await] {
        if let Err(error) = result {
            warn!(error = %shared::error::chain(&error), "left-overs stay for now");
        }
    }
}

/// By what is there, of all unfinished migrations: to look for what each may have left would take as many looks as there were
/// ever cycles.
async fn snapshots(app: &App) -> Result<(), Error> {
    let there = app.storage.snapshots().await?;
    let kept = app.store.snapshots_kept().await?;
    for name in there.into_iter().map(|s| s.name).filter(|name| !kept.contains(name.as_str())) {
        let Some(id) = name.job() else { continue };
        let job = match app.store.job_fetch(&id).await {
            Err(store::Error::NotFound { .. }) => continue,
            job => job?,
        };
        if job.status.ended() && !app.store.migration_fetch(&job.migration).await?.position.ended() {
            remove_snapshots(app, &job.migration).await?;
        }
    }
    Ok(())
}

async fn manifests(app: &App) -> Result<(), Error> {
    let mut disks: BTreeSet<DiskId> = BTreeSet::new();
    let mut files = match tokio::fs::read_dir(app.transfers.manifest_path("")).await {
        Ok(files) => files,
        Err(error) => {
            warn!(%error, "the manifests cannot be listed");
            return Ok(());
        }
    };
    let kept = app.store.manifests_kept().await?;
    while let Ok(Some(entry)) = files.next_entry().await {
        let name = entry.file_name();
        let Some(file) = name.to_str().filter(|file| !kept.contains(*file)) else { continue };
        disks.extend(file.split('.').next().and_then(|id| DiskId::parse(id).ok()));
    }
    let mut migrations: BTreeSet<MigrationId> = BTreeSet::new();
    for disk in disks {
        match app.store.disk_fetch(&disk).await {
            Err(store::Error::NotFound { .. }) => {}
            disk => {
                migrations.insert(disk?.migration);
            }
        }
    }
    for migration in migrations {
        if !app.store.migration_fetch(&migration).await?.position.ended() {
            remove_manifests(app, &migration).await?;
        }
    }
    Ok(())
}

/// Writes on volumes of before labels whose they are, and says which of the others no migration knows.
async fn label_volumes(app: &App) -> Result<(), Error> {
    let (labelled, unlabelled): (Vec<_>, Vec<_>) =
        app.storage.volumes().await?.into_iter().partition(|v| v.label.is_some());
    let owners: BTreeMap<_, _> =
        labelled.into_iter().filter_map(|v| v.label).map(|label| (label.migration, label.vm_name)).collect();
    let mut lost = Vec::new();
    for (migration, vm) in owners {
        if matches!(app.store.migration_fetch(&migration).await, Err(store::Error::NotFound { .. })) {
            lost.push(vm);
        }
    }
    if !lost.is_empty() {
        warn!(
            vms = lost.join(", "),
            "volumes of VMs that no migration knows: `migratekit migration adopt VM` takes them back"
        );
    }
    for volume in unlabelled.into_iter().map(|v| v.volume) {
        // Of ours, the name is the disk's.
        let Some(Ok(id)) = volume.as_str().strip_prefix("mk-").map(DiskId::parse) else { continue };
        let disk = match app.store.disk_fetch(&id).await {
            Err(store::Error::NotFound { .. }) => continue,
            disk => disk?,
        };
        let migration = app.store.migration_fetch(&disk.migration).await?;
        if !migration.position.ended() && disk.volume == volume.as_str() {
            app.storage.label(&volume, &super::begin::label(&migration, &disk)).await?;
        }
    }
    Ok(())
}

/// Whether it was committed after the backup is unknown: a snapshot of its name may be a restore point.
fn interrupted_by_restore(job: &Job) -> bool {
    job.error.as_ref().is_some_and(|error| error.reason == INTERRUPTED_BY_RESTORE)
}

/// Snapshots of this migration's cycles that have ended without a restore point.
pub(super) async fn remove_snapshots(app: &App, migration: &MigrationId) -> Result<(), Error> {
    let points = app.store.restore_point_list(migration).await?;
    let kept: BTreeSet<_> = points.into_iter().map(|p| p.snapshot_name).collect();
    let there: BTreeSet<_> =
        app.storage.snapshots().await?.into_iter().map(|s| s.name.as_str().to_owned()).collect();
    for job in app
        .store
        .job_list(migration)
        .await?
        .into_iter()
        .filter(|j| j.status.ended() && !interrupted_by_restore(j))
    {
        let name = SnapshotName::of_commit(&job.id)?;
        if there.contains(name.as_str()) && !kept.contains(name.as_str()) {
            info!(migration_id = %migration, snapshot = name.as_str(), "removing a snapshot that was never committed");
            app.storage.delete_snapshot(&name).await?;
        }
    }
    Ok(())
}

/// Manifests of this migration's disks that neither a commit nor the unfinished cycle refers to, half-made ones too.
pub(super) async fn remove_manifests(app: &App, migration: &MigrationId) -> Result<(), Error> {
    let disks = app.store.disk_list(migration).await?;
    let mut kept: BTreeSet<_> =
        disks.iter().filter_map(|d| d.manifest.as_ref().map(|m| m.file.clone())).collect();
    for point in app.store.restore_point_list(migration).await? {
        kept.extend(point.disks.into_iter().map(|d| d.manifest.file));
    }
    let active = app.store.job_active(migration).await?;
    let unfinished: Vec<_> = active
        .iter()
        .flat_map(|job| job.disks.iter().map(|d| Transfers::manifest_file(&d.disk, &job.id)))
        .collect();
    let goes = |file: &str| !kept.contains(file) && !unfinished.iter().any(|u| file.starts_with(u.as_str()));
    let retired = app.store.disk_list_retired(migration).await?.into_iter().map(|d| d.disk);
    let disks: Vec<_> = disks.into_iter().map(|d| d.id).chain(retired).collect();
    remove_files(app, &disks, goes).await;
    Ok(())
}

/// All manifests of one disk whose volume is gone.
pub(super) async fn remove_all_manifests_of(app: &App, disk: &DiskId) {
    remove_files(app, std::slice::from_ref(disk), |_| true).await;
}

/// All manifests of a migration whose replica is gone.
pub(super) async fn remove_all_manifests(app: &App, migration: &MigrationId) -> Result<(), Error> {
    let disks: Vec<_> = app.store.disk_list(migration).await?.into_iter().map(|d| d.id).collect();
    remove_files(app, &disks, |_| true).await;
    Ok(())
}

/// By what is there: a history of cycles may be long. What cannot be removed now is, the next time.
async fn remove_files(app: &App, disks: &[DiskId], goes: impl Fn(&str) -> bool) {
    let mut files = match tokio::fs::read_dir(app.transfers.manifest_path("")).await {
        Ok(files) => files,
        Err(error) => return warn!(%error, "the manifests cannot be listed"),
    };
    let of = |file: &str| {
        disks.iter().any(|d| file.strip_prefix(d.as_str()).is_some_and(|rest| rest.starts_with('.')))
    };
    while let Ok(Some(entry)) = files.next_entry().await {
        let Some(file) = entry.file_name().to_str().filter(|file| of(file) && goes(file)).map(str::to_owned)
        else {
            continue;
        };
        match tokio::fs::remove_file(entry.path()).await {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => warn!(%file, %error, "a manifest cannot be removed"),
        }
    }
}
