//! sync/running: a cycle, from its making to its commit; and the end of a verification.

use super::{accept, leftovers, retention};
use crate::service::transfer::Transfers;
use crate::service::{App, Error};
use crate::storage::{SnapshotName, VolumeId};
use crate::store::{
    self, Arm, CycleCommit, Disk, DiskCommit, Failure, Job, JobKind, JobStatus, JobStep, Manifest, Migration,
    NewJob, Wanted,
};
use crate::strategy;
use shared::ids::RestorePointId;
use shared::migration::Phase;
use shared::telemetry::adopt;
use tracing::{Instrument as _, error, info, info_span};

/// One step towards the commit of a cycle.
pub(super) async fn drive(app: &App, migration: &Migration) -> Result<(), Error> {
    let now = app.clock.now();
    let Some(job) = app.store.job_active(&migration.id).await? else {
        accept::volumes(app, migration).await?;
        let disks = app.store.disk_list(&migration.id).await?;
        let kind = app.store.job_kind_next(&migration.id).await?;
        let disks = disks.iter().map(|d| (d.id.clone(), strategy::of(d))).collect();
        let span = info_span!("cycle", migration_id = %migration.id, %kind);
        adopt(&span, app.hub.trace_take(&migration.id).as_deref());
        let new = NewJob { migration: migration.id.clone(), kind, disks };
        let job = app.store.job_create(&new, now).instrument(span).await?;
        info!(migration_id = %migration.id, job_id = %job.id, kind = %job.kind, "cycle begun");
        app.touched(&migration.id).await;
        return Ok(());
    };
    advance(app, migration, job).await
}

/// The cycle of a switch's final delta, once there is one: nobody but its failover begins it.
pub(super) async fn last(app: &App, migration: &Migration) -> Result<(), Error> {
    let Some(job) = app.store.job_active(&migration.id).await? else { return Ok(()) };
    match advance(app, migration, job).await {
        // Its failover is taken back, and has ended it meanwhile.
        Err(Error::Store(store::Error::JobStatus { .. } | store::Error::JobClosed { .. })) => Ok(()),
        done => done,
    }
}

async fn advance(app: &App, migration: &Migration, job: Job) -> Result<(), Error> {
    let now = app.clock.now();
    if !job.kind.writes() {
        return compared(app, migration).await;
    }
    let sealed = job.disks.iter().all(|d| d.finished);
    match job.status {
        // Nobody is there to say that it stopped: it has, and its sessions are ended to make sure.
        JobStatus::Running
            if job.wanted == Wanted::Pause && !app.hub.agent_is_connected(&migration.agent) =>
        {
            app.step(&job, JobStep::Paused).await?;
            app.touched(&migration.id).await;
            Ok(())
        }
        JobStatus::Running if sealed => {
            let (job, _) = app.store.job_transition(&job.id, &JobStep::Committing, now).await?;
            app.touched(&migration.id).await;
            commit_traced(app, migration, &job).await
        }
        JobStatus::Running => Ok(()),
        JobStatus::Committing => commit_traced(app, migration, &job).await,
        JobStatus::Paused if job.wanted == Wanted::Run => {
            // It goes on in the trace that it was begun in.
            app.hub.trace_take(&migration.id);
            app.store.job_transition(&job.id, &JobStep::Resumed, now).await?;
            app.store.job_epochs_raise(&job.id, now).await?;
            info!(migration_id = %migration.id, job_id = %job.id, "paused cycle goes on");
            app.touched(&migration.id).await;
            Ok(())
        }
        JobStatus::Paused | JobStatus::Completed | JobStatus::Failed | JobStatus::Aborted => Ok(()),
    }
}

async fn commit_traced(app: &App, migration: &Migration, job: &Job) -> Result<(), Error> {
    let span = info_span!("commit", migration_id = %migration.id, job_id = %job.id);
    adopt(&span, job.traceparent.as_deref());
    commit(app, migration, job).instrument(span).await
}

/// All disks are flushed and sealed: no write begins between that and the storage snapshot (DESIGN §6 rule 2).
async fn commit(app: &App, migration: &Migration, job: &Job) -> Result<(), Error> {
    let disks = app.store.disk_list(&migration.id).await?;
    let ids: Vec<_> = disks.iter().map(|d| d.id.clone()).collect();
    app.transfers.close(&ids, "the cycle is being committed").await;
    if migration.position.phase() == Phase::Switch && !read_back(app, job, &disks).await? {
        return Ok(());
    }
    let volumes = disks.iter().map(|d| VolumeId::parse(d.volume.clone())).collect::<Result<Vec<_>, _>>()?;
    let snapshot = SnapshotName::of_commit(&job.id)?;
    app.storage.snapshot(&volumes, &snapshot).await?;
    app.hub.not_waiting(&job.id);
    app.progress_flush(&job.id).await;
    let commit = CycleCommit {
        job: job.id.clone(),
        restore_point: RestorePointId::generate(),
        snapshot_name: snapshot.as_str().to_owned(),
        disks: disks
            .iter()
            .map(|d| DiskCommit {
                disk: d.id.clone(),
                manifest: Manifest {
                    version: d.manifest.as_ref().map_or(1, |m| m.version.saturating_add(1)),
                    file: Transfers::manifest_file(&d.id, &job.id),
                },
            })
            .collect(),
    };
    let committed = match app.store.job_commit(&commit, app.clock.now()).await {
        Ok(committed) => committed,
        // An abort came first, and removes the snapshot with all the rest.
        Err(store::Error::Denied(_)) if is_aborted(app, migration).await? => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    app.ended(&app.store.job_fetch(&job.id).await?);
    info!(migration_id = %migration.id, job_id = %job.id, restore_point = %committed.restore_point.id, "cycle committed");
    app.hub.live_forget(&job.id);
    app.touched(&migration.id).await;
    retention::prune(app, migration).await?;
    accept::retired(app, migration).await?;
    leftovers::remove_manifests(app, &migration.id).await
}

/// After the final delta only its own blocks are read back (DESIGN §6 rule 10): before they make the restore point that the
/// VM starts from. Whether they are what was sent.
async fn read_back(app: &App, job: &Job, disks: &[Disk]) -> Result<bool, Error> {
    for disk in disks {
        let written = app.store.checkpoint_load(&job.id, &disk.id).await?.durable;
        let found = app.read_back(disk, &job.id, &written).await?;
        if found.different_bytes == 0 {
            info!(job_id = %job.id, disk_id = %disk.id, bytes = found.compared_bytes, "final delta read back");
            continue;
        }
        error!(job_id = %job.id, disk_id = %disk.id, bytes = found.different_bytes, ranges = ?found.different,
               "the final delta does not read back as it was sent");
        // The next cycle sends them again, whatever the source says.
        app.store.required_append(&disk.id, &found.different, app.clock.now()).await?;
        let why = Failure {
            reason: "READ_BACK_FAILED".to_owned(),
            message: format!(
                "{} bytes of the final delta on disk {} read back as something else than was sent: look at the storage",
                found.different_bytes, disk.key
            ),
        };
        app.step(job, JobStep::Failed(why)).await?;
        app.touched(&job.migration).await;
        return Ok(false);
    }
    Ok(true)
}

async fn is_aborted(app: &App, migration: &Migration) -> Result<bool, Error> {
    Ok(app.store.migration_fetch(&migration.id).await?.position.phase() == Phase::Abort)
}

/// A verification of the source whose disks are all compared.
pub(super) async fn compared(app: &App, migration: &Migration) -> Result<(), Error> {
    let Some(job) = app.store.job_active(&migration.id).await? else { return Ok(()) };
    let done = job.kind == JobKind::VerifySource && job.disks.iter().all(|d| d.finished);
    if !done || job.status != JobStatus::Running {
        return Ok(());
    }
    let now = app.clock.now();
    for disk in &job.disks {
        // What an earlier verification or a cycle without a commit left open was not compared.
        if app.store.required_load(&disk.disk, &job.id).await?.is_empty() {
            app.store.disk_verified_set(&disk.disk, Arm::Source, now).await?;
        }
    }
    app.progress_flush(&job.id).await;
    let (compared, _) = app.store.job_transition(&job.id, &JobStep::Compared, now).await?;
    app.ended(&compared);
    app.hub.live_forget(&job.id);
    info!(migration_id = %migration.id, job_id = %job.id, "source compared with the manifest");
    app.touched(&migration.id).await;
    Ok(())
}
