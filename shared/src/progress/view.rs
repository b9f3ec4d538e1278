//! A job as the progress API shows it. The names and forms are those of the API's document, word for word: `*_mbps` are
//! megabytes (10⁶) a second, `disk_size_gb` is GiB, an `end_time` that is not there is empty, `eta_seconds` is 0 when
//! nobody can tell.

use jiff::{SignedDuration, Timestamp, Unit};
use serde::Serialize;

use super::job::{Job, Phase, Status};

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct View {
    pub job_id: String,
    pub status: Status,
    pub sync_type: String,
    pub phase: String,
    /// 0 to 100.
    pub percentage: f64,
    pub current_operation: String,
    pub bytes_transferred: u64,
    pub total_bytes: u64,
    pub throughput: Throughput,
    pub timing: Timing,
    pub vm_info: VmInfo,
    pub phases: Vec<PhaseView>,
    pub errors: Vec<String>,
    pub last_error: Option<String>,
}

/// Megabytes a second.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Throughput {
    pub current_mbps: f64,
    pub average_mbps: f64,
    pub peak_mbps: f64,
    pub last_update: String,
}

/// Times are RFC 3339, in UTC, to the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Timing {
    pub start_time: String,
    pub last_update: String,
    pub elapsed_ms: i64,
    pub phase_start: String,
    pub phase_elapsed_ms: i64,
    pub eta_seconds: i64,
}

/// What the job is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct VmInfo {
    pub name: String,
    pub path: String,
    pub disk_size_gb: u64,
    pub disk_size_bytes: u64,
    pub cbt_enabled: bool,
}

/// One phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PhaseView {
    pub name: String,
    pub status: Status,
    pub start_time: String,
    /// Empty while it lasts.
    pub end_time: String,
    pub duration_ms: i64,
}

const MEGA: f64 = 1e6;

impl View {
    /// Nothing will change any more.
    pub fn has_ended(&self) -> bool {
        matches!(self.status, Status::Completed | Status::Failed)
    }

    pub(super) fn of(id: &str, job: &Job, now: Timestamp) -> Self {
        let now = now.max(job.last_update);
        let (done, total) = (job.done(), job.total());
        let elapsed = job.elapsed(now);
        let phase = job.phases.last();
        let phase_started = phase.map_or(job.started, |phase| phase.started);
        let phase_elapsed = phase.map_or(elapsed, |phase| length(phase, now));
        Self {
            job_id: id.to_owned(),
            status: job.status,
            sync_type: job.about.sync_type.clone(),
            phase: job.phase().to_owned(),
            percentage: job.percent(),
            current_operation: job.phase().to_owned(),
            bytes_transferred: done,
            total_bytes: total,
            throughput: Throughput {
                current_mbps: job.speed.current / MEGA,
                average_mbps: job.average(now) / MEGA,
                peak_mbps: job.speed.peak / MEGA,
                last_update: moment(job.last_update),
            },
            timing: Timing {
                start_time: moment(job.started),
                last_update: moment(job.last_update),
                elapsed_ms: millis(elapsed),
                phase_start: moment(phase_started),
                phase_elapsed_ms: millis(phase_elapsed),
                eta_seconds: eta(job, elapsed),
            },
            vm_info: VmInfo {
                name: job.about.vm_name.clone(),
                path: job.about.vm_path.clone(),
                disk_size_gb: total >> 30,
                disk_size_bytes: total,
                cbt_enabled: job.about.cbt_enabled,
            },
            phases: job.phases.iter().map(|phase| PhaseView::of(phase, now)).collect(),
            errors: job.errors.clone(),
            last_error: job.errors.last().cloned(),
        }
    }
}

impl PhaseView {
    fn of(phase: &Phase, now: Timestamp) -> Self {
        Self {
            name: phase.name.clone(),
            status: phase.status,
            start_time: moment(phase.started),
            end_time: phase.ended.map(moment).unwrap_or_default(),
            duration_ms: millis(length(phase, now)),
        }
    }
}

/// If it goes on as it did so far; nobody can tell before something was done.
fn eta(job: &Job, elapsed: SignedDuration) -> i64 {
    match job.percent() {
        done if job.status == Status::Running => eta_seconds(done, elapsed),
        _ => 0,
    }
}

/// Seconds until all is done, if it goes on as it did until `percent`; 0 before something was done.
pub fn eta_seconds(percent: f64, elapsed: SignedDuration) -> i64 {
    match percent > 0.0 {
        true => whole(elapsed.as_secs_f64() * (100.0 - percent) / percent),
        false => 0,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "saturates; an estimate for people")]
fn whole(seconds: f64) -> i64 {
    seconds.ceil() as i64
}

fn length(phase: &Phase, now: Timestamp) -> SignedDuration {
    phase.ended.unwrap_or(now).duration_since(phase.started).max(SignedDuration::ZERO)
}

fn millis(time: SignedDuration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A time as the API writes it: to the second, cut off, not rounded, because a time in the future confuses.
pub fn moment(time: Timestamp) -> String {
    let mode = jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc);
    time.round(mode).unwrap_or(time).to_string()
}
