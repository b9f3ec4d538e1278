//! Preflight and plan: what stands against the protection of a VM, and what a failover would make of it.
//!
//! ```text
//!  service::check: store, hub, storage ──► Facts ──► report ──► findings (what was found, what to do)
//!                                                        └────► plan (field by field: kept, changed, added, lost)
//! ```
//!
//! Pure: no clock, no IO; the same facts always give the same report, in the same order. It decides nothing: begin is
//! stopped by `service::act`. Whether a zone, a network or an offering is there, the target is asked. Not here: snapshots at the
//! source, which no agent tells of.

mod agent;
mod disks;
mod facts;
mod finding;
mod guest;
mod names;
mod network;
mod plan;
mod room;
mod target;
#[cfg(test)]
mod tests;

pub use facts::{Agent, Facts, Link, Other, Place, Profile, Reserve, Space, Target, Unfinished};
pub use finding::{Code, Finding, Severity};
pub use plan::{Change, Row};
pub use room::Room;

use serde::Serialize;
use utoipa::ToSchema;

/// What came of a look at the facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PreflightReport)]
pub struct Report {
    /// What blocks first, then by code.
    pub findings: Vec<Finding>,
    /// In the order in which a person reads a VM.
    pub plan: Vec<Row>,
    /// On the target, after the copy; null: the target could not tell.
    pub room: Option<Room>,
}

impl Report {
    /// What begin is stopped by.
    pub fn blocking(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Block)
    }
}

/// See the module.
pub fn report(facts: &Facts) -> Report {
    let mut findings = Vec::new();
    agent::look(facts, &mut findings);
    let room = room::look(facts, &mut findings);
    target::look(facts, &mut findings);
    disks::look(facts, &mut findings);
    names::look(facts, &mut findings);
    network::look(facts, &mut findings);
    guest::look(facts, &mut findings);
    findings.sort_by(|a, b| {
        (a.severity, a.code, &a.subject, &a.found).cmp(&(b.severity, b.code, &b.subject, &b.found))
    });
    Report { findings, plan: plan::rows(facts), room }
}
