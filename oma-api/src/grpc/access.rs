//! The gate in front of all gRPC services: who asks, by certificate or token, and whether the table lets them.
//!
//! A connection may come without a certificate once a token was made (`Protection::Chosen` in `oma`); what then has no
//! good token is refused here. A daemon's certificate counts whatever token comes with it; of a person with both, the
//! token counts: it is the narrower statement, made for this call.

use crate::access::{Access, Bearer, Cut, Refusal, Who, operations};
use crate::service::Caller;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use jiff::Timestamp;
use shared::ids::AgentId;
use shared::tls::{Peer, Role, Unnamed};
use shared::wire::refusal;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tracing::{Instrument as _, info_span, warn};

/// Refuses what the table does not allow before any service sees it; the others get their `Caller` as an extension.
#[derive(Clone)]
pub(super) struct Gate<S> {
    access: Arc<Access>,
    inner: S,
}

impl<S> Gate<S> {
    pub(super) fn new(access: Arc<Access>, inner: S) -> Self {
        Self { access, inner }
    }
}

impl<S> Service<Request<Body>> for Gate<S>
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match permit(&self.access, &request) {
            Ok((who, bearer)) => {
                let Who::Person(caller) = who else { return Box::pin(self.inner.call(request)) };
                // Every line that is logged for this call says who asked for it.
                let span = info_span!("call", %caller, path = request.uri().path());
                request.extensions_mut().insert(caller);
                let answering = span.in_scope(|| self.inner.call(request)).instrument(span);
                Box::pin(async move {
                    let answer = answering.await?;
                    let Some(bearer) = bearer else { return Ok(answer) };
                    let why = Status::unauthenticated("the token has ended, and with it what was open by it");
                    let mut trailers = HeaderMap::new();
                    // Words only: it has a form for headers.
                    let _ = why.add_header(&mut trailers);
                    Ok(answer.map(|body| Body::new(Cut::new(body, &bearer, Some(trailers)))))
                })
            }
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

fn permit(access: &Access, request: &Request<Body>) -> Result<(Who, Option<Bearer>), Status> {
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Err(status(&Refusal::NoCredentials));
    };
    let permitted = who(access, peer, request.headers()).and_then(|(who, bearer)| {
        let by = if bearer.is_some() { "token" } else { "certificate" };
        operations::of_grpc(request.uri().path())?.permit(&who, by)?;
        Ok((who, bearer))
    });
    permitted.map_err(|refused| {
        if !refused.is_worth_a_line() {
            return status(&refused);
        }
        let who = peer.identity.as_ref().map_or_else(|_| "nobody".to_owned(), ToString::to_string);
        warn!(address = %peer.address, certificate = who, path = request.uri().path(), reason = %refused, "request refused");
        status(&refused)
    })
}

fn who(access: &Access, peer: &Peer, headers: &HeaderMap) -> Result<(Who, Option<Bearer>), Refusal> {
    let certificate = match &peer.identity {
        Ok(identity) => Some(Who::of_certificate(identity)),
        Err(Unnamed::NoCertificate) => None,
        Err(Unnamed::Certificate(why)) => return Err(Refusal::NamesNobody(why.clone())),
    };
    match (certificate, headers.get(AUTHORIZATION)) {
        (Some(daemon @ Who::Daemon(_)), _) => Ok((daemon, None)),
        (_, Some(header)) => {
            let bearer = access.bearer(header.as_bytes(), peer.address.ip(), Timestamp::now())?;
            Ok((Who::Person(bearer.caller.clone()), Some(bearer)))
        }
        (Some(person), None) => Ok((person, None)),
        (None, None) => Err(Refusal::NoCredentials),
    }
}

fn status(refused: &Refusal) -> Status {
    let (code, reason) = refused.code();
    refusal::status(code, reason, refused.to_string())
}

/// The peer, and the agent it is if its certificate says so.
pub(super) fn agent_of(extensions: &http::Extensions) -> Result<AgentId, Status> {
    match extensions.get::<Peer>().map(|peer| peer.identity.as_ref()) {
        Some(Ok(identity)) if identity.role == Role::Agent => Ok(identity.name.clone()),
        _ => Err(refusal::status(Code::PermissionDenied, "WRONG_ROLE", "this is for agents")),
    }
}

/// The person whom the gate let in.
///
/// # Errors
/// Where the gate put none: a method for daemons, or a defect.
pub(super) fn caller_of(extensions: &http::Extensions) -> Result<Caller, Status> {
    let known = extensions.get::<Caller>().cloned();
    known
        .ok_or_else(|| refusal::status(Code::Unauthenticated, "CREDENTIALS_MISSING", "nothing says who asks"))
}
