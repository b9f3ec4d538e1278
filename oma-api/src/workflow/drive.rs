//! Carries out what [`policy`](super::policy) decides for one job, and writes each step into the journal: before, and after.

use super::effect::{Effect, Kind, Problem, Turn};
use super::engine::{Error, Inner};
use super::policy::{Next, next};
use super::record::Job;
use crate::store::{self, Failure};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A job while it is driven.
pub(super) struct Driver<'e> {
    engine: &'e Inner,
    /// As it was last stored.
    job: Job,
    /// The one under which it was taken.
    epoch: u64,
    stop: CancellationToken,
    /// Look-ups that failed, one after the other.
    unanswered: u64,
}

/// Until nothing is to be done for the job, or somebody else has it.
///
/// # Errors
/// [`Error::Lost`], [`Error::Store`]: the step under way is looked up by whoever takes the job next.
pub(super) async fn drive(engine: &Inner, job: Job, stop: CancellationToken) -> Result<(), Error> {
    let epoch = job.held.epoch;
    let mut driver = Driver { engine, job, epoch, stop, unanswered: 0 };
    loop {
        match next(&driver.job) {
            Next::Rest => return Ok(()),
            Next::Become(state) => {
                if driver.plan(|job, now| job.moved(state, now)).await? {
                    let error = driver.job.error.as_ref().map(|e| e.message.as_str());
                    info!(state = %state, error, "workflow job");
                }
            }
            Next::LookUp(at) => driver.look_up(at).await?,
            Next::Act(at) => driver.act(at).await?,
            Next::Undo(at) => driver.undo(at).await?,
        }
    }
}

/// Of a step that was under way when its control plane ended.
const INTERRUPTED: &str = "INTERRUPTED";

/// Whoever starts the control plane again is no failure of the step; one that brings it down each time ends all the same.
const RESTARTS: u64 = 10;

impl Driver<'_> {
    async fn act(&mut self, at: usize) -> Result<(), Error> {
        let Some(effect) = self.effect(at) else { return self.unknown_step(at).await };
        let name = effect.name(&self.job);
        // Whatever was asked meanwhile comes first.
        if !self.plan(|job, now| job.begun(at, name.clone(), now)).await? {
            return Ok(());
        }
        let acted = self.call(effect.act(self.turn(at, &*effect))).await;
        match acted {
            Ok(output) => self.record(|job, now| job.done(at, output.clone(), now)).await,
            Err(problem) => match problem.kind {
                Kind::Stopped => Err(self.lost()),
                Kind::Transient => self.again(at, problem.failure, 1).await,
                Kind::Unknown => {
                    self.record(|job, _| job.in_doubt(at, problem.failure.clone())).await?;
                    self.pause(self.job.steps[at].attempts).await;
                    Ok(())
                }
                // What said so may be wrong (a failed task that has succeeded), and nothing takes this one back.
                Kind::Permanent if self.job.steps[at].plan.no_return => {
                    match self.call(effect.look_up(self.turn(at, &*effect))).await {
                        Ok(Some(output)) => self.record(|job, now| job.done(at, output.clone(), now)).await,
                        Ok(None) => self.give_up(at, problem.failure).await,
                        Err(doubt) if doubt.kind == Kind::Stopped => Err(self.lost()),
                        Err(doubt) => self.record(|job, now| job.stuck(at, doubt.failure.clone(), now)).await,
                    }
                }
                Kind::Permanent => self.give_up(at, problem.failure).await,
            },
        }
    }

    async fn look_up(&mut self, at: usize) -> Result<(), Error> {
        let Some(effect) = self.effect(at) else { return self.unknown_step(at).await };
        let found = self.call(effect.look_up(self.turn(at, &*effect))).await;
        match found {
            Ok(Some(output)) => {
                self.unanswered = 0;
                self.record(|job, now| job.done(at, output.clone(), now)).await
            }
            Ok(None) => {
                self.unanswered = 0;
                let (most, message) = match self.engine.has_panicked(&self.job.id) {
                    true => (1, "it panicked, which is a defect, and has not happened"),
                    false => {
                        (RESTARTS, "it was under way when the control plane ended, and has not happened")
                    }
                };
                match self.job.steps[at].error.clone().filter(|error| error.reason != INTERRUPTED) {
                    Some(why) => self.again(at, why, 1).await,
                    None => {
                        let (reason, message) = (INTERRUPTED.to_owned(), message.to_owned());
                        self.again(at, Failure { reason, message }, most).await
                    }
                }
            }
            Err(problem) if problem.kind == Kind::Stopped => Err(self.lost()),
            Err(problem) => {
                self.unanswered += 1;
                if self.unanswered < self.engine.options.attempts {
                    self.record(|job, _| job.in_doubt(at, problem.failure.clone())).await?;
                    self.pause(self.unanswered).await;
                    return Ok(());
                }
                self.unanswered = 0;
                match self.job.steps[at].plan.no_return {
                    true => self.record(|job, now| job.stuck(at, problem.failure.clone(), now)).await,
                    // Its undo takes back whatever is there.
                    false => self.give_up(at, problem.failure).await,
                }
            }
        }
    }

    async fn undo(&mut self, at: usize) -> Result<(), Error> {
        let Some(effect) = self.effect(at) else { return self.unknown_step(at).await };
        if !self.plan(|job, _| job.undo_begun(at)).await? {
            return Ok(());
        }
        let undone = self.call(effect.undo(self.turn(at, &*effect))).await;
        match undone {
            Ok(()) => self.record(|job, now| job.undone(at, now)).await,
            Err(problem) => {
                let tried = self.job.steps[at].undo_attempts;
                match problem.kind {
                    Kind::Stopped => Err(self.lost()),
                    Kind::Transient | Kind::Unknown if tried < self.engine.options.attempts => {
                        self.record(|job, _| job.in_doubt(at, problem.failure.clone())).await?;
                        self.pause(tried).await;
                        Ok(())
                    }
                    Kind::Transient | Kind::Unknown | Kind::Permanent => {
                        warn!(
                            step = self.job.steps[at].plan.name,
                            error = problem.failure.message,
                            "a workflow step cannot be taken back"
                        );
                        self.record(|job, now| job.undo_failed(at, problem.failure.clone(), now)).await
                    }
                }
            }
        }
    }

    /// It is known not to have happened. `grace`: so many times more may it be tried than what fails.
    async fn again(&mut self, at: usize, failure: Failure, grace: u64) -> Result<(), Error> {
        let tried = self.job.steps[at].attempts;
        if tried >= grace * self.engine.options.attempts {
            return self.give_up(at, failure).await;
        }
        self.record(|job, _| job.put_back(at, failure.clone())).await?;
        self.pause(tried).await;
        Ok(())
    }

    async fn give_up(&mut self, at: usize, failure: Failure) -> Result<(), Error> {
        warn!(
            step = self.job.steps[at].plan.name,
            reason = failure.reason,
            error = failure.message,
            "a workflow step failed"
        );
        self.record(|job, now| job.failed(at, failure.clone(), now)).await
    }

    /// The job is of another version of this program.
    async fn unknown_step(&mut self, at: usize) -> Result<(), Error> {
        let (job, step) = (&self.job, &self.job.steps[at].plan.name);
        let failure = Failure {
            reason: "UNKNOWN_STEP".to_owned(),
            message: format!(
                "this program has no step {step:?} of {} version {}: start the version that made the job, then retry",
                job.kind, job.version
            ),
        };
        let undoing = matches!(next(job), Next::Undo(_));
        self.record(|job, now| match undoing {
            true => job.undo_failed(at, failure.clone(), now),
            false => job.stuck(at, failure.clone(), now),
        })
        .await
    }

    fn effect(&self, at: usize) -> Option<Arc<dyn Effect>> {
        let workflow = self.engine.workflows.get(self.job.kind.as_str())?;
        workflow.effect(&self.job, &self.job.steps[at])
    }

    fn turn(&self, at: usize, effect: &dyn Effect) -> Turn<'_> {
        let (job, step) = (&self.job, &self.job.steps[at]);
        let name = step.effect.clone().or_else(|| effect.name(job)).unwrap_or_default();
        Turn { job, step, name, lease: &self.engine.lease, stop: &self.stop }
    }

    /// A call to another system, under the lease: not begun without it, and left when it is lost.
    async fn call<T>(&self, remote: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        tokio::select! {
            biased;
            () = self.engine.lease.lost() => Err(Problem::stopped()),
            result = remote => result,
        }
    }

    fn lost(&self) -> Error {
        Error::Lost { id: self.job.id.clone(), epoch: self.epoch }
    }

    /// Stores what follows from the job as it was read; not when it was changed since (it is read again then).
    async fn plan(&mut self, change: impl Fn(&Job, Timestamp) -> Job) -> Result<bool, Error> {
        let now = self.engine.options.clock.now();
        let after = change(&self.job, now);
        match self.engine.store.workflow_save(&self.job, &after, now).await {
            Ok(job) => {
                self.job = job;
                Ok(true)
            }
            Err(store::Error::WorkflowMoved { .. }) => self.reload().await.map(|()| false),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores what has happened, whatever was asked meanwhile.
    async fn record(&mut self, change: impl Fn(&Job, Timestamp) -> Job) -> Result<(), Error> {
        while !self.plan(&change).await? {}
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), Error> {
        self.job = self.engine.store.workflow_fetch(&self.job.id).await?;
        if self.job.held.epoch == self.epoch { Ok(()) } else { Err(self.lost()) }
    }

    /// Longer after each attempt; ended by a cancel.
    async fn pause(&self, attempts: u64) {
        let (first, longest) = self.engine.options.pause;
        let doubled = u32::try_from(attempts.clamp(1, 16) - 1).unwrap_or(0);
        let pause: Duration = first.saturating_mul(1 << doubled).min(longest);
        if self.stop.is_cancelled() {
            return tokio::time::sleep(pause).await;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => {}
        }
    }
}
