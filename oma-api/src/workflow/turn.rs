//! What a driver writes into the journal: each a job as it was, and as it is. Pure.

use super::record::Job;
use super::words::{JobState, StepState};
use crate::store::Failure;
use jiff::Timestamp;
use serde_json::Value;

impl Job {
    /// The state that [`super::policy::next`] asked for, with the cause where there is one.
    pub(super) fn moved(&self, to: JobState, now: Timestamp) -> Self {
        let mut job = Self { state: to, ..self.clone() };
        match to {
            JobState::Running => {
                job.started_at.get_or_insert(now);
            }
            JobState::Unwinding | JobState::NeedsAttention => {
                let failed = |s: &&super::Step| matches!(s.state, StepState::Failed | StepState::UndoFailed);
                let cause = self.steps.iter().find(failed).and_then(|s| s.error.clone());
                // An undo that gave up does not hide why there was one.
                job.error = job.error.or(cause);
                job.wish = None;
            }
            JobState::Paused => job.wish = None,
            JobState::Succeeded | JobState::RolledBack => {
                job.ended_at = Some(now);
                job.wish = None;
            }
            JobState::Queued | JobState::AwaitingApproval => {}
        }
        job
    }

    /// Before an effect: its name is known from here on.
    pub(super) fn begun(&self, at: usize, effect: Option<String>, now: Timestamp) -> Self {
        self.with(at, |step| {
            step.state = StepState::Started;
            step.attempts += 1;
            step.effect = effect;
            step.started_at.get_or_insert(now);
        })
    }

    /// After it.
    pub(super) fn done(&self, at: usize, output: Value, now: Timestamp) -> Self {
        self.with(at, |step| {
            step.state = StepState::Done;
            step.output = Some(output);
            step.error = None;
            step.ended_at = Some(now);
        })
    }

    /// It is known not to have happened, and will be tried again.
    pub(super) fn put_back(&self, at: usize, failure: Failure) -> Self {
        self.with(at, |step| {
            step.state = StepState::Pending;
            step.error = Some(failure);
        })
    }

    /// Whether it has happened is not known: looked up before it is tried again.
    pub(super) fn in_doubt(&self, at: usize, failure: Failure) -> Self {
        self.with(at, |step| step.error = Some(failure))
    }

    /// It is not tried again.
    pub(super) fn failed(&self, at: usize, failure: Failure, now: Timestamp) -> Self {
        self.with(at, |step| {
            step.state = StepState::Failed;
            step.error = Some(failure);
            step.ended_at = Some(now);
        })
    }

    /// Whether a step of no return has happened cannot be found out.
    pub(super) fn stuck(&self, at: usize, failure: Failure, now: Timestamp) -> Self {
        let job = Self { error: Some(failure.clone()), ..self.in_doubt(at, failure) };
        job.moved(JobState::NeedsAttention, now)
    }

    /// Before an effect is taken back.
    pub(super) fn undo_begun(&self, at: usize) -> Self {
        self.with(at, |step| {
            step.state = StepState::UndoStarted;
            step.undo_attempts += 1;
        })
    }

    /// After it.
    pub(super) fn undone(&self, at: usize, now: Timestamp) -> Self {
        self.with(at, |step| {
            step.state = StepState::Undone;
            // When it had been done, or had failed, stays known.
            step.ended_at.get_or_insert(now);
        })
    }

    /// Taking it back is not tried again.
    pub(super) fn undo_failed(&self, at: usize, failure: Failure, now: Timestamp) -> Self {
        let job = self.with(at, |step| {
            step.state = StepState::UndoFailed;
            step.error = Some(failure);
            step.ended_at.get_or_insert(now);
        });
        job.moved(JobState::NeedsAttention, now)
    }

    fn with(&self, at: usize, change: impl FnOnce(&mut super::Step)) -> Self {
        let mut job = self.clone();
        change(&mut job.steps[at]);
        job
    }
}
