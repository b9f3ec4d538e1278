//! Views → JSON. Times are RFC 3339 in UTC, sizes are bytes; what is not there is null.

use crate::service::MigrationView;
use crate::service::history::Run;
use crate::service::list::MigrationPage;
use crate::service::migrations::OfferedVm;
use crate::service::progress::{counters, progress_of};
use crate::store::{self, JobStatus, LastAction, RestorePoint, RetiredDisk};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::cycle::Strategy;
use shared::vm::{Configuration, Difference};
use utoipa::ToSchema;

fn time(at: Timestamp) -> String {
    format!("{at:.6}")
}

fn millis(time: SignedDuration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(0)
}

#[derive(Serialize, ToSchema)]
#[schema(as = MigrationPage)]
pub(super) struct Page {
    /// Newest first.
    migrations: Vec<Migration>,
    /// Where the next page begins; null: this was the last.
    #[schema(example = "01a20287-9b01-76cb-b16a-0d10fe70c67d")]
    next_page_token: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ProtectedVm)]
pub(super) struct Migration {
    migration_id: String,
    vm_uuid: String,
    #[schema(example = "web-01")]
    vm_name: String,
    agent_id: String,
    agent_connected: bool,
    #[schema(example = "sync")]
    phase: &'static str,
    #[schema(example = "paused")]
    state: &'static str,
    held: bool,
    rate_bytes_per_second: u64,
    /// In one line, and why it starts nothing if so; `null`: it has none.
    schedule: Option<String>,
    /// When the next cycle starts by itself.
    next_cycle_at: Option<String>,
    /// Age of the last restore point, from its source snapshot on.
    rpo_seconds: Option<u64>,
    rpo_target_seconds: Option<u64>,
    rpo_breached: bool,
    /// By which its VM is made; null: none was chosen.
    target_profile: Option<String>,
    /// As begin recorded it; null: it was not known then.
    configuration: Option<Configuration>,
    affinity: Vec<String>,
    automatic: Option<Automatic>,
    scheduled_timestamp: Option<String>,
    forced_reason: Option<String>,
    last_action: Option<Asked>,
    created_at: String,
    updated_at: String,
    finished_at: Option<String>,
    error: Option<Failure>,
    disks: Vec<Disk>,
    /// Those that have left the protection and that restore points still hold.
    retired_disks: Vec<Retired>,
    /// The running one, else the last.
    cycle: Option<Cycle>,
    restore_points: Vec<Point>,
    /// Which of them are kept, beside one that a failover needs.
    #[schema(example = "the newest 2")]
    retention: String,
    findings: Vec<Finding>,
    progress_history: Vec<Progress>,
}

#[derive(Serialize, ToSchema)]
struct Automatic {
    since: String,
    max_downtime_ms: u64,
    max_cycles: u32,
}

/// What was asked for last, and by whom.
#[derive(Serialize, ToSchema)]
#[schema(as = LastAction)]
struct Asked {
    action: &'static str,
    by: String,
    at: String,
}

#[derive(Serialize, ToSchema)]
struct Failure {
    reason: String,
    message: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ProtectedDisk)]
struct Disk {
    disk_id: String,
    key: String,
    size_bytes: u64,
    epoch: u64,
    change_id: Option<String>,
    replica_verified_at: Option<String>,
    source_verified_at: Option<String>,
    /// Of the storage; it holds the replica.
    volume: String,
}

/// Its volume goes with the last restore point that holds it.
#[derive(Serialize, ToSchema)]
#[schema(as = RetiredDisk)]
struct Retired {
    disk_id: String,
    #[schema(example = "scsi0-1")]
    key: String,
    size_bytes: u64,
    retired_at: String,
    /// Who accepted that it left.
    retired_by: String,
    restore_points: u64,
}

#[derive(Serialize, ToSchema)]
struct Cycle {
    job_id: String,
    status: &'static str,
    kind: &'static str,
    started_at: String,
    finished_at: Option<String>,
    snapshot_taken_at: Option<String>,
    progress_percent: f64,
    bytes_transferred: u64,
    total_bytes: u64,
    transfer_speed_bps: u64,
    error_message: Option<String>,
    disks: Vec<CycleDisk>,
}

#[derive(Serialize, ToSchema)]
struct CycleDisk {
    disk_id: String,
    key: String,
    strategy: &'static str,
    planned_bytes: u64,
    done_bytes: u64,
    data_bytes: u64,
    read_bytes: u64,
    wire_bytes: u64,
    resumed_bytes: u64,
    plan_complete: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RestorePoint)]
struct Point {
    restore_point_id: String,
    job_id: String,
    /// When the source's snapshot was taken.
    taken_at: String,
    committed_at: String,
}

#[derive(Serialize, ToSchema)]
struct Finding {
    kind: &'static str,
    disk_key: Option<String>,
    message: String,
}

/// A run of a phase.
#[derive(Serialize, ToSchema)]
#[schema(as = PhaseRun)]
struct Progress {
    number: u64,
    phase: &'static str,
    state: &'static str,
    current_progress: u64,
    total_progress: u64,
    message: &'static str,
    error: Option<String>,
    started_timestamp: String,
    finished_timestamp: Option<String>,
    duration_ms: u64,
    eta_ms: Option<u64>,
    transfer_bytes_second: u64,
    job_id: Option<String>,
}

impl From<MigrationPage> for Page {
    fn from(page: MigrationPage) -> Self {
        Self {
            migrations: page.migrations.into_iter().map(Into::into).collect(),
            next_page_token: page.next.map(String::from),
        }
    }
}

impl From<MigrationView> for Migration {
    fn from(view: MigrationView) -> Self {
        let cycle = cycle(&view);
        let m = view.migration;
        let waiting = view.waiting.map(|w| Failure { reason: w.reason, message: w.message });
        let failed = m.error.map(|e| Failure { reason: e.reason, message: e.message });
        let wishes = m.wishes;
        let (schedule, next) = view.schedule.map(|s| (s.text, s.next)).unzip();
        Self {
            migration_id: m.id.into(),
            vm_uuid: m.vm.into(),
            vm_name: m.vm_name,
            agent_id: m.agent.into(),
            agent_connected: view.agent_connected,
            phase: m.position.phase().as_str(),
            state: m.position.state().as_str(),
            held: m.held,
            rate_bytes_per_second: m.rate,
            schedule,
            next_cycle_at: next.flatten().map(time),
            rpo_seconds: view.rpo.age.map(|age| age.as_secs()),
            rpo_target_seconds: view.rpo.target.map(|target| target.as_secs()),
            rpo_breached: view.rpo.breached,
            target_profile: m.target_profile.map(String::from),
            configuration: view.configuration,
            affinity: wishes.affinity,
            automatic: wishes.automatic.map(|a| Automatic {
                since: time(a.since),
                max_downtime_ms: u64::try_from(a.max_downtime.as_millis()).unwrap_or(u64::MAX),
                max_cycles: a.max_cycles,
            }),
            scheduled_timestamp: wishes.scheduled_at.map(time),
            forced_reason: wishes.forced,
            last_action: wishes.last.map(Into::into),
            created_at: time(m.created_at),
            updated_at: time(m.updated_at),
            finished_at: m.finished_at.map(time),
            error: failed.or(waiting),
            disks: view.disks.into_iter().map(Into::into).collect(),
            retired_disks: view.retired.into_iter().map(Into::into).collect(),
            cycle,
            restore_points: view.restore_points.into_iter().map(Into::into).collect(),
            retention: view.retention.to_string(),
            findings: m
                .findings
                .into_iter()
                .map(|f| Finding {
                    kind: f.kind.as_str(),
                    disk_key: f.disk.map(String::from),
                    message: f.message,
                })
                .collect(),
            progress_history: view.history.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<LastAction> for Asked {
    fn from(last: LastAction) -> Self {
        Self { action: last.action.as_str(), by: last.by, at: time(last.at) }
    }
}

impl From<store::Disk> for Disk {
    fn from(disk: store::Disk) -> Self {
        Self {
            disk_id: disk.id.into(),
            key: disk.key.into(),
            size_bytes: disk.size,
            epoch: disk.epoch.0,
            change_id: disk.change_id,
            replica_verified_at: disk.replica_verified_at.map(time),
            source_verified_at: disk.source_verified_at.map(time),
            volume: disk.volume,
        }
    }
}

impl From<RetiredDisk> for Retired {
    fn from(disk: RetiredDisk) -> Self {
        Self {
            disk_id: disk.disk.into(),
            key: disk.key.into(),
            size_bytes: disk.size,
            retired_at: time(disk.retired_at),
            retired_by: disk.by,
            restore_points: disk.restore_points,
        }
    }
}

impl From<RestorePoint> for Point {
    fn from(point: RestorePoint) -> Self {
        Self {
            restore_point_id: point.id.into(),
            job_id: point.job.into(),
            taken_at: time(point.taken_at),
            committed_at: time(point.committed_at),
        }
    }
}

fn cycle(view: &MigrationView) -> Option<Cycle> {
    let (job, live) = (view.job.as_ref()?, view.live.as_ref());
    let p = progress_of(job, live);
    let disks = job.disks.iter().map(|disk| {
        let c = counters(disk, live);
        CycleDisk {
            disk_id: disk.disk.to_string(),
            key: disk.key.to_string(),
            strategy: match disk.strategy {
                Strategy::Full => "full",
                Strategy::Changed { .. } => "changed",
                Strategy::HashDiff => "hash_diff",
            },
            planned_bytes: c.planned,
            done_bytes: c.done,
            data_bytes: c.data,
            read_bytes: c.read,
            wire_bytes: c.wire,
            resumed_bytes: c.resumed,
            plan_complete: c.plan_complete || disk.finished,
        }
    });
    Some(Cycle {
        job_id: job.id.to_string(),
        status: job.status.as_str(),
        kind: job.kind.as_str(),
        started_at: time(job.started_at),
        finished_at: job.finished_at.map(time),
        snapshot_taken_at: job.snapshot_taken_at.map(time),
        progress_percent: if job.status == JobStatus::Completed { 100.0 } else { p.percent },
        bytes_transferred: p.transferred,
        total_bytes: p.total,
        transfer_speed_bps: live.map_or(p.speed, |live| live.speed),
        error_message: job.error.as_ref().map(|e| e.message.clone()),
        disks: disks.collect(),
    })
}

impl From<Run> for Progress {
    fn from(run: Run) -> Self {
        Self {
            number: run.number,
            phase: run.phase.as_str(),
            state: run.state.as_str(),
            current_progress: run.current,
            total_progress: run.total,
            message: run.message,
            error: run.error,
            started_timestamp: time(run.started_at),
            finished_timestamp: run.finished_at.map(time),
            duration_ms: millis(run.duration),
            eta_ms: run.eta.map(millis),
            transfer_bytes_second: run.speed,
            job_id: run.job.map(String::from),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = OfferedVms)]
pub(super) struct Vms {
    pub(super) vms: Vec<Vm>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OfferedVm)]
pub(super) struct Vm {
    vm_uuid: String,
    vm_name: String,
    agent_id: String,
    agent_connected: bool,
    /// null: not protected.
    migration_id: Option<String>,
    disks: Vec<VmDisk>,
    /// null: its agent does not tell it.
    configuration: Option<Configuration>,
    /// What is not as the migration's begin recorded it.
    changes: Vec<Difference>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OfferedDisk)]
struct VmDisk {
    key: String,
    size_bytes: u64,
}

impl From<OfferedVm> for Vm {
    fn from(offered: OfferedVm) -> Self {
        Self {
            vm_uuid: offered.vm.uuid.into(),
            vm_name: offered.vm.name,
            agent_id: offered.agent.into(),
            agent_connected: offered.agent_connected,
            migration_id: offered.migration.map(String::from),
            configuration: offered.vm.configuration,
            changes: offered.changes,
            disks: offered
                .vm
                .disks
                .into_iter()
                .map(|d| VmDisk { key: d.key.into(), size_bytes: d.size })
                .collect(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Agents {
    pub(super) agents: Vec<Agent>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Agent {
    agent_id: String,
    software_version: String,
    connected: bool,
    last_seen_at: String,
    address: String,
}

impl From<store::Agent> for Agent {
    fn from(agent: store::Agent) -> Self {
        Self {
            agent_id: agent.id.into(),
            software_version: agent.software_version,
            connected: agent.connected,
            last_seen_at: time(agent.last_seen_at),
            address: agent.address,
        }
    }
}
