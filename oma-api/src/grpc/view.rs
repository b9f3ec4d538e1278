//! Views → messages.

use crate::estimate::Estimate;
use crate::service::MigrationView;
use crate::service::history::Run;
use crate::service::progress::{VOLUME, counters, progress_of};
use crate::service::replications::ReplicationView;
use crate::store::{Disk, Event, Job, JobDisk, JobKind, JobStatus};
use jiff::{SignedDuration, Timestamp};
use proto::v1;
use shared::cycle::DiskProgress;
use shared::wire::{action_to_wire, phase_to_wire, state_to_wire, strategy_to_wire};
use std::time::Duration;

fn time(at: Option<Timestamp>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// A migration as every RPC shows it.
pub(super) fn migration(view: MigrationView) -> v1::Migration {
    let cycle = view.job.as_ref().map(|job| cycle(job, &view));
    let MigrationView {
        migration: m,
        disks,
        retired,
        waiting,
        restore_points,
        agent_connected,
        history,
        schedule,
        configuration,
        rpo,
        retention,
        ..
    } = view;
    let wishes = m.wishes;
    let (next, schedule) = schedule.map(|s| (s.next, s.text)).unwrap_or_default();
    let (reason, message) = match (m.error, waiting) {
        (Some(error), _) => (error.reason, error.message),
        (None, Some(waiting)) => (waiting.reason, waiting.message),
        (None, None) => Default::default(),
    };
    v1::Migration {
        migration_id: m.id.into(),
        vm_uuid: m.vm.into(),
        vm_name: m.vm_name,
        agent_id: m.agent.into(),
        phase: phase_to_wire(m.position.phase()).into(),
        state: state_to_wire(m.position.state()).into(),
        held: m.held,
        rate_bytes_per_second: m.rate,
        created_at: m.created_at.to_string(),
        updated_at: m.updated_at.to_string(),
        finished_at: time(m.finished_at),
        error_reason: reason,
        error_message: message,
        disks: disks.into_iter().map(disk).collect(),
        cycle,
        restore_points: restore_points
            .into_iter()
            .map(|p| v1::RestorePoint {
                restore_point_id: p.id.into(),
                job_id: p.job.into(),
                taken_at: p.taken_at.to_string(),
                committed_at: p.committed_at.to_string(),
            })
            .collect(),
        retention: retention.to_string(),
        findings: m.findings.into_iter().map(Into::into).collect(),
        agent_connected,
        affinity: wishes.affinity,
        automatic: wishes.automatic.map(|a| v1::Automatic {
            since: a.since.to_string(),
            max_downtime_ms: u64::try_from(a.max_downtime.as_millis()).unwrap_or(u64::MAX),
            max_cycles: a.max_cycles,
        }),
        scheduled_timestamp: time(wishes.scheduled_at),
        forced_reason: wishes.forced.unwrap_or_default(),
        last_action: wishes.last.map(|l| v1::LastAction {
            action: action_to_wire(l.action).into(),
            by: l.by,
            at: l.at.to_string(),
        }),
        progress_history: history.into_iter().map(run).collect(),
        rpo_seconds: rpo.age.map(|age| age.as_secs()),
        rpo_target_seconds: rpo.target.map_or(0, |target| target.as_secs()),
        rpo_breached: rpo.breached,
        next_cycle_at: time(next),
        schedule,
        configuration: configuration.map(Into::into),
        target_profile: m.target_profile.map(String::from).unwrap_or_default(),
        retired_disks: retired
            .into_iter()
            .map(|d| v1::RetiredDisk {
                disk_id: d.disk.into(),
                key: d.key.into(),
                size_bytes: d.size,
                retired_at: d.retired_at.to_string(),
                retired_by: d.by,
                restore_points: u32::try_from(d.restore_points).unwrap_or(u32::MAX),
            })
            .collect(),
    }
}

pub(super) fn estimate(e: &Estimate) -> v1::EstimateResponse {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    v1::EstimateResponse {
        size_bytes: e.size,
        eta_ms: e.eta.map(millis),
        transfer_bytes_second: e.copy_rate,
        predicted_downtime_ms: e.downtime.map(millis),
        basis: e.basis.as_str().to_owned(),
        dirty_bytes_second: e.dirty_rate,
        next_bytes: e.next,
        trend: e.trend.as_str().to_owned(),
    }
}

pub(super) fn event(e: &Event) -> v1::EventsResponse {
    v1::EventsResponse {
        sequence: e.seq,
        time: e.at.to_string(),
        r#type: e.kind.clone(),
        migration_id: e.migration.as_ref().map(ToString::to_string).unwrap_or_default(),
        job_id: e.job.as_ref().map(ToString::to_string).unwrap_or_default(),
        data: e.body.to_string(),
    }
}

fn run(run: Run) -> v1::ProgressEntry {
    let millis = |time: SignedDuration| u64::try_from(time.as_millis()).unwrap_or(0);
    v1::ProgressEntry {
        number: run.number,
        phase: phase_to_wire(run.phase).into(),
        state: state_to_wire(run.state).into(),
        current_progress: run.current,
        total_progress: run.total,
        message: run.message.to_owned(),
        error: run.error.unwrap_or_default(),
        started_timestamp: run.started_at.to_string(),
        finished_timestamp: time(run.finished_at),
        duration_ms: millis(run.duration),
        eta_ms: run.eta.map(millis).unwrap_or_default(),
        transfer_bytes_second: run.speed,
        job_id: run.job.map(String::from).unwrap_or_default(),
    }
}

fn kind(kind: JobKind) -> v1::CycleKindName {
    match kind {
        JobKind::Full => v1::CycleKindName::Full,
        JobKind::Incremental => v1::CycleKindName::Incremental,
        JobKind::VerifySource => v1::CycleKindName::VerifySource,
    }
}

/// A row of `replication_jobs`.
pub(super) fn replication(ReplicationView { job, migration }: ReplicationView) -> v1::Replication {
    let Job { progress: p, error, disks, .. } = job;
    let (error_reason, error_message) = error.map(|e| (e.reason, e.message)).unwrap_or_default();
    v1::Replication {
        id: job.id.into(),
        migration_id: job.migration.into(),
        vm_uuid: migration.vm.into(),
        vm_name: migration.vm_name,
        kind: kind(job.kind).into(),
        status: job.status.to_string(),
        snapshot_id: job.snapshot.unwrap_or_default(),
        snapshot_taken_at: time(job.snapshot_taken_at),
        started_at: job.started_at.to_string(),
        finished_at: time(job.finished_at),
        progress_percent: p.percent,
        current_operation: p.operation,
        bytes_transferred: p.transferred,
        total_bytes: p.total,
        transfer_speed_bps: p.speed,
        updated_at: job.updated_at.to_string(),
        error_reason,
        error_message,
        disks: disks.into_iter().map(replication_disk).collect(),
    }
}

fn replication_disk(disk: JobDisk) -> v1::ReplicationDisk {
    let p = disk.progress;
    v1::ReplicationDisk {
        job_id: format!("{VOLUME}{}", disk.disk),
        disk_id: disk.disk.into(),
        key: disk.key.into(),
        strategy: strategy_to_wire(&disk.strategy).0.into(),
        finished: disk.finished,
        plan_complete: p.plan_complete,
        size_bytes: p.size,
        planned_bytes: p.planned,
        done_bytes: p.done,
        data_bytes: p.data,
        wire_bytes: p.wire,
        read_bytes: p.read,
        resumed_bytes: p.resumed,
    }
}

fn disk(disk: Disk) -> v1::MigrationDisk {
    v1::MigrationDisk {
        disk_id: disk.id.into(),
        key: disk.key.into(),
        size_bytes: disk.size,
        epoch: disk.epoch.0,
        change_id: disk.change_id.unwrap_or_default(),
        replica_verified_at: time(disk.replica_verified_at),
        source_verified_at: time(disk.source_verified_at),
        volume: disk.volume,
    }
}

fn cycle(job: &Job, view: &MigrationView) -> v1::Cycle {
    let error = job.error.as_ref().map(|e| e.message.clone()).unwrap_or_default();
    let disks: Vec<_> = job
        .disks
        .iter()
        .map(|d| {
            let size = d.new_size.or(view.disks.iter().find(|x| x.id == d.disk).map(|x| x.size)).unwrap_or(0);
            let DiskProgress { planned, done, read, wire, data, resumed, plan_complete, .. } =
                counters(d, view.live.as_ref()).clone();
            v1::CycleDisk {
                disk_id: d.disk.to_string(),
                key: d.key.to_string(),
                strategy: strategy_to_wire(&d.strategy).0.into(),
                size_bytes: size,
                planned_bytes: planned,
                done_bytes: done,
                data_bytes: data,
                wire_bytes: wire,
                read_bytes: read,
                resumed_bytes: resumed,
                plan_complete: plan_complete || d.finished,
            }
        })
        .collect();
    // Of the same moment as the disks.
    let p = progress_of(job, view.live.as_ref());
    v1::Cycle {
        job_id: job.id.to_string(),
        status: job.status.to_string(),
        kind: kind(job.kind).into(),
        started_at: job.started_at.to_string(),
        finished_at: time(job.finished_at),
        disks,
        progress_percent: if job.status == JobStatus::Completed { 100.0 } else { p.percent },
        bytes_transferred: p.transferred,
        total_bytes: p.total,
        transfer_speed_bps: view.live.as_ref().map_or(p.speed, |live| live.speed),
        error_message: error,
        snapshot_taken_at: time(job.snapshot_taken_at),
    }
}
