//! Refusals: why not, and what instead.

use super::table::Input;
use super::words::{Action, Position};
use std::fmt;

/// An input that the table refuses. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// What was asked or reported.
    pub asked: Input,
    /// Where the migration is; `None`: the VM has no unfinished migration.
    pub at: Option<Position>,
    /// Why not.
    pub why: Refusal,
    /// The actions that are allowed now.
    pub instead: Vec<Action>,
}

/// Why an input is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The VM has no unfinished migration.
    NotProtected,
    /// `begin` or `automatic` although the VM is protected.
    AlreadyProtected,
    /// The migration is history.
    Ended,
    /// The volumes are not made yet, or making them failed.
    NotPrepared,
    /// Work is going on that must end first.
    Busy,
    /// `pause` although no cycle runs.
    NothingToPause,
    /// No restore point to start a switch from.
    NoCommittedCycle,
    /// The switch has passed the point up to which it can be given up.
    PointOfNoReturn,
    /// `rollback` or `finalize` without a switch.
    NotSwitched,
    /// The VM is on the target: finalize or roll back first.
    Switched,
    /// The switch failed: roll it back first.
    SwitchFailed,
    /// Work that must be carried through failed: only the same action again.
    MustRepeat,
    /// `automatic` starts cycles by itself, which a hold forbids.
    Held,
    /// No target is configured that could run the VM.
    NoTarget,
    /// The position has no work that could report this.
    UnexpectedEvent,
}

impl Refusal {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::NotProtected,
        Self::AlreadyProtected,
        Self::Ended,
        Self::NotPrepared,
        Self::Busy,
        Self::NothingToPause,
        Self::NoCommittedCycle,
        Self::PointOfNoReturn,
        Self::NotSwitched,
        Self::Switched,
        Self::SwitchFailed,
        Self::MustRepeat,
        Self::Held,
        Self::NoTarget,
        Self::UnexpectedEvent,
    ];

    /// For `google.rpc.ErrorInfo` and the REST error codes.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotProtected => "NOT_PROTECTED",
            Self::AlreadyProtected => "ALREADY_PROTECTED",
            Self::Ended => "MIGRATION_ENDED",
            Self::NotPrepared => "NOT_PREPARED",
            Self::Busy => "BUSY",
            Self::NothingToPause => "NOTHING_TO_PAUSE",
            Self::NoCommittedCycle => "NO_COMMITTED_CYCLE",
            Self::PointOfNoReturn => "POINT_OF_NO_RETURN",
            Self::NotSwitched => "NOT_SWITCHED",
            Self::Switched => "SWITCHED",
            Self::SwitchFailed => "SWITCH_FAILED",
            Self::MustRepeat => "MUST_REPEAT",
            Self::Held => "HELD",
            Self::NoTarget => "NO_TARGET",
            Self::UnexpectedEvent => "UNEXPECTED_EVENT",
        }
    }

    /// The cause in words, to follow "because".
    const fn because(self) -> &'static str {
        match self {
            Self::NotProtected => "this VM has no unfinished migration",
            Self::AlreadyProtected => "this VM is protected already",
            Self::Ended => "it is history; begin protects the VM anew",
            Self::NotPrepared => "its replica is not prepared",
            Self::Busy => "work is going on that must end first (a cycle that runs can be paused)",
            Self::NothingToPause => "no cycle is running",
            Self::NoCommittedCycle => {
                "no cycle has been committed, so there is no restore point to start from"
            }
            Self::PointOfNoReturn => {
                "the switch has passed its point of no return: once it has ended, take it back with `migratekit failover rollback`, or keep it with `migratekit failover commit`"
            }
            Self::NotSwitched => "the VM has not been switched",
            Self::Switched => "the VM runs on the target",
            Self::SwitchFailed => "the switch failed and must be taken back first",
            Self::MustRepeat => "what failed must be carried through",
            Self::Held => "a hold keeps cycles from starting by themselves",
            Self::NoTarget => "it needs a target that can run machines, and none is configured",
            Self::UnexpectedEvent => "nothing runs there that could report it",
        }
    }
}

impl Denied {
    /// Upper snake case, for `google.rpc.ErrorInfo`.
    pub const fn reason(&self) -> &'static str {
        self.why.reason()
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{} is not possible while the migration is {at}", self.asked)?,
            None => write!(f, "{} is not possible", self.asked)?,
        }
        write!(f, ": {}; ", self.why.because())?;
        match self.instead.split_first() {
            None => f.write_str("nothing can be asked of it now"),
            Some((first, rest)) => {
                write!(f, "possible now: {first}")?;
                rest.iter().try_for_each(|action| write!(f, ", {action}"))
            }
        }
    }
}

impl std::error::Error for Denied {}
