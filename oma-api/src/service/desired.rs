//! What an agent should be doing: a pure function of the database's rows.

use crate::store::{Disk, Job, JobKind, JobStatus, Migration, Wanted};
use shared::cycle::{CycleKind, CycleRun, DesiredCycle, DesiredDisk, DesiredVm};
use shared::migration::Phase;

/// One VM's part. `active` is its unfinished cycle, `rate` what it may take of the network at this hour.
pub(super) fn of_migration(
    migration: &Migration,
    disks: &[Disk],
    active: Option<&Job>,
    rate: u64,
) -> DesiredVm {
    let release = migration.position.ended();
    let going = migration.position.phase() != Phase::Abort && !release;
    DesiredVm {
        vm: migration.vm.clone(),
        migration: migration.id.clone(),
        release,
        keep: match release {
            true => Vec::new(),
            false => disks.iter().filter_map(|d| Some((d.key.clone(), d.change_id.clone()?))).collect(),
        },
        rate,
        cycle: active.filter(|_| going).map(|job| cycle(job, disks)),
        power: None,
    }
}

fn cycle(job: &Job, disks: &[Disk]) -> DesiredCycle {
    let size_of = |id| disks.iter().find(|d| d.id == id).and_then(|d| d.committed_size);
    DesiredCycle {
        job: job.id.clone(),
        kind: match job.kind {
            JobKind::Full | JobKind::Incremental => CycleKind::Sync,
            JobKind::VerifySource => CycleKind::VerifySource,
        },
        run: match (job.status, job.wanted) {
            (JobStatus::Committing, _) => CycleRun::Committing,
            (JobStatus::Running, Wanted::Run) => CycleRun::Run,
            // The ended ones are not active: a pause does nothing, which is right for whatever this would be.
            (JobStatus::Running, Wanted::Pause)
            | (JobStatus::Paused | JobStatus::Completed | JobStatus::Failed | JobStatus::Aborted, _) => {
                CycleRun::Pause
            }
        },
        disks: job
            .disks
            .iter()
            .map(|d| DesiredDisk {
                disk: d.disk.clone(),
                key: d.key.clone(),
                epoch: d.epoch,
                size: size_of(d.disk.clone()),
                strategy: d.strategy.clone(),
                finished: d.finished,
            })
            .collect(),
        snapshot: job.snapshot.clone(),
        traceparent: job.traceparent.clone(),
    }
}
