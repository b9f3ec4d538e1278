//! Cycles that run and do not get on: not a counter of theirs grows, at the agent or here.
//!
//! After `stalled` without progress a cycle is interrupted: its disks get new epochs, and its agent goes on from what is
//! durable. After the same time again it fails with the reason CYCLE_STALLED, which names the place where it hangs; the
//! schedule tries it again at its next time. One whose agent says why it waits is left to it, unless it was interrupted before. One whose agent is away hangs at
//! the wire: that is said, and it is waited for, because its end would throw away what is durable. A commit that takes long is
//! said, too: it cannot be taken back. A pause that the agent does not carry out is carried out here.

#[cfg(test)]
mod tests;

use crate::service::transfer::AtWork;
use crate::service::{App, Error, Waiting};
use crate::store::{Failure, Job, JobStatus, JobStep, Migration, Wanted};
use shared::cycle::DiskProgress;
use shared::error::chain;
use shared::ids::JobId;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Upper snake case, as it is shown.
const REASON: &str = "CYCLE_STALLED";

/// An agent has five seconds to carry out a pause; one that has not by then does not do what it is told.
const PAUSING: Duration = Duration::from_secs(30);

/// Where a cycle hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The agent lives, and nothing comes from what it reads.
    Source,
    /// Nothing comes from the agent.
    Wire,
    /// What was received does not become durable.
    Target,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source: the agent lives and reads nothing; look at the source's storage and at the agent's log",
            Self::Wire => "wire: nothing comes from the agent any more; look at the network between agent and OMA",
            Self::Target => "target: what was received does not become durable; look at the storage below the replica",
        })
    }
}

/// Everything that grows while a cycle gets on.
#[derive(Clone, Debug, PartialEq)]
struct Mark(Vec<(Option<DiskProgress>, AtWork, bool)>);

struct Seen {
    mark: Mark,
    since: Instant,
    /// It was interrupted, and has not got on since.
    interrupted: bool,
    /// Where it hung then.
    place: Option<Place>,
    /// It is being ended.
    ending: bool,
}

/// Why no counter of a cycle is expected to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Away,
    Pausing,
    Committing,
}

struct Still {
    why: Why,
    since: Instant,
    /// What is to be said or done about it has been.
    dealt_with: bool,
}

/// What is remembered from look to look.
#[derive(Default)]
pub(super) struct Watch {
    seen: HashMap<JobId, Seen>,
    /// Cycles that are not watched by their counters.
    still: HashMap<JobId, Still>,
    /// Ending a session waits for its writes, which may be what hangs.
    ends: JoinSet<()>,
}

/// Runs until `shutdown`.
pub(super) async fn run(app: App, stalled: Duration, shutdown: CancellationToken) {
    let mut looks = interval((stalled / 10).clamp(Duration::from_millis(200), Duration::from_secs(10)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::default();
    loop {
        tokio::select! {
            _ = looks.tick() => if let Err(error) = look(&app, &mut watch, stalled).await {
                warn!(error = %chain(&error), "cycles cannot be watched");
            },
            () = shutdown.cancelled() => return,
        }
    }
}

/// One look at every cycle that runs.
pub(super) async fn look(app: &App, watch: &mut Watch, stalled: Duration) -> Result<(), Error> {
    while watch.ends.try_join_next().is_some() {}
    let at_work = |job: &Job| matches!(job.status, JobStatus::Running | JobStatus::Committing);
    let jobs: Vec<_> = app.store.job_list_active().await?.into_iter().filter(at_work).collect();
    watch.seen.retain(|id, _| jobs.iter().any(|job| job.id == *id));
    watch.still.retain(|id, _| jobs.iter().any(|job| job.id == *id));
    for job in jobs {
        let migration = app.store.migration_fetch(&job.migration).await?;
        let said = app.hub.waiting(&job.id).is_some_and(|waiting| waiting.reason != REASON);
        let connected = app.hub.agent_is_connected(&migration.agent);
        let why = match (job.status, job.wanted) {
            (JobStatus::Committing, _) => Some(Why::Committing),
            _ if !connected => Some(Why::Away),
            (_, Wanted::Pause) => Some(Why::Pausing),
            (_, Wanted::Run) => None,
        };
        watch.still.retain(|id, still| *id != job.id || Some(still.why) == why);
        if why.is_some() || said {
            // What its agent says after it was interrupted may only be what the hang looks like from there.
            if why.is_some() || watch.seen.get(&job.id).is_none_or(|seen| !seen.interrupted) {
                watch.seen.remove(&job.id);
            }
            // Whoever commits knows better why it does not get on.
            if let Some(why) = why.filter(|why| *why != Why::Committing || !said) {
                deal_with(app, watch, &job, &migration, why, stalled);
            }
            if !watch.seen.contains_key(&job.id) {
                continue;
            }
        }
        let mark = mark(app, &job);
        let now = Instant::now();
        let fresh =
            || Seen { mark: mark.clone(), since: now, interrupted: false, place: None, ending: false };
        let seen = watch.seen.entry(job.id.clone()).or_insert_with(fresh);
        if seen.mark != mark {
            // An interruption changes what is seen, and is no progress.
            let interrupted = seen.interrupted && !got_on(&seen.mark, &mark);
            let since = if interrupted { seen.since } else { now };
            let place = seen.place.filter(|_| interrupted);
            *seen = Seen { mark, since, interrupted, place, ending: false };
        }
        if seen.ending || seen.since.elapsed() < stalled {
            continue;
        }
        let silence = stalled.min((stalled / 2).max(app.heartbeat * 3));
        let silent = app.hub.agent_silent_for(&migration.agent).is_none_or(|silent| silent >= silence);
        // Its sessions are ended by the interruption: what waits at the target is not seen any more, and waits all the same.
        let place =
            seen.place.filter(|was| *was == Place::Target).unwrap_or_else(|| place(&seen.mark, silent));
        let minutes = shared::config::Period(stalled);
        if !seen.interrupted {
            warn!(migration_id = %job.migration, job_id = %job.id, %place, "the cycle does not get on and is interrupted");
            let message = format!(
                "no progress for {minutes}, so it was interrupted and is tried again; it hangs at the {place}"
            );
            app.hub.set_waiting(&job.id, Waiting { reason: REASON.to_owned(), message });
            app.store.job_epochs_raise(&job.id, app.clock.now()).await?;
            (seen.interrupted, seen.since, seen.place) = (true, now, Some(place));
            app.touched(&job.migration).await;
            continue;
        }
        error!(migration_id = %job.migration, job_id = %job.id, %place, "the cycle does not get on and is stopped");
        let said = app.hub.waiting(&job.id).filter(|waiting| waiting.reason != REASON);
        let said = said.map(|waiting| format!("; its agent says: {}", waiting.message)).unwrap_or_default();
        let message = format!(
            "no progress for twice {minutes}, the second time after it was tried again; it hangs at the {place}{said}"
        );
        let failure = Failure { reason: REASON.to_owned(), message };
        seen.ending = true;
        let app = app.clone();
        watch.ends.spawn(async move {
            if let Err(error) = app.step(&job, JobStep::Failed(failure)).await {
                warn!(job_id = %job.id, error = %chain(&error), "a stalled cycle could not be stopped");
            }
            app.touched(&job.migration).await;
        });
    }
    Ok(())
}

/// What has no counters: it is said, and only a pause can be done without the one who should.
fn deal_with(app: &App, watch: &mut Watch, job: &Job, migration: &Migration, why: Why, stalled: Duration) {
    let fresh = || Still { why, since: Instant::now(), dealt_with: false };
    let still = watch.still.entry(job.id.clone()).or_insert_with(fresh);
    let patience = if why == Why::Pausing { stalled.min(PAUSING) } else { stalled };
    if still.dealt_with || still.since.elapsed() < patience {
        return;
    }
    still.dealt_with = true;
    let (agent, span) = (&migration.agent, shared::config::Period(stalled));
    let message = match why {
        // It is not ended for that: nobody could begin another, and what is durable would be lost.
        Why::Away => format!(
            "agent {agent} has been away for {span}; the cycle goes on when it is back; it hangs at the {}",
            Place::Wire
        ),
        Why::Committing => format!(
            "its commit has taken {span} so far; where blocks cannot be shared it copies the whole replica, else it hangs at the {}",
            Place::Target
        ),
        Why::Pausing => {
            warn!(migration_id = %job.migration, job_id = %job.id, %agent, "the agent does not pause the cycle: its sessions are ended");
            let (app, job) = (app.clone(), job.clone());
            watch.ends.spawn(async move {
                if let Err(error) = app.step(&job, JobStep::Paused).await {
                    warn!(job_id = %job.id, error = %chain(&error), "a cycle could not be paused without its agent");
                }
                app.touched(&job.migration).await;
            });
            return;
        }
    };
    warn!(migration_id = %job.migration, job_id = %job.id, reason = %message, "the cycle does not get on");
    app.hub.set_waiting(&job.id, Waiting { reason: REASON.to_owned(), message });
    app.hub.migration_changed(&job.migration);
}

fn mark(app: &App, job: &Job) -> Mark {
    let live = app.hub.live(&job.id);
    let of = |disk: &crate::store::JobDisk| {
        let said = live.as_ref().and_then(|live| live.last_of(&disk.disk)).cloned();
        // That it began anew is no progress.
        let said = said.map(|said| DiskProgress { epoch: None, ..said });
        (said, app.transfers.at_work(&disk.disk), disk.finished)
    };
    Mark(job.disks.iter().map(of).collect())
}

/// Whether more was read, became durable or was sealed.
fn got_on(before: &Mark, after: &Mark) -> bool {
    let sum = |mark: &Mark| {
        let of = |(said, work, sealed): &(Option<DiskProgress>, AtWork, bool)| {
            let said = said.as_ref().map_or((0, 0), |said| (said.read, said.done));
            (said.0, said.1.max(work.durable), u64::from(*sealed))
        };
        mark.0.iter().map(of).fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2))
    };
    let (before, after) = (sum(before), sum(after));
    after.0 > before.0 || after.1 > before.1 || after.2 > before.2
}

/// The nearest place to us that is stuck: behind it everything else waits, too.
fn place(mark: &Mark, agent_is_silent: bool) -> Place {
    let stuck = |(_, work, sealed): &(Option<DiskProgress>, AtWork, bool)| {
        !sealed && (work.is_busy || work.pending > 0)
    };
    match (mark.0.iter().any(stuck), agent_is_silent) {
        (true, _) => Place::Target,
        (false, true) => Place::Wire,
        (false, false) => Place::Source,
    }
}
