//! switch, rollback: their migrations follow the jobs that do the work, and the final cycle is driven as any other.

use super::cycle;
use crate::failover::Failover;
use crate::service::{App, Error};
use crate::store::{self, Failure, Migration};
use crate::workflow::JobState;
use shared::migration::{Action, Event, Facts, Input, Position, apply};
use tracing::info;

/// One look.
pub(super) async fn follow(app: &App, migration: &Migration) -> Result<(), Error> {
    match migration.position {
        Position::SwitchRunning => cycle::last(app, migration).await?,
        Position::RollbackRunning => cycle::compared(app, migration).await?,
        _ => {}
    }
    let Some(live) = app.store.failover_live(&migration.id).await? else { return Ok(()) };
    let moves = settle(migration.position, &live);
    if moves.is_empty() {
        return Ok(());
    }
    let facts = Facts { has_target: true, ..migration.facts() };
    let mut changed = migration.clone();
    for input in moves {
        changed.position = apply(Some(changed.position), *input, facts)?.to;
    }
    changed.error = why(changed.position, &live);
    match app.store.migration_transition(&changed, app.clock.now()).await {
        // The next look decides on what is there then.
        Err(store::Error::Conflict { .. }) => return Ok(()),
        done => done?,
    };
    info!(migration_id = %migration.id, workflow = %live.newest_job().id, position = %changed.position,
          "a live failover has moved its migration");
    app.touched(&migration.id).await;
    Ok(())
}

/// What the state of its jobs means for a migration. Pure.
fn settle(at: Position, live: &Failover) -> &'static [Input] {
    const DONE: Input = Input::Event(Event::Done);
    const FAILED: Input = Input::Event(Event::Failed);
    const AGAIN: Input = Input::Event(Event::Started);
    const ROLLBACK: Input = Input::Action(Action::Rollback);
    let rollback = live.rollback.as_ref().map(|job| job.state);
    match (at, live.job.state, rollback) {
        (Position::SwitchRunning, JobState::Succeeded, None) => &[DONE],
        (Position::SwitchRunning, JobState::NeedsAttention, None) => &[FAILED],
        // All of it was taken back, the source runs: nothing is left that a rollback would have to do, and the VM is not
        // to be without protection until somebody says so.
        (Position::SwitchRunning, JobState::RolledBack, None) => &[FAILED, ROLLBACK, DONE],
        (Position::SwitchFailed, JobState::RolledBack, None) => &[ROLLBACK, DONE],
        (Position::SwitchFailed, JobState::Succeeded, None) => &[AGAIN, DONE],
        (Position::SwitchFailed, state, None) if state != JobState::NeedsAttention => &[AGAIN],
        (Position::RollbackRunning, _, Some(JobState::Succeeded)) => &[DONE],
        // Cancelled before it began: the VM stays where it is, until somebody asks again.
        (Position::RollbackRunning, _, Some(JobState::NeedsAttention | JobState::RolledBack)) => &[FAILED],
        (Position::RollbackFailed, _, Some(JobState::Succeeded)) => &[AGAIN, DONE],
        (Position::RollbackFailed, _, Some(JobState::NeedsAttention | JobState::RolledBack)) => &[],
        (Position::RollbackFailed, _, Some(_)) => &[AGAIN],
        _ => &[],
    }
}

/// What the operator sees of it.
fn why(at: Position, live: &Failover) -> Option<Failure> {
    let of = |job: &crate::workflow::Job| {
        let error = job.error.clone()?;
        Some(Failure { message: format!("live failover {}: {}", job.id, error.message), ..error })
    };
    match at {
        Position::SwitchFailed => of(&live.job),
        Position::RollbackFailed => live.rollback.as_ref().and_then(of),
        Position::SyncPaused if live.rollback.is_none() => of(&live.job),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
