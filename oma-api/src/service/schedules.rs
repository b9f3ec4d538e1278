//! Schedules: set, shown, taken away; and what is due when.

use super::{App, Error};
use crate::schedule::rpo::{self, Rpo};
use crate::schedule::{Schedule, Spec};
use crate::store::{Migration, ScheduleRow};
use jiff::Timestamp;
use shared::migration::{Phase, Position};
use tracing::info;

/// Most times that a preview shows.
pub const MOST_PREVIEWED: usize = 1000;

/// A migration's schedule as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleView {
    pub spec: Spec,
    pub set_at: Timestamp,
    /// When the next cycle starts by itself.
    pub next: Option<Timestamp>,
    /// In one line: the schedule, and why it starts nothing if so.
    pub text: String,
}

impl App {
    /// Gives a migration a schedule in the place of the one it has. An interval counts from now.
    ///
    /// # Errors
    /// [`Error::Schedule`]; [`Error::NotProtected`], [`Error::VmAmbiguous`], [`Error::Store`]. Nothing has changed then.
    pub async fn schedule_set(&self, asked: &str, spec: &Spec) -> Result<ScheduleView, Error> {
        Schedule::parse(spec)?;
        let migration = self.unfinished(asked).await?;
        let migration = migration.ok_or_else(|| Error::NotProtected { asked: asked.to_owned() })?;
        let now = self.clock.now();
        let row = self.store.schedule_set(&migration.id, spec, now).await?;
        info!(migration_id = %migration.id, vm = %migration.vm_name, schedule = %spec.text(), "schedule set");
        self.touched(&migration.id).await;
        Ok(self.schedule_view(&migration, row))
    }

    /// Its schedule, if it has one.
    ///
    /// # Errors
    /// [`Error::NotProtected`], [`Error::VmAmbiguous`], [`Error::NoSchedule`], [`Error::Store`].
    pub async fn schedule_find(&self, asked: &str) -> Result<ScheduleView, Error> {
        let migration = self.migration_find(asked).await?;
        match self.store.schedule_fetch(&migration.id).await? {
            Some(row) => Ok(self.schedule_view(&migration, row)),
            None => Err(Error::NoSchedule { vm: migration.vm_name }),
        }
    }

    /// Takes its schedule away; none is success. A cycle that runs goes on.
    ///
    /// # Errors
    /// [`Error::NotProtected`], [`Error::VmAmbiguous`], [`Error::Store`].
    pub async fn schedule_delete(&self, asked: &str) -> Result<(), Error> {
        let migration = self.migration_find(asked).await?;
        self.store.schedule_delete(&migration.id, self.clock.now()).await?;
        info!(migration_id = %migration.id, vm = %migration.vm_name, "schedule removed");
        self.touched(&migration.id).await;
        Ok(())
    }

    /// The next `count` starts of a schedule that is set now.
    ///
    /// # Errors
    /// [`Error::Schedule`], [`Error::Filter`].
    pub fn schedule_preview(&self, spec: &Spec, count: usize) -> Result<Vec<Timestamp>, Error> {
        if !(1..=MOST_PREVIEWED).contains(&count) {
            let why = format!("is {count}: between 1 and {MOST_PREVIEWED}");
            return Err(Error::Filter { what: "count", why });
        }
        let now = self.clock.now();
        Ok(Schedule::parse(spec)?.preview(now, now, count))
    }

    pub(super) fn schedule_view(&self, migration: &Migration, row: ScheduleRow) -> ScheduleView {
        let mut text = row.spec.text();
        let schedule = Schedule::parse(&row.spec);
        let next = match (why_not(migration), &schedule) {
            (Some(why), _) => {
                text = format!("{text}; starts nothing: {why}");
                None
            }
            (None, Ok(schedule)) => schedule.next_run(row.anchor, self.clock.now()),
            (None, Err(error)) => {
                text = format!("{text}; starts nothing: {error}");
                None
            }
        };
        ScheduleView { spec: row.spec, set_at: row.set_at, next, text }
    }

    /// What the migration may take of the network now.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(super) async fn rate_now(&self, migration: &Migration) -> Result<u64, Error> {
        let row = self.store.schedule_fetch(&migration.id).await?;
        let schedule = row.and_then(|row| Schedule::parse(&row.spec).ok());
        Ok(schedule.map_or(migration.rate, |schedule| schedule.rate_at(self.clock.now(), migration.rate)))
    }

    /// How old the last restore point is; a target counts while the VM runs at the source and cycles protect it.
    pub(crate) fn rpo(
        &self,
        migration: &Migration,
        row: Option<&ScheduleRow>,
        taken_at: Option<Timestamp>,
    ) -> Rpo {
        let protects = matches!(migration.position.phase(), Phase::Begin | Phase::Sync);
        let target = row.filter(|_| protects).and_then(|row| {
            let target = Schedule::parse(&row.spec).ok()?.rpo?;
            Some((target, row.set_at))
        });
        rpo::state(target, taken_at, self.clock.now())
    }
}

/// Why the schedule leaves a migration alone whatever the time, in words for its operator.
pub(crate) fn why_not(migration: &Migration) -> Option<String> {
    if migration.held {
        return Some("the migration is held; `migratekit migration release` lets it".to_owned());
    }
    if migration.wishes.automatic.is_some() {
        return Some("the migration is automatic: its cycles follow each other until the switch".to_owned());
    }
    match migration.position {
        Position::BeginPaused | Position::SyncRunning | Position::SyncPaused => None,
        Position::SyncFailed => needs_operator(migration),
        Position::BeginRunning
        | Position::BeginFailed
        | Position::SwitchRunning
        | Position::SwitchSuccessful
        | Position::SwitchFailed
        | Position::RollbackRunning
        | Position::RollbackFailed
        | Position::FinalizeRunning
        | Position::FinalizeFailed
        | Position::FinalizeSuccessful
        | Position::AbortRunning
        | Position::AbortFailed
        | Position::AbortAborted => Some(format!("the migration is {}", migration.position)),
    }
}

/// What failed and will fail again until somebody decides: a source whose disks are not those that are protected.
fn needs_operator(migration: &Migration) -> Option<String> {
    let finding = migration.findings.iter().find(|finding| !finding.kind.heals_by_hash_diff())?;
    Some(format!("{} needs an operator: {}", finding.kind.as_str(), finding.message))
}
