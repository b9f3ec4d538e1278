//! `GET /api/v1/failover/jobs/{job_id}/console`: the bytes as the guest wrote them.

use super::super::body::Query;
use super::super::refusal::Refusal;
use crate::service::App;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::IntoParams;

/// From where.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::rest) struct From {
    /// The first byte that is wanted.
    #[param(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    offset: u64,
}

/// What the machine wrote to its serial console, at most 256 KiB at a time
#[utoipa::path(get, path = "/api/v1/failover/jobs/{job_id}/console", tag = "failover",
    params(("job_id" = String, Path), From),
    responses((status = 200, content_type = "application/octet-stream", body = String,
        headers(("x-console-offset" = u64, description = "of the first byte here"),
                ("x-console-end" = u64, description = "how long the log is now"))),
        (status = "4XX", description = "refused")))]
pub(in crate::rest) async fn read(
    State(app): State<App>,
    Path(job): Path<String>,
    Query(From { offset }): Query<From>,
) -> Result<Response, Refusal> {
    let part = app.failover_console(&job, offset).await.map_err(|error| super::of_job(error, &job))?;
    let headers = [
        // A guest writes what it likes: no browser is to run it.
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    let numbers = [("x-console-offset", part.offset.to_string()), ("x-console-end", part.end.to_string())];
    Ok((headers, numbers, part.data).into_response())
}
