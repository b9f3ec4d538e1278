//! Speaks to LINSTOR's controllers: tries them in turn, and understands what they answer.
//!
//! LINSTOR answers a change with a list of entries, each with a type (success, information, warning, error), an operation,
//! an object and a code; the HTTP status is that of the first error. Neither says that a resource can be used: that is
//! read back from its state (`contracts/LINSTOR.md`).
//!
//! ```text
//!  call ──► controller that answered last ──► connected: its answer counts, whatever it is
//!                 │ nobody there, a standby that redirects
//!                 ▼
//!           the next one, once each
//! ```
//!
//! Deliberately not here: which calls keep data, and under which lock.

mod calls;
mod client;
mod cluster;
mod error;
mod fault;
mod locks;
mod model;
mod name;
mod points;
mod reply;

pub use calls::{Filter, Group};
pub use client::{Client, Settings};
pub use cluster::{Age, Cluster, Device, Sight};
pub use error::Error;
pub use fault::Fault;
pub(crate) use locks::Locks;
pub use model::{
    Definition, Made, NetInterface, Node, Pool, Resource, Snapshot, Unusable, Version, Volume,
    VolumeDefinition,
};
pub use name::{InvalidName, Name};
pub use reply::{Kind, Problem, Replies, Reply, ReturnCode};

#[cfg(test)]
mod tests;
