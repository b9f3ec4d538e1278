//! The words of the table and their one spelling, the same on the wire, in the database and for people.

use crate::words;
use std::fmt;

words!(
    /// What the migration is about.
    Phase, "phase", {
        /// Target volumes are made; no data yet.
        Begin = "begin",
        /// Cycles keep the replica near the source.
        Sync = "sync",
        /// The live failover.
        Switch = "switch",
        /// The protection is being given up for good after a switch.
        Finalize = "finalize",
        /// The protection is being given up, the VM stays at its source.
        Abort = "abort",
        /// A switch is being taken back.
        Rollback = "rollback",
    }
);

words!(
    /// How the phase is going.
    State, "state", {
        /// Work is going on, or is interrupted and goes on by itself.
        Running = "running",
        /// Nothing runs; waits for an action or the schedule.
        Paused = "paused",
        /// Ended with an error; waits for an action.
        Failed = "failed",
        /// The phase reached its goal.
        Successful = "successful",
        /// Given up; history.
        Aborted = "aborted",
    }
);

words!(
    /// What an operator can ask.
    Action, "action", {
        /// Protect a VM: make its replica's volumes.
        Begin = "begin",
        /// Run a cycle now.
        Sync = "sync",
        /// Move the VM to the target.
        Switch = "switch",
        /// Begin, sync until the downtime fits, switch.
        Automatic = "automatic",
        /// End the running cycle at a durable point.
        Pause = "pause",
        /// Start no cycle by itself.
        Hold = "hold",
        /// Take a hold back.
        Release = "release",
        /// Give the protection up and delete the replica.
        Abort = "abort",
        /// Keep the VM on the target for good.
        Finalize = "finalize",
        /// Take a switch back.
        Rollback = "rollback",
    }
);

words!(
    /// What the system reports about the work of a running phase.
    Event, "event", {
        /// The work was taken up.
        Started = "started",
        /// It came further.
        Progressed = "progressed",
        /// A cycle was committed.
        CycleCommitted = "cycle_committed",
        /// Nobody works on it (a crash, a cut); it goes on by itself.
        Interrupted = "interrupted",
        /// It ended with an error.
        Failed = "failed",
        /// It ended as it should; for a running sync that was asked to pause: it stopped at a durable point.
        Done = "done",
    }
);

/// A phase and a state that never come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a migration is never {phase}/{state}")]
pub struct Impossible {
    /// The phase asked about.
    pub phase: Phase,
    /// The state asked about.
    pub state: State,
}

macro_rules! positions {
    ($($(#[$doc:meta])* $name:ident = $phase:ident / $state:ident,)*) => {
        /// A phase with a state it can have: what cannot be has no value here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Position { $($(#[$doc])* $name,)* }

        impl Position {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The phase alone.
            pub const fn phase(self) -> Phase {
                match self { $(Self::$name => Phase::$phase,)* }
            }

            /// The state alone.
            pub const fn state(self) -> State {
                match self { $(Self::$name => State::$state,)* }
            }

            /// The position of a pair as it stands in a row or a message.
            pub fn of(phase: Phase, state: State) -> Result<Self, Impossible> {
                Self::ALL.iter().copied().find(|p| p.phase() == phase && p.state() == state).ok_or(Impossible { phase, state })
            }
        }
    };
}

positions! {
    /// Volumes are being made.
    BeginRunning = Begin / Running,
    /// Prepared; no cycle yet.
    BeginPaused = Begin / Paused,
    /// Preparing failed.
    BeginFailed = Begin / Failed,
    /// A cycle runs.
    SyncRunning = Sync / Running,
    /// Between cycles.
    SyncPaused = Sync / Paused,
    /// The last cycle failed.
    SyncFailed = Sync / Failed,
    /// The live failover runs.
    SwitchRunning = Switch / Running,
    /// The VM runs on the target.
    SwitchSuccessful = Switch / Successful,
    /// The live failover failed.
    SwitchFailed = Switch / Failed,
    /// The switch is being taken back.
    RollbackRunning = Rollback / Running,
    /// Taking it back failed.
    RollbackFailed = Rollback / Failed,
    /// Source and replica are being let go.
    FinalizeRunning = Finalize / Running,
    /// Letting go failed.
    FinalizeFailed = Finalize / Failed,
    /// History: moved.
    FinalizeSuccessful = Finalize / Successful,
    /// Cycle, volumes and source snapshots are being removed.
    AbortRunning = Abort / Running,
    /// Removing failed.
    AbortFailed = Abort / Failed,
    /// History: given up.
    AbortAborted = Abort / Aborted,
}

impl Position {
    /// The migration is history: nothing changes it any more, and its VM may be protected anew.
    pub const fn ended(self) -> bool {
        matches!(self, Self::FinalizeSuccessful | Self::AbortAborted)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.phase(), self.state())
    }
}
