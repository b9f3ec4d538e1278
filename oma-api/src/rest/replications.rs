//! `replication_jobs`: the cycles as the database has them, ended ones too.

use super::body::Query;
use super::refusal::Refusal;
use super::view;
use crate::service::App;
use crate::service::replications::ReplicationFilter;
use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::IntoParams;

/// What a list may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Most rows of the answer; 50 when left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next_before` of the page before.
    #[param(
        pattern = "^(job-20[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|1[0-9]|2[0-8])-([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9])?$"
    )]
    before: String,
    /// running, paused, committing, completed, failed or aborted.
    #[param(pattern = "^(running|paused|committing|completed|failed|aborted)?$")]
    status: String,
}

/// Cycles, newest first
#[utoipa::path(get, path = "/api/v1/replications", tag = "replications", params(Asked),
    responses((status = 200, body = view::Page), (status = "4XX", description = "refused")))]
pub(super) async fn list(
    State(app): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Json<view::Page>, Refusal> {
    let filter = ReplicationFilter::parse(asked.limit, &asked.before, &asked.status)?;
    Ok(Json(app.replication_list(&filter).await?.into()))
}

/// One cycle: by its own id, or the newest of a disk
#[utoipa::path(get, path = "/api/v1/replications/{id}", tag = "replications",
    params(("id" = String, Path, description = "job-YYYYMMDD-HHMMSS, or migration-vol-UUID")),
    responses((status = 200, body = view::Replication), (status = "4XX", description = "refused")))]
pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<view::Replication>, Refusal> {
    Ok(Json(app.replication_find(&id).await?.into()))
}
