//! How the control plane stands with what it needs: the target's servers, room, and cycles that do not get on.

use super::{App, Error};
use crate::outbound::Standing;
use crate::store::{Failure, JobStatus};
use shared::ids::{JobId, MigrationId};

/// All of it, now.
#[derive(Clone, Debug)]
pub struct Status {
    /// Those that the target is reached by.
    pub servers: Vec<Standing>,
    /// Why no cycle may run, for want of space on the target.
    pub space_low: Option<Failure>,
    /// In the order of their VMs.
    pub waiting: Vec<Waits>,
}

/// A cycle that does not get on.
#[derive(Clone, Debug)]
pub struct Waits {
    pub migration: MigrationId,
    pub vm: String,
    pub job: JobId,
    /// All of its data is there: it waits for its commit alone.
    pub committing: bool,
    pub reason: String,
    pub message: String,
}

impl App {
    /// Asks nobody: it is what is known.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn status(&self) -> Result<Status, Error> {
        let mut waiting = Vec::new();
        for job in self.store.job_list_active().await? {
            let Some(why) = self.hub.waiting(&job.id) else { continue };
            let of = self.store.migration_fetch(&job.migration).await?;
            let committing = job.status == JobStatus::Committing;
            let (reason, message) = (why.reason, why.message);
            waiting.push(Waits {
                migration: of.id,
                vm: of.vm_name,
                job: job.id,
                committing,
                reason,
                message,
            });
        }
        waiting.sort_by(|a, b| (&a.vm, &a.migration).cmp(&(&b.vm, &b.migration)));
        Ok(Status { servers: self.servers(), space_low: self.hub.space_low(), waiting })
    }

    /// How it stands with each server that the target is reached by.
    pub fn servers(&self) -> Vec<Standing> {
        self.storage.standing().into_iter().chain(self.compute.as_ref().and_then(|c| c.standing())).collect()
    }
}
