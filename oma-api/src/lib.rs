//! The control plane: keeps the state of every migration, receives their disks, writes the replicas.
//!
//! Edges (`grpc`, `rest`) call use cases (`service`); reconcilers make true what the database says; `store` is the only
//! place with SQL, `storage` the only one that makes volumes and snapshots, `compute` the only one that makes machines.

pub mod access;
pub mod backup;
pub mod clock;
pub mod cloudstack;
pub mod compute;
pub mod config;
pub mod conversion;
pub mod estimate;
pub mod failover;
pub mod grpc;
pub mod hub;
pub mod linstor;
pub mod metrics;
pub mod notify;
mod oma;
pub mod outbound;
pub mod pace;
pub mod preflight;
mod processes;
pub mod reconcile;
pub mod rest;
pub mod retention;
pub mod schedule;
pub mod service;
pub mod storage;
pub mod store;
pub mod strategy;
pub mod targets;
#[cfg(test)]
mod testing;
mod work;
pub mod workflow;

pub use config::Config;
pub use oma::{Listeners, Oma};
