//! Cycles that the system pauses and lets go on: in a blackout, and when the target has no room. What an operator paused
//! is the operator's.

use super::{App, Error, Waiting};
use crate::store::{self, Failure, Job, JobStatus, Migration, SystemPause, Wanted};
use jiff::Timestamp;
use shared::migration::{Action, Position, apply};
use tracing::info;

impl App {
    /// Stops a running cycle at a durable point. One that moves meanwhile is left to the next look.
    pub(crate) async fn cycle_hold_back(
        &self,
        migration: &Migration,
        job: &Job,
        why: Failure,
        until: Option<Timestamp>,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let mut changed = migration.clone();
        changed.position = apply(Some(migration.position), Action::Pause, migration.facts())?.to;
        info!(migration_id = %migration.id, job_id = %job.id, reason = %why.reason, message = %why.message,
              "the cycle is held back");
        let pause =
            SystemPause { migration: migration.id.clone(), job: job.id.clone(), why, paused_at: now, until };
        moved(self.store.cycle_hold_back(&changed, &pause, now).await)?;
        self.touched(&migration.id).await;
        Ok(())
    }

    /// Lets it go on; or, where somebody has decided otherwise since, forgets that it was held back.
    pub(crate) async fn cycle_let_go(&self, migration: &Migration, pause: &SystemPause) -> Result<(), Error> {
        let job = self.store.job_active(&migration.id).await?.filter(|job| job.id == pause.job);
        let changed = match (job.map(|job| (job.status, job.wanted)), migration.position) {
            // It has not stopped yet.
            (Some((JobStatus::Running, Wanted::Pause)), _) => return Ok(()),
            (Some((JobStatus::Paused, _)), Position::SyncPaused) => {
                let next = apply(Some(migration.position), Action::Sync, migration.facts())?;
                info!(migration_id = %migration.id, job_id = %pause.job, "the cycle that was held back goes on");
                Some(Migration { position: next.to, error: None, ..migration.clone() })
            }
            _ => None,
        };
        moved(self.store.cycle_let_go(pause, changed.as_ref(), self.clock.now()).await)?;
        self.touched(&migration.id).await;
        Ok(())
    }
}

/// Why the system holds the cycle back, if it does.
pub(super) fn held_back(job: &Job, pause: Option<SystemPause>) -> Option<Waiting> {
    let pause = pause.filter(|pause| job.status == JobStatus::Paused && pause.job == job.id)?;
    Some(Waiting { reason: pause.why.reason, message: pause.why.message })
}

/// Somebody was faster: the next look decides on what is there then.
fn moved(done: Result<(), store::Error>) -> Result<(), Error> {
    match done {
        Err(store::Error::Conflict { .. } | store::Error::JobClosed { .. } | store::Error::Denied(_)) => {
            Ok(())
        }
        done => Ok(done?),
    }
}
