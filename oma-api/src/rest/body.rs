//! Bodies and queries: strict, and with a word for everything that is wrong with them.

use super::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A JSON body of this form; no field that it does not have.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let given = request.headers().get(CONTENT_TYPE).map(|v| v.to_str().unwrap_or_default().to_owned());
        let bytes = bytes(request, state).await?;
        Self::parse(given.as_deref(), &bytes)
    }
}

/// The body of what takes no field: none at all, or an empty object.
pub(super) struct NoFields;

impl<S: Send + Sync> FromRequest<S> for NoFields {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}

        let headers = request.headers().clone();
        let bytes = bytes(request, state).await?;
        if !bytes.is_empty() {
            Body::<Nothing>::read(&headers, &bytes)?;
        }
        Ok(Self)
    }
}

async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        let reason = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "BODY_TOO_LARGE",
            _ => "INVALID_ARGUMENT",
        };
        Refusal::new(rejection.status(), reason, format!("the body: {}", rejection.body_text()))
    })
}

impl<T: DeserializeOwned> Body<T> {
    /// Of a handler that takes requests without one, too.
    pub(super) fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, Refusal> {
        let given = headers.get(CONTENT_TYPE).map(|v| v.to_str().unwrap_or_default());
        Self::parse(given, bytes)
    }

    fn parse(given: Option<&str>, bytes: &[u8]) -> Result<Self, Refusal> {
        if !given.is_some_and(is_json) {
            let message = match given {
                Some(given) => format!("the body is {given:?}; send application/json"),
                None => "the body has no Content-Type; send application/json".to_owned(),
            };
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "NOT_JSON", message));
        }
        // A form of ours would be read from an array, too: by the order of its fields.
        if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
            return Err(Refusal::invalid("the body is an array; send an object"));
        }
        let mut text = serde_json::Deserializer::from_slice(bytes);
        let value = serde_path_to_error::deserialize(&mut text).map_err(|error| {
            let at = error.path().to_string();
            // Of the whole, and of a place that has no name yet.
            let at = if at == "." || at == "?" { String::new() } else { format!(" at {at}") };
            Refusal::invalid(format!("the body{at}: {}", error.inner()))
        })?;
        text.end().map_err(|error| Refusal::invalid(format!("the body: {error}")))?;
        Ok(Self(value))
    }
}

fn is_json(given: &str) -> bool {
    let kind = given.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// A query string of this form; no parameter that it does not have.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Refusal::invalid(format!("the query: {}", rejection.body_text()))),
        }
    }
}
