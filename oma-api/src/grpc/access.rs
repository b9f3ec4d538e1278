//! Who may call what: one table, kept by hand. A method without a row is refused.

use crate::service::Caller;
use shared::ids::AgentId;
use shared::tls::{Peer, Role};
use shared::wire::access::Table;
use shared::wire::refusal;
use tonic::{Code, Status};

/// See [`Table`].
pub(super) const TABLE: Table = &[
    ("/migratekit.v1.AgentService/", &[Role::Agent]),
    ("/migratekit.v1.TransferService/", &[Role::Agent]),
    ("/migratekit.v1.MigrationService/", &[Role::Operator]),
    ("/migratekit.v1.InventoryService/", &[Role::Operator]),
    ("/migratekit.v1.ProgressService/", &[Role::Operator]),
    ("/migratekit.v1.ReplicationService/", &[Role::Operator]),
    ("/migratekit.v1.ScheduleService/", &[Role::Operator]),
    ("/grpc.health.v1.Health/", &[Role::Agent, Role::Oma, Role::Operator]),
    ("/grpc.reflection.v1.ServerReflection/", &[Role::Agent, Role::Oma, Role::Operator]),
    ("/grpc.reflection.v1alpha.ServerReflection/", &[Role::Agent, Role::Oma, Role::Operator]),
];

/// The peer, and the agent it is if its certificate says so.
pub(super) fn agent_of(extensions: &http::Extensions) -> Result<AgentId, Status> {
    match extensions.get::<Peer>().map(|peer| peer.identity.as_ref()) {
        Some(Ok(identity)) if identity.role == Role::Agent => Ok(identity.name.clone()),
        _ => Err(refusal::status(Code::PermissionDenied, "WRONG_ROLE", "this is for agents")),
    }
}

/// Who asks, by the certificate.
pub(super) fn caller_of(extensions: &http::Extensions) -> Result<Caller, Status> {
    if let Some(caller) = extensions.get::<Caller>() {
        return Ok(caller.clone());
    }
    match extensions.get::<Peer>().map(|peer| peer.identity.as_ref()) {
        Some(Ok(identity)) if identity.role == Role::Operator => {
            Ok(Caller { name: identity.name.to_string(), role: crate::service::Role::Operator })
        }
        _ => Err(refusal::status(Code::PermissionDenied, "WRONG_ROLE", "this is for operators")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service of the schema that nobody thought of here is refused; this test says so before a user does.
    #[test]
    fn every_service_of_the_schema_has_a_row() {
        use prost::Message as _;
        let set = proto_descriptor();
        for file in set.file {
            for service in file.service {
                let path = format!(
                    "/{}.{}/",
                    file.package.clone().unwrap_or_default(),
                    service.name.unwrap_or_default()
                );
                assert!(TABLE.iter().any(|(prefix, _)| path.starts_with(prefix)), "{path}");
            }
        }
        fn proto_descriptor() -> prost_types::FileDescriptorSet {
            prost_types::FileDescriptorSet::decode(proto::DESCRIPTOR_SET).expect("made by the build")
        }
    }
}
