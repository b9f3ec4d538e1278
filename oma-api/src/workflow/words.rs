//! The engine's words, as they stand in the rows.

use shared::words;

words!(
    /// Where a job is.
    JobState, "state of a workflow job", {
        /// Waits for a driver.
        Queued = "queued",
        /// Its steps are taken.
        Running = "running",
        /// The next step is a gate: somebody has to approve it.
        AwaitingApproval = "awaiting_approval",
        /// Stopped between two steps.
        Paused = "paused",
        /// Its steps are taken back.
        Unwinding = "unwinding",
        /// Every step is done, or was skipped.
        Succeeded = "succeeded",
        /// Every step is taken back.
        RolledBack = "rolled_back",
        /// Nothing goes on by itself: retry, skip or roll forward.
        NeedsAttention = "needs_attention",
    }
);

words!(
    /// Where a step is.
    StepState, "state of a workflow step", {
        /// Nothing of it has happened.
        Pending = "pending",
        /// It may have happened, in part or whole.
        Started = "started",
        /// It has happened.
        Done = "done",
        /// It was given up; part of it may have happened.
        Failed = "failed",
        /// It may have been taken back, in part or whole.
        UndoStarted = "undo_started",
        /// It is taken back: nothing of it is there.
        Undone = "undone",
        /// Taking it back was given up; part of it may be there.
        UndoFailed = "undo_failed",
        /// An operator said to go on without it.
        Skipped = "skipped",
    }
);

words!(
    /// What somebody asked of a job that is being driven, until it is done.
    Wish, "wish", {
        /// Stop before the next step.
        Pause = "pause",
        /// Take everything back.
        Cancel = "cancel",
    }
);

impl JobState {
    /// The job is history.
    pub const fn ended(self) -> bool {
        match self {
            Self::Succeeded | Self::RolledBack => true,
            Self::Queued
            | Self::Running
            | Self::AwaitingApproval
            | Self::Paused
            | Self::Unwinding
            | Self::NeedsAttention => false,
        }
    }

    /// A driver has something to do for it.
    pub const fn at_work(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Unwinding => true,
            Self::AwaitingApproval
            | Self::Paused
            | Self::Succeeded
            | Self::RolledBack
            | Self::NeedsAttention => false,
        }
    }
}
