//! What a step does to another system, behind one trait.

use super::lease::Lease;
use super::record::{Job, Step};
use crate::store::Failure;
use serde_json::Value;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How an effect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is known not to have happened, and may succeed later.
    Transient,
    /// It is known not to have happened as a whole, and will not.
    Permanent,
    /// It may have happened: the answer was lost.
    Unknown,
    /// This driver has to stop: its lease ran out. Another one goes on.
    Stopped,
}

/// A failure of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: Kind,
    pub failure: Failure,
}

impl Problem {
    /// `code`: upper snake case, as the API shows it.
    pub fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        Self { kind, failure: Failure { reason: code.to_owned(), message: message.into() } }
    }

    pub(super) fn stopped() -> Self {
        Self::new(Kind::Stopped, "LEASE_LOST", "another control plane may have taken the job over")
    }
}

/// What an effect is given.
pub struct Turn<'a> {
    pub job: &'a Job,
    pub step: &'a Step,
    /// What [`Effect::name`] gave before the effect was begun.
    pub(super) name: String,
    pub(super) lease: &'a Lease,
    pub(super) stop: &'a CancellationToken,
}

impl Turn<'_> {
    /// Call it before each remote call.
    ///
    /// # Errors
    /// [`Kind::Stopped`]: return it.
    pub fn check(&self) -> Result<(), Problem> {
        if self.lease.is_held() { Ok(()) } else { Err(Problem::stopped()) }
    }

    /// Cancelled when somebody asks for the job's end: an effect that waits for something returns then, with a
    /// [`Kind::Permanent`] failure.
    pub fn stop(&self) -> &CancellationToken {
        self.stop
    }

    /// The effect's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One effect on another system. Its calls have deadlines; each of its methods may be called any number of times.
#[async_trait::async_trait]
pub trait Effect: Send + Sync {
    /// The name or key under which the effect will be found, from the job alone: the same at each call.
    fn name(&self, job: &Job) -> Option<String>;

    /// Whether the effect has happened as a whole, and then what it gave.
    ///
    /// # Errors
    /// Anything but [`Kind::Stopped`] is asked again later.
    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem>;

    /// Makes it happen.
    ///
    /// # Errors
    /// See [`Kind`].
    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem>;

    /// Takes it back, or what there is of it; nothing there is success.
    ///
    /// # Errors
    /// See [`Kind`]; [`Kind::Unknown`] is tried again as [`Kind::Transient`] is.
    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem>;
}

/// A kind of job: what its stored steps do.
pub trait Workflow: Send + Sync {
    fn kind(&self) -> &'static str;

    /// `None`: this program does not know a step of that name, or jobs of that version.
    fn effect(&self, job: &Job, step: &Step) -> Option<Arc<dyn Effect>>;
}
