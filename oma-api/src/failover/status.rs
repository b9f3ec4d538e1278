//! How the failover API's document calls the states of a job: the one table. The view `failover_jobs` says the same in SQL.

use crate::workflow::{Job, JobState, Step, StepState};
use shared::words;

/// The public step with which every failover begins.
pub const VALIDATION: &str = "validation";

words!(
    /// Where a job, or a public step of it, is for who asks the API.
    Status, "status of a failover job", {
        Pending = "pending",
        Validating = "validating",
        Executing = "executing",
        Completed = "completed",
        Failed = "failed",
    }
);

impl Status {
    pub fn of(job: &Job) -> Self {
        match job.state {
            JobState::Queued => Self::Pending,
            JobState::Succeeded => Self::Completed,
            // It does not go on by itself: whoever waits for the end has it.
            JobState::RolledBack | JobState::NeedsAttention => Self::Failed,
            JobState::Unwinding => Self::Executing,
            JobState::Running | JobState::AwaitingApproval | JobState::Paused => {
                let open = |s: &&Step| {
                    s.plan.group == VALIDATION && !matches!(s.state, StepState::Done | StepState::Skipped)
                };
                match job.steps.iter().find(open) {
                    Some(_) => Self::Validating,
                    None => Self::Executing,
                }
            }
        }
    }
}

/// A public step: all of its parts together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicStep {
    pub name: String,
    pub status: Status,
    pub started_at: Option<jiff::Timestamp>,
    pub completed_at: Option<jiff::Timestamp>,
    /// Code and message of what failed.
    pub error: Option<crate::store::Failure>,
    /// Every part of it was left out.
    pub skipped: Option<String>,
    /// What its parts had done is taken back.
    pub taken_back: bool,
}

/// In their order; those that are left out from the start have no parts, and are not there.
pub fn public_steps(job: &Job) -> Vec<PublicStep> {
    let mut shown: Vec<PublicStep> = Vec::new();
    for group in job.steps.chunk_by(|a, b| a.plan.group == b.plan.group) {
        let all = |wanted: &[StepState]| group.iter().all(|s| wanted.contains(&s.state));
        let any = |wanted: &[StepState]| group.iter().any(|s| wanted.contains(&s.state));
        let undone = |s: &Step| matches!(s.state, StepState::Undone | StepState::UndoStarted);
        // What went well stays so when another's failure has it taken back.
        let went_well = |s: &Step| {
            matches!(s.state, StepState::Done | StepState::Skipped) || undone(s) && s.error.is_none()
        };
        let status = if group.iter().all(went_well) {
            Status::Completed
        } else if any(&[StepState::Failed, StepState::UndoFailed]) || group.iter().any(undone) {
            Status::Failed
        } else if all(&[StepState::Pending]) {
            Status::Pending
        } else {
            Status::Executing
        };
        let ended = matches!(status, Status::Completed | Status::Failed);
        shown.push(PublicStep {
            name: group[0].plan.group.clone(),
            status,
            started_at: group.iter().filter_map(|s| s.started_at).min(),
            completed_at: group.iter().filter_map(|s| s.ended_at).max().filter(|_| ended),
            error: group.iter().find_map(|s| s.error.clone()),
            skipped: group.iter().all(|s| s.skipped.is_some()).then(|| group[0].skipped.clone()).flatten(),
            taken_back: group.iter().any(undone),
        });
    }
    shown
}
