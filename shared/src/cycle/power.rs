//! Orders about a VM's power at its source, and how they come out.

use crate::ids::{MigrationId, VmUuid};
use crate::vm::Power;
use std::time::Duration;

/// Carried out once per connection, and answered by a [`PowerReport`]; another id is another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerOrder {
    /// Of the order, as the control plane names it; never empty.
    pub id: String,
    pub wish: PowerWish,
    /// How long the guest may take to power itself off.
    pub graceful: Duration,
    /// After that its power is cut.
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerWish {
    Off,
    On,
    /// Say how it is, change nothing.
    Report,
}

/// How an order came out. May be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerReport {
    pub vm: VmUuid,
    pub migration: MigrationId,
    /// The order's id.
    pub order: String,
    /// As last looked at. Only [`Power::Off`] is off.
    pub state: Power,
    /// What brought it there; `None` where nothing did.
    pub how: Option<How>,
    /// Why the order was not carried out; `None`: it was.
    pub failure: Option<PowerFailure>,
}

/// What brought a VM to the power that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was there when the order came.
    Already,
    /// The guest powered itself off, or its power was switched on.
    Graceful,
    /// Its power was cut.
    Forced,
}

impl How {
    pub const ALL: [Self; 3] = [Self::Already, Self::Graceful, Self::Forced];

    /// As the wire, the journal and logs say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Already => "already",
            Self::Graceful => "graceful",
            Self::Forced => "forced",
        }
    }

    /// `None`: no word, or a newer peer's. What counts is the state that is told with it.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|how| how.as_str() == word)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerFailure {
    /// Machine-readable, upper snake case; never empty.
    pub reason: String,
    /// For a person: what happened and what to do.
    pub message: String,
}
