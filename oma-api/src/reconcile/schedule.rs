//! Schedules and recovery point objectives: starts the cycles that are due, keeps them out of blackouts, says when a
//! migration's last restore point is too old, and lets agents know when the hour changes the rate.
//!
//! A pass takes nothing but the database and the clock, and may be done again at any time: a time of the schedule is dealt
//! with once a cycle has begun at or after it, whoever asked for that cycle. Everything is decided by [`crate::schedule`].

#[cfg(test)]
mod tests;

use crate::schedule::{BlackoutRunning, Schedule};
use crate::service::act::Ask;
use crate::service::schedules::why_not;
use crate::service::{App, Caller, Error};
use crate::store::{self, Failure, Job, JobStatus, Migration, Scheduled, SystemPause, Wanted};
use shared::error::chain;
use shared::ids::MigrationId;
use shared::migration::{Action, Position};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Between passes: how late a cycle may start.
const PERIOD: Duration = Duration::from_secs(2);

/// All is read again after this, whatever is heard: what somebody has changed in the database by hand.
const ANEW: Duration = Duration::from_secs(60);

/// Why a cycle is paused in a blackout.
const BLACKOUT: &str = "BLACKOUT";

/// The rate that each agent was last told for each migration. Only to tell it when another hour has another: an agent that
/// connects is told everything.
type Rates = HashMap<MigrationId, u64>;

/// What is remembered from pass to pass.
#[derive(Default)]
pub(super) struct Memory {
    rates: Rates,
    read: Option<Read>,
}

/// Everything a pass is about, as of one event.
struct Read {
    event: u64,
    at: Instant,
    scheduled: Vec<Scheduled>,
    pauses: Vec<SystemPause>,
}

/// Runs until `shutdown`.
pub(super) async fn run(app: App, shutdown: CancellationToken) {
    let mut passes = interval(PERIOD);
    passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut memory = Memory::default();
    loop {
        tokio::select! {
            _ = passes.tick() => pass(&app, &mut memory).await,
            () = shutdown.cancelled() => return,
        }
    }
}

/// One look at every schedule and at every cycle that the system paused.
pub(super) async fn pass(app: &App, memory: &mut Memory) {
    let Memory { rates, read: last } = memory;
    let read = match read(app, last.take()).await {
        Ok(read) => read,
        Err(error) => {
            warn!(error = %chain(&error), "schedules cannot be read");
            return;
        }
    };
    let Read { scheduled, pauses, .. } = &read;
    let going: HashSet<&MigrationId> = scheduled.iter().map(|of| &of.migration.id).collect();
    rates.retain(|id, _| going.contains(id));
    let paused: HashMap<&MigrationId, &SystemPause> = pauses.iter().map(|p| (&p.migration, p)).collect();
    let mut moved = false;
    for of in scheduled {
        match one(app, of, paused.get(&of.migration.id).copied(), rates).await {
            Ok(done) => moved |= done == Done::Moved,
            Err(error) => {
                warn!(migration_id = %of.migration.id, error = %chain(&error), "a schedule could not be followed");
            }
        }
    }
    for pause in pauses {
        let of = scheduled.iter().find(|of| of.migration.id == pause.migration);
        if let Err(error) = let_go(app, pause, of).await {
            warn!(migration_id = %pause.migration, error = %chain(&error), "a cycle that the system paused could not go on");
        }
    }
    memory.read = Some(read).filter(|_| !moved);
}

/// What was read before, as long as nothing has happened since: thousands of schedules are not read every two seconds.
async fn read(app: &App, last: Option<Read>) -> Result<Read, store::Error> {
    // Before all else: what happens while it is read is read again.
    let event = *app.store.changes().borrow();
    if let Some(last) = last.filter(|last| last.event == event && last.at.elapsed() < ANEW) {
        return Ok(last);
    }
    let at = Instant::now();
    let (scheduled, pauses) = (app.store.schedule_list().await?, app.store.system_pause_list().await?);
    Ok(Read { event, at, scheduled, pauses })
}

/// Whether a look has changed a schedule's place, which is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Nothing,
    Moved,
}

async fn one(
    app: &App,
    of: &Scheduled,
    paused: Option<&SystemPause>,
    rates: &mut Rates,
) -> Result<Done, Error> {
    let Scheduled { row, migration, taken_at } = of;
    let now = app.clock.now();
    let rpo = app.rpo(migration, Some(row), *taken_at);
    if rpo.breached != row.rpo_breached && app.store.rpo_say(&migration.id, rpo, now).await? {
        match rpo.breached {
            true => {
                warn!(migration_id = %migration.id, vm = %migration.vm_name, age = ?rpo.age, target = ?rpo.target,
                          "the last restore point is older than it may be")
            }
            false => {
                info!(migration_id = %migration.id, vm = %migration.vm_name, "the recovery point objective is kept again")
            }
        }
        app.hub.migration_changed(&migration.id);
    }
    let schedule = Schedule::parse(&row.spec)?;
    let rate = schedule.rate_at(now, migration.rate);
    if rates.insert(migration.id.clone(), rate).is_some_and(|before| before != rate) {
        info!(migration_id = %migration.id, rate, "another hour, another rate");
        app.hub.agent_changed(&migration.agent);
    }
    // The clock was set back.
    if row.anchor > now {
        app.store.schedule_dealt_with(row, now).await?;
        return Ok(Done::Moved);
    }
    if migration.position == Position::SyncRunning {
        // Otherwise its cycles are somebody else's.
        if why_not(migration).is_none() {
            hold_back(app, migration, &schedule, paused).await?;
        }
        return Ok(Done::Nothing);
    }
    let may_start = schedule.starts(row.anchor, now) && why_not(migration).is_none() && paused.is_none();
    // An agent that is away is waited for here: when it comes back, there is one cycle to make up.
    if !may_start || !app.hub.agent_is_connected(&migration.agent) {
        return Ok(Done::Nothing);
    }
    // Begun since, by hand or by a pass that did not get further: that one counts.
    let begun = app.store.job_last(&migration.id).await?.filter(|job| job.kind.writes());
    let begun = begun.map(|job| job.started_at.min(now)).filter(|at| schedule.is_due(row.anchor, *at));
    let anchor = begun.map_or(row.anchor, |at| schedule.dealt_with(row.anchor, at));
    if !schedule.starts(anchor, now) {
        app.store.schedule_dealt_with(row, anchor).await?;
        return Ok(Done::Moved);
    }
    match app.act(&Caller::internal("schedule"), migration.id.as_str(), &Ask::new(Action::Sync)).await {
        Ok(_) => info!(migration_id = %migration.id, vm = %migration.vm_name, "a cycle is due and begins"),
        // A verification is in the way, or somebody was faster: the next pass looks again.
        Err(Error::CycleRunning { .. } | Error::NotNow { .. } | Error::SpaceLow(_)) => {
            return Ok(Done::Nothing);
        }
        Err(error) => return Err(error),
    }
    app.store.schedule_dealt_with(row, schedule.dealt_with(anchor, now)).await?;
    Ok(Done::Moved)
}

/// A cycle that runs into a blackout, where the operator wants it paused: once, so that one who resumes it by hand is
/// heeded.
async fn hold_back(
    app: &App,
    migration: &Migration,
    schedule: &Schedule,
    paused: Option<&SystemPause>,
) -> Result<(), Error> {
    let Some(until) = schedule.blackout_end(app.clock.now()) else { return Ok(()) };
    if schedule.blackout_running != BlackoutRunning::Pause {
        return Ok(());
    }
    let Some(job) = running(app, migration).await? else { return Ok(()) };
    // One that was begun in the blackout was begun by hand.
    let by_hand = schedule.blackout_end(job.started_at) == Some(until);
    if by_hand || paused.is_some_and(|pause| pause.job == job.id) {
        return Ok(());
    }
    let why = Failure {
        reason: BLACKOUT.to_owned(),
        message: format!("the cycle is paused by the schedule's blackout and goes on at {until}"),
    };
    app.cycle_hold_back(migration, &job, why, Some(until)).await
}

/// The writing cycle that is at work.
pub(super) async fn running(app: &App, migration: &Migration) -> Result<Option<Job>, Error> {
    let job = app.store.job_active(&migration.id).await?;
    Ok(job.filter(|job| job.kind.writes() && job.status == JobStatus::Running && job.wanted == Wanted::Run))
}

/// What the system paused goes on when the cause is over, unless somebody else has decided about it.
async fn let_go(app: &App, pause: &SystemPause, of: Option<&Scheduled>) -> Result<(), Error> {
    let now = app.clock.now();
    if app.hub.space_low().is_some() {
        return Ok(());
    }
    let blackout = of
        .and_then(|of| Schedule::parse(&of.row.spec).ok())
        .is_some_and(|s| s.blackout_running == BlackoutRunning::Pause && s.in_blackout(now));
    if blackout {
        return Ok(());
    }
    let migration = app.store.migration_fetch(&pause.migration).await?;
    if migration.position == Position::SyncPaused && migration.held {
        return Ok(());
    }
    app.cycle_let_go(&migration, pause).await
}
