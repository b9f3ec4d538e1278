//! What stands against a change of a resource, and what may be done then.

use super::error::Error;
use super::model::Unusable;
use super::name::Name;
use crate::outbound::Again;

/// What was wanted cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Linstor(#[from] Error),
    #[error(
        "resource {name} is there and not marked as MigrateKit's: it is left alone; use another name, or look whose it is"
    )]
    NotOurs { name: Name },
    #[error("resource {name} is there with {have} bytes, not {need}")]
    OtherSize { name: Name, have: u64, need: u64 },
    #[error("resource {name} is being deleted: a node that is off keeps its name until it is back")]
    BeingDeleted { name: Name },
    #[error("resource {name} cannot be used")]
    Unusable {
        name: Name,
        #[source]
        source: Unusable,
    },
    #[error(
        "there is no resource group {group}: name one of `linstor resource-group list` in the configuration"
    )]
    NoGroup { group: Name },
    #[error("there is no resource {name}")]
    NoResource { name: Name },
    #[error("resource {name} is there already")]
    Exists { name: Name },
    #[error("there is no whole snapshot {snapshot} of resource {name}")]
    NoSnapshot { name: Name, snapshot: Name },
    #[error(
        "no node says how much room the pools of resource group {group} have: are their satellites online?"
    )]
    NoCapacity { group: Name },
    #[error(
        "snapshot {snapshot} of resource {name} lies on node {node}, which is not online: deleted now, its blocks would stay taken there \
         for ever; bring the node back, or have LINSTOR forget it (`linstor node lost`)"
    )]
    NodeOff { name: Name, snapshot: Name, node: String },
    #[error(
        "resource {name} is being reset to a snapshot of it, or that failed: nothing of it may be deleted but all"
    )]
    BeingReset { name: Name },
    #[error("snapshot {snapshot} of resource {name} was not made whole: it was removed, try again")]
    HalfSnapshot { name: Name, snapshot: Name },
}

impl Fault {
    /// Whether LINSTOR is away, and nothing else is wrong that would be known.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Linstor(error) if error.is_silence())
    }

    /// What may be done next.
    pub fn again(&self) -> Again {
        match self {
            Self::Linstor(error) => error.again(),
            Self::NoCapacity { .. }
            | Self::BeingDeleted { .. }
            | Self::Unusable { .. }
            | Self::NodeOff { .. }
            | Self::BeingReset { .. }
            | Self::HalfSnapshot { .. } => Again::Later,
            Self::NotOurs { .. }
            | Self::OtherSize { .. }
            | Self::NoGroup { .. }
            | Self::NoResource { .. }
            | Self::Exists { .. }
            | Self::NoSnapshot { .. } => Again::Never,
        }
    }
}
