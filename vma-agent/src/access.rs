//! Who may call what of the diagnostics port: a table in front of all its services. A method without a row is refused.

use http::{Request, Response};
use shared::tls::{Peer, Role, Unnamed};
use shared::wire::refusal;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tracing::warn;

const ALL: &[Role] = &[Role::Agent, Role::Oma, Role::Viewer, Role::Operator, Role::Admin];

/// An outside engine reports with an operator's certificate, or with the agent's own.
const REPORTERS: &[Role] = &[Role::Agent, Role::Operator, Role::Admin];

/// The services that are listed; reflection is served beside them.
pub(crate) const SERVED: &[&str] = &["grpc.health.v1.Health", "migratekit.v1.ProgressService"];

/// Methods, and the roles that may use them.
const TABLE: &[(&str, &[Role])] = &[
    ("/migratekit.v1.ProgressService/Get", ALL),
    ("/migratekit.v1.ProgressService/Watch", ALL),
    ("/migratekit.v1.ProgressService/Register", REPORTERS),
    ("/migratekit.v1.ProgressService/Update", REPORTERS),
    ("/grpc.health.v1.Health/Check", ALL),
    ("/grpc.health.v1.Health/Watch", ALL),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ALL),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ALL),
];

/// Refuses what the table does not allow before any service sees it.
#[derive(Clone)]
pub(crate) struct Access<S> {
    inner: S,
}

impl<S> Access<S> {
    /// Before this service.
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request<Body>> for Access<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match permit(request.uri().path(), request.extensions().get::<Peer>()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

/// Whether the peer may call the method of this path; if not, who it is and who may.
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
        let reason = match why {
            Unnamed::NoCertificate => "NO_CERTIFICATE",
            Unnamed::Certificate(_) => "CERTIFICATE_NAMES_NOBODY",
        };
        refusal::status(Code::Unauthenticated, reason, why.to_string())
    })?;
    let roles = TABLE.iter().find(|(method, _)| path == *method).map_or(&[][..], |(_, roles)| roles);
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

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use shared::ids::AgentId;
    use shared::tls::Identity;
    use std::collections::BTreeSet;

    fn peer(role: Role) -> Peer {
        let name = AgentId::parse("x").expect("valid");
        Peer { address: ([127, 0, 0, 1], 1).into(), identity: Ok(Identity { role, name }) }
    }

    #[test]
    fn roles_are_kept_apart() {
        let code = |path: &str, role| permit(path, Some(&peer(role))).map_err(|s| s.code());
        let (get, update) = ("/migratekit.v1.ProgressService/Get", "/migratekit.v1.ProgressService/Update");
        assert_eq!(code(get, Role::Viewer), Ok(()));
        assert_eq!(code(update, Role::Operator), Ok(()));
        assert_eq!(code(update, Role::Viewer), Err(Code::PermissionDenied));
        assert_eq!(code(update, Role::Oma), Err(Code::PermissionDenied));
        assert_eq!(code("/migratekit.v1.ProgressService/GetAll", Role::Admin), Err(Code::Unimplemented));
        assert_eq!(code("/migratekit.v1.MigrationService/Act", Role::Operator), Err(Code::Unimplemented));
        assert!(permit(get, None).is_err());
        let why = Unnamed::Certificate("no URI".to_owned());
        let nobody = Peer { address: ([127, 0, 0, 1], 1).into(), identity: Err(why) };
        assert!(permit(get, Some(&nobody)).is_err());
    }

    /// Red when a method that is served has no row, and when a row is of no method any more.
    #[test]
    fn every_method_that_is_served_has_its_row() {
        let mut served = BTreeSet::new();
        for set in [
            proto::DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set).expect("made by a build").file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    if SERVED.contains(&name.as_str()) || name.ends_with(".ServerReflection") {
                        served.extend(service.method.iter().map(|m| format!("/{name}/{}", m.name())));
                    }
                }
            }
        }
        assert_eq!(served, TABLE.iter().map(|(path, _)| (*path).to_owned()).collect());
    }
}
