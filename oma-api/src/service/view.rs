//! A migration as it is shown.

use super::history::Run;
use super::{App, Error, ScheduleView};
use crate::hub::Live;
use crate::schedule::rpo::Rpo;
use crate::store::{Disk, Job, Migration, Protection, RestorePoint, RetiredDisk};
use shared::ids::MigrationId;
use shared::vm::Configuration;

/// Everything about one migration, read together with what only the process knows.
#[derive(Clone, Debug)]
pub struct MigrationView {
    pub migration: Migration,
    pub disks: Vec<Disk>,
    /// Those that have left, and that restore points still hold.
    pub retired: Vec<RetiredDisk>,
    /// The unfinished cycle, else the last one.
    pub job: Option<Job>,
    pub live: Option<Live>,
    pub waiting: Option<Waiting>,
    pub restore_points: Vec<RestorePoint>,
    pub agent_connected: bool,
    /// Oldest of them first; empty where they were not asked for.
    pub history: Vec<Run>,
    pub schedule: Option<ScheduleView>,
    pub rpo: Rpo,
    /// As begin recorded it.
    pub configuration: Option<Configuration>,
}

/// Why a running cycle does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

impl App {
    /// The migration as it is now.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn migration_view(&self, id: &MigrationId) -> Result<MigrationView, Error> {
        let Protection { migration, disks, active } = self.store.protection_fetch(id).await?;
        let job = match active {
            Some(job) => Some(job),
            None => self.store.job_last(id).await?,
        };
        let live = job.as_ref().and_then(|job| self.hub.live(&job.id));
        let waiting = match job.as_ref().and_then(|job| self.hub.waiting(&job.id)) {
            Some(waiting) => Some(waiting),
            None => self.held_back(job.as_ref()).await?,
        };
        let retired = self.store.disk_list_retired(id).await?;
        let restore_points = self.store.restore_point_list(id).await?;
        let agent_connected = self.hub.agent_is_connected(&migration.agent);
        let row = self.store.schedule_fetch(id).await?;
        let rpo = self.rpo(&migration, row.as_ref(), restore_points.last().map(|point| point.taken_at));
        let schedule = row.map(|row| self.schedule_view(&migration, row));
        let configuration = self.store.migration_configuration(id).await?;
        Ok(MigrationView {
            migration,
            disks,
            retired,
            job,
            live,
            waiting,
            restore_points,
            agent_connected,
            history: Vec::new(),
            schedule,
            rpo,
            configuration,
        })
    }
}
