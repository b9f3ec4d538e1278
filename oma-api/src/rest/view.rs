//! Views → JSON: the columns of the tables by their names; times as they stand there, what is not there `null`.

use crate::service::progress::VOLUME;
use crate::service::replications::{ReplicationPage, ReplicationView};
use crate::store::{Job, JobDisk};
use jiff::Timestamp;
use serde::Serialize;
use shared::cycle::Strategy;
use utoipa::ToSchema;

/// A page of `replication_jobs`.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplicationPage)]
pub(super) struct Page {
    replications: Vec<Replication>,
    /// The `before` of the next page; `null`: this was the last.
    #[schema(example = "job-20261121-144523")]
    next_before: Option<String>,
}

/// A row of `replication_jobs`, whose VM it is, and its disks.
#[derive(Serialize, ToSchema)]
pub(super) struct Replication {
    id: String,
    migration_id: String,
    vm_uuid: String,
    vm_name: String,
    kind: &'static str,
    status: &'static str,
    snapshot_id: Option<String>,
    snapshot_taken_at: Option<String>,
    started_at: String,
    finished_at: Option<String>,
    progress_percent: f64,
    current_operation: String,
    bytes_transferred: u64,
    total_bytes: u64,
    transfer_speed_bps: u64,
    updated_at: String,
    error_reason: Option<String>,
    error_message: Option<String>,
    disks: Vec<Disk>,
}

/// A row of `job_disks`.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplicationDisk)]
struct Disk {
    /// In the progress API.
    job_id: String,
    disk_id: String,
    disk_key: String,
    strategy: &'static str,
    finished: bool,
    plan_complete: bool,
    size_bytes: u64,
    planned_bytes: u64,
    done_bytes: u64,
    read_bytes: u64,
    wire_bytes: u64,
    data_bytes: u64,
    resumed_bytes: u64,
}

fn time(at: Timestamp) -> String {
    format!("{at:.6}")
}

impl From<ReplicationPage> for Page {
    fn from(page: ReplicationPage) -> Self {
        Self {
            replications: page.replications.into_iter().map(Into::into).collect(),
            next_before: page.next_before.map(String::from),
        }
    }
}

impl From<ReplicationView> for Replication {
    fn from(ReplicationView { job, migration }: ReplicationView) -> Self {
        let Job { progress, error, disks, .. } = job;
        let (error_reason, error_message) = error.map(|e| (e.reason, e.message)).unzip();
        Self {
            id: job.id.into(),
            migration_id: job.migration.into(),
            vm_uuid: migration.vm.into(),
            vm_name: migration.vm_name,
            kind: job.kind.as_str(),
            status: job.status.as_str(),
            snapshot_id: job.snapshot,
            snapshot_taken_at: job.snapshot_taken_at.map(time),
            started_at: time(job.started_at),
            finished_at: job.finished_at.map(time),
            progress_percent: progress.percent,
            current_operation: progress.operation,
            bytes_transferred: progress.transferred,
            total_bytes: progress.total,
            transfer_speed_bps: progress.speed,
            updated_at: time(job.updated_at),
            error_reason,
            error_message,
            disks: disks.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<JobDisk> for Disk {
    fn from(disk: JobDisk) -> Self {
        let p = disk.progress;
        Self {
            job_id: format!("{VOLUME}{}", disk.disk),
            disk_id: disk.disk.into(),
            disk_key: disk.key.into(),
            strategy: match disk.strategy {
                Strategy::Full => "full",
                Strategy::Changed { .. } => "changed",
                Strategy::HashDiff => "hash_diff",
            },
            finished: disk.finished,
            plan_complete: p.plan_complete,
            size_bytes: p.size,
            planned_bytes: p.planned,
            done_bytes: p.done,
            read_bytes: p.read,
            wire_bytes: p.wire,
            data_bytes: p.data,
            resumed_bytes: p.resumed,
        }
    }
}
