//! Live failovers: begun, taken back, committed. Each is an action on its migration, whichever way it is asked for.

use super::act::Ask;
use super::failovers::{Made, Refused};
use super::{App, Caller, Error};
use crate::compute::State;
use crate::failover::live::policy::{Facts, judge};
use crate::failover::live::{self, CommitPolicy, Mode, rollback_job};
use crate::failover::source;
use crate::failover::{Failover, FailoverView, Kind, Request, Standing, names};
use crate::store::{Attempt, JobKind, JobStatus, Migration};
use crate::workflow::{Job, JobState, WorkflowId};
use jiff::Timestamp;
use shared::correlation;
use shared::migration::{self, Action, Phase, Position, Refusal};
use shared::vm::Power;
use std::time::Duration;
use tracing::{info, warn};

/// How long a migration may take to follow its live failover's jobs, and between looks at it.
const FOLLOWS: Duration = Duration::from_secs(2);
const PERIOD: Duration = Duration::from_millis(50);

impl App {
    /// Begins a live failover, as [`Action::Switch`] does; it goes on by itself.
    ///
    /// # Errors
    /// [`Refused`], [`Error::NotNow`], [`Error::AgentAway`] and others of the store. Nothing has changed then.
    pub async fn failover_live(&self, caller: &Caller, request: &Request) -> Result<FailoverView, Error> {
        request.check().map_err(Refused::from)?;
        if self.compute.is_none() {
            return Err(Refused::NoCompute.into());
        }
        let request = Request { live: Some(request.live.clone().unwrap_or_default()), ..request.clone() };
        let migration = self.failover_subject(&request).await?;
        let ask = Ask { live: Some(request), ..Ask::new(Action::Switch) };
        match self.act_as(&migration, caller, &ask).await {
            // As the document has it.
            Err(Error::NotNow { denied, .. })
                if matches!(
                    denied.why,
                    Refusal::Busy | Refusal::Switched | Refusal::SwitchFailed | Refusal::MustRepeat
                ) =>
            {
                Err(Refused::InProgress { why: denied.to_string() }.into())
            }
            done => done,
        }
    }

    /// Takes a live failover back, as [`Action::Rollback`] does. Again: the same way back.
    ///
    /// # Errors
    /// [`Refused::JobNotFound`], [`Refused::NotLive`], [`Error::NotNow`], [`Error::Store`].
    pub async fn failover_rollback(&self, caller: &Caller, asked: &str) -> Result<FailoverView, Error> {
        self.decided(caller, asked, Action::Rollback).await
    }

    /// Makes a live failover final, as [`Action::Finalize`] does: there is no way back then, and the replica goes.
    ///
    /// # Errors
    /// As [`failover_rollback`](Self::failover_rollback); [`Refused::NothingToCommit`].
    pub async fn failover_commit(&self, caller: &Caller, asked: &str) -> Result<FailoverView, Error> {
        self.decided(caller, asked, Action::Finalize).await
    }

    async fn decided(&self, caller: &Caller, asked: &str, action: Action) -> Result<FailoverView, Error> {
        let found = self.failover_fetch(asked).await?;
        if found.record.kind != Kind::Live {
            return Err(Refused::NotLive { job: found.record.job }.into());
        }
        let again = match action {
            Action::Rollback => {
                matches!(found.standing(), Standing::Kept)
                    || found.rollback.as_ref().is_some_and(|job| job.state.at_work())
            }
            _ => found.standing() == Standing::HandedOver,
        };
        let newest = self.store.failover_live(&found.record.migration).await?;
        if again || newest.is_none_or(|newest| newest.record.job != found.record.job) {
            // An older one came to its end long ago.
            return Ok(found.into());
        }
        let migration = self.followed(&found).await?;
        self.act_as(&migration, caller, &Ask::new(action)).await
    }

    /// Its migration, which follows its jobs a moment after they have ended: who saw the end need not wait for that.
    async fn followed(&self, live: &Failover) -> Result<Migration, Error> {
        let until = tokio::time::Instant::now() + FOLLOWS;
        loop {
            let migration = self.store.migration_fetch(&live.record.migration).await?;
            let rests = |job: &Job| job.state.ended() || job.state == JobState::NeedsAttention;
            let is_behind = match migration.position {
                Position::SwitchRunning => rests(&live.job),
                Position::RollbackRunning => live.rollback.as_ref().is_some_and(rests),
                _ => false,
            };
            if !is_behind || tokio::time::Instant::now() > until {
                return Ok(migration);
            }
            self.hub.wake();
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn act_as(&self, migration: &Migration, caller: &Caller, ask: &Ask) -> Result<FailoverView, Error> {
        Box::pin(self.act(caller, migration.id.as_str(), ask)).await?;
        let live = self.store.failover_live(&migration.id).await?;
        let none = || Refused::JobNotFound { asked: migration.vm_name.clone() };
        Ok(live.ok_or_else(none)?.into())
    }

    /// What the state machine wants to know.
    pub(super) async fn migration_facts(&self, of: &Migration) -> Result<migration::Facts, Error> {
        let live = match of.position.phase() {
            Phase::Switch => self.store.failover_live(&of.id).await?,
            Phase::Begin | Phase::Sync | Phase::Finalize | Phase::Abort | Phase::Rollback => None,
        };
        Ok(migration::Facts {
            past_no_return: live.is_some_and(|live| live.job.is_past_no_return()),
            has_target: self.compute.is_some(),
            ..of.facts()
        })
    }

    /// Of [`Action::Switch`]: makes the job, and `changed` with it.
    pub(super) async fn switch(
        &self,
        changed: &Migration,
        caller: &Caller,
        request: Option<&Request>,
        attempt: Option<&Attempt>,
    ) -> Result<(), Error> {
        let usual = live::usual(changed);
        let request = request.unwrap_or(&usual);
        let wanted = request.live.clone().unwrap_or_default();
        let agent_connected = self.hub.agent_is_connected(&changed.agent);
        if wanted.mode == Mode::Planned {
            self.orders_power(changed)?;
        }
        let point = self.restore_point(changed, request.restore_point.as_deref()).await?;
        let disks = self.store.disk_list(&changed.id).await?;
        let tests = self.store.failover_list_succeeded_tests(&changed.id).await?;
        let now = self.clock.now();
        let facts = Facts {
            policy: self.policy,
            vm: &changed.vm_name,
            tests: &tests,
            disks: &disks,
            copied_at: self.copied_at(changed).await?,
            taken_at: point.taken_at,
            agent_connected,
            now,
        };
        judge(&facts, &wanted).map_err(Refused::from)?;
        let made = self.failover_made(changed, caller, request, &point, Made::Live(attempt)).await?;
        if let Some(why) = &wanted.override_reason {
            warn!(migration_id = %changed.id, workflow = %made.record.job, by = %caller, why, "policy set aside for a live failover");
        }
        info!(migration_id = %changed.id, workflow = %made.record.job, vm = %changed.vm_name, by = %caller,
              mode = %wanted.mode, "live failover begun");
        let disks: Vec<_> = disks.into_iter().map(|d| d.id).collect();
        self.transfers.close(&disks, "a live failover has the replica now").await;
        self.engine.wake();
        Ok(())
    }

    /// Its agent is there, and knows how.
    fn orders_power(&self, of: &Migration) -> Result<(), Error> {
        match self.hub.agent_capabilities(&of.agent) {
            None => Err(Error::AgentAway { agent: of.agent.clone() }),
            Some(known) if known.iter().any(|word| word == "power") => Ok(()),
            Some(_) => Err(Refused::AgentTooOld { agent: of.agent.clone() }.into()),
        }
    }

    /// When the last cycle that copied all of the VM was committed.
    async fn copied_at(&self, of: &Migration) -> Result<Option<Timestamp>, Error> {
        let jobs = self.store.job_list(&of.id).await?;
        let full = jobs.into_iter().filter(|j| j.kind == JobKind::Full && j.status == JobStatus::Completed);
        Ok(full.filter_map(|j| j.finished_at).max())
    }

    /// Of [`Action::Rollback`].
    pub(super) async fn roll_back(
        &self,
        changed: &Migration,
        caller: &Caller,
        attempt: Option<&Attempt>,
    ) -> Result<(), Error> {
        let live = self.live_of(changed).await?;
        let now = self.clock.now();
        match live.rollback.as_ref().filter(|job| job.state != JobState::RolledBack) {
            None => {
                // Nothing is stopped here that could not be switched on there.
                if source::was(&live.job) != Power::Off {
                    self.orders_power(changed)?;
                }
                let correlation =
                    correlation::current().map_or_else(String::new, |id| id.as_str().to_owned());
                let job = rollback_job(&live, &correlation);
                self.store.failover_roll_back(changed, &live.record.job, &job, attempt, now).await?;
                info!(migration_id = %changed.id, workflow = %job.id, by = %caller, "rollback begun");
            }
            // What failed of it, again.
            Some(job) => {
                self.engine.ask(&job.id, &crate::workflow::Ask::Retry, &caller.name).await?;
                self.store.migration_direct(changed, None, attempt, now).await?;
            }
        }
        self.engine.wake();
        Ok(())
    }

    /// Of [`Action::Finalize`].
    pub(super) async fn finalize(
        &self,
        changed: &Migration,
        caller: &Caller,
        attempt: Option<&Attempt>,
    ) -> Result<(), Error> {
        let live = self.live_of(changed).await?;
        // The replica goes: what takes its place has to be there.
        let name = names::machine_name(&live.record.name);
        let compute = self.compute.as_ref().ok_or(Refused::NoCompute)?;
        let machine = compute.find(&name).await?;
        let plan: crate::failover::Plan =
            serde_json::from_value(live.job.params.clone()).map_err(|_| Refused::NothingToCommit {
                job: live.record.job.clone(),
                what: "a plan that can be read".to_owned(),
            })?;
        let undecided = live.committed_at.is_none();
        let missing = match machine {
            None => Some(format!("machine {name}")),
            // There is no way back: what is handed over has to be what runs, and the only one that does.
            Some(machine) if undecided && machine.state != State::Running => {
                Some(format!("a running machine {name}"))
            }
            Some(machine) => plan
                .disks
                .iter()
                .find(|disk| !machine.disks.iter().any(|have| have.as_str() == disk.clone))
                .map(|disk| format!("volume {} of disk {} on machine {name}", disk.clone, disk.key)),
        };
        if let Some(what) = missing {
            return Err(Refused::NothingToCommit { job: live.record.job, what }.into());
        }
        if undecided {
            let seen = match self.runs_now(changed).await {
                Some(why) => Some(why),
                // By another agent, too.
                None => self.runs_twice(&live).await?,
            };
            if let Some(why) = seen {
                return Err(Refused::RunsTwice { why }.into());
            }
        }
        self.store.failover_commit(changed, &live.record.job, attempt, self.clock.now()).await?;
        info!(migration_id = %changed.id, workflow = %live.record.job, by = %caller, "live failover committed");
        Ok(())
    }

    async fn live_of(&self, of: &Migration) -> Result<Failover, Error> {
        let none = || Refused::JobNotFound { asked: of.vm_name.clone() };
        Ok(self.store.failover_live(&of.id).await?.ok_or_else(none)?)
    }

    /// A live failover gives way to an abort; it is told at once.
    pub(super) async fn given_up(&self, of: &Migration) -> Result<(), Error> {
        if of.position == Position::AbortRunning
            && let Some(live) = self.store.failover_live(&of.id).await?
        {
            self.engine.stop(&live.job.id);
        }
        Ok(())
    }

    /// Live failovers that nobody decided about in the time that was set.
    pub(crate) async fn failovers_decide(&self) {
        let undecided = match self.store.failover_list_undecided().await {
            Ok(undecided) => undecided,
            Err(error) => {
                return warn!(error = %shared::error::chain(&error), "live failovers cannot be listed");
            }
        };
        let now = self.clock.now();
        for live in undecided {
            let Some((action, at)) = live::due(&live.job) else { continue };
            if at > now {
                continue;
            }
            let caller = Caller::internal("commit_policy");
            let job: &WorkflowId = &live.record.job;
            let done = match action {
                CommitPolicy::None => continue,
                CommitPolicy::Commit => self.failover_commit(&caller, job.as_str()).await,
                CommitPolicy::Rollback => self.failover_rollback(&caller, job.as_str()).await,
            };
            if let Err(error) = done {
                warn!(workflow = %job, error = %shared::error::chain(&error), "the commit policy cannot be carried out");
            }
        }
    }
}
