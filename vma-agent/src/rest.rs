//! The progress API (HTTP, JSON): how transfers stand, for whoever asks; and where an outside engine says how its own
//! stand. Paths and forms are those of the API's document; `PUT`, by which a job is made known, and `watch` are our additions.
//!
//! In clear and without authentication, as documented, so on the loopback address unless told otherwise. Nothing that
//! is said here changes a transfer.

use crate::metrics::Shown;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use shared::http::{self, After, Refused};
use shared::progress::{Error, ROOT, Register, Registered, Registration, Update, states};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    register: Arc<Register>,
    metrics: Shown,
    shutdown: CancellationToken,
) {
    let watching = shutdown.clone();
    let routes = Router::new()
        .route(&format!("{ROOT}/{{job_id}}"), get(view).put(make))
        .route(&format!("{ROOT}/{{job_id}}/update"), post(update))
        .route(
            &format!("{ROOT}/{{job_id}}/watch"),
            get(async |register, job, after| watch(register, job, after, watching).await),
        )
        .with_state(register);
    let common = metrics.common().clone();
    let routes = routes.route("/metrics", get(async move || http::metrics_page(metrics.text())));
    let family = |route: &str| if route.starts_with(ROOT) { "progress" } else { "other" };
    let routes = http::measured(http::with_fallbacks(routes), &common, family);
    http::serve(listener, "progress API", routes, shutdown).await;
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
    body: Result<Json<Object<Update>>, JsonRejection>,
) -> Response {
    match said(body).and_then(|update| register.outside().update(&job, &update, Timestamp::now())) {
        Ok(()) => {
            Json(json!({ "status": "success", "message": "Progress updated successfully" })).into_response()
        }
        Err(error) => refused(&job, &error),
    }
}

async fn make(
    State(register): State<Arc<Register>>,
    Path(job): Path<String>,
    body: Result<Json<Object<Registration>>, JsonRejection>,
) -> Response {
    match said(body).and_then(|about| register.outside().register(&job, &about, Timestamp::now())) {
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

async fn watch(
    State(register): State<Arc<Register>>,
    Path(job): Path<String>,
    after: Result<Query<After>, QueryRejection>,
    shutdown: CancellationToken,
) -> Response {
    let numbers = after
        .map_err(|rejection| Error::Invalid(rejection.body_text()))
        .and_then(|Query(After { after })| Ok((register.watch(&job, Timestamp::now())?, after)));
    match numbers {
        Ok((numbers, after)) => {
            let read = move || std::future::ready(register.view(&job, Timestamp::now()));
            http::lines(states(numbers, after, read), shutdown)
        }
        Err(error) => refused(&job, &error),
    }
}

/// What was sent, in the API's own words where it cannot be read.
fn said<T>(body: Result<Json<Object<T>>, JsonRejection>) -> Result<T, Error> {
    body.map(|Json(Object(said))| said).map_err(|rejection| Error::Invalid(rejection.body_text()))
}

/// A JSON object, and no array of what its keys would have: that is how serde reads one, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Keys<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, keys: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(keys))
            }
        }

        from.deserialize_map(Keys(PhantomData)).map(Self)
    }
}

fn refused(job: &str, error: &Error) -> Response {
    match error {
        Error::NotFound => Refused::new(StatusCode::NOT_FOUND, "job not found").job(job),
        Error::Invalid(why) => Refused::new(StatusCode::BAD_REQUEST, "invalid progress data").details(why),
        Error::Ended(_) => {
            Refused::new(StatusCode::BAD_REQUEST, "job has ended").job(job).details(&error.to_string())
        }
        Error::NotYours => Refused::new(StatusCode::CONFLICT, "progress is not taken for this job")
            .job(job)
            .details(&error.to_string()),
        Error::Full => Refused::new(StatusCode::SERVICE_UNAVAILABLE, "too many jobs")
            .job(job)
            .details(&error.to_string()),
    }
    .into_response()
}

#[cfg(test)]
mod tests;
