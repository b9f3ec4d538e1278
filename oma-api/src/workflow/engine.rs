//! Gives every job that is at work a driver.
//!
//! ```text
//!  every second, and when woken:  at work? ─► may be taken? ─► take (epoch + 1, beat) ─► a task: drive
//!  every third of the lease:      beat, while anything is driven
//! ```

use super::drive::drive;
use super::effect::Workflow;
use super::lease::{Lease, Owner, Watcher};
use super::policy::{Ask, Denied, ask};
use super::record::{Held, Job, NewJob, WorkflowId};
use crate::clock::Clock;
use crate::store::{self, Store};
use crate::work::{Failed, Work};
use shared::error::chain;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, info_span, warn};

/// How the engine works.
#[derive(Clone, Debug)]
pub struct Options {
    pub owner: Owner,
    /// How long a silent owner is believed to live.
    pub lease: Duration,
    /// Between looks for jobs, when nothing wakes it.
    pub period: Duration,
    /// How often a step is tried, and its undo.
    pub attempts: u64,
    /// After an attempt that failed: at first, and at most.
    pub pause: (Duration, Duration),
    pub clock: Clock,
}

impl Options {
    pub fn new(owner: Owner, clock: Clock) -> Self {
        Self {
            owner,
            lease: Duration::from_secs(15),
            period: Duration::from_secs(1),
            attempts: 5,
            pause: (Duration::from_secs(1), Duration::from_secs(30)),
            clock,
        }
    }
}

/// Why something could not be asked, or a driver ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("the workflow job {id} is not ours any more (epoch {epoch})")]
    Lost { id: WorkflowId, epoch: u64 },
    #[error("the workflow job {id} changes faster than it can be asked: try again")]
    Busy { id: WorkflowId },
}

/// A handle.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) workflows: HashMap<&'static str, Arc<dyn Workflow>>,
    pub(super) options: Options,
    pub(super) lease: Lease,
    woken: Notify,
    rested: Notify,
    /// Of the jobs that are driven here.
    stops: Mutex<HashMap<WorkflowId, CancellationToken>>,
    /// Jobs whose step has just panicked here.
    panicked: Mutex<HashSet<WorkflowId>>,
}

impl Inner {
    /// Whether that is why its step was cut short; once.
    pub(super) fn has_panicked(&self, id: &WorkflowId) -> bool {
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    fn stops(&self) -> MutexGuard<'_, HashMap<WorkflowId, CancellationToken>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    pub fn new(store: Store, workflows: Vec<Arc<dyn Workflow>>, options: Options) -> Self {
        let workflows = workflows.into_iter().map(|w| (w.kind(), w)).collect();
        let lease = Lease::new(options.lease);
        let (woken, rested) = (Notify::new(), Notify::new());
        let (stops, panicked) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { store, workflows, options, lease, woken, rested, stops, panicked }))
    }

    /// Makes a job, and drives it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn create(&self, new: &NewJob) -> Result<Job, Error> {
        let job = self.0.store.workflow_create(new, self.0.options.clock.now()).await?;
        self.wake();
        Ok(job)
    }

    /// A job was made, or changed, by somebody else.
    pub fn wake(&self) {
        self.0.woken.notify_one();
    }

    /// Somebody asked for its end in the database: what its step waits for is not waited for.
    pub fn stop(&self, id: &WorkflowId) {
        if let Some(stop) = self.0.stops().get(id) {
            stop.cancel();
        }
        self.wake();
    }

    /// Returns when a job came to rest: it has ended, or somebody has to ask something of it.
    pub async fn rested(&self) {
        self.0.rested.notified().await;
    }

    /// Asks something of a job; gives it as it is then.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Busy`], [`Error::Store`].
    pub async fn ask(&self, id: &WorkflowId, asked: &Ask, by: &str) -> Result<Job, Error> {
        for _ in 0..100 {
            let job = self.0.store.workflow_fetch(id).await?;
            let after = ask(&job, asked, by)?;
            let stored = self.0.store.workflow_ask(&job, &after, asked, by, self.0.options.clock.now());
            match stored.await {
                Ok(stored) => {
                    info!(workflow = %id, asked = asked.as_str(), by, "asked of a workflow job");
                    match asked {
                        Ask::Cancel => self.stop(id),
                        _ => self.wake(),
                    }
                    return Ok(stored);
                }
                Err(store::Error::WorkflowMoved { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy { id: id.clone() })
    }

    /// Runs until `shutdown`; what is under way is left where it is, and nobody's.
    pub async fn run(&self, shutdown: CancellationToken) {
        let engine = &self.0;
        let mut drivers = Work::new(engine.options.period.saturating_mul(5));
        let mut watcher = Watcher::default();
        let mut beats = interval(engine.options.lease / 3);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.take_all(&mut drivers, &mut watcher).await;
            let wait = tokio::time::sleep(engine.options.period);
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => {
                        drivers.stop().await;
                        if let Err(error) = engine.store.workflow_release(&engine.options.owner.text()).await {
                            warn!(error = %chain(&error), "workflow jobs could not be given up: they are taken over later");
                        }
                        return;
                    }
                    () = &mut wait => break,
                    () = engine.woken.notified() => break,
                    _ = beats.tick(), if !drivers.is_empty() => self.beat().await,
                    Some((id, failure)) = drivers.ended() => self.ended(&id, failure),
                }
            }
        }
    }

    /// Takes one job and drives it, here.
    #[cfg(test)]
    pub(crate) async fn drive_now(&self, id: &WorkflowId) -> Result<(), Error> {
        let (job, stop) = loop {
            let held = self.0.store.workflow_fetch(id).await?.held;
            match self.take(id, &held).await {
                // The last COMMIT of a run that a test has cut short.
                Err(store::Error::WorkflowMoved { .. }) => {}
                taken => break taken?,
            }
        };
        drive(&self.0, job, stop).await
    }

    async fn take_all(&self, drivers: &mut Work<WorkflowId, Error>, watcher: &mut Watcher) {
        let engine = &self.0;
        let open = match engine.store.workflow_list_at_work().await {
            Ok(open) => open,
            Err(error) => return error!(error = %chain(&error), "workflow jobs cannot be read"),
        };
        watcher.keep(open.iter().map(|(id, _)| id));
        for (id, held) in open {
            let (me, lease) = (&engine.options.owner, engine.options.lease);
            if !drivers.may_start(&id) || !watcher.may_take(me, &id, &held, lease) {
                continue;
            }
            match self.take(&id, &held).await {
                Ok((job, stop)) => {
                    let engine = Arc::clone(engine);
                    let span = info_span!("workflow", workflow = %id, correlation_id = job.correlation);
                    drivers.start(id, async move { drive(&engine, job, stop).await }.instrument(span));
                }
                Err(store::Error::WorkflowMoved { .. }) => {}
                Err(error) => warn!(workflow = %id, error = %chain(&error), "a workflow job cannot be taken"),
            }
        }
    }

    async fn take(&self, id: &WorkflowId, held: &Held) -> Result<(Job, CancellationToken), store::Error> {
        let (engine, me, begun) = (&self.0, self.0.options.owner.text(), Instant::now());
        let job = engine.store.workflow_take(id, held, &me).await?;
        engine.lease.beaten(begun);
        if held.owner.as_deref().is_some_and(|owner| owner != me) {
            info!(workflow = %id, epoch = job.held.epoch, "a workflow job is taken over");
        }
        let stop = CancellationToken::new();
        if job.wish == Some(super::Wish::Cancel) {
            stop.cancel();
        }
        engine.stops().insert(id.clone(), stop.clone());
        Ok((job, stop))
    }

    async fn beat(&self) {
        let begun = Instant::now();
        match self.0.store.workflow_beat(&self.0.options.owner.text()).await {
            Ok(()) => self.0.lease.beaten(begun),
            Err(error) => warn!(error = %chain(&error), "workflow jobs: the lease was not renewed"),
        }
    }

    fn ended(&self, id: &WorkflowId, failure: Option<Failed<Error>>) {
        self.0.stops().remove(id);
        match failure {
            None => self.0.rested.notify_one(),
            Some(Failed::Error(error)) => {
                warn!(workflow = %id, error = %chain(&error), "a workflow job is left, and taken up again");
            }
            Some(Failed::Panic(panic)) => {
                self.0.panicked.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
                error!(workflow = %id, %panic, "a workflow step panicked: this is a defect; its step is looked up");
            }
        }
    }
}
