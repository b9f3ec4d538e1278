//! Makes true what the database says: periodically and on a signal, without input, idempotent.
//!
//! ```text
//! begin/running  → volumes            → begin/paused
//! sync/running   → a cycle            → (the agent transfers)
//!                  all disks sealed   → storage snapshot → commit → sync/paused
//! restore points that are kept no longer → gone: after a commit, and at a look each minute
//! accepted disks → volumes made, made larger, removed with their last restore point
//! switch/running, rollback/running → as their workflows stand (`switch`)
//! finalize/running → snapshots, volumes, manifests gone → finalize/successful
//! abort/running  → sessions closed, snapshots, volumes, manifests gone → abort/aborted
//! a verification → all disks compared → its verdict
//! automatic      → the next cycle, until the switch is short enough; a switch at its set time
//! a schedule     → a cycle that is due, a blackout, a recovery point objective (`schedule`, a loop of its own)
//! free space     → cycles stop and go on (`space`);  no progress → a cycle is stopped (`watchdog`)
//! ```
//!
//! Each pass looks at every migration that there may be something to do for; one that is being worked on is left to that work. Nothing is
//! retried inside: the next pass does it, after a pause when it failed.

mod abort;
mod accept;
mod begin;
mod cycle;
mod end;
mod leftovers;
mod retention;
mod schedule;
mod space;
mod switch;
#[cfg(test)]
mod tests;
mod watchdog;
mod wishes;

use crate::service::{App, Error, Waiting};
use crate::storage::Floor;
use crate::store::{self, Migration};
use crate::work::{Failed, Work};
use shared::error::chain;
use shared::ids::MigrationId;
use shared::migration::Position;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info_span, warn};

/// Between passes when nothing wakes the loop.
const PERIOD: Duration = Duration::from_secs(1);

/// Between looks for restore points that are kept no longer.
const RETENTION: Duration = Duration::from_secs(60);

/// After a failure of one migration's work.
const PAUSE: Duration = Duration::from_secs(5);

/// When cycles are stopped for what they do, or do not do.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    /// What has to stay free of the target.
    pub floor: Floor,
    /// Without any progress.
    pub stalled: Duration,
}

/// Runs until `shutdown`; the work under way is finished or left where a restart takes it up.
pub async fn run(app: App, guards: Guards, shutdown: CancellationToken) {
    start(&app).await;
    tokio::join!(
        migrations(app.clone(), shutdown.clone()),
        schedule::run(app.clone(), shutdown.clone()),
        space::run(app.clone(), guards.floor, shutdown.clone()),
        watchdog::run(app, guards.stalled, shutdown),
    );
}

/// What a crash may have left goes before anything else is done.
pub(crate) async fn start(app: &App) {
    leftovers::remove(app).await;
}

async fn migrations(app: App, shutdown: CancellationToken) {
    let mut work = Work::new(PAUSE);
    let mut next_look = Instant::now();
    loop {
        let look = Instant::now() >= next_look;
        match due(&app, look).await {
            Ok(migrations) => {
                let now = app.clock.now();
                let idle = |m: &Migration| m.position == Position::BeginPaused && !wishes::any(m, now);
                for (migration, surplus) in migrations.into_iter().filter(|(m, _)| !idle(m)) {
                    if work.may_start(&migration.id) {
                        let (id, app) = (migration.id.clone(), app.clone());
                        // Of another target: a look that finds nothing to do is no trace.
                        let span = info_span!(target: "work", "reconcile", migration_id = %id);
                        let done = async move {
                            one(&app, &migration).await?;
                            if surplus { retention::look(&app, &migration).await } else { Ok(()) }
                        };
                        work.start(id, done.instrument(span));
                    }
                }
                if look {
                    next_look = Instant::now() + RETENTION;
                }
            }
            Err(error) => error!(error = %chain(&error), "migrations cannot be read"),
        }
        let mut woken = false;
        while !woken {
            tokio::select! {
                () = app.hub.work(PERIOD) => woken = true,
                Some((id, failed)) = work.ended() => if let Some(failure) = failed.map(waiting) {
                    warn!(migration_id = %id, reason = failure.reason, error = %failure.message,
                          retry_in = ?PAUSE, "a migration's work failed");
                    tell(&app, &id, failure).await;
                },
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// Those that there may be something to do for; and, at a look, whether each has restore points that are kept no longer.
async fn due(app: &App, look: bool) -> Result<Vec<(Migration, bool)>, store::Error> {
    let mut all: Vec<_> = app.store.migration_list_at_work().await?.into_iter().map(|m| (m, false)).collect();
    if look {
        let (count, oldest) = (app.retention.count.get(), app.retention.oldest(app.clock.now()));
        for migration in app.store.migration_list_surplus(count, oldest).await? {
            match all.iter_mut().find(|(m, _)| m.id == migration.id) {
                Some((_, surplus)) => *surplus = true,
                None => all.push((migration, true)),
            }
        }
    }
    Ok(all)
}

/// Shows the operator why it does not get on: what fails here fails again, out of the agent's sight.
async fn tell(app: &App, migration: &MigrationId, failure: Waiting) {
    let job = match app.store.job_active(migration).await {
        Ok(None) => app.store.job_last(migration).await,
        other => other,
    };
    if let Ok(Some(job)) = job {
        app.hub.set_waiting(&job.id, failure);
        // What has ended keeps its row.
        if !job.status.ended() {
            app.hub.pace.changed(&job.id);
        }
        app.hub.migration_changed(migration);
    }
}

/// For people: why a migration's work ended that did not succeed.
fn waiting(failed: Failed<Error>) -> Waiting {
    match failed {
        Failed::Error(error) => Waiting { reason: error.reason().to_owned(), message: chain(&error) },
        Failed::Panic(panic) => {
            let message = format!("{panic}: this is a defect, see the log");
            Waiting { reason: "INTERNAL".to_owned(), message }
        }
    }
}

pub(crate) async fn one(app: &App, migration: &Migration) -> Result<(), Error> {
    if wishes::any(migration, app.clock.now()) {
        return wishes::carry_out(app, migration).await;
    }
    match migration.position {
        Position::BeginRunning => begin::prepare(app, migration).await,
        Position::AbortRunning => abort::tear_down(app, migration).await,
        Position::SyncRunning => cycle::drive(app, migration).await,
        Position::SyncPaused | Position::SyncFailed => {
            accept::volumes(app, migration).await?;
            accept::retired(app, migration).await?;
            cycle::compared(app, migration).await
        }
        Position::SwitchRunning
        | Position::SwitchFailed
        | Position::RollbackRunning
        | Position::RollbackFailed => switch::follow(app, migration).await,
        Position::FinalizeRunning => end::finalize(app, migration).await,
        Position::BeginPaused
        | Position::BeginFailed
        | Position::SwitchSuccessful
        | Position::FinalizeFailed
        | Position::FinalizeSuccessful
        | Position::AbortFailed
        | Position::AbortAborted => Ok(()),
    }
}
