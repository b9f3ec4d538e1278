//! A migration as it is shown.

use super::held_back::held_back;
use super::history::Run;
use super::{App, Error, ScheduleView};
use crate::hub::Live;
use crate::retention::Retention;
use crate::schedule::rpo::Rpo;
use crate::store::{self, Disk, Job, Migration, RestorePoint, RetiredDisk, Shown};
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
    /// Which restore points are kept.
    pub retention: Retention,
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
        let views = self.migration_views(std::slice::from_ref(id)).await?;
        let missing = || store::Error::NotFound { what: "migration", id: id.to_string() };
        views.into_iter().next().ok_or_else(|| missing().into())
    }

    /// These migrations as they are now, in this order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(super) async fn migration_views(&self, ids: &[MigrationId]) -> Result<Vec<MigrationView>, Error> {
        let shown = self.store.migrations_shown(ids).await?;
        Ok(shown.into_iter().map(|shown| self.view_of(shown)).collect())
    }

    fn view_of(&self, shown: Shown) -> MigrationView {
        let Shown { migration, disks, retired, job, restore_points, schedule: row, pause, configuration } =
            shown;
        let live = job.as_ref().and_then(|job| self.hub.live(&job.id));
        let waiting =
            job.as_ref().and_then(|job| self.hub.waiting(&job.id).or_else(|| held_back(job, pause)));
        let agent_connected = self.hub.agent_is_connected(&migration.agent);
        let rpo = self.rpo(&migration, row.as_ref(), restore_points.last().map(|point| point.taken_at));
        let schedule = row.map(|row| self.schedule_view(&migration, row));
        MigrationView {
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
            retention: self.retention,
        }
    }
}
