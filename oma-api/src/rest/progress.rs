//! The progress API of the document, for the OMA's own jobs: cycles and their disks.

use super::Server;
use super::body::Query;
use super::refusal::Refusal;
use crate::service::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use shared::http::{self, After};
use shared::progress::{View, states};

/// How a job stands
#[utoipa::path(get, path = "/api/v1/progress/{job_id}", tag = "progress",
    params(("job_id" = String, Path, description = "job-YYYYMMDD-HHMMSS, or migration-vol-UUID")),
    responses((status = 200, body = View), (status = "4XX", description = "refused")))]
pub(super) async fn get(State(app): State<App>, Path(job): Path<String>) -> Result<Json<View>, Refusal> {
    let of = app.progress_find(&job).await?;
    Ok(Json(app.progress_view(&of).await?))
}

/// Follow a job: a line of JSON a state, until it has ended
#[utoipa::path(get, path = "/api/v1/progress/{job_id}/watch", tag = "progress",
    params(("job_id" = String, Path, description = "job-YYYYMMDD-HHMMSS, or migration-vol-UUID"), After),
    responses((status = 200, content_type = "application/x-ndjson", body = String,
        example = json!("{\"sequence\":1795338742074650,\"progress\":{\"job_id\":\"job-20261121-144523\",\"status\":\"Completed\",\"percentage\":100.0}}\n")), (status = "4XX", description = "refused")))]
pub(super) async fn watch(
    State(Server { app, shutdown, .. }): State<Server>,
    Path(job): Path<String>,
    Query(After { after }): Query<After>,
) -> Result<Response, Refusal> {
    let of = app.progress_find(&job).await?;
    let numbers = app.progress_watch(&of).await?;
    let read = move || {
        let (app, of) = (app.clone(), of.clone());
        async move { app.progress_view(&of).await }
    };
    Ok(http::lines(states(numbers, after, read), shutdown))
}

/// Refused: these jobs are the agents' cycles
#[utoipa::path(put, path = "/api/v1/progress/{job_id}", tag = "progress",
    params(("job_id" = String, Path)), responses((status = 409, description = "always")))]
pub(super) async fn register(State(app): State<App>, Path(job): Path<String>) -> Refusal {
    app.progress_refuse(&job).into()
}

/// Refused: these jobs are the agents' cycles
#[utoipa::path(post, path = "/api/v1/progress/{job_id}/update", tag = "progress",
    params(("job_id" = String, Path)), responses((status = 409, description = "always")))]
pub(super) async fn update(State(app): State<App>, Path(job): Path<String>) -> Refusal {
    app.progress_refuse(&job).into()
}
