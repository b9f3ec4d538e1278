//! Use cases. Both edges call these; nothing here knows gRPC's messages.

mod accept;
pub mod act;
pub mod adopt;
pub mod agents;
mod attempt;
mod caller;
pub mod check;
mod desired;
mod drill;
mod error;
mod estimate;
pub mod failovers;
mod held_back;
pub mod history;
pub mod journal;
pub mod list;
mod live;
pub mod metrics;
pub mod migrations;
pub mod orphans;
mod plight;
pub mod profiles;
pub mod progress;
pub mod replications;
pub mod schedules;
pub mod status;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod transfer;
pub mod verify;
mod view;
pub mod watch;

pub use caller::{Caller, Role};
pub use error::Error;
pub use schedules::ScheduleView;
pub use view::{MigrationView, Waiting};

use crate::access::Access;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::failover::live::policy::Policy;
use crate::hub::Hub;
use crate::retention::Retention;
use crate::storage::Storage;
use crate::store::Store;
use crate::workflow::Engine;
use std::sync::Arc;
use std::time::Duration;
use transfer::Transfers;

/// Everything the use cases work on; a cheap handle.
#[derive(Clone)]
pub struct App {
    pub store: Store,
    pub storage: Arc<dyn Storage>,
    /// What makes machines; `None`: nothing does.
    pub compute: Option<Arc<dyn Compute>>,
    /// Drives failovers.
    pub engine: Engine,
    pub hub: Arc<Hub>,
    pub transfers: Arc<Transfers>,
    /// What the use cases and the reconcilers take the time from.
    pub clock: Clock,
    pub access: Arc<Access>,
    /// Which restore points are kept.
    pub retention: Retention,
    /// Between the heartbeats of an agent.
    pub heartbeat: Duration,
    /// What is asked of every live failover.
    pub policy: Policy,
}
