//! How cycles stand: into the database at most once a second each, and out as the progress API shows a job.
//!
//! What is not stored yet is the hub's. The last counters are stored a second later at the latest, and before the cycle
//! takes a step; a state that is recorded after its cycle has ended changes nothing.

use super::{App, Error};
use crate::hub::Live;
use crate::store::{Job, JobDisk, JobStatus, Progress};
use jiff::{SignedDuration, Timestamp};
use shared::cycle::{DiskProgress, Strategy};
use shared::ids::{DiskId, JobId};
use shared::progress::{PhaseView, Status, Throughput, Timing, View, VmInfo, eta_seconds, moment, percent};
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// In front of a disk's id: its job in the progress API.
pub const VOLUME: &str = "migration-vol-";

/// A job as it may be asked for.
#[derive(Clone, Debug)]
pub struct ProgressOf {
    /// As it was asked for.
    id: String,
    cycle: JobId,
    /// Only this one of the cycle's.
    disk: Option<DiskId>,
}

impl App {
    /// Stores counters when it is time, until `shutdown`; then all that are not stored.
    pub async fn progress_run(&self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                job = self.hub.pace.due() => self.progress_store(&job).await,
                () = shutdown.cancelled() => break,
            }
        }
        for job in self.hub.pace.waiting() {
            self.progress_flush(&job).await;
        }
    }

    /// Stores what is not stored yet: the cycle is about to take a step, or has said all.
    pub(crate) async fn progress_flush(&self, job: &JobId) {
        if self.hub.pace.take(job) {
            self.progress_store(job).await;
        }
    }

    /// A failure costs what people see, never the cycle; it is tried again with the next period.
    async fn progress_store(&self, job: &JobId) {
        // One after the other: an older state must not arrive after a newer one.
        let turn = self.hub.storing.acquire().await;
        let stored = self.progress_record(job).await;
        drop(turn);
        self.hub.pace.stored(job);
        if let Err(error) = stored {
            warn!(job_id = %job, error = %shared::error::chain(&error), "progress could not be stored");
            if self.hub.live(job).is_some() {
                self.hub.pace.changed(job);
            }
        }
    }

    async fn progress_record(&self, id: &JobId) -> Result<(), Error> {
        let known = |live: &Live| live.is_counted() || live.waiting().is_some();
        let Some(live) = self.hub.live(id).filter(known) else { return Ok(()) };
        let job = self.store.job_fetch(id).await?;
        if job.status.ended() {
            // A report that came with the end.
            self.hub.live_forget(id);
            return Ok(());
        }
        let disks: Vec<_> = job.disks.iter().map(|d| counters(d, Some(&live)).clone()).collect();
        let progress = progress_of(&job, Some(&live));
        Ok(self.store.job_progress_record(id, &progress, &disks, Timestamp::now()).await?)
    }

    /// The cycle of that id, or the newest of the disk whose job it is.
    ///
    /// # Errors
    /// [`Error::JobUnknown`], [`Error::Store`].
    pub async fn progress_find(&self, id: &str) -> Result<ProgressOf, Error> {
        let job = self.job_find(id).await?;
        let disk = id.strip_prefix(VOLUME).and_then(|disk| DiskId::parse(disk).ok());
        Ok(ProgressOf { id: id.to_owned(), cycle: job.id, disk })
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn progress_view(&self, of: &ProgressOf) -> Result<View, Error> {
        let job = self.store.job_fetch(&of.cycle).await?;
        let migration = self.store.migration_fetch(&job.migration).await?;
        let live = self.hub.live(&job.id);
        let shown = Shown { of, job: &job, live: live.as_ref(), now: Timestamp::now() };
        Ok(shown.view(migration.vm_name))
    }

    /// The numbers of its states, for [`shared::progress::states`].
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn progress_watch(&self, of: &ProgressOf) -> Result<Receiver<u64>, Error> {
        let job = self.store.job_fetch(&of.cycle).await?;
        Ok(self.hub.watch(&job.migration))
    }

    /// The OMA's jobs are its agents' cycles; nobody else says how they stand.
    pub fn progress_refuse(&self, id: &str) -> Error {
        Error::JobsAreTheAgents { job: id.to_owned() }
    }
}

/// How a disk stands: as it was recorded, where nothing newer is known.
pub fn counters<'a>(disk: &'a JobDisk, live: Option<&'a Live>) -> &'a DiskProgress {
    live.map_or(&disk.progress, |live| live.of(disk))
}

/// The columns of `replication_jobs`. They do not run backwards, whatever an attempt that began anew says.
pub fn progress_of(job: &Job, live: Option<&Live>) -> Progress {
    let before = &job.progress;
    let Some(live) = live.filter(|_| !job.status.ended()) else { return before.clone() };
    // For who looks into the database: why it does not get on.
    let operation = match live.waiting() {
        Some(waiting) => format!("Waiting: {}", waiting.reason),
        None => "Transfer".to_owned(),
    };
    if !live.is_counted() {
        let operation = if live.waiting().is_some() { operation } else { before.operation.clone() };
        return Progress { operation, ..before.clone() };
    }
    let disks: Vec<_> = job.disks.iter().map(|d| counters(d, Some(live))).collect();
    // What an agent says may be anything.
    let sum = |of: fn(&DiskProgress) -> u64| disks.iter().map(|d| of(d)).fold(0, u64::saturating_add);
    let complete = disks.iter().all(|d| d.plan_complete);
    // The plan is made while it is carried out: until it is complete, the disks' sizes are the better total.
    let total = if complete { sum(|d| d.planned) } else { sum(|d| d.size) };
    let share = if total == 0 { 100.0 } else { percent(sum(|d| d.done), total) };
    let transferred = sum(|d| d.data);
    Progress {
        percent: share.max(before.percent),
        operation,
        transferred,
        total: total.max(transferred),
        speed: live.speed,
        peak: live.peak.max(before.peak),
    }
}

/// A cycle, or one disk of it, at a moment.
struct Shown<'a> {
    of: &'a ProgressOf,
    job: &'a Job,
    live: Option<&'a Live>,
    now: Timestamp,
}

impl Shown<'_> {
    fn view(&self, vm_name: String) -> View {
        let (job, now) = (self.job, self.now.max(self.job.started_at));
        let status = self.status();
        let progress = progress_of(job, self.live);
        let disks: Vec<_> =
            job.disks.iter().filter(|d| self.of.disk.as_ref().is_none_or(|id| d.disk == *id)).collect();
        let size = disks.iter().map(|d| counters(d, self.live).size).fold(0, u64::saturating_add);
        let (transferred, share) = match (&self.of.disk, disks.first().map(|d| counters(d, self.live))) {
            (Some(_), Some(disk)) => {
                let total = if disk.plan_complete { disk.planned } else { disk.size.max(disk.planned) };
                let share = if total == 0 { 100.0 } else { percent(disk.done, total) };
                // Zero, too, was nothing heard of the disk yet.
                let heard = disk.plan_complete || disk.done > 0;
                (disk.data.min(size), if heard { share } else { 0.0 })
            }
            (Some(_) | None, _) => (progress.transferred.min(size), progress.percent),
        };
        let share = if status == Status::Completed { 100.0 } else { share };
        let until = job.finished_at.unwrap_or(now);
        let elapsed = span(job.started_at, until);
        // While it runs, as its peak is measured: over a second at least.
        let least =
            if job.finished_at.is_some() { SignedDuration::ZERO } else { SignedDuration::from_secs(1) };
        let average = per_second(transferred, elapsed.max(least));
        let current = match (status, self.live) {
            (Status::Running, Some(live)) => mega(live.speed),
            _ => 0.0,
        };
        let phases = self.phases(status, until);
        let phase = phases.last().map(|p| p.name.clone()).unwrap_or_default();
        let complaints = job.error.as_ref().map(|e| e.message.clone()).into_iter();
        let waiting = self.live.and_then(|live| live.waiting()).map(|waiting| waiting.message.clone());
        let errors: Vec<_> = complaints.chain(waiting).collect();
        View {
            job_id: self.of.id.clone(),
            status,
            sync_type: job.kind.to_string(),
            current_operation: phase.clone(),
            percentage: share,
            bytes_transferred: transferred,
            total_bytes: size,
            throughput: Throughput {
                current_mbps: current,
                average_mbps: average,
                peak_mbps: mega(progress.peak),
                last_update: moment(job.updated_at),
            },
            timing: Timing {
                start_time: moment(job.started_at),
                last_update: moment(job.updated_at),
                elapsed_ms: millis(elapsed),
                phase_start: phases.last().map(|p| p.start_time.clone()).unwrap_or_default(),
                phase_elapsed_ms: phases.last().map_or(0, |p| p.duration_ms),
                eta_seconds: if status == Status::Running { eta_seconds(share, elapsed) } else { 0 },
            },
            vm_info: VmInfo {
                name: vm_name,
                // The agent's alone to know.
                path: "unknown".to_owned(),
                disk_size_gb: size >> 30,
                disk_size_bytes: size,
                cbt_enabled: disks
                    .iter()
                    .any(|d| d.new_change_id.is_some() || matches!(d.strategy, Strategy::Changed { .. })),
            },
            phase,
            phases,
            last_error: errors.last().cloned(),
            errors,
        }
    }

    fn status(&self) -> Status {
        match self.job.status {
            JobStatus::Running if self.job.snapshot.is_none() => Status::Queued,
            JobStatus::Paused => Status::Queued,
            JobStatus::Running | JobStatus::Committing => Status::Running,
            JobStatus::Completed => Status::Completed,
            JobStatus::Failed | JobStatus::Aborted => Status::Failed,
        }
    }

    /// As the rows tell: until the source's snapshot, from there, and the end.
    fn phases(&self, status: Status, until: Timestamp) -> Vec<PhaseView> {
        let job = self.job;
        // The agent's clock may be another.
        let taken = job.snapshot_taken_at.map(|at| at.clamp(job.started_at, until.max(job.started_at)));
        let phase = |name: &str, status, start: Timestamp, end: Option<Timestamp>| PhaseView {
            name: name.to_owned(),
            status,
            start_time: moment(start),
            end_time: end.map(moment).unwrap_or_default(),
            duration_ms: millis(span(start, end.unwrap_or(until))),
        };
        let passed = |next: Option<Timestamp>| if next.is_some() { Status::Completed } else { status };
        let mut phases = vec![phase("Discover", passed(taken), job.started_at, taken.or(job.finished_at))];
        if let Some(taken) = taken {
            phases.push(phase("Transfer", status, taken, job.finished_at));
        }
        if let (Status::Completed, Some(end)) = (status, job.finished_at) {
            phases.push(phase("Complete", status, end, Some(end)));
        }
        phases
    }
}

fn span(from: Timestamp, to: Timestamp) -> SignedDuration {
    to.duration_since(from).max(SignedDuration::ZERO)
}

fn millis(time: SignedDuration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Megabytes.
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn per_second(bytes: u64, time: SignedDuration) -> f64 {
    match time.as_secs_f64() {
        seconds if seconds > 0.0 => mega(bytes) / seconds,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;
