//! The gate in front of all routes: who asks, and whether the table lets them. Handlers find their `Caller` behind it.

use super::refusal::{self, Refusal};
use crate::access::{Access, Bearer, Cut, Refusal as Refused, Who, local, operations};
use crate::service::{Caller, Role};
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use shared::http::PeerAddress;
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::{Span, warn};

/// What the gate has.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) access: Arc<Access>,
    /// Where the server listens.
    pub(super) listener: SocketAddr,
}

/// Lets in whom the table lets, and nobody else.
pub(super) async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    match gate.permit(&request) {
        Ok((caller, bearer)) => {
            Span::current().record("caller", tracing::field::display(&caller));
            request.extensions_mut().insert(caller);
            let Some(bearer) = bearer else { return next.run(request).await };
            // For what outlives its answer: an upgraded connection has to watch the token itself.
            request.extensions_mut().insert(bearer.clone());
            next.run(request).await.map(|body| Body::new(Cut::new(body, &bearer, None)))
        }
        Err(refused) => refusal_of(&refused).into_response(),
    }
}

impl Gate {
    fn permit(&self, request: &Request) -> Result<(Caller, Option<Bearer>), Refused> {
        let peer = request.extensions().get::<ConnectInfo<PeerAddress>>();
        let ConnectInfo(PeerAddress(peer)) = *peer.ok_or(Refused::NoCredentials)?;
        let permitted = self.who(request, peer).and_then(|(caller, bearer)| {
            let pattern = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
            let row = operations::of_rest(request.method().as_str(), pattern, request.uri().path())?;
            row.permit(&Who::Person(caller.clone()), if bearer.is_some() { "token" } else { "caller" })?;
            Ok((caller, bearer))
        });
        permitted.inspect_err(|refused| {
            if !refused.is_worth_a_line() {
                return;
            }
            let what = (request.method(), request.uri().path());
            warn!(address = %peer, method = %what.0, path = what.1, reason = %refused, "request refused");
        })
    }

    fn who(&self, request: &Request, peer: SocketAddr) -> Result<(Caller, Option<Bearer>), Refused> {
        if let Some(header) = request.headers().get(AUTHORIZATION) {
            let bearer = self.access.bearer(header.as_bytes(), peer.ip(), Timestamp::now())?;
            return Ok((bearer.caller.clone(), Some(bearer)));
        }
        if !self.access.is_open() {
            return Err(Refused::NoCredentials);
        }
        if !local::is_loopback(self.listener, peer) {
            return Err(Refused::NoTokens);
        }
        local::check(request.uri(), request.headers())?;
        Ok((Caller { name: "loopback".to_owned(), role: Role::Admin }, None))
    }
}

/// A refusal by the table, as the edge says it.
pub(super) fn refusal_of(refused: &Refused) -> Refusal {
    let (code, reason) = refused.code();
    let status = match refused {
        Refused::NoOperation { .. } => StatusCode::NOT_FOUND,
        Refused::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
        _ => refusal::status(code),
    };
    // As everything else that is not here.
    let reason = if status == StatusCode::NOT_FOUND { "NOT_FOUND" } else { reason };
    let mut refusal = Refusal::new(status, reason, refused.to_string());
    let header = match refused {
        Refused::TooMany { wait } => Some((RETRY_AFTER, wait.as_secs().max(1).to_string())),
        Refused::Method { allowed, .. } => Some((ALLOW, allowed.clone())),
        _ if status == StatusCode::UNAUTHORIZED => {
            Some((WWW_AUTHENTICATE, "Bearer realm=\"migratekit\"".to_owned()))
        }
        _ => None,
    };
    if let Some((name, value)) = header {
        refusal.headers.insert(name, HeaderValue::from_str(&value).expect("words and digits"));
    }
    refusal
}
