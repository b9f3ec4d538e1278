//! Who may call what: one table, kept by hand. A method without a row is refused.

use http::{Request, Response};
use shared::ids::AgentId;
use shared::tls::{Peer, Role};
use shared::wire::refusal;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tracing::warn;

/// Method or service, and the roles that may use it. The first row that is a prefix of the path counts.
const TABLE: &[(&str, &[Role])] = &[
    ("/migratekit.v1.AgentService/", &[Role::Agent]),
    ("/migratekit.v1.TransferService/", &[Role::Agent]),
    ("/migratekit.v1.MigrationService/", &[Role::Operator]),
    ("/migratekit.v1.InventoryService/", &[Role::Operator]),
    ("/grpc.health.v1.Health/", &[Role::Agent, Role::Oma, Role::Operator]),
    ("/grpc.reflection.v1.ServerReflection/", &[Role::Agent, Role::Oma, Role::Operator]),
    ("/grpc.reflection.v1alpha.ServerReflection/", &[Role::Agent, Role::Oma, Role::Operator]),
];

/// Refuses what the table does not allow before any service sees it.
#[derive(Clone)]
pub(super) struct Access<S>(pub(super) S);

impl<S> Service<Request<Body>> for Access<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match permit(request.uri().path(), request.extensions().get::<Peer>()) {
            Ok(()) => Box::pin(self.0.call(request)),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

fn permit(path: &str, peer: Option<&Peer>) -> Result<(), Status> {
    let Some(peer) = peer else {
        return Err(refusal::status(
            Code::Unauthenticated,
            "NO_CERTIFICATE",
            "the connection has no certificate",
        ));
    };
    let identity = peer.identity.as_ref().map_err(|why| {
        warn!(address = %peer.address, reason = %why, %path, "request refused");
        refusal::status(Code::Unauthenticated, "CERTIFICATE_NAMES_NOBODY", why.clone())
    })?;
    let roles = TABLE.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or(&[][..], |(_, roles)| roles);
    if roles.contains(&identity.role) {
        return Ok(());
    }
    let needed = roles.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(" or ");
    let why = match roles.is_empty() {
        true => format!("there is no method {path} here"),
        false => format!("{path} is for the role {needed}; this certificate is {identity}"),
    };
    warn!(address = %peer.address, %identity, reason = %why, "request refused");
    Err(match roles.is_empty() {
        true => refusal::status(Code::Unimplemented, "NO_SUCH_METHOD", why),
        false => refusal::status(Code::PermissionDenied, "WRONG_ROLE", why),
    })
}

/// The peer, and the agent it is if its certificate says so.
pub(super) fn agent_of(extensions: &http::Extensions) -> Result<AgentId, Status> {
    match extensions.get::<Peer>().map(|peer| peer.identity.as_ref()) {
        Some(Ok(identity)) if identity.role == Role::Agent => Ok(identity.name.clone()),
        _ => Err(refusal::status(Code::PermissionDenied, "WRONG_ROLE", "this is for agents")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::tls::Identity;

    fn peer(role: Role) -> Peer {
        let name = AgentId::parse("x").expect("valid");
        Peer { address: ([127, 0, 0, 1], 1).into(), identity: Ok(Identity { role, name }) }
    }

    #[test]
    fn roles_are_kept_apart() {
        let code = |path: &str, role| permit(path, Some(&peer(role))).map_err(|s| s.code());
        assert_eq!(code("/migratekit.v1.AgentService/Connect", Role::Agent), Ok(()));
        assert_eq!(code("/migratekit.v1.AgentService/Connect", Role::Oma), Err(Code::PermissionDenied));
        assert_eq!(code("/migratekit.v1.MigrationService/Act", Role::Agent), Err(Code::PermissionDenied));
        assert_eq!(code("/migratekit.v1.Nothing/Act", Role::Operator), Err(Code::Unimplemented));
        assert!(permit("/grpc.health.v1.Health/Check", None).is_err());
        let nobody = Peer { address: ([127, 0, 0, 1], 1).into(), identity: Err("no URI".to_owned()) };
        assert!(permit("/grpc.health.v1.Health/Check", Some(&nobody)).is_err());
    }

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
