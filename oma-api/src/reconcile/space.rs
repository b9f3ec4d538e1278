//! The guard of what all replicas share: cycles stop before its free space falls under the floor, and go on by themselves
//! when there is room again. A restore point of a storage without reflinks is a copy of all that the replica holds; the room
//! for that is not foreseen here.

#[cfg(test)]
mod tests;

use super::schedule::running;
use crate::service::{App, Error};
use crate::storage::{Floor, Space};
use crate::store::{Failure, Job, Which};
use shared::error::chain;
use shared::migration::Position;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Between looks.
const PERIOD: Duration = Duration::from_secs(1);

/// What a disk may write after its cycle was told to stop: what is received and not flushed.
const IN_FLIGHT: u64 = 64 << 20;

/// Seconds from a look to the moment when nothing is sent any more.
const TO_STOP: u64 = 3;

/// Runs until `shutdown`.
pub(super) async fn run(app: App, floor: Floor, shutdown: CancellationToken) {
    let mut looks = interval(PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut blind = false;
    loop {
        tokio::select! {
            _ = looks.tick() => match (look(&app, floor).await, blind) {
                (Ok(()), false) | (Err(_), true) => {}
                (Ok(()), true) => {
                    blind = false;
                    info!("the target's free space is guarded again");
                }
                // Cycles go on: what they write lies on volumes that are open.
                (Err(error), false) => {
                    blind = true;
                    warn!(error = %chain(&error), "the target's free space cannot be guarded");
                }
            },
            () = shutdown.cancelled() => return,
        }
    }
}

/// One look: at the space, and at what is under way.
pub(super) async fn look(app: &App, floor: Floor) -> Result<(), Error> {
    let space = app.storage.space().await?;
    let was_low = app.hub.space_low().is_some();
    let active: Vec<Job> =
        app.store.job_list_active().await?.into_iter().filter(|job| job.kind.writes()).collect();
    let is_low = floor.is_low(space, reserve(app, &active), was_low);
    let why = is_low.then(|| low(space, floor));
    app.hub.set_space_low(why.clone());
    if app.store.guard_say("target_space", why.as_ref(), app.clock.now()).await? {
        match &why {
            Some(why) => warn!(message = %why.message, "cycles stop for want of space"),
            None => info!(free = space.free, total = space.total, "the target has room again"),
        }
    }
    let Some(why) = why else { return Ok(()) };
    // Few: what is at work.
    for migration in app.store.migration_list(Which::Unfinished).await? {
        if migration.position == Position::SyncRunning
            && let Some(job) = running(app, &migration).await?
        {
            app.cycle_hold_back(&migration, &job, why.clone(), None).await?;
        }
    }
    Ok(())
}

/// What can still be written before all have stopped; of those that are held back, what they write when they go on.
fn reserve(app: &App, active: &[Job]) -> u64 {
    let of = |job: &Job| {
        let speed = app.hub.live(&job.id).map_or(0, |live| live.speed).saturating_mul(TO_STOP);
        let open = job.disks.iter().filter(|d| !d.finished);
        let left = open.map(|d| d.new_size.unwrap_or(u64::MAX).saturating_sub(d.progress.done));
        left.map(|left| left.min(IN_FLIGHT + speed)).fold(0, u64::saturating_add)
    };
    active.iter().map(of).fold(0, u64::saturating_add)
}

fn low(space: Space, floor: Floor) -> Failure {
    let mib = |bytes: u64| bytes >> 20;
    Failure {
        reason: "TARGET_SPACE_LOW".to_owned(),
        message: format!(
            "the target has {} MiB of {} MiB free, and {floor} ({} MiB) have to stay so, besides what is under way: free \
             space there, or lower storage.floor; the cycle goes on by itself",
            mib(space.free),
            mib(space.total),
            mib(floor.of(space.total)),
        ),
    }
}
