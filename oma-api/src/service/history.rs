//! How each run of a phase went: `progress_history` of the instance-migration API.

use super::progress::{counters, progress_of};
use super::{App, Error, MigrationView};
use crate::store::HistoryEntry;
use jiff::{SignedDuration, Timestamp};
use shared::ids::JobId;
use shared::migration::{Phase, State};
use shared::progress::eta_seconds;

/// Entries of one answer.
pub const MOST: u32 = 1000;

/// A run of a phase, the one that is under way as it stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub number: u64,
    pub phase: Phase,
    pub state: State,
    /// Bytes of a sync; percent of another phase.
    pub current: u64,
    pub total: u64,
    pub message: &'static str,
    pub error: Option<String>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub duration: SignedDuration,
    /// `None`: nobody can tell.
    pub eta: Option<SignedDuration>,
    /// Bytes a second.
    pub speed: u64,
    pub job: Option<JobId>,
}

impl App {
    /// The migration with the newest runs of its phases.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Store`].
    pub async fn with_history(&self, mut view: MigrationView, limit: u32) -> Result<MigrationView, Error> {
        if limit > MOST {
            return Err(Error::Argument { what: "history", why: format!("must be 0 to {MOST}") });
        }
        if limit > 0 {
            let entries = self.store.history_list(&view.migration.id, limit).await?;
            let now = Timestamp::now();
            view.history = entries.into_iter().map(|entry| run(entry, &view, now)).collect();
        }
        Ok(view)
    }
}

fn run(entry: HistoryEntry, view: &MigrationView, now: Timestamp) -> Run {
    let until = entry.finished_at.unwrap_or(now);
    let duration = until.duration_since(entry.started_at).max(SignedDuration::ZERO);
    let ended = entry.finished_at.is_some();
    let mut run = Run {
        number: entry.number,
        phase: entry.phase,
        state: entry.state,
        current: if ended { 100 } else { 0 },
        total: 100,
        message: message(entry.phase),
        error: entry.error,
        started_at: entry.started_at,
        finished_at: entry.finished_at,
        duration,
        eta: None,
        speed: entry.speed,
        job: entry.job,
    };
    match (entry.phase, view.job.as_ref()) {
        (Phase::Sync, _) if ended => (run.current, run.total) = (entry.done, entry.total.max(entry.done)),
        (Phase::Sync, Some(job)) if !job.status.ended() => {
            let live = view.live.as_ref();
            let progress = progress_of(job, live);
            let done = job.disks.iter().map(|d| counters(d, live).done).fold(0, u64::saturating_add);
            let eta = eta_seconds(progress.percent, duration);
            (run.current, run.total) = (done, progress.total.max(done));
            run.speed = live.map_or(progress.speed, |live| live.speed);
            run.eta = (eta > 0).then(|| SignedDuration::from_secs(eta));
            run.job = Some(job.id.clone());
        }
        (Phase::Sync, _) => (run.current, run.total) = (0, 0),
        (Phase::Begin | Phase::Switch | Phase::Finalize | Phase::Abort | Phase::Rollback, _) => {}
    }
    run
}

/// The document's own words, where it has one.
fn message(phase: Phase) -> &'static str {
    match phase {
        Phase::Begin => "reserving instance",
        Phase::Sync => "syncing data",
        Phase::Switch => "switching instances",
        Phase::Finalize => "removing sync snapshots",
        Phase::Abort => "removing the replica",
        Phase::Rollback => "taking the switch back",
    }
}
