//! Who asks, as a handler takes it: put into the request's extensions by the gate.

use crate::access::Bearer;
use crate::service::Caller;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use std::convert::Infallible;

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // Behind the gate there is one; before it nobody is anybody.
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::UNAUTHORIZED)
    }
}

/// The token that opened a connection, for what outlives its request: a WebSocket has to end with it by itself.
pub(super) struct Opened(Option<Bearer>);

impl Opened {
    /// Returns when the token ends; never where there was none.
    pub(super) async fn ended(self) {
        match self.0 {
            Some(bearer) => bearer.ended().await,
            None => std::future::pending().await,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Opened {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}
