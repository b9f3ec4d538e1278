//! What happens next with a job, and what may be asked of it. Pure.

#![deny(clippy::wildcard_enum_match_arm)]

use super::record::{Job, Step};
use super::words::{JobState, StepState, Wish};
use crate::store::Failure;
use std::fmt;

/// What a driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until somebody asks.
    Rest,
    /// The job is there now.
    Become(JobState),
    /// Look whether this step's effect has happened; take it when it has not.
    LookUp(usize),
    /// Take this step.
    Act(usize),
    /// Take this step back.
    Undo(usize),
}

/// See [`Next`].
pub fn next(job: &Job) -> Next {
    match job.state {
        JobState::Queued | JobState::Running => forward(job),
        JobState::Unwinding => match job.steps.iter().rposition(may_be_there) {
            None => Next::Become(JobState::RolledBack),
            Some(step) => Next::Undo(step),
        },
        JobState::AwaitingApproval
        | JobState::Paused
        | JobState::Succeeded
        | JobState::RolledBack
        | JobState::NeedsAttention => Next::Rest,
    }
}

fn forward(job: &Job) -> Next {
    if job.wish == Some(Wish::Cancel) && !job.is_past_no_return() {
        return Next::Become(JobState::Unwinding);
    }
    let open = |s: &Step| !matches!(s.state, StepState::Done | StepState::Skipped);
    let Some(at) = job.steps.iter().position(open) else { return Next::Become(JobState::Succeeded) };
    let step = &job.steps[at];
    match step.state {
        StepState::Started => Next::LookUp(at),
        StepState::Failed if job.is_past_no_return() => Next::Become(JobState::NeedsAttention),
        StepState::Failed => Next::Become(JobState::Unwinding),
        StepState::Pending | StepState::Undone => {
            if job.wish == Some(Wish::Pause) {
                Next::Become(JobState::Paused)
            } else if step.plan.gate && !step.approved {
                Next::Become(JobState::AwaitingApproval)
            } else if job.state == JobState::Queued {
                Next::Become(JobState::Running)
            } else {
                Next::Act(at)
            }
        }
        // No driver leaves these under a job that goes forward: somebody has to look.
        StepState::UndoStarted | StepState::UndoFailed => Next::Become(JobState::NeedsAttention),
        StepState::Done | StepState::Skipped => Next::Rest,
    }
}

/// Something of its effect may be there.
fn may_be_there(step: &Step) -> bool {
    match step.state {
        StepState::Started
        | StepState::Done
        | StepState::Failed
        | StepState::UndoStarted
        | StepState::UndoFailed => true,
        // Skipped on the way forward; its undo was not tried, let alone skipped.
        StepState::Skipped => step.undo_attempts == 0,
        StepState::Pending | StepState::Undone => false,
    }
}

/// What an operator may ask of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Pause,
    Resume,
    Cancel,
    /// Of the gate that it waits at.
    Approve,
    /// What failed, again.
    Retry,
    /// To go on without what failed.
    Skip {
        why: String,
    },
    /// To go on with the steps instead of taking them back.
    RollForward,
}

impl Ask {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Approve => "approve",
            Self::Retry => "retry",
            Self::Skip { .. } => "skip",
            Self::RollForward => "roll_forward",
        }
    }
}

/// Why something cannot be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    Ended,
    NotPaused,
    AlreadyPaused,
    Unwinding,
    PointOfNoReturn,
    NoApprovalNeeded,
    NothingFailed,
    NotUnwound,
    StepRequired,
    ReasonNeeded,
    NeedsAttention,
    Superseded,
}

impl Refusal {
    /// For `google.rpc.ErrorInfo` and the REST error codes.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Ended => "JOB_ENDED",
            Self::NotPaused => "NOT_PAUSED",
            Self::AlreadyPaused => "ALREADY_PAUSED",
            Self::Unwinding => "UNWINDING",
            Self::PointOfNoReturn => "POINT_OF_NO_RETURN",
            Self::NoApprovalNeeded => "NO_APPROVAL_NEEDED",
            Self::NothingFailed => "NOTHING_FAILED",
            Self::NotUnwound => "NOT_UNWOUND",
            Self::StepRequired => "STEP_REQUIRED",
            Self::ReasonNeeded => "REASON_NEEDED",
            Self::NeedsAttention => "NEEDS_ATTENTION",
            Self::Superseded => "SUPERSEDED",
        }
    }

    const fn because(self) -> &'static str {
        match self {
            Self::Ended => "it has ended",
            Self::NotPaused => "it is not paused, and no pause was asked for",
            Self::AlreadyPaused => "it is paused, or will be before its next step",
            Self::Unwinding => "its steps are being taken back",
            Self::PointOfNoReturn => "it has passed its point of no return",
            Self::NoApprovalNeeded => "it does not wait for an approval",
            Self::NothingFailed => "nothing failed that waits for a decision",
            Self::NotUnwound => "its steps are not being taken back",
            Self::StepRequired => "what failed protects data, and cannot be left out",
            Self::ReasonNeeded => "a step is skipped for a reason, which is recorded: say it",
            Self::NeedsAttention => "a step failed and waits for a decision",
            Self::Superseded => "another job took its place: ask that one",
        }
    }
}

/// A refusal. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    pub asked: &'static str,
    pub at: JobState,
    pub why: Refusal,
    /// What may be asked instead.
    pub instead: Vec<&'static str>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not possible while the job is {}: {}; ", self.asked, self.at, self.why.because())?;
        match self.instead.as_slice() {
            [] => f.write_str("nothing can be asked of it now"),
            some => write!(f, "possible now: {}", some.join(", ")),
        }
    }
}

impl std::error::Error for Denied {}

/// The job as it is after that was asked of it.
///
/// # Errors
/// [`Denied`].
pub fn ask(job: &Job, asked: &Ask, by: &str) -> Result<Job, Denied> {
    decide(job, asked, by).map_err(|why| Denied {
        asked: asked.as_str(),
        at: job.state,
        why,
        instead: allowed(job),
    })
}

/// What [`ask`] would take now.
pub fn allowed(job: &Job) -> Vec<&'static str> {
    let some = || "(why)".to_owned();
    let all = [
        Ask::Pause,
        Ask::Resume,
        Ask::Cancel,
        Ask::Approve,
        Ask::Retry,
        Ask::Skip { why: some() },
        Ask::RollForward,
    ];
    all.iter().filter(|asked| decide(job, asked, "").is_ok()).map(Ask::as_str).collect()
}

fn decide(job: &Job, asked: &Ask, by: &str) -> Result<Job, Refusal> {
    if job.state.ended() {
        return Err(Refusal::Ended);
    }
    if job.superseded.is_some() {
        return Err(Refusal::Superseded);
    }
    match asked {
        Ask::Pause => match job.state {
            JobState::Queued | JobState::Running if job.wish.is_none() => Ok(wishing(job, Some(Wish::Pause))),
            JobState::AwaitingApproval => Ok(to(job, JobState::Paused)),
            JobState::Queued | JobState::Running if job.wish == Some(Wish::Cancel) => Err(Refusal::Unwinding),
            JobState::Queued | JobState::Running | JobState::Paused => Err(Refusal::AlreadyPaused),
            JobState::Unwinding => Err(Refusal::Unwinding),
            JobState::NeedsAttention => Err(Refusal::NeedsAttention),
            JobState::Succeeded | JobState::RolledBack => Err(Refusal::Ended),
        },
        Ask::Resume => match (job.state, job.wish) {
            (JobState::Paused, _) => Ok(to(&wishing(job, None), JobState::Queued)),
            (JobState::Queued | JobState::Running, Some(Wish::Pause)) => Ok(wishing(job, None)),
            _ => Err(Refusal::NotPaused),
        },
        Ask::Cancel => {
            if job.is_past_no_return() {
                return Err(Refusal::PointOfNoReturn);
            }
            match job.state {
                JobState::Queued | JobState::Running => match job.wish {
                    Some(Wish::Cancel) => Err(Refusal::Unwinding),
                    Some(Wish::Pause) | None => {
                        Ok(Job { error: Some(cancelled(by)), ..wishing(job, Some(Wish::Cancel)) })
                    }
                },
                JobState::AwaitingApproval | JobState::Paused => {
                    let job = wishing(job, None);
                    Ok(Job { error: Some(cancelled(by)), ..to(&job, JobState::Unwinding) })
                }
                JobState::NeedsAttention if troubled_undo(job).is_none() => {
                    Ok(to(&wishing(job, None), JobState::Unwinding))
                }
                JobState::NeedsAttention | JobState::Unwinding => Err(Refusal::Unwinding),
                JobState::Succeeded | JobState::RolledBack => Err(Refusal::Ended),
            }
        }
        Ask::Approve => {
            if job.state != JobState::AwaitingApproval {
                return Err(Refusal::NoApprovalNeeded);
            }
            let waits = |s: &Step| {
                s.plan.gate && !s.approved && !matches!(s.state, StepState::Done | StepState::Skipped)
            };
            let at = job.steps.iter().position(waits).ok_or(Refusal::NoApprovalNeeded)?;
            let mut job = to(job, JobState::Queued);
            job.steps[at].approved = true;
            Ok(job)
        }
        Ask::Retry => on_trouble(job, |step| {
            step.attempts = 0;
            step.undo_attempts = 0;
            match step.state {
                StepState::Failed => {
                    (step.state, step.started_at, step.ended_at) = (StepState::Pending, None, None)
                }
                StepState::UndoFailed => step.state = StepState::UndoStarted,
                // In doubt: it is looked up.
                StepState::Pending
                | StepState::Started
                | StepState::Done
                | StepState::UndoStarted
                | StepState::Undone
                | StepState::Skipped => {}
            }
        }),
        Ask::Skip { why } if why.trim().is_empty() => Err(Refusal::ReasonNeeded),
        Ask::Skip { why } => {
            if job.state == JobState::NeedsAttention && trouble(job).is_none() {
                return Err(Refusal::NothingFailed);
            }
            // Leaving out an undo leaves something behind; it damages nothing.
            let needed = |s: &Step| s.plan.required && s.state != StepState::UndoFailed;
            if trouble(job).is_some_and(|at| needed(&job.steps[at])) {
                return Err(Refusal::StepRequired);
            }
            on_trouble(job, |step| {
                step.state = StepState::Skipped;
                step.skipped = Some(format!("{by}: {}", why.trim()));
            })
        }
        Ask::RollForward => {
            if job.state != JobState::NeedsAttention || troubled_undo(job).is_none() {
                return Err(Refusal::NotUnwound);
            }
            let mut job = to(&Job { wish: None, error: None, ..job.clone() }, JobState::Queued);
            for step in &mut job.steps {
                match step.state {
                    StepState::Undone | StepState::Failed => {
                        (step.state, step.attempts, step.undo_attempts) = (StepState::Pending, 0, 0);
                        (step.output, step.error) = (None, None);
                    }
                    // Skipped on the way forward: it stays so.
                    StepState::Skipped if step.undo_attempts == 0 => {}
                    // What is there of it is to be looked up.
                    StepState::UndoStarted | StepState::UndoFailed | StepState::Skipped => {
                        (step.state, step.attempts, step.undo_attempts) = (StepState::Started, 0, 0);
                        (step.output, step.skipped) = (None, None);
                    }
                    StepState::Pending | StepState::Started | StepState::Done => {}
                }
            }
            Ok(job)
        }
    }
}

/// The step that a job needs attention for.
fn trouble(job: &Job) -> Option<usize> {
    let troubled = |s: &Step| match s.state {
        StepState::Failed | StepState::Started | StepState::UndoStarted => true,
        // It could not be begun.
        StepState::Pending | StepState::Undone => s.error.is_some(),
        StepState::Done | StepState::UndoFailed | StepState::Skipped => false,
    };
    troubled_undo(job).or_else(|| job.steps.iter().position(troubled))
}

fn troubled_undo(job: &Job) -> Option<usize> {
    job.steps.iter().position(|s| s.state == StepState::UndoFailed)
}

fn on_trouble(job: &Job, change: impl FnOnce(&mut Step)) -> Result<Job, Refusal> {
    if job.state != JobState::NeedsAttention {
        return Err(Refusal::NothingFailed);
    }
    let at = trouble(job);
    let undoing = troubled_undo(job).is_some();
    let mut job = to(job, if undoing { JobState::Unwinding } else { JobState::Queued });
    if !undoing {
        job.error = None;
    }
    if let Some(at) = at {
        change(&mut job.steps[at]);
    }
    Ok(job)
}

fn wishing(job: &Job, wish: Option<Wish>) -> Job {
    Job { wish, ..job.clone() }
}

fn to(job: &Job, state: JobState) -> Job {
    Job { state, ..job.clone() }
}

fn cancelled(by: &str) -> Failure {
    Failure { reason: "CANCELLED".to_owned(), message: format!("cancelled by {by}") }
}
