//! Jobs of several steps that touch other systems, and that a crash may meet anywhere: journalled, looked up, undone.
//!
//! ```text
//!  queued ─► running ─────────────────────────────────────────────► succeeded
//!    ▲ ▲       │  ▲ │ a gate                       all steps done
//!    │ │ pause │  │ └► awaiting_approval ── approve ─┐
//!    │ └ resume▼  └──────────────────────────────────┘
//!    │      paused
//!    │         │ a step failed, or cancel (never past the point of no return)
//!    │         ▼
//!    │     unwinding ── undo, backwards, the failed step's too ──► rolled_back
//!    │         │ an undo gave up; or a step failed past the point of no return
//!    └─────── needs_attention  (retry, skip, roll forward)
//! ```
//!
//! A step is one effect on another system. Before it happens the journal says `started`, with the name under which the
//! effect will be found; after a crash, and after an answer that was lost, it is looked up before it is repeated.
//! What happens next is decided by [`policy`], which is pure; [`drive`] carries it out and writes the journal;
//! [`engine`] gives every open job a driver, under a [`lease`] that says whose it is.
//!
//! It knows no product: what the steps do is behind [`Effect`], which steps a job has is stored when it is made.

pub mod drive;
mod effect;
pub mod engine;
pub mod lease;
pub mod policy;
mod record;
#[cfg(test)]
mod tests;
mod turn;
mod words;

pub use effect::{Effect, Kind, Problem, Turn, Workflow};
pub use engine::{Engine, Error, Options};
pub use policy::{Ask, Denied, Refusal};
pub use record::{Held, Job, NewJob, NewStep, Step, WorkflowId};
pub use words::{JobState, StepState, Wish};
