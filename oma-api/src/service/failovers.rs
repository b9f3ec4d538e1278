//! Failovers: asked for, cleaned up, decided about, shown.

use super::{App, Caller, Error};
use crate::compute::{Console, Sees};
use crate::failover::live::live_job;
use crate::failover::live::policy::Barred;
use crate::failover::plan::{Facts, Unplannable};
use crate::failover::request::Invalid;
use crate::failover::status::Status;
use crate::failover::{Failover, FailoverView, Kind, Plan, Request, Standing, cleanup_job, names, test_job};
use crate::store::{self, Attempt, FailoversOf, Migration, RestorePoint};
use crate::workflow::{self, Ask, JobState, WorkflowId};
use shared::correlation;
use shared::ids::{AgentId, VmUuid};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Failovers of a page when nobody says how many, and most of them.
const USUAL: u32 = 50;
const MOST: u32 = 500;

/// Most bytes of a console that one answer has.
pub const MOST_CONSOLE: usize = 256 << 10;

/// Between looks for tests whose time is over.
const PERIOD: Duration = Duration::from_secs(1);

/// A watched failover is not read more often than this: enough for people.
const PACE: Duration = Duration::from_millis(200);

/// Ids that are tried when those of a second are taken.
const SECONDS: i64 = 60;

/// Why a failover is not made, or not found.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(
        "no VM {asked} is protected: vm_id is the uuid that the source has for it; `migratekit migration list` shows them"
    )]
    VmNotFound { asked: String },
    #[error("vm_id {vm} is the VM {have:?}, not {asked:?}: make sure which one is meant")]
    OtherName { vm: VmUuid, have: String, asked: String },
    #[error("{}", no_point(.vm, .asked.as_deref()))]
    NoRestorePoint { vm: String, asked: Option<String> },
    #[error(transparent)]
    Unplannable(#[from] Unplannable),
    #[error("nothing makes machines here: give oma-api a [compute] section, and start it again")]
    NoCompute,
    #[error("there is no failover job {asked:?}; `migratekit failover list` shows them")]
    JobNotFound { asked: String },
    #[error("the failover {job} has not ended: cancel it, or wait for its end")]
    NotEnded { job: WorkflowId },
    #[error("the failover {job} has no machine now")]
    NoMachine { job: WorkflowId },
    #[error(transparent)]
    Barred(#[from] Barred),
    #[error(
        "the agent {agent} cannot switch a VM's power: update vma-agent, or power the VM off by hand and ask for an unplanned failover"
    )]
    AgentTooOld { agent: AgentId },
    #[error("{job} is a test: `migratekit failover cleanup {job}` ends it")]
    NotLive { job: WorkflowId },
    #[error("{why}")]
    InProgress { why: String },
    #[error("the live failover {job} owns the VM: commit it, or roll it back")]
    Undecided { job: WorkflowId },
    #[error(
        "{what} of the live failover {job} is not there: the replica stays; roll it back, or make it good"
    )]
    NothingToCommit { job: WorkflowId, what: String },
    #[error("{}", .why.trim_start_matches("SOURCE_RUNNING: "))]
    RunsTwice { why: String },
}

fn no_point(vm: &str, asked: Option<&str>) -> String {
    match asked {
        None => format!("{vm} has no restore point: `migratekit migration sync {vm}` makes one"),
        Some(id) => {
            let id: String = id.chars().take(80).collect();
            format!(
                "{vm} has no restore point {id:?}: `migratekit migration get {vm}` shows those that are there"
            )
        }
    }
}

/// Which failovers are asked for.
#[derive(Clone, Debug, Default)]
pub struct FailoverFilter {
    pub status: String,
    pub kind: String,
    pub vm: String,
    pub before: String,
    pub limit: Option<u32>,
}

/// Some failovers, the newest first.
#[derive(Clone, Debug)]
pub struct FailoverPage {
    pub failovers: Vec<FailoverView>,
    /// Of all pages together.
    pub total: u64,
    /// `before` of the next page; `None`: there is none.
    pub next_before: Option<WorkflowId>,
}

/// How a failover is stored that is made.
#[derive(Clone, Copy)]
pub(super) enum Made<'a> {
    Test,
    /// With its migration, which was changed for it, and the attempt to do so.
    Live(Option<&'a Attempt>),
}

impl Made<'_> {
    const fn kind(self) -> Kind {
        match self {
            Self::Test => Kind::Test,
            Self::Live(_) => Kind::Live,
        }
    }
}

impl App {
    /// Begins a test failover; it goes on by itself.
    ///
    /// # Errors
    /// [`Refused`]; [`store::Error::FailoverThere`], [`store::Error::TooManyTests`] and others of the store. Nothing is made
    /// then.
    pub async fn failover_test(&self, caller: &Caller, request: &Request) -> Result<FailoverView, Error> {
        request.check().map_err(Refused::from)?;
        if self.compute.is_none() {
            return Err(Refused::NoCompute.into());
        }
        let migration = self.failover_subject(request).await?;
        let point = self.restore_point(&migration, request.restore_point.as_deref()).await?;
        let made = self.failover_made(&migration, caller, request, &point, Made::Test).await?;
        info!(migration_id = %migration.id, workflow = %made.record.job, vm = %migration.vm_name, by = %caller,
              restore_point = %point.id, "test failover begun");
        self.engine.wake();
        self.hub.migration_changed(&migration.id);
        Ok(made.into())
    }

    /// Plans it, and stores it under names that are free.
    pub(super) async fn failover_made(
        &self,
        migration: &Migration,
        caller: &Caller,
        request: &Request,
        point: &RestorePoint,
        made: Made<'_>,
    ) -> Result<Failover, Error> {
        let configuration = self.store.migration_configuration(&migration.id).await?;
        let disks = self.store.disk_list(&migration.id).await?;
        let retired = self.store.disk_list_retired(&migration.id).await?;
        let profile = self.profile_named(migration.target_profile.as_ref().map(|p| p.as_str())).await?;
        let handed_over = self.handed_over(migration).await?;
        let facts = Facts {
            kind: made.kind(),
            migration,
            configuration: configuration.as_ref(),
            point,
            disks: &disks,
            retired: &retired,
            profile: profile.as_ref().map(|profile| &profile.settings),
            sees: self.compute.as_ref().map_or(Sees { console: true, guest_agent: true }, |c| c.sees()),
            hand_over: self.compute.as_ref().and_then(|compute| Some(compute.hand_over()?.method())),
            handed_over: handed_over.as_ref().map(WorkflowId::as_str),
            requested_by: &caller.name,
        };
        let keep = match made.kind() {
            Kind::Test => request.keep().map_err(Refused::from)?,
            Kind::Live => self.policy.keep.0,
        };
        let correlation = correlation::current().map_or_else(String::new, |id| id.as_str().to_owned());
        let now = self.clock.now();
        let mut second = now.as_second();
        loop {
            let (plan, record) = Plan::make(facts, request, keep, second).map_err(Refused::from)?;
            let stored = match made {
                Made::Test => {
                    let job = test_job(&plan, &record, request, &correlation);
                    self.store.failover_create(&record, &job, now).await
                }
                Made::Live(attempt) => {
                    let job = live_job(&plan, &record, request, &correlation);
                    self.store.failover_switch(migration, &record, &job, attempt, now).await
                }
            };
            match stored {
                Err(store::Error::WorkflowExists { .. }) if second < now.as_second() + SECONDS => second += 1,
                stored => return Ok(stored?),
            }
        }
    }

    /// The migration that a request means.
    pub(super) async fn failover_subject(&self, request: &Request) -> Result<Migration, Error> {
        let unknown = || Refused::VmNotFound { asked: request.vm_id.clone() };
        let vm = VmUuid::parse(request.vm_id.to_lowercase()).map_err(|_| unknown())?;
        let migration = self.store.migration_of_vm(&vm).await?.ok_or_else(unknown)?;
        match migration.vm_name == request.vm_name {
            true => Ok(migration),
            false => {
                Err(Refused::OtherName { vm, have: migration.vm_name, asked: request.vm_name.clone() }.into())
            }
        }
    }

    pub(super) async fn restore_point(
        &self,
        of: &Migration,
        asked: Option<&str>,
    ) -> Result<RestorePoint, Error> {
        let mut points = self.store.restore_point_list(&of.id).await?;
        let found = match asked {
            None => points.pop(),
            Some(id) => points.into_iter().find(|point| point.id.as_str() == id || point.snapshot_name == id),
        };
        let none = || Refused::NoRestorePoint { vm: of.vm_name.clone(), asked: asked.map(str::to_owned) };
        Ok(found.ok_or_else(none)?)
    }

    /// Removes what is there of a failover that has ended. Again: the same clean-up.
    ///
    /// # Errors
    /// [`Refused::JobNotFound`], [`Refused::NotEnded`], [`Error::Store`].
    pub async fn failover_cleanup(&self, caller: &Caller, asked: &str) -> Result<FailoverView, Error> {
        let found = self.failover_fetch(asked).await?;
        match (found.record.kind, found.standing()) {
            (Kind::Live, Standing::There)
                if found.rollback.as_ref().is_some_and(|job| job.state.at_work()) =>
            {
                let why = format!("the way back of {} is going on: wait for its end", found.record.job);
                return Err(Refused::InProgress { why }.into());
            }
            (Kind::Live, Standing::There) => return Err(Refused::Undecided { job: found.record.job }.into()),
            (Kind::Test, _) if !found.job.state.ended() => {
                return Err(Refused::NotEnded { job: found.record.job }.into());
            }
            (Kind::Test | Kind::Live, _) => {}
        }
        let ended = found.cleanup.as_ref().is_none_or(|job| job.state == JobState::RolledBack);
        if found.is_there() && ended {
            let correlation = correlation::current().map_or_else(String::new, |id| id.as_str().to_owned());
            let job = cleanup_job(&found, &correlation);
            match self.store.failover_clean(&found.record.job, &job, self.clock.now()).await {
                // Somebody was first.
                Err(store::Error::WorkflowExists { .. }) => {}
                made => drop(made?),
            }
            info!(migration_id = %found.record.migration, workflow = %job.id, by = %caller, "clean-up of a failover begun");
            self.engine.wake();
            self.hub.migration_changed(&found.record.migration);
        }
        self.failover_find(asked).await
    }

    /// # Errors
    /// [`Refused::JobNotFound`], [`Error::Store`].
    pub async fn failover_find(&self, asked: &str) -> Result<FailoverView, Error> {
        let found = self.failover_fetch(asked).await?;
        self.failover_view(found).await
    }

    pub(super) async fn failover_fetch(&self, asked: &str) -> Result<Failover, Error> {
        let unknown = || Refused::JobNotFound { asked: asked.chars().take(80).collect() };
        let id = WorkflowId::parse(asked).map_err(|_| unknown())?;
        match self.store.failover_fetch(&id).await {
            Err(store::Error::NotFound { .. }) => Err(unknown().into()),
            found => Ok(found?),
        }
    }

    /// One page.
    ///
    /// # Errors
    /// [`Refused::Invalid`], [`Refused::JobNotFound`], [`Error::Store`].
    pub async fn failover_list(&self, filter: &FailoverFilter) -> Result<FailoverPage, Error> {
        let wrong = |field, why: String| Error::from(Refused::from(Invalid { field, why }));
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let limit = match filter.limit {
            None => USUAL,
            Some(limit @ 1..=MOST) => limit,
            Some(_) => return Err(wrong("limit", format!("must be 1 to {MOST}"))),
        };
        let status = said(&filter.status).map(|s| s.parse::<Status>()).transpose();
        let kind = said(&filter.kind).map(|s| s.parse::<Kind>()).transpose();
        let before = match said(&filter.before) {
            Some(job) => Some(self.failover_fetch(&job).await?.record.job),
            None => None,
        };
        let of = FailoversOf {
            status: status.map_err(|e| wrong("status", e.to_string()))?.map(Status::as_str),
            kind: kind.map_err(|e| wrong("type", e.to_string()))?,
            vm: said(&filter.vm).map(|vm| vm.to_lowercase()),
            before,
            // One more, to know whether there is a next page.
            limit: limit + 1,
        };
        let (mut found, total) = self.store.failover_page(&of).await?;
        let more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if more {
            found.pop();
        }
        let next_before = found.last().filter(|_| more).map(|last| last.record.job.clone());
        Ok(FailoverPage { failovers: found.into_iter().map(Into::into).collect(), total, next_before })
    }

    /// Asks something of its job, or of its clean-up where there is one.
    ///
    /// # Errors
    /// [`Error::Workflow`], [`Refused::JobNotFound`], [`Error::Store`].
    pub async fn failover_ask(&self, caller: &Caller, asked: &str, ask: &Ask) -> Result<FailoverView, Error> {
        let found = self.failover_fetch(asked).await?;
        self.engine.ask(&found.newest_job().id, ask, &caller.name).await?;
        self.hub.migration_changed(&found.record.migration);
        self.failover_find(asked).await
    }

    /// What its machine wrote to its serial console, from that byte on.
    ///
    /// # Errors
    /// [`Refused::JobNotFound`], [`Refused::NoMachine`], [`Error::Compute`], [`Error::Store`].
    pub async fn failover_console(&self, asked: &str, from: u64) -> Result<Console, Error> {
        let found = self.failover_fetch(asked).await?;
        let compute = self.compute.as_ref().ok_or(Refused::NoCompute)?;
        let name = names::machine_name(&found.record.name);
        match compute.console(&name, from, MOST_CONSOLE).await {
            Err(crate::compute::Error::NoMachine { .. }) => {
                Err(Refused::NoMachine { job: found.record.job }.into())
            }
            part => Ok(part?),
        }
    }

    /// The failover as it is, then each time it has changed; the latest only. Ends with the sender's receiver.
    ///
    /// # Errors
    /// As [`failover_find`](Self::failover_find).
    pub async fn failover_watch(
        &self,
        asked: &str,
    ) -> Result<tokio::sync::watch::Receiver<FailoverView>, Error> {
        let mut changes = self.store.changes();
        changes.mark_unchanged();
        let (sender, states) = tokio::sync::watch::channel(self.failover_find(asked).await?);
        let (app, asked) = (self.clone(), asked.to_owned());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    // Somebody else may have changed it in the database.
                    _ = tokio::time::timeout(PERIOD, changes.changed()) => {}
                }
                match app.failover_find(&asked).await {
                    Ok(view) => {
                        sender.send_if_modified(|last| {
                            let newer = *last != view;
                            *last = view;
                            newer
                        });
                    }
                    Err(error) => {
                        warn!(workflow = asked, error = %shared::error::chain(&error), "a watched failover cannot be read")
                    }
                }
                tokio::time::sleep(PACE).await;
            }
        });
        Ok(states)
    }

    /// Drives failovers, and cleans tests up whose time is over, until `shutdown`.
    pub async fn failovers_run(&self, shutdown: CancellationToken) {
        let expire = async {
            loop {
                self.failovers_expire().await;
                self.failovers_decide().await;
                tokio::select! {
                    () = tokio::time::sleep(PERIOD) => {}
                    () = shutdown.cancelled() => return,
                }
            }
        };
        let prepare = async {
            if let Some(compute) = &self.compute {
                tokio::select! {
                    () = compute.prepare() => {}
                    () = shutdown.cancelled() => {}
                }
            }
        };
        // What a job came to moves its migration, at once.
        let follow = async {
            loop {
                tokio::select! {
                    () = self.engine.rested() => self.hub.wake(),
                    () = shutdown.cancelled() => return,
                }
            }
        };
        tokio::join!(self.engine.run(shutdown.clone()), expire, prepare, follow);
    }

    async fn failovers_expire(&self) {
        let expiring = match self.store.failover_list_expiring().await {
            Ok(expiring) => expiring,
            Err(error) => return warn!(error = %shared::error::chain(&error), "tests cannot be listed"),
        };
        let now = self.clock.now();
        for test in expiring.into_iter().filter(|test| test.expires().is_some_and(|at| at <= now)) {
            let caller = Caller::internal("test_duration");
            if let Err(error) = self.failover_cleanup(&caller, test.record.job.as_str()).await {
                warn!(workflow = %test.record.job, error = %shared::error::chain(&error), "a test cannot be cleaned up");
            }
        }
    }
}

impl From<workflow::Error> for Error {
    fn from(error: workflow::Error) -> Self {
        match error {
            workflow::Error::Store(error) => Self::Store(error),
            workflow::Error::Denied(denied) => Self::Workflow(denied),
            workflow::Error::Lost { id, .. } | workflow::Error::Busy { id } => {
                Self::Store(store::Error::WorkflowMoved { id })
            }
        }
    }
}
