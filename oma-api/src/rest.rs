//! The REST edge: convert, call a service, convert back. Every route has its twin over gRPC.
//!
//! ```text
//!  GET /api/v1/replications        GET /api/v1/replications/{id}      ReplicationService
//!  GET /api/v1/progress/{job_id}, …/watch   (PUT, POST …/update: refused)      ProgressService
//! ```
//!
//! In clear and without authentication, as the progress API's document has it, so on the loopback address unless told
//! otherwise; nothing that can be asked here changes anything.

mod view;

use crate::service::replications::ReplicationFilter;
use crate::service::{App, Error};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use shared::http::{self, After, Refused};
use shared::progress::{ROOT, states};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;

const REPLICATIONS: &str = "/api/v1/replications";

/// Serves until `shutdown`.
pub async fn serve(listener: TcpListener, app: App, shutdown: CancellationToken) {
    let watching = shutdown.clone();
    let routes = Router::new()
        .route(REPLICATIONS, get(list))
        .route(&format!("{REPLICATIONS}/{{id}}"), get(one))
        .route(&format!("{ROOT}/{{job_id}}"), get(progress).put(not_here))
        .route(&format!("{ROOT}/{{job_id}}/update"), post(not_here))
        .route(
            &format!("{ROOT}/{{job_id}}/watch"),
            get(async |app, job, after| watch(app, job, after, watching).await),
        )
        .with_state(app);
    http::serve(listener, "REST API", routes, shutdown).await;
}

/// What a list may be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    /// Left out: as many as is usual.
    limit: Option<u32>,
    before: String,
    status: String,
}

async fn list(State(app): State<App>, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let filter = match asked {
        Ok(Query(asked)) => ReplicationFilter::parse(asked.limit, &asked.before, &asked.status),
        Err(rejection) => Err(unreadable(&rejection)),
    };
    let page = match filter {
        Ok(filter) => app.replication_list(&filter).await,
        Err(error) => Err(error),
    };
    match page {
        Ok(page) => Json(view::Page::from(page)).into_response(),
        Err(error) => refused(None, &error),
    }
}

async fn one(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.replication_find(&id).await {
        Ok(found) => Json(view::Replication::from(found)).into_response(),
        Err(error) => refused(Some(&id), &error),
    }
}

async fn progress(State(app): State<App>, Path(job): Path<String>) -> Response {
    let view = match app.progress_find(&job).await {
        Ok(of) => app.progress_view(&of).await,
        Err(error) => Err(error),
    };
    match view {
        Ok(view) => Json(view).into_response(),
        Err(error) => refused(Some(&job), &error),
    }
}

async fn watch(
    State(app): State<App>,
    Path(job): Path<String>,
    after: Result<Query<After>, QueryRejection>,
    shutdown: CancellationToken,
) -> Response {
    let watched = async {
        let Query(After { after }) = after.map_err(|rejection| unreadable(&rejection))?;
        let of = app.progress_find(&job).await?;
        Ok((app.progress_watch(&of).await?, of, after))
    };
    match watched.await {
        Ok((numbers, of, after)) => {
            let read = move || {
                let (app, of) = (app.clone(), of.clone());
                async move { app.progress_view(&of).await }
            };
            http::lines(states(numbers, after, read), shutdown)
        }
        Err(error) => refused(Some(&job), &error),
    }
}

fn unreadable(rejection: &QueryRejection) -> Error {
    Error::Filter { what: "the query:", why: rejection.body_text() }
}

async fn not_here(State(app): State<App>, Path(job): Path<String>) -> Response {
    refused(Some(&job), &app.progress_refuse(&job))
}

/// In the progress API's form.
fn refused(job: Option<&str>, error: &Error) -> Response {
    let (status, what) = match error {
        Error::JobUnknown { .. } => (StatusCode::NOT_FOUND, "job not found"),
        Error::Filter { .. } => (StatusCode::BAD_REQUEST, "invalid request"),
        Error::JobsAreTheAgents { .. } => (StatusCode::CONFLICT, "progress is not taken here"),
        other => match other.code().0 {
            Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "the database is not available"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal error"),
        },
    };
    let answer = Refused::new(status, what).details(&shared::error::chain(error)).timed(Timestamp::now());
    match job {
        Some(id) => answer.job(id),
        None => answer,
    }
    .into_response()
}

#[cfg(test)]
mod tests;
