//! The table of who may do what, kept by hand: a row an operation, for gRPC and REST alike. What has no row is refused.
//!
//! `access::tests` compares it, both ways, with the schema, with a server's reflection and with the routes of the OpenAPI
//! document, and calls every row with a role below its own.

use super::{Refusal, Who};
use crate::service::{Caller, Role};
use shared::tls::Role as CertificateRole;

/// What somebody has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// An agent, by its certificate.
    Agent,
    /// Any daemon, or a person who may look.
    Known,
    /// A person in this role or a higher one.
    Role(Role),
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// For logs and refusals.
    pub name: &'static str,
    pub needs: Needs,
    /// Paths, as HTTP/2 carries them.
    pub grpc: &'static [&'static str],
    /// Method and pattern of each route.
    pub rest: &'static [(&'static str, &'static str)],
}

const VIEWER: Needs = Needs::Role(Role::Viewer);
const OPERATOR: Needs = Needs::Role(Role::Operator);
const ADMIN: Needs = Needs::Role(Role::Admin);

const fn row(
    name: &'static str,
    needs: Needs,
    grpc: &'static [&'static str],
    rest: &'static [(&'static str, &'static str)],
) -> Operation {
    Operation { name, needs, grpc, rest }
}

const ACT: &str = "/migratekit.v1.MigrationService/Act";

/// See the module.
#[rustfmt::skip]
pub const OPERATIONS: &[Operation] = &[
    row("agent.connect", Needs::Agent, &["/migratekit.v1.AgentService/Connect"], &[]),
    row("transfer.push", Needs::Agent, &["/migratekit.v1.TransferService/Push"], &[]),

    row("migration.act", OPERATOR, &[ACT], &[]),
    // Whoever may look may send `watch` there; of every other action the handler asks the row above.
    row("migration.ask", VIEWER, &[],
        &[("POST", "/{account}/machines/{machine}/migrate"), ("POST", "/api/v1/{account}/machines/{machine}/migrate")]),
    row("migration.accept", OPERATOR, &["/migratekit.v1.MigrationService/Accept"], &[("POST", "/api/v1/migrations/{vm}/accept")]),
    // It writes to volumes that are there: those that say they are this VM's, and unlabelled ones on the operator's word.
    row("migration.adopt", OPERATOR, &["/migratekit.v1.MigrationService/Adopt"], &[("POST", "/api/v1/migrations/{vm}/adopt")]),
    row("migration.limit", OPERATOR, &["/migratekit.v1.MigrationService/Limit"], &[("PUT", "/api/v1/migrations/{vm}/limit")]),
    // It reads all of the replica, or makes a snapshot of the source.
    row("migration.verify", OPERATOR, &["/migratekit.v1.MigrationService/Verify"], &[("POST", "/api/v1/migrations/{vm}/verify")]),
    row("migration.check", VIEWER, &["/migratekit.v1.MigrationService/Check"], &[("POST", "/api/v1/migrations/check")]),
    row("migration.estimate", VIEWER, &["/migratekit.v1.MigrationService/Estimate"],
        &[("GET", "/{account}/machines/{machine}/migrate"), ("GET", "/api/v1/{account}/machines/{machine}/migrate")]),
    row("migration.get", VIEWER, &["/migratekit.v1.MigrationService/Get"],
        &[("GET", "/{account}/migrations/{machine}"), ("GET", "/api/v1/{account}/migrations/{machine}"), ("GET", "/api/v1/migrations/{vm}")]),
    row("migration.list", VIEWER, &["/migratekit.v1.MigrationService/List"],
        &[("GET", "/{account}/migrations"), ("GET", "/api/v1/{account}/migrations"), ("GET", "/api/v1/migrations")]),
    row("migration.watch", VIEWER, &["/migratekit.v1.MigrationService/Watch"],
        &[("GET", "/{account}/migrations/{machine}/watch"), ("GET", "/api/v1/{account}/migrations/{machine}/watch")]),
    row("migration.events", VIEWER, &["/migratekit.v1.MigrationService/Events"],
        &[("GET", "/api/v1/events/stream"), ("GET", "/api/events/stream")]),

    row("failover.test", OPERATOR, &["/migratekit.v1.FailoverService/StartTest"], &[("POST", "/api/v1/failover/test")]),
    row("failover.live", OPERATOR, &["/migratekit.v1.FailoverService/StartLive"], &[("POST", "/api/v1/failover/live")]),
    row("failover.rollback", OPERATOR, &["/migratekit.v1.FailoverService/Rollback"], &[("POST", "/api/v1/failover/jobs/{job_id}/rollback")]),
    row("failover.commit", OPERATOR, &["/migratekit.v1.FailoverService/Commit"], &[("POST", "/api/v1/failover/jobs/{job_id}/commit")]),
    row("failover.cleanup", OPERATOR, &["/migratekit.v1.FailoverService/Cleanup"], &[("POST", "/api/v1/failover/jobs/{job_id}/cleanup")]),
    row("failover.ask", OPERATOR, &["/migratekit.v1.FailoverService/Ask"], &[("POST", "/api/v1/failover/jobs/{job_id}/actions")]),
    row("failover.get", VIEWER, &["/migratekit.v1.FailoverService/Get"], &[("GET", "/api/v1/failover/jobs/{job_id}")]),
    row("failover.list", VIEWER, &["/migratekit.v1.FailoverService/List"], &[("GET", "/api/v1/failover/jobs")]),
    row("failover.watch", VIEWER, &["/migratekit.v1.FailoverService/Watch"], &[]),
    row("failover.console", VIEWER, &["/migratekit.v1.FailoverService/Console"], &[("GET", "/api/v1/failover/jobs/{job_id}/console")]),
    row("failover.report", VIEWER, &["/migratekit.v1.FailoverService/Report"], &[("GET", "/api/v1/failover/jobs/{job_id}/report")]),
    row("failover.help", Needs::Known, &[], &[("GET", "/docs/failover/troubleshooting.md")]),

    row("status.get", VIEWER, &["/migratekit.v1.StatusService/Get"], &[("GET", "/api/v1/status")]),
    row("orphan.list", VIEWER, &["/migratekit.v1.OrphanService/List"], &[("GET", "/api/v1/orphans")]),
    // It stops machines and deletes volumes that no record says anything about.
    row("orphan.remove", ADMIN, &["/migratekit.v1.OrphanService/Remove"], &[("POST", "/api/v1/orphans/remove")]),

    row("schedule.set", OPERATOR, &["/migratekit.v1.ScheduleService/Set"], &[("PUT", "/api/v1/migrations/{vm}/schedule")]),
    row("schedule.get", VIEWER, &["/migratekit.v1.ScheduleService/Get"], &[("GET", "/api/v1/migrations/{vm}/schedule")]),
    row("schedule.delete", OPERATOR, &["/migratekit.v1.ScheduleService/Delete"], &[("DELETE", "/api/v1/migrations/{vm}/schedule")]),
    row("schedule.preview", VIEWER, &["/migratekit.v1.ScheduleService/Preview"], &[("POST", "/api/v1/schedules/preview")]),

    row("inventory.vms", VIEWER, &["/migratekit.v1.InventoryService/ListVms"], &[("GET", "/api/v1/vms")]),
    row("inventory.agents", VIEWER, &["/migratekit.v1.InventoryService/ListAgents"], &[("GET", "/api/v1/agents")]),

    row("progress.get", VIEWER, &["/migratekit.v1.ProgressService/Get"], &[("GET", "/api/v1/progress/{job_id}")]),
    row("progress.watch", VIEWER, &["/migratekit.v1.ProgressService/Watch"], &[("GET", "/api/v1/progress/{job_id}/watch")]),
    row("progress.register", OPERATOR, &["/migratekit.v1.ProgressService/Register"], &[("PUT", "/api/v1/progress/{job_id}")]),
    row("progress.update", OPERATOR, &["/migratekit.v1.ProgressService/Update"], &[("POST", "/api/v1/progress/{job_id}/update")]),

    row("replication.list", VIEWER, &["/migratekit.v1.ReplicationService/List"], &[("GET", "/api/v1/replications")]),
    row("replication.get", VIEWER, &["/migratekit.v1.ReplicationService/Get"], &[("GET", "/api/v1/replications/{id}")]),

    row("profile.list", VIEWER, &["/migratekit.v1.TargetProfileService/List"], &[("GET", "/api/v1/target-profiles")]),
    row("profile.get", VIEWER, &["/migratekit.v1.TargetProfileService/Get"], &[("GET", "/api/v1/target-profiles/{name}")]),
    // Where machines are made, and in which networks.
    row("profile.create", ADMIN, &["/migratekit.v1.TargetProfileService/Create"], &[("POST", "/api/v1/target-profiles")]),
    row("profile.update", ADMIN, &["/migratekit.v1.TargetProfileService/Update"], &[("PUT", "/api/v1/target-profiles/{name}")]),
    row("profile.delete", ADMIN, &["/migratekit.v1.TargetProfileService/Delete"], &[("DELETE", "/api/v1/target-profiles/{name}")]),

    row("token.create", ADMIN, &["/migratekit.v1.TokenService/Create"], &[("POST", "/api/v1/tokens")]),
    row("token.list", ADMIN, &["/migratekit.v1.TokenService/List"], &[("GET", "/api/v1/tokens")]),
    row("token.revoke", ADMIN, &["/migratekit.v1.TokenService/Revoke"], &[("DELETE", "/api/v1/tokens/{name}")]),

    row("health", Needs::Known, &["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"], &[]),
    row("schema", Needs::Known,
        &["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"],
        &[("GET", "/api/v1/openapi.json")]),
    row("metrics", VIEWER, &[], &[("GET", "/metrics")]),
];

/// Whether they may act on migrations, for a route that also serves those who may only look.
///
/// # Errors
/// [`Refusal::RoleTooLow`].
pub fn permit_act(who: &Caller) -> Result<(), Refusal> {
    of_grpc(ACT)?.permit(&Who::Person(who.clone()), "caller")
}

/// The row of a gRPC method.
///
/// # Errors
/// [`Refusal::NoOperation`].
pub fn of_grpc(path: &str) -> Result<&'static Operation, Refusal> {
    let found = OPERATIONS.iter().find(|row| row.grpc.contains(&path));
    found.ok_or_else(|| Refusal::NoOperation { what: format!("method {path}") })
}

/// The row of a route: its method, and its pattern where the router found one.
///
/// # Errors
/// [`Refusal::NoOperation`], [`Refusal::Method`].
pub fn of_rest(method: &str, pattern: Option<&str>, path: &str) -> Result<&'static Operation, Refusal> {
    // What answers GET answers HEAD.
    let sought = if method == "HEAD" { "GET" } else { method };
    let known = |route: &(&str, &str)| Some(route.1) == pattern;
    if let Some(row) =
        OPERATIONS.iter().find(|row| row.rest.iter().any(|route| known(route) && route.0 == sought))
    {
        return Ok(row);
    }
    let mut allowed: Vec<_> = OPERATIONS
        .iter()
        .flat_map(|row| row.rest)
        .filter(|route| known(route))
        .map(|route| route.0)
        .collect();
    allowed.sort_unstable();
    Err(match allowed.is_empty() {
        true => Refusal::NoOperation { what: format!("address {path}") },
        false => {
            Refusal::Method { path: path.to_owned(), method: method.to_owned(), allowed: allowed.join(", ") }
        }
    })
}

impl Operation {
    /// Whether they may; `by` is what said who they are.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::AgentsOnly`].
    pub fn permit(&self, who: &Who, by: &'static str) -> Result<(), Refusal> {
        let operation = self.name;
        let too_low = |needed| Refusal::RoleTooLow { operation, needed, by, who: who.to_string() };
        match (self.needs, who) {
            (Needs::Agent, Who::Daemon(identity)) if identity.role == CertificateRole::Agent => Ok(()),
            (Needs::Agent, _) => Err(Refusal::AgentsOnly { operation, by, who: who.to_string() }),
            (Needs::Known, _) => Ok(()),
            (Needs::Role(needed), Who::Person(Caller { role, .. })) if *role >= needed => Ok(()),
            (Needs::Role(needed), _) => Err(too_low(needed)),
        }
    }
}
