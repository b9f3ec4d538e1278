//! The server: the API's one address, the switchboard, and the little else that the real one has at its port.

use super::Sim;
use super::answer::Answer;
use super::control;
use super::request::{Outcome, decode};
use super::sign::Sent;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The longest request line that is read.
const LONGEST_URI: usize = 8192;

/// Calls that are remembered.
const REMEMBERED: usize = 100_000;

pub(super) async fn serve(listener: TcpListener, sim: Arc<Sim>, ended: CancellationToken) {
    let app = Router::new()
        .route("/client/api", any(api))
        .route("/client/api/", any(api))
        .route("/client/", any(|| async { html(200, "<!-- the user interface -->") }))
        .route("/", any(|| async { (StatusCode::MOVED_PERMANENTLY, [(LOCATION, "/client/")]) }))
        .nest("/sim", control::routes())
        .fallback(|uri: Uri| async move {
            html(404, &format!("<html><body><h2>HTTP ERROR 404 Not Found</h2>{}</body></html>", uri.path()))
        })
        .with_state(sim);
    let served = axum::serve(listener, app).with_graceful_shutdown(ended.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the simulator's server ended");
    }
}

async fn api(
    State(sim): State<Arc<Sim>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let begun = Instant::now();
    if uri.path_and_query().map_or(0, |target| target.as_str().len()) > LONGEST_URI {
        return html(414, "<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>");
    }
    match method {
        Method::GET | Method::POST | Method::HEAD => {}
        Method::OPTIONS => return StatusCode::OK.into_response(),
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
    let sent = sent(&uri, &headers, &body);
    let on = Arc::clone(&sim);
    let Ok(outcome) = tokio::task::spawn_blocking(move || on.handle(&sent)).await else {
        return html(500, "<h1>the simulator failed</h1>");
    };
    remember(&sim, &outcome, begun);
    tokio::time::sleep(outcome.delay).await;
    if outcome.is_cut { cut() } else { response(outcome.answer) }
}

/// What stands in the query, and in a form.
fn sent(uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Sent {
    let mut sent: Sent = decode(uri.query().unwrap_or_default()).into_iter().collect();
    let form = "application/x-www-form-urlencoded";
    let is_form = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(form.as_bytes()));
    if is_form {
        sent.extend(decode(&String::from_utf8_lossy(body)));
    }
    sent
}

fn remember(sim: &Sim, outcome: &Outcome, begun: Instant) {
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let arrived = jiff::Timestamp::now().as_millisecond() - i64::try_from(ms).unwrap_or(0);
    let call = json!({
        "at": arrived, "command": outcome.command, "status": outcome.answer.status, "ms": ms, "cut": outcome.is_cut,
        "job": outcome.job,
    });
    tracing::debug!(command = outcome.command, status = outcome.answer.status, ms, "asked");
    let mut switches = sim.switches();
    if switches.calls.len() == REMEMBERED {
        switches.calls.pop_front();
    }
    switches.calls.push_back(call);
}

fn response(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, [(CONTENT_TYPE, answer.content_type)], answer.body).into_response();
    // A header holds one line.
    let description = answer.description.map(|text| text.replace(['\r', '\n'], " "));
    if let Some(text) = description.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok()) {
        response.headers_mut().insert("x-description", text);
    }
    response
}

fn html(status: u16, body: &str) -> Response {
    response(Answer::html(status, body))
}

/// A beginning of an answer, then the connection breaks.
fn cut() -> Response {
    let broken = Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let body = Body::from_stream(tokio_stream::iter([broken]));
    (StatusCode::OK, [(CONTENT_LENGTH, "1000")], body).into_response()
}
