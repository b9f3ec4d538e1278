//! The progress API (HTTP, JSON): how transfers stand, for whoever asks; and where an outside engine says how its own
//! stand. Paths and forms are those of the API's document; `PUT`, by which a job is made known, is our addition.
//!
//! In clear and without authentication, as documented, so on the loopback address unless told otherwise. Nothing that
//! is said here changes a transfer.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::json;
use shared::progress::{Error, ROOT, Register, Registered, Registration, Update};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Largest request body: an update has a few hundred bytes.
const LARGEST: usize = 16 << 10;

/// For requests in flight at the end.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `shutdown`.
pub(crate) async fn serve(listener: TcpListener, register: Arc<Register>, shutdown: CancellationToken) {
    if let Ok(listen) = listener.local_addr() {
        info!(%listen, "progress API ready");
    }
    let serving =
        axum::serve(listener, routes(register)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            error!(%error, "the progress API is not served any more");
        },
        // A client that keeps its connection open must not keep the daemon.
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => {}
    }
}

fn routes(register: Arc<Register>) -> Router {
    Router::new()
        .route(&format!("{ROOT}/{{job_id}}"), get(view).put(make))
        .route(&format!("{ROOT}/{{job_id}}/update"), post(update))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(register)
}

async fn view(State(register): State<Arc<Register>>, Path(job): Path<String>) -> Response {
    match register.view(&job, Timestamp::now()) {
        Ok(view) => Json(view).into_response(),
        Err(error) => refused(&job, &error),
    }
}

async fn update(
    State(register): State<Arc<Register>>,
    Path(job): Path<String>,
    body: Result<Json<Update>, JsonRejection>,
) -> Response {
    match said(body).and_then(|update| register.update(&job, &update, Timestamp::now())) {
        Ok(()) => {
            Json(json!({ "status": "success", "message": "Progress updated successfully" })).into_response()
        }
        Err(error) => refused(&job, &error),
    }
}

async fn make(
    State(register): State<Arc<Register>>,
    Path(job): Path<String>,
    body: Result<Json<Registration>, JsonRejection>,
) -> Response {
    match said(body).and_then(|about| register.register(&job, &about, Timestamp::now())) {
        Ok(Registered::New) => {
            let body = json!({ "status": "success", "message": "Job registered", "job_id": job });
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Ok(Registered::Known) => {
            Json(json!({ "status": "success", "message": "Job was registered already", "job_id": job }))
                .into_response()
        }
        Err(error) => refused(&job, &error),
    }
}

/// What was sent, in the API's own words where it cannot be read.
fn said<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Error> {
    body.map(|Json(said)| said).map_err(|rejection| Error::Invalid(rejection.body_text()))
}

fn refused(job: &str, error: &Error) -> Response {
    let (status, body) = match error {
        Error::NotFound => (StatusCode::NOT_FOUND, json!({ "error": "job not found", "job_id": job })),
        Error::Invalid(why) => {
            (StatusCode::BAD_REQUEST, json!({ "error": "invalid progress data", "details": why }))
        }
        Error::Full => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "error": "too many jobs", "job_id": job, "details": error.to_string() }),
        ),
    };
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests;
