//! A job and its steps as they stand in the journal.

use super::words::{JobState, StepState, Wish};
use crate::store::Failure;
use jiff::Timestamp;
use serde_json::Value;
use std::fmt;

/// Names a job: at most 70 of `a-z 0-9 -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkflowId(String);

impl WorkflowId {
    /// # Errors
    /// What an id looks like.
    pub fn parse(text: impl Into<String>) -> Result<Self, &'static str> {
        let text = text.into();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match !text.is_empty() && text.len() <= 70 && text.chars().all(plain) {
            true => Ok(Self(text)),
            false => Err("expected 1 to 70 of a-z 0-9 -"),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for WorkflowId {
    type Err = &'static str;
    fn from_str(s: &str) -> Result<Self, &'static str> {
        Self::parse(s)
    }
}

/// Whose a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// `None`: nobody's.
    pub owner: Option<String>,
    /// Grows with each owner; never used twice.
    pub epoch: u64,
    /// Grows while the owner lives.
    pub beat: u64,
}

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub id: WorkflowId,
    /// Which workflow it is one of, and of which version its steps are.
    pub kind: String,
    pub version: u64,
    /// What it is about, as a migration's id; empty for none.
    pub subject: String,
    /// What it was made with; never changes.
    pub params: Value,
    /// Of the request that asked for it.
    pub correlation: String,
    pub state: JobState,
    pub wish: Option<Wish>,
    /// Why it is taken back, or needs attention.
    pub error: Option<Failure>,
    /// The job that took its place while it waited for a decision.
    pub superseded: Option<WorkflowId>,
    /// Grows with each change.
    pub generation: u64,
    pub held: Held,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// In the order in which they are taken.
    pub steps: Vec<Step>,
}

/// A step of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub plan: NewStep,
    pub state: StepState,
    /// Times that it was begun, and that taking it back was, since somebody last asked for a retry.
    pub attempts: u64,
    pub undo_attempts: u64,
    /// Where it is a gate: it may be taken.
    pub approved: bool,
    /// The name or key under which its effect is found; decided before it happens.
    pub effect: Option<String>,
    /// What it gave, for the steps after it.
    pub output: Option<Value>,
    /// Of its last attempt.
    pub error: Option<Failure>,
    /// Who skipped it, and why.
    pub skipped: Option<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// A step that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStep {
    /// The public step that it is a part of.
    pub group: String,
    /// Unique in its job.
    pub name: String,
    /// Somebody has to approve it.
    pub gate: bool,
    /// From here on nothing is taken back by itself.
    pub no_return: bool,
    /// Nobody may skip it: a rule that keeps data hangs on it.
    pub required: bool,
}

impl NewStep {
    pub fn new(group: &str, name: impl Into<String>) -> Self {
        Self { group: group.to_owned(), name: name.into(), gate: false, no_return: false, required: false }
    }

    pub fn gate(self) -> Self {
        Self { gate: true, ..self }
    }

    pub fn no_return(self) -> Self {
        Self { no_return: true, ..self }
    }

    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

/// A job that is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    pub id: WorkflowId,
    pub kind: String,
    pub version: u64,
    pub subject: String,
    pub params: Value,
    pub correlation: String,
    pub steps: Vec<NewStep>,
}

impl Job {
    /// What a step gave; `None` until it is done.
    pub fn output(&self, name: &str) -> Option<&Value> {
        self.steps.iter().find(|s| s.plan.name == name).and_then(|s| s.output.as_ref())
    }

    /// The steps are not taken back by themselves any more: one of no return may have happened.
    pub fn is_past_no_return(&self) -> bool {
        let may_have = |state| match state {
            StepState::Started
            | StepState::Done
            | StepState::Skipped
            | StepState::UndoStarted
            | StepState::UndoFailed => true,
            // It is known that nothing has: see `drive`.
            StepState::Pending | StepState::Failed | StepState::Undone => false,
        };
        self.steps.iter().any(|s| s.plan.no_return && may_have(s.state))
    }
}
