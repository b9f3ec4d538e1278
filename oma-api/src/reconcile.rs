//! Makes true what the database says: periodically and on a signal, without input, idempotent.
//!
//! ```text
//! begin/running  → volumes            → begin/paused
//! sync/running   → a cycle            → (the agent transfers)
//!                  all disks sealed   → storage snapshot → commit → sync/paused
//! abort/running  → sessions closed, snapshots, volumes, manifests gone → abort/aborted
//! a verification → all disks compared → its verdict
//! ```
//!
//! Each pass looks at every unfinished migration; one that is being worked on is left to that work. Nothing is
//! retried inside: the next pass does it, after a pause when it failed.

mod abort;
mod begin;
mod cycle;
mod leftovers;
#[cfg(test)]
mod tests;

use crate::service::{App, Error};
use crate::store::{Migration, Which};
use shared::ids::MigrationId;
use shared::migration::Position;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Between passes when nothing wakes the loop.
const PERIOD: Duration = Duration::from_secs(1);

/// After a failure of one migration's work.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs until `shutdown`; the work under way is finished or left where a restart takes it up.
pub async fn run(app: App, shutdown: CancellationToken) {
    leftovers::remove(&app).await;
    let mut work = JoinSet::new();
    let mut busy: HashMap<MigrationId, Option<Instant>> = HashMap::new();
    loop {
        busy.retain(|_, until| until.is_none_or(|at| at > Instant::now()));
        match app.store.migration_list(Which::Unfinished).await {
            Ok(migrations) => {
                for migration in migrations.into_iter().filter(|m| m.position != Position::BeginPaused) {
                    if !busy.contains_key(&migration.id) {
                        busy.insert(migration.id.clone(), None);
                        let app = app.clone();
                        work.spawn(async move { (migration.id.clone(), one(&app, &migration).await) });
                    }
                }
            }
            Err(error) => error!(error = %shared::error::chain(&error), "migrations cannot be read"),
        }
        let mut woken = false;
        while !woken {
            tokio::select! {
                () = app.hub.work(PERIOD) => woken = true,
                Some(done) = work.join_next() => match done {
                    Ok((id, Ok(()))) => { busy.remove(&id); }
                    Ok((id, Err(error))) => {
                        warn!(migration_id = %id, error = %shared::error::chain(&error), retry_in = ?PAUSE,
                              "a migration's work failed");
                        busy.insert(id, Some(Instant::now() + PAUSE));
                    }
                    Err(panic) => error!(%panic, "a reconciler's task ended: this is a defect"),
                },
                () = shutdown.cancelled() => return,
            }
        }
    }
}

pub(crate) async fn one(app: &App, migration: &Migration) -> Result<(), Error> {
    match migration.position {
        Position::BeginRunning => begin::prepare(app, migration).await,
        Position::AbortRunning => abort::tear_down(app, migration).await,
        Position::SyncRunning => cycle::drive(app, migration).await,
        Position::SyncPaused | Position::SyncFailed => cycle::compared(app, migration).await,
        Position::BeginPaused
        | Position::BeginFailed
        | Position::SwitchRunning
        | Position::SwitchSuccessful
        | Position::SwitchFailed
        | Position::RollbackRunning
        | Position::RollbackFailed
        | Position::FinalizeRunning
        | Position::FinalizeFailed
        | Position::FinalizeSuccessful
        | Position::AbortFailed
        | Position::AbortAborted => Ok(()),
    }
}
