//! What operators want of a migration without asking each time: cycles until a switch is short enough, and a switch at
//! a set time.

use crate::estimate::Trend;
use crate::service::act::Ask;
use crate::service::{App, Caller, Error};
use crate::store::{self, Automatic, CyclesOf, Failure, Migration};
use jiff::Timestamp;
use shared::migration::{Action, Phase, Position, Refusal, State};
use std::time::Duration;
use tracing::{info, warn};

/// Cycles that `automatic` may have made, and one.
const COUNTED: u32 = 1001;

/// Whether there is something to do.
pub(super) fn any(migration: &Migration, now: Timestamp) -> bool {
    due(migration, now) || goes_on(migration) || has_failed(migration)
}

fn goes_on(migration: &Migration) -> bool {
    migration.wishes.automatic.is_some()
        && !migration.held
        && matches!(migration.position, Position::BeginPaused | Position::SyncPaused)
}

/// What failed is looked at by somebody, who says `automatic` again.
fn has_failed(migration: &Migration) -> bool {
    migration.wishes.automatic.is_some()
        && matches!(migration.position, Position::BeginFailed | Position::SyncFailed)
}

fn due(migration: &Migration, now: Timestamp) -> bool {
    migration.wishes.scheduled_at.is_some_and(|at| at <= now)
        && matches!(migration.position.phase(), Phase::Begin | Phase::Sync)
        // What runs is let end.
        && migration.position.state() != State::Running
}

/// One step.
pub(super) async fn carry_out(app: &App, migration: &Migration) -> Result<(), Error> {
    if due(migration, app.clock.now()) {
        return switch(app, migration, By::Schedule).await;
    }
    match &migration.wishes.automatic {
        Some(_) if has_failed(migration) => stop(app, migration, migration.error.clone()).await,
        Some(automatic) if goes_on(migration) => go_on(app, migration, automatic).await,
        Some(_) | None => Ok(()),
    }
}

/// Who wants a switch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Schedule,
    Automatic,
}

impl By {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Automatic => "automatic",
        }
    }
}

async fn switch(app: &App, migration: &Migration, by: By) -> Result<(), Error> {
    let (caller, ask) = (Caller::internal(by.as_str()), Ask::new(Action::Switch));
    match Box::pin(app.act(&caller, migration.id.as_str(), &ask)).await {
        Ok(_) => Ok(()),
        Err(error @ Error::Store(_)) => Err(error),
        Err(error) => {
            let (reason, why) = (error.reason(), shared::error::chain(&error));
            let mut changed = migration.clone();
            // Whoever asked for it looks now.
            changed.wishes.automatic = None;
            let what = match by {
                By::Schedule => {
                    // `automatic` was to lead to the same switch.
                    changed.wishes.scheduled_at = None;
                    "the scheduled switch"
                }
                // One at a set time is another wish.
                By::Automatic => "the switch that automatic has led to",
            };
            let message = format!("{what} was not made: {why}");
            warn!(migration_id = %migration.id, reason, "{message}");
            keep(app, changed, Some(Failure { reason: reason.to_owned(), message })).await
        }
    }
}

async fn go_on(app: &App, migration: &Migration, automatic: &Automatic) -> Result<(), Error> {
    let own = app.store.cycles_measured(CyclesOf::Migration(&migration.id), COUNTED).await?;
    let made = own.iter().filter(|cycle| cycle.started_at >= automatic.since).count();
    let estimate = app.estimate_of(migration).await?;
    let most = usize::try_from(automatic.max_cycles).unwrap_or(usize::MAX);
    let (reason, message) = match estimate.downtime {
        Some(downtime) if made > 0 && downtime <= automatic.max_downtime && app.compute.is_some() => {
            info!(migration_id = %migration.id, cycles = made, downtime = shown(downtime), "automatic has led to a switch");
            return switch(app, migration, By::Automatic).await;
        }
        Some(downtime) if made > 0 && downtime <= automatic.max_downtime => {
            let message = format!(
                "after {made} cycles a switch would take {} of the {} that are allowed, but it needs a target that can run \
                 machines, and none is configured",
                shown(downtime),
                shown(automatic.max_downtime)
            );
            (Refusal::NoTarget.reason(), message)
        }
        // To predict a downtime takes two cycles.
        _ if made < most => return cycle(app, migration).await,
        downtime => {
            let why = match estimate.trend {
                Trend::NonConverging => "the VM writes faster than is copied",
                Trend::Converging | Trend::Unknown => "its cycles do not get short enough",
            };
            let message = format!(
                "after {made} cycles a switch would take {} and {} are allowed: {why} ({} bytes/s written, {} bytes/s copied); \
                 raise --max-downtime or --max-cycles, or the rate, or choose a quieter time",
                downtime.map_or_else(|| "an unknown time".to_owned(), shown),
                shown(automatic.max_downtime),
                estimate.dirty_rate.unwrap_or(0),
                estimate.copy_rate
            );
            ("NON_CONVERGING", message)
        }
    };
    info!(migration_id = %migration.id, reason, "automatic has ended: {message}");
    stop(app, migration, Some(Failure { reason: reason.to_owned(), message })).await
}

fn shown(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

async fn cycle(app: &App, migration: &Migration) -> Result<(), Error> {
    let (caller, ask) = (Caller::internal(By::Automatic.as_str()), Ask::new(Action::Sync));
    match Box::pin(app.act(&caller, migration.id.as_str(), &ask)).await {
        Ok(_) => Ok(()),
        // Somebody else was first: the next pass looks again.
        Err(Error::NotNow { .. } | Error::CycleRunning { .. } | Error::SpaceLow(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// `automatic` has ended, and why. A switch at a set time stays: it is another wish.
async fn stop(app: &App, migration: &Migration, error: Option<Failure>) -> Result<(), Error> {
    let mut changed = migration.clone();
    changed.wishes.automatic = None;
    keep(app, changed, error).await
}

async fn keep(app: &App, changed: Migration, error: Option<Failure>) -> Result<(), Error> {
    let changed = Migration { error, ..changed };
    match app.store.migration_transition(&changed, app.clock.now()).await {
        // The next pass decides on what is there then.
        Ok(_) | Err(store::Error::Conflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    app.touched(&changed.id).await;
    Ok(())
}

#[cfg(test)]
mod tests;
