//! `GET /docs/failover/troubleshooting.md`, to which refusals point.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// Where it is.
pub(in crate::rest) const PATH: &str = "/docs/failover/troubleshooting.md";

pub(super) const PAGE: &str = include_str!("troubleshooting.md");

/// What each error code of failovers means, what was left where, what to do
#[utoipa::path(get, path = "/docs/failover/troubleshooting.md", tag = "failover",
    responses((status = 200, content_type = "text/markdown", body = String)))]
pub(in crate::rest) async fn page() -> Response {
    ([(CONTENT_TYPE, "text/markdown; charset=utf-8")], PAGE).into_response()
}
