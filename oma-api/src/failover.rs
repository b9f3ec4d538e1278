//! Failovers: a machine on the target, made of a restore point, as workflows of steps.
//!
//! ```text
//!  test:     validation ─► snapshot ─► virtio-injection ─► test-vm-creation ─► volume-attachment ─► test-vm-startup
//!             validate      clone-N      convert             define              attach-N             start
//!                           snapshot                                                                  ready
//!  cleanup:  vm-stop ─► vm-removal ─► snapshot-removal ─► volume-removal ─► check
//! ```
//!
//! The machine runs on clones of a restore point, never on the replica (DESIGN §6 rule 7): cycles go on meanwhile. Names
//! of all that is made follow from the job's id ([`names`]), so that it is found whatever happened to an answer.
//! [`plan`] decides and is pure; what touches storage and compute is in [`effects`]; what is recorded is in the store.

mod effects;
mod evidence;
pub mod live;
pub mod names;
pub mod notice;
pub mod plan;
mod record;
pub mod report;
pub mod request;
pub mod source;
pub mod status;
mod steps;
#[cfg(test)]
pub(crate) mod tests;
mod view;

pub use effects::{Conversions, Hands};
pub use evidence::Evidence;
pub use plan::Plan;
pub use record::{Failover, Kind, Record, Standing, standing};
pub use request::Request;
pub use steps::{Cleanup, TestFailover, cleanup_job, test_job};
pub use view::FailoverView;

use crate::workflow::{Engine, Options, Workflow};
use std::sync::Arc;

/// The engine with all that a failover needs.
pub fn engine(hands: Hands, options: Options) -> Engine {
    let (store, hands) = (hands.store.clone(), Arc::new(hands));
    Engine::new(store, workflows(&hands), options)
}

/// All kinds of jobs that there are.
fn workflows(hands: &Arc<Hands>) -> Vec<Arc<dyn Workflow>> {
    let hands = || Arc::clone(hands);
    vec![
        Arc::new(TestFailover(hands())),
        Arc::new(Cleanup(hands())),
        Arc::new(live::LiveFailover(hands())),
        Arc::new(live::Rollback(hands())),
    ]
}
