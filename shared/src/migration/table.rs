//! The table itself: every legal edge in one place.

use super::denied::{Denied, Refusal};
use super::words::{Action, Event, Position};
use std::fmt;

/// What the table needs to know besides the position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// At least one cycle has been committed: there is a restore point.
    pub has_committed: bool,
    /// A hold is on.
    pub held: bool,
    /// The switch has passed the point up to which it can be given up.
    pub past_no_return: bool,
    /// Its target can run machines.
    pub has_target: bool,
}

/// What moves a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Asked by an operator.
    Action(Action),
    /// Reported by the system.
    Event(Event),
}

impl From<Action> for Input {
    fn from(action: Action) -> Self {
        Self::Action(action)
    }
}

impl From<Event> for Input {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action(action) => f.write_str(action.as_str()),
            Self::Event(event) => write!(f, "the event {event}"),
        }
    }
}

/// What the caller has to see to. The position alone is enough to find it again after a crash, except for
/// [`StopCycle`](Self::StopCycle), [`Hold`](Self::Hold) and [`Release`](Self::Release), which the caller stores with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// Make the replica's volumes; ends in `done` or `failed`.
    Prepare,
    /// Run a cycle, or go on with the one that was paused; ends in `cycle_committed` or `failed`.
    RunCycle,
    /// Stop the running cycle at a durable point; ends in `done` (or, overtaken, in `cycle_committed`).
    StopCycle,
    /// Run the live failover.
    RunSwitch,
    /// Take the live failover back.
    RunRollback,
    /// Let source and replica go.
    RunFinalize,
    /// Stop a running cycle or switch, then remove the replica and what is ours at the source.
    TearDown,
    /// Keep the schedule away.
    Hold,
    /// Let the schedule in.
    Release,
}

/// Where an input leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Next {
    /// The new position; may be the old one.
    pub to: Position,
    /// What follows from it.
    pub effect: Effect,
}

/// Applies one input. `current` is `None` when the VM has no unfinished migration.
///
/// # Errors
/// [`Denied`] when the table has no such edge; it says what is allowed instead.
pub fn apply(current: Option<Position>, input: impl Into<Input>, facts: Facts) -> Result<Next, Denied> {
    let asked = input.into();
    let decided = match (asked, current) {
        (Input::Action(action), Some(at)) => on_action(at, action, facts),
        (Input::Action(action), None) => without_migration(action),
        (Input::Event(event), Some(at)) => on_event(at, event),
        (Input::Event(_), None) => Err(Refusal::NotProtected),
    };
    decided.map_err(|why| Denied { asked, at: current, why, instead: allowed(current, facts) })
}

/// The actions that [`apply`] would take now, in the order of their declaration.
pub fn allowed(current: Option<Position>, facts: Facts) -> Vec<Action> {
    let fits = |action: Action| match current {
        Some(at) => on_action(at, action, facts),
        None => without_migration(action),
    };
    Action::ALL.iter().copied().filter(|&action| fits(action).is_ok()).collect()
}

fn go(to: Position, effect: Effect) -> Result<Next, Refusal> {
    Ok(Next { to, effect })
}

/// What is done at the target, too.
fn on_target(facts: Facts, to: Position, effect: Effect) -> Result<Next, Refusal> {
    if facts.has_target { go(to, effect) } else { Err(Refusal::NoTarget) }
}

fn without_migration(action: Action) -> Result<Next, Refusal> {
    match action {
        Action::Begin | Action::Automatic => go(Position::BeginRunning, Effect::Prepare),
        Action::Sync
        | Action::Switch
        | Action::Pause
        | Action::Hold
        | Action::Release
        | Action::Abort
        | Action::Finalize
        | Action::Rollback => Err(Refusal::NotProtected),
    }
}

fn on_action(at: Position, action: Action, facts: Facts) -> Result<Next, Refusal> {
    use Position as P;
    match action {
        Action::Begin => match at {
            P::BeginFailed => go(P::BeginRunning, Effect::Prepare),
            P::FinalizeSuccessful | P::AbortAborted => Err(Refusal::Ended),
            P::BeginRunning
            | P::BeginPaused
            | P::SyncRunning
            | P::SyncPaused
            | P::SyncFailed
            | P::SwitchRunning
            | P::SwitchSuccessful
            | P::SwitchFailed
            | P::RollbackRunning
            | P::RollbackFailed
            | P::FinalizeRunning
            | P::FinalizeFailed
            | P::AbortRunning
            | P::AbortFailed => Err(Refusal::AlreadyProtected),
        },
        Action::Sync => match at {
            P::BeginPaused | P::SyncPaused | P::SyncFailed => go(P::SyncRunning, Effect::RunCycle),
            P::BeginRunning | P::BeginFailed => Err(Refusal::NotPrepared),
            P::SyncRunning
            | P::SwitchRunning
            | P::SwitchSuccessful
            | P::SwitchFailed
            | P::RollbackRunning
            | P::RollbackFailed
            | P::FinalizeRunning
            | P::FinalizeFailed
            | P::FinalizeSuccessful
            | P::AbortRunning
            | P::AbortFailed
            | P::AbortAborted => Err(in_the_way(at)),
        },
        Action::Automatic => match at {
            // A hold says that no cycle starts by itself, and that is all `automatic` does.
            P::BeginPaused | P::BeginFailed | P::SyncPaused | P::SyncFailed if facts.held => {
                Err(Refusal::Held)
            }
            P::BeginFailed => go(P::BeginRunning, Effect::Prepare),
            P::BeginPaused | P::SyncPaused | P::SyncFailed => go(P::SyncRunning, Effect::RunCycle),
            P::BeginRunning
            | P::SyncRunning
            | P::SwitchRunning
            | P::SwitchSuccessful
            | P::SwitchFailed
            | P::RollbackRunning
            | P::RollbackFailed
            | P::FinalizeRunning
            | P::FinalizeFailed
            | P::FinalizeSuccessful
            | P::AbortRunning
            | P::AbortFailed
            | P::AbortAborted => Err(in_the_way(at)),
        },
        Action::Pause => match at {
            // Stays running until the cycle has stopped at a durable point (`done`).
            P::SyncRunning => go(P::SyncRunning, Effect::StopCycle),
            P::FinalizeSuccessful | P::AbortAborted => Err(Refusal::Ended),
            P::BeginRunning
            | P::BeginPaused
            | P::BeginFailed
            | P::SyncPaused
            | P::SyncFailed
            | P::SwitchRunning
            | P::SwitchSuccessful
            | P::SwitchFailed
            | P::RollbackRunning
            | P::RollbackFailed
            | P::FinalizeRunning
            | P::FinalizeFailed
            | P::AbortRunning
            | P::AbortFailed => Err(Refusal::NothingToPause),
        },
        Action::Hold if at.ended() => Err(Refusal::Ended),
        Action::Hold => go(at, Effect::Hold),
        Action::Release if at.ended() => Err(Refusal::Ended),
        Action::Release => go(at, Effect::Release),
        Action::Switch => match at {
            P::BeginPaused | P::BeginFailed | P::SyncPaused | P::SyncFailed if !facts.has_committed => {
                Err(Refusal::NoCommittedCycle)
            }
            P::BeginPaused | P::BeginFailed | P::SyncPaused | P::SyncFailed => {
                on_target(facts, P::SwitchRunning, Effect::RunSwitch)
            }
            P::BeginRunning
            | P::SyncRunning
            | P::SwitchRunning
            | P::SwitchSuccessful
            | P::SwitchFailed
            | P::RollbackRunning
            | P::RollbackFailed
            | P::FinalizeRunning
            | P::FinalizeFailed
            | P::FinalizeSuccessful
            | P::AbortRunning
            | P::AbortFailed
            | P::AbortAborted => Err(in_the_way(at)),
        },
        Action::Rollback => match at {
            P::SwitchSuccessful | P::SwitchFailed | P::RollbackFailed => {
                on_target(facts, P::RollbackRunning, Effect::RunRollback)
            }
            P::BeginRunning
            | P::BeginPaused
            | P::BeginFailed
            | P::SyncRunning
            | P::SyncPaused
            | P::SyncFailed => Err(Refusal::NotSwitched),
            P::SwitchRunning
            | P::RollbackRunning
            | P::FinalizeRunning
            | P::FinalizeFailed
            | P::FinalizeSuccessful
            | P::AbortRunning
            | P::AbortFailed
            | P::AbortAborted => Err(in_the_way(at)),
        },
        Action::Abort => match at {
            // Past the point of no return the VM may have run on the target: what it wrote there would go
            // with the abort. A rollback keeps it, and leads to where abort is allowed.
            P::SwitchRunning | P::SwitchFailed if facts.past_no_return => Err(Refusal::PointOfNoReturn),
            P::BeginRunning
            | P::BeginPaused
            | P::BeginFailed
            | P::SyncRunning
            | P::SyncPaused
            | P::SyncFailed
            | P::SwitchRunning
            | P::SwitchFailed
            | P::AbortFailed => go(P::AbortRunning, Effect::TearDown),
            P::SwitchSuccessful
            | P::RollbackRunning
            | P::RollbackFailed
            | P::FinalizeRunning
            | P::FinalizeFailed
            | P::FinalizeSuccessful
            | P::AbortRunning
            | P::AbortAborted => Err(in_the_way(at)),
        },
        Action::Finalize => match at {
            P::SwitchSuccessful | P::FinalizeFailed => {
                on_target(facts, P::FinalizeRunning, Effect::RunFinalize)
            }
            P::BeginRunning
            | P::BeginPaused
            | P::BeginFailed
            | P::SyncRunning
            | P::SyncPaused
            | P::SyncFailed => Err(Refusal::NotSwitched),
            P::SwitchRunning
            | P::SwitchFailed
            | P::RollbackRunning
            | P::RollbackFailed
            | P::FinalizeRunning
            | P::FinalizeSuccessful
            | P::AbortRunning
            | P::AbortFailed
            | P::AbortAborted => Err(in_the_way(at)),
        },
    }
}

/// Why an action that would need a quiet migration cannot be had here.
fn in_the_way(at: Position) -> Refusal {
    use Position as P;
    match at {
        P::BeginRunning
        | P::SyncRunning
        | P::SwitchRunning
        | P::RollbackRunning
        | P::FinalizeRunning
        | P::AbortRunning => Refusal::Busy,
        P::SwitchSuccessful => Refusal::Switched,
        P::SwitchFailed => Refusal::SwitchFailed,
        P::RollbackFailed | P::FinalizeFailed | P::AbortFailed => Refusal::MustRepeat,
        P::FinalizeSuccessful | P::AbortAborted => Refusal::Ended,
        P::BeginPaused | P::BeginFailed | P::SyncPaused | P::SyncFailed => Refusal::AlreadyProtected,
    }
}

fn on_event(at: Position, event: Event) -> Result<Next, Refusal> {
    use Position as P;
    let to = match at {
        P::BeginRunning => match event {
            Event::Started | Event::Progressed | Event::Interrupted => at,
            Event::Done => P::BeginPaused,
            Event::Failed => P::BeginFailed,
            Event::CycleCommitted => return Err(Refusal::UnexpectedEvent),
        },
        P::SyncRunning => match event {
            Event::Started | Event::Progressed | Event::Interrupted => at,
            // `done` without a commit: stopped at a durable point, as `pause` asked.
            Event::CycleCommitted | Event::Done => P::SyncPaused,
            Event::Failed => P::SyncFailed,
        },
        P::SwitchRunning => match event {
            // The final cycles of a switch commit under it.
            Event::Started | Event::Progressed | Event::Interrupted | Event::CycleCommitted => at,
            Event::Done => P::SwitchSuccessful,
            Event::Failed => P::SwitchFailed,
        },
        P::RollbackRunning => match event {
            Event::Started | Event::Progressed | Event::Interrupted => at,
            Event::Done => P::SyncPaused,
            Event::Failed => P::RollbackFailed,
            Event::CycleCommitted => return Err(Refusal::UnexpectedEvent),
        },
        P::FinalizeRunning => match event {
            Event::Started | Event::Progressed | Event::Interrupted => at,
            Event::Done => P::FinalizeSuccessful,
            Event::Failed => P::FinalizeFailed,
            Event::CycleCommitted => return Err(Refusal::UnexpectedEvent),
        },
        P::AbortRunning => match event {
            Event::Started | Event::Progressed | Event::Interrupted => at,
            Event::Done => P::AbortAborted,
            Event::Failed => P::AbortFailed,
            // The abort came first: a cycle that ends now must not make a restore point any more.
            Event::CycleCommitted => return Err(Refusal::UnexpectedEvent),
        },
        // Somebody had what failed tried again.
        P::SwitchFailed if event == Event::Started => P::SwitchRunning,
        P::RollbackFailed if event == Event::Started => P::RollbackRunning,
        P::BeginPaused
        | P::BeginFailed
        | P::SyncPaused
        | P::SyncFailed
        | P::SwitchSuccessful
        | P::SwitchFailed
        | P::RollbackFailed
        | P::FinalizeFailed
        | P::FinalizeSuccessful
        | P::AbortFailed
        | P::AbortAborted => return Err(Refusal::UnexpectedEvent),
    };
    go(to, Effect::Nothing)
}
