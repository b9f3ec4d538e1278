//! The operator's actions.
//!
//! What is asked is checked, decided by the state machine on what is there, and stored by compare-and-swap; the work
//! itself is done by the reconcilers. Two that ask at once are put in an order by the database, and the second is
//! judged by what the first has made of it.

use super::attempt::attempt;
use super::migrations::OfferedVm;
use super::{App, Caller, Error, MigrationView};
use crate::failover::Request;
use crate::storage::VolumeId;
use crate::store::{self, Attempt, Automatic, LastAction, Migration, NewDisk, NewMigration, Wanted, Wishes};
use jiff::{SignedDuration, Timestamp};
use shared::ids::{DiskId, MigrationId};
use shared::migration::{Action, Effect, Facts, Phase, Position, apply};
use std::time::Duration;
use tracing::info;

#[cfg(test)]
mod lives;
#[cfg(test)]
mod tests;

pub use super::attempt::Key;

/// Bounds of `automatic` when nobody says.
const USUAL: (Duration, u32) = (Duration::from_secs(60), 20);

/// Words of affinity, and bytes of one.
const AFFINITY: (usize, usize) = (32, 256);

/// Bytes of a reason.
const REASON: usize = 500;

/// A switch is not scheduled later than this.
const LATEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// What is asked of a migration.
#[derive(Clone, Debug)]
pub struct Ask {
    pub action: Action,
    /// Of begin and automatic: kept and shown.
    pub affinity: Vec<String>,
    /// Of begin and automatic: by which its VM is made; else the default, else none.
    pub target_profile: Option<String>,
    /// Of begin and automatic: go on although a finding blocks, for this reason.
    pub force: Option<String>,
    /// Of switch: not now.
    pub schedule: Option<Schedule>,
    /// Of automatic.
    pub max_downtime: Option<Duration>,
    /// Of automatic.
    pub max_cycles: Option<u32>,
    /// Of switch: how; `None`: as usual.
    pub live: Option<Request>,
    pub key: Option<Key>,
}

/// When a switch is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    At(Timestamp),
    /// Not at all.
    Cancel,
}

/// What came of it.
#[derive(Debug)]
pub enum Acted {
    Done(Box<MigrationView>),
    /// The same was asked before under this key: the answer as it was.
    Again(Vec<u8>),
}

impl Ask {
    pub fn new(action: Action) -> Self {
        Self {
            action,
            affinity: Vec::new(),
            target_profile: None,
            force: None,
            schedule: None,
            max_downtime: None,
            max_cycles: None,
            live: None,
            key: None,
        }
    }

    /// All of it but the key, each in one spelling.
    pub(super) fn parts(&self) -> Vec<String> {
        let opt = |value: Option<String>| value.map_or_else(|| "-".to_owned(), |value| format!("+{value}"));
        let schedule = self.schedule.map(|schedule| match schedule {
            Schedule::At(at) => at.to_string(),
            Schedule::Cancel => "cancel".to_owned(),
        });
        let mut parts = vec![
            self.action.to_string(),
            opt(self.force.clone()),
            opt(schedule),
            opt(self.max_downtime.map(|d| d.as_millis().to_string())),
            opt(self.max_cycles.map(|n| n.to_string())),
        ];
        parts.extend(self.affinity.iter().cloned());
        // In front, where else an action stands: what was asked without one keeps its parts.
        if let Some(profile) = &self.target_profile {
            parts.insert(0, format!("target {profile}"));
        }
        parts
    }

    fn check(&self, now: Timestamp) -> Result<(), Error> {
        let wrong = |what, why: String| Err(Error::Argument { what, why });
        let of = |what, actions: &[Action]| match actions.contains(&self.action) {
            true => Ok(()),
            false => wrong(what, format!("has no meaning for {}", self.action)),
        };
        let begins = [Action::Begin, Action::Automatic];
        if !self.affinity.is_empty() {
            of("affinity", &begins)?;
            let (most, longest) = AFFINITY;
            if self.affinity.len() > most
                || self
                    .affinity
                    .iter()
                    .any(|a| a.is_empty() || a.len() > longest || a.contains(char::is_control))
            {
                return wrong(
                    "affinity",
                    format!("takes up to {most} words of 1 to {longest} bytes, without control characters"),
                );
            }
        }
        if self.target_profile.is_some() {
            of("target_profile", &begins)?;
        }
        if let Some(reason) = &self.force {
            of("force", &begins)?;
            if reason.trim().is_empty() || reason.len() > REASON || reason.contains(char::is_control) {
                return wrong(
                    "force",
                    format!(
                        "needs a reason of 1 to {REASON} bytes without control characters, which will be recorded"
                    ),
                );
            }
        }
        if self.max_downtime.is_some() {
            of("max_downtime", &[Action::Automatic])?;
        }
        if self.max_downtime.is_some_and(|d| d < Duration::from_secs(1) || d > Duration::from_secs(86_400)) {
            return wrong("max_downtime", "must be 1 second to 1 day".to_owned());
        }
        if let Some(most) = self.max_cycles {
            of("max_cycles", &[Action::Automatic])?;
            if !(1..=1000).contains(&most) {
                return wrong("max_cycles", "must be 1 to 1000".to_owned());
            }
        }
        match self.schedule {
            None => Ok(()),
            Some(schedule) => {
                of("scheduled_timestamp", &[Action::Switch])?;
                match schedule {
                    Schedule::At(at) if at <= now || at > now + LATEST => wrong(
                        "scheduled_timestamp",
                        format!("must be in the future, and within a year: {at}"),
                    ),
                    Schedule::At(_) | Schedule::Cancel => Ok(()),
                }
            }
        }
    }

    /// What is wanted from now on.
    fn wishes(&self, before: &Wishes, caller: &Caller, now: Timestamp) -> Wishes {
        let mut wishes = before.clone();
        match self.action {
            Action::Begin | Action::Automatic => {
                if !self.affinity.is_empty() {
                    wishes.affinity.clone_from(&self.affinity);
                }
                wishes.forced = self.force.clone().or(wishes.forced);
            }
            // The operator takes over.
            Action::Pause => wishes.automatic = None,
            Action::Abort => (wishes.automatic, wishes.scheduled_at) = (None, None),
            Action::Switch => {
                wishes.scheduled_at = match self.schedule {
                    Some(Schedule::At(at)) => Some(at),
                    Some(Schedule::Cancel) => None,
                    None => {
                        // This is what it was to lead to.
                        wishes.automatic = None;
                        None
                    }
                };
            }
            Action::Sync | Action::Hold | Action::Release | Action::Finalize | Action::Rollback => {}
        }
        if self.action == Action::Automatic {
            wishes.automatic = Some(Automatic {
                since: now,
                max_downtime: self.max_downtime.unwrap_or(USUAL.0),
                max_cycles: self.max_cycles.unwrap_or(USUAL.1),
            });
        }
        wishes.last = Some(LastAction::new(self.action, &caller.name, now));
        wishes
    }
}

impl App {
    /// Does what the operator says, or says why not and what is allowed instead.
    ///
    /// # Errors
    /// See [`Error`]; nothing has changed then.
    pub async fn act(&self, caller: &Caller, asked: &str, ask: &Ask) -> Result<Acted, Error> {
        ask.check(self.clock.now())?;
        let attempt = ask.key.as_ref().map(|key| attempt(key, caller, asked, ask));
        loop {
            if let Some(attempt) = &attempt
                && let Some(before) = self.attempted(attempt).await?
            {
                return match before.answer {
                    Some(answer) => Ok(Acted::Again(answer)),
                    // It was done, and its answer was lost: as it stands now.
                    None => Ok(Acted::Done(Box::new(self.migration_view(&before.migration).await?))),
                };
            }
            match self.act_once(caller, asked, ask, attempt.as_ref()).await {
                // Somebody was at it under the same key.
                Err(Error::Store(store::Error::Attempted)) => {}
                Err(error) => return Err(error),
                Ok(id) => {
                    // What is logged of the request from here on says whose it is.
                    tracing::Span::current().record("migration_id", id.as_str());
                    self.touched(&id).await;
                    return Ok(Acted::Done(Box::new(self.migration_view(&id).await?)));
                }
            }
        }
    }

    async fn act_once(
        &self,
        caller: &Caller,
        asked: &str,
        ask: &Ask,
        attempt: Option<&Attempt>,
    ) -> Result<MigrationId, Error> {
        match (ask.action, self.unfinished(asked).await?) {
            (_, Some(migration)) => self.act_on(migration, caller, ask, attempt).await,
            (Action::Begin | Action::Automatic, None) => self.begin(caller, asked, ask, attempt).await,
            (_, None) => Err(self.refuse_unprotected(asked, ask.action).await),
        }
    }

    /// The migration, ended or not, if it is its id that was written.
    async fn named_by_id(&self, asked: &str) -> Option<Migration> {
        let id = MigrationId::parse(asked).ok()?;
        self.store.migration_fetch(&id).await.ok()
    }

    async fn refuse_unprotected(&self, asked: &str, action: Action) -> Error {
        // Named by its id, an ended one is history, and no VM that nobody knows.
        if let Some(ended) = self.named_by_id(asked).await
            && let Err(denied) = apply(Some(ended.position), action, ended.facts())
        {
            return Error::NotNow { denied, last: ended.wishes.last };
        }
        if let Err(error) = self.offered(asked).await {
            return error;
        }
        let why = apply(None, action, Facts::default()).err();
        why.map_or_else(|| Error::NotProtected { asked: asked.to_owned() }, Error::Denied)
    }

    async fn begin(
        &self,
        caller: &Caller,
        asked: &str,
        ask: &Ask,
        attempt: Option<&Attempt>,
    ) -> Result<MigrationId, Error> {
        // Of a migration that has ended: its VM, anew.
        let ended = self.named_by_id(asked).await;
        let offered = self.offered(ended.as_ref().map_or(asked, |ended| ended.vm.as_str())).await?;
        if !self.hub.agent_is_connected(&offered.agent) {
            return Err(Error::AgentAway { agent: offered.agent });
        }
        let profile = self.profile_named(ask.target_profile.as_deref()).await?;
        // Until it is stored: whoever comes next counts what this one reserves.
        let _turn = self.hub.beginning.acquire().await;
        let preflight = self.preflight(&offered, profile.as_ref(), ask.force.as_deref()).await?;
        let OfferedVm { vm, agent, .. } = offered;
        let id = MigrationId::generate();
        let disks = vm.disks.into_iter().map(|disk| {
            let id = DiskId::generate();
            NewDisk { volume: VolumeId::of_replica(&id).to_string(), id, key: disk.key, size: disk.size }
        });
        let now = self.clock.now();
        let new = NewMigration {
            id: id.clone(),
            vm: vm.uuid,
            vm_name: vm.name,
            agent,
            disks: disks.collect(),
            wishes: ask.wishes(&Wishes::default(), caller, now),
            attempt: attempt.cloned(),
            configuration: vm.configuration,
            target_profile: profile.map(|profile| profile.name),
            preflight,
        };
        match self.store.migration_create(&new, now).await {
            Ok(made) => {
                info!(migration_id = %made.id, vm = %made.vm_name, agent = %made.agent, by = %caller, "migration begun");
                Ok(id)
            }
            // Somebody was first, a moment ago.
            Err(store::Error::AlreadyProtected { migration, .. }) => {
                let winner = self.store.migration_fetch(&migration).await?;
                match apply(Some(winner.position), ask.action, winner.facts()) {
                    Err(denied) => Err(Error::NotNow { denied, last: winner.wishes.last }),
                    Ok(_) => {
                        Err(store::Error::AlreadyProtected { vm: winner.vm, migration: winner.id }.into())
                    }
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Compare-and-swap until it is decided on what is there.
    async fn act_on(
        &self,
        mut migration: Migration,
        caller: &Caller,
        ask: &Ask,
        attempt: Option<&Attempt>,
    ) -> Result<MigrationId, Error> {
        if let Some(asked) = &ask.target_profile {
            let name = self.profile_get(asked).await?.name;
            // What is refused changes nothing.
            decide(&migration, self.migration_facts(&migration).await?, caller, ask, self.clock.now())?;
            if migration.target_profile.as_ref() != Some(&name) {
                let now = self.clock.now();
                migration = self.store.migration_profile_set(&migration.id, Some(&name), now).await?;
            }
        }
        let begins = matches!(ask.action, Action::Begin | Action::Automatic);
        if begins && migration.position == Position::BeginFailed {
            let offered = self.offered(migration.vm.as_str()).await?;
            let profile = self.profile_named(migration.target_profile.as_ref().map(|p| p.as_str())).await?;
            self.preflight(&offered, profile.as_ref(), ask.force.as_deref()).await?;
        }
        loop {
            let now = self.clock.now();
            let facts = self.migration_facts(&migration).await?;
            let (changed, wanted, work) = decide(&migration, facts, caller, ask, now)?;
            // Boxed: every caller of this would else carry what only these need.
            let done = match work {
                Effect::RunSwitch => {
                    Box::pin(self.switch(&changed, caller, ask.live.as_ref(), attempt)).await
                }
                Effect::RunRollback => Box::pin(self.roll_back(&changed, caller, attempt)).await,
                Effect::RunFinalize => Box::pin(self.finalize(&changed, caller, attempt)).await,
                _ => self.direct(&changed, wanted, attempt, now).await,
            };
            match done {
                Ok(()) => {
                    info!(migration_id = %changed.id, vm = %changed.vm_name, action = %ask.action,
                          position = %changed.position, by = %caller, "action taken");
                    return Ok(changed.id);
                }
                Err(Error::Store(store::Error::Conflict { .. } | store::Error::WorkflowMoved { .. })) => {
                    migration = self.store.migration_fetch(&migration.id).await?
                }
                Err(Error::Store(store::Error::JobActive { job, .. })) => {
                    return Err(Error::CycleRunning { job });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What the reconcilers do.
    async fn direct(
        &self,
        changed: &Migration,
        wanted: Option<Wanted>,
        attempt: Option<&Attempt>,
        now: Timestamp,
    ) -> Result<(), Error> {
        if let (Some(Wanted::Run), Some(why)) = (wanted, self.hub.space_low()) {
            return Err(Error::SpaceLow(why));
        }
        let stored = self.store.migration_direct(changed, wanted, attempt, now).await?;
        if wanted == Some(Wanted::Run) {
            self.hub.trace_leave(&stored.id);
        }
        self.given_up(&stored).await
    }
}

/// The migration as it is to be, what its cycle is to do, and who does the rest.
fn decide(
    migration: &Migration,
    facts: Facts,
    caller: &Caller,
    ask: &Ask,
    now: Timestamp,
) -> Result<(Migration, Option<Wanted>, Effect), Error> {
    let mut changed = migration.clone();
    changed.wishes = ask.wishes(&migration.wishes, caller, now);
    if let Some(schedule) = ask.schedule {
        schedulable(migration, facts, schedule)?;
        return Ok((changed, None, Effect::Nothing));
    }
    let next = apply(Some(migration.position), ask.action, facts)
        .map_err(|denied| Error::NotNow { denied, last: migration.wishes.last.clone() })?;
    let wanted = match next.effect {
        Effect::StopCycle => Some(Wanted::Pause),
        Effect::RunCycle => {
            changed.findings.clear();
            Some(Wanted::Run)
        }
        Effect::Hold => {
            changed.held = true;
            None
        }
        Effect::Release => {
            changed.held = false;
            None
        }
        Effect::Nothing
        | Effect::Prepare
        | Effect::TearDown
        | Effect::RunSwitch
        | Effect::RunRollback
        | Effect::RunFinalize => None,
    };
    // A hold does not make good what failed.
    if wanted == Some(Wanted::Run) || changed.position != next.to {
        changed.error = None;
    }
    changed.position = next.to;
    Ok((changed, wanted, next.effect))
}

/// A switch may be scheduled while something runs: it is judged when it is due.
fn schedulable(migration: &Migration, facts: Facts, schedule: Schedule) -> Result<(), Error> {
    if schedule == Schedule::Cancel && migration.wishes.scheduled_at.is_none() {
        return Err(Error::NothingScheduled { vm: migration.vm_name.clone() });
    }
    match migration.position.phase() {
        Phase::Begin | Phase::Sync => Ok(()),
        Phase::Switch | Phase::Finalize | Phase::Abort | Phase::Rollback => {
            match apply(Some(migration.position), Action::Switch, facts) {
                Err(denied) => Err(Error::NotNow { denied, last: migration.wishes.last.clone() }),
                Ok(_) => Ok(()),
            }
        }
    }
}
