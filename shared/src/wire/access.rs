//! Who may call what of a gRPC server: a table in front of all its services. A method without a row is refused.
//!
//! The tables themselves belong to the daemons; what a peer may do to whose data, to their services.

use super::refusal;
use crate::tls::{Peer, Role, Unnamed};
use http::{Request, Response};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tracing::warn;

/// Method or service, and the roles that may use it. The first row that is a prefix of the path counts.
pub type Table = &'static [(&'static str, &'static [Role])];

/// Refuses what the table does not allow before any service sees it.
#[derive(Clone)]
pub struct Access<S> {
    table: Table,
    inner: S,
}

impl<S> Access<S> {
    /// Before this service.
    pub fn new(table: Table, inner: S) -> Self {
        Self { table, inner }
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
        match permit(self.table, request.uri().path(), request.extensions().get::<Peer>()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

/// Whether the peer may call the method of this path.
///
/// # Errors
/// With who it is, and who may.
pub fn permit(table: Table, path: &str, peer: Option<&Peer>) -> Result<(), Status> {
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
    let roles = table.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or(&[][..], |(_, roles)| roles);
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
    use crate::ids::AgentId;
    use crate::tls::Identity;

    const TABLE: Table = &[
        ("/migratekit.v1.AgentService/", &[Role::Agent]),
        ("/migratekit.v1.MigrationService/", &[Role::Operator]),
        ("/grpc.health.v1.Health/", &[Role::Agent, Role::Oma, Role::Operator]),
    ];

    fn peer(role: Role) -> Peer {
        let name = AgentId::parse("x").expect("valid");
        Peer { address: ([127, 0, 0, 1], 1).into(), identity: Ok(Identity { role, name }) }
    }

    #[test]
    fn roles_are_kept_apart() {
        let code = |path: &str, role| permit(TABLE, path, Some(&peer(role))).map_err(|s| s.code());
        assert_eq!(code("/migratekit.v1.AgentService/Connect", Role::Agent), Ok(()));
        assert_eq!(code("/migratekit.v1.AgentService/Connect", Role::Oma), Err(Code::PermissionDenied));
        assert_eq!(code("/migratekit.v1.MigrationService/Act", Role::Agent), Err(Code::PermissionDenied));
        assert_eq!(code("/migratekit.v1.Nothing/Act", Role::Operator), Err(Code::Unimplemented));
        assert!(permit(TABLE, "/grpc.health.v1.Health/Check", None).is_err());
        let nobody = Peer {
            address: ([127, 0, 0, 1], 1).into(),
            identity: Err(Unnamed::Certificate("no URI".to_owned())),
        };
        assert!(permit(TABLE, "/grpc.health.v1.Health/Check", Some(&nobody)).is_err());
    }
}
