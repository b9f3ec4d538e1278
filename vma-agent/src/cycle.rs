//! Cycles: what the desired state says, made so.
//!
//! ```text
//! Manager ─ one task per VM ─ reconcile(desired) : clean up → snapshot → transfer all disks → report
//!              ▲                    │
//!   desired ───┘ (watch: latest)    └─► reports (may be repeated)
//! ```
//!
//! A task owns its VM's source. A new desired state interrupts what it no longer wants and nothing else. No state is
//! kept over a restart: snapshots and change tracking are found again by name at the source, progress at the OMA.

mod feed;
mod manager;
mod progress;
#[cfg(test)]
pub(crate) mod tests;
mod vm;

pub use manager::Manager;
pub(crate) use progress::Counters;

use shared::cycle::{PowerReport, Report};
use shared::ids::{MigrationId, VmUuid};

/// What goes up to the OMA.
#[derive(Debug)]
pub enum Outgoing {
    Report(Report),
    /// Everything of ours was removed from the VM's source.
    Released {
        vm: VmUuid,
        migration: MigrationId,
    },
    /// How an order about the VM's power came out.
    Power(PowerReport),
}
