//! abort/running: everything that begin and the cycles made goes, on the operator's word (DESIGN §6 rule 9).

use super::end;
use crate::failover::{Failover, Standing};
use crate::service::{App, Error};
use crate::store::{Failure, JobStep, Migration};
use crate::workflow::JobState;
use shared::migration::{Event, apply};
use tracing::info;

/// Stops the cycle, removes the replica, frees the VM. The source is released by the agent when it next connects;
/// until then the record says so.
pub(super) async fn tear_down(app: &App, migration: &Migration) -> Result<(), Error> {
    // What it made goes first, and the source is on again: its job takes it back.
    let live = app.store.failover_live(&migration.id).await?;
    if let Some(live) = live.filter(|live| live.standing() == Standing::There) {
        return match live.job.state {
            JobState::NeedsAttention => failed(app, migration, &live).await,
            _ => Ok(()),
        };
    }
    if let Some(job) = app.store.job_active(&migration.id).await? {
        let failure =
            Failure { reason: "ABORTED".to_owned(), message: "the migration was aborted".to_owned() };
        app.step(&job, JobStep::Aborted(failure)).await?;
    }
    let disks = app.store.disk_list(&migration.id).await?;
    let ids: Vec<_> = disks.iter().map(|d| d.id.clone()).collect();
    app.transfers.close(&ids, "the migration was aborted").await;
    end::let_go(app, migration).await?;
    info!(migration_id = %migration.id, "migration aborted");
    Ok(())
}

/// Its live failover cannot be taken back without somebody's decision.
async fn failed(app: &App, migration: &Migration, live: &Failover) -> Result<(), Error> {
    let mut changed = migration.clone();
    changed.position = apply(Some(changed.position), Event::Failed, changed.facts())?.to;
    changed.error = live.job.error.clone().map(|error| Failure {
        message: format!("the live failover {} has to be taken back first: {}", live.job.id, error.message),
        ..error
    });
    app.store.migration_transition(&changed, app.clock.now()).await?;
    app.touched(&migration.id).await;
    Ok(())
}
