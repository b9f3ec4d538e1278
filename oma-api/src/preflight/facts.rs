//! What the rules look at.

use crate::storage::PointCost;
use shared::cycle::Vm;
use shared::ids::{AgentId, MigrationId, ProfileName, VmUuid};
use shared::migration::Position;
use shared::profile::{MacPolicy, Settings};
use shared::vm::Configuration;

/// All that is known when somebody asks.
#[derive(Clone, Debug)]
pub struct Facts {
    /// As its agent told it last.
    pub vm: Vm,
    pub agent: Agent,
    /// The migration that this VM has already.
    pub unfinished: Option<Unfinished>,
    /// Volumes on the target that say they are this VM's, and that no migration knows.
    pub left: Vec<String>,
    pub space: Space,
    pub target: Target,
    /// By which it would be made.
    pub profile: Option<Profile>,
    /// Other VMs, of all agents' inventories and of all migrations whose VM is, or will be, on the target.
    pub others: Vec<Other>,
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub id: AgentId,
    pub link: Link,
    pub protocol_version: u32,
    pub software_version: String,
    /// The control plane's.
    pub our_version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    Connected {
        /// Of the agent, as it said them.
        capabilities: Vec<String>,
    },
    Away,
}

#[derive(Clone, Debug)]
pub struct Unfinished {
    pub id: MigrationId,
    pub position: Position,
}

/// What replicas share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Space {
    Known {
        free: u64,
        total: u64,
        cost: PointCost,
        /// Restore points that a migration keeps.
        points: u64,
        /// Of migrations that have begun and whose first copy has not ended.
        reserves: Vec<Reserve>,
    },
    Unknown {
        why: String,
    },
}

/// What makes machines, about one such as this VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing stands against it; or nothing makes machines here, or too little is known of the VM to ask.
    Well,
    Cannot {
        why: String,
    },
    Unknown {
        why: String,
    },
}

/// A replica that is still to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Bytes of its disks.
    pub size: u64,
    /// Of these, what its running cycle has written: the target's free space lacks them already.
    pub done: u64,
}

#[derive(Clone, Debug)]
pub struct Profile {
    pub name: ProfileName,
    pub settings: Settings,
}

/// Another VM.
#[derive(Clone, Debug)]
pub struct Other {
    pub vm: VmUuid,
    pub name: String,
    pub place: Place,
    pub configuration: Option<Configuration>,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Source {
        agent: AgentId,
    },
    /// It is made there by a migration, sooner or later.
    Target {
        migration: MigrationId,
        macs: MacPolicy,
    },
}

impl Facts {
    /// Bytes of all its disks.
    pub fn size(&self) -> u64 {
        self.vm.disks.iter().map(|disk| disk.size).fold(0, u64::saturating_add)
    }

    /// What nobody said is the profile's default.
    pub fn macs(&self) -> MacPolicy {
        self.profile.as_ref().map_or(MacPolicy::default(), |profile| profile.settings.live_mac)
    }

    /// Other VMs than this one: of several agents one may see it, too.
    pub fn others(&self) -> impl Iterator<Item = &Other> {
        self.others.iter().filter(|other| other.vm != self.vm.uuid)
    }
}

impl Other {
    pub fn is_on_target(&self) -> bool {
        matches!(self.place, Place::Target { .. })
    }
}
