//! The source side's daemon: describes VMs, snapshots them, sends what changed.
//!
//! It dials out to the OMA and does what the desired state says. No truth lives here: whatever a restart needs is
//! found again at the source (by name) or at the OMA (checkpoints).

mod access;
mod agent;
pub mod child;
pub mod config;
pub mod connect;
pub mod cycle;
mod diagnostics;
mod grpc;
pub mod metrics;
mod rest;
pub mod source;
pub mod transfer;

pub use agent::{Agent, Listeners};
pub use config::Config;
