//! What the daemons' HTTP servers have in common: a correlation id on every answer, errors in one form, an end with the
//! daemon's.
//!
//! In clear unless told otherwise, and on the loopback address. Deliberately not here: routes, what is behind them, and who
//! may ask.

mod tls;

use crate::correlation::{self, CorrelationId};
use crate::metrics::{self, Metrics};
use crate::progress::Seen;
use crate::telemetry;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use axum::{Json, Router};
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use rustls::ServerConfig;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::field::Empty;
use tracing::{Instrument as _, error, info, info_span};

/// Who dialled, as `ConnectInfo` of every request.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

impl Connected<IncomingStream<'_, TcpListener>> for PeerAddress {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Largest request body: the requests there are have a few hundred bytes.
const LARGEST: usize = 16 << 10;

/// For requests in flight at the end.
const GRACE: Duration = Duration::from_secs(2);

/// An error as the progress API's document writes it: `error` says what, `job_id` of which job, `details` why,
/// `timestamp` when.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    body: Map<String, Value>,
}

impl Refused {
    /// With `error` alone.
    pub fn new(status: StatusCode, error: &str) -> Self {
        Self { status, body: Map::new() }.with("error", error)
    }

    /// Of this job.
    #[must_use]
    pub fn job(self, id: &str) -> Self {
        self.with("job_id", id)
    }

    /// Why, and what to do.
    #[must_use]
    pub fn details(self, text: &str) -> Self {
        self.with("details", text)
    }

    /// As of now.
    #[must_use]
    pub fn timed(self, now: Timestamp) -> Self {
        self.with("timestamp", &crate::progress::moment(now))
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.body.insert(key.to_owned(), value.into());
        self
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        info!(status = self.status.as_u16(), answer = %serde_json::Value::Object(self.body.clone()), "refused");
        (self.status, Json(self.body)).into_response()
    }
}

/// A watch as lines of JSON, each a state with its number, until the job has ended or the daemon ends. What goes wrong
/// on the way is the last line.
pub fn lines<E: Display>(
    seen: impl Stream<Item = Result<Seen, E>> + Send + 'static,
    shutdown: CancellationToken,
) -> Response {
    let lines = seen.map(|seen| {
        let line = match seen {
            Ok(Seen { sequence, view }) => json!({ "sequence": sequence, "progress": view }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        Ok::<_, Infallible>(format!("{line}\n"))
    });
    let body = Body::from_stream(lines.take_until(shutdown.cancelled_owned()));
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Where a watch goes on.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// The last number seen; 0 from the start.
    pub after: u64,
}

/// Serves `routes` until `shutdown`. `what` is for the log.
pub async fn serve(listener: TcpListener, what: &'static str, routes: Router, shutdown: CancellationToken) {
    if let Ok(listen) = listener.local_addr() {
        info!(%listen, "{what} ready");
    }
    serve_on(listener, what, routes, shutdown).await;
}

/// The same over TLS.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    what: &'static str,
    routes: Router,
    shutdown: CancellationToken,
) {
    let tasks = TaskTracker::new();
    match tls::TlsListener::start(listener, tls, &tasks, shutdown.clone()) {
        Ok(listener) => {
            if let Ok(listen) = listener.local_addr() {
                info!(%listen, tls = true, "{what} ready");
            }
            serve_on(listener, what, routes, shutdown).await;
        }
        Err(error) => error!(%error, "{what} is not served"),
    }
    tasks.close();
    tasks.wait().await;
}

async fn serve_on<L>(listener: L, what: &'static str, routes: Router, shutdown: CancellationToken)
where
    L: Listener<Addr = SocketAddr>,
    PeerAddress: for<'a> Connected<IncomingStream<'a, L>>,
{
    let routes = routes.layer(from_fn(correlated)).into_make_service_with_connect_info::<PeerAddress>();
    let serving = axum::serve(listener, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            error!(%error, "{what} is not served any more");
        },
        // A client that keeps its connection open must not keep the daemon.
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => {}
    }
}

/// What is not served is refused in the progress API's form, and large bodies are.
pub fn with_fallbacks(routes: Router) -> Router {
    let unknown = async |request: Request| {
        let details = format!("there is nothing at {}", request.uri().path());
        Refused::new(StatusCode::NOT_FOUND, "not found").details(&details).timed(Timestamp::now())
    };
    let not_so = async |request: Request| {
        let details = format!("{} does not take {}", request.uri().path(), request.method());
        Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
            .details(&details)
            .timed(Timestamp::now())
    };
    routes.fallback(unknown).method_not_allowed_fallback(not_so).layer(DefaultBodyLimit::max(LARGEST))
}

/// The request's own correlation id, or a new one: in the log of all that happens meanwhile, and on the answer.
async fn correlated(mut request: Request, next: Next) -> Response {
    let id = CorrelationId::of_headers(request.headers());
    // The caller is put in by what authenticates.
    let span = info_span!("request", otel.kind = "server", correlation_id = %id, migration_id = Empty, caller = Empty,
                   method = %request.method(), path = request.uri().path());
    request.extensions_mut().insert(id.clone());
    telemetry::adopt_headers(&span, request.headers());
    let mut response = id.clone().scope(next.run(request)).instrument(span).await;
    response.headers_mut().insert(correlation::HEADER, id.to_header());
    response
}

/// Measures every answer, those to unknown addresses included. `family` is what a route's template belongs to.
pub fn measured(routes: Router, metrics: &Metrics, family: fn(&str) -> &'static str) -> Router {
    let metrics = metrics.clone();
    routes.layer(from_fn(move |request: Request, next: Next| {
        let metrics = metrics.clone();
        async move {
            let begun = Instant::now();
            let matched = request.extensions().get::<MatchedPath>();
            // The path itself is the client's word, and the method of an unknown one may be.
            let route = matched.map_or_else(|| "unmatched".to_owned(), |route| route.as_str().to_owned());
            let method = match *request.method() {
                Method::GET | Method::HEAD => "GET",
                Method::POST => "POST",
                Method::PUT => "PUT",
                Method::PATCH => "PATCH",
                Method::DELETE => "DELETE",
                _ => "other",
            };
            let response = next.run(request).await;
            metrics.http(family(&route), method, &route, response.status().as_u16(), begun.elapsed());
            response
        }
    }))
}

/// A page of metrics.
pub fn metrics_page(text: String) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    async fn ask(method: &str, path: &str, id: Option<&str>) -> (u16, String, Value) {
        let routes =
            with_fallbacks(Router::new().route("/here", get(async || "{}"))).layer(from_fn(correlated));
        let mut request = http::Request::builder().method(method).uri(path);
        if let Some(id) = id {
            request = request.header(correlation::HEADER, id);
        }
        let response =
            routes.oneshot(request.body(Body::empty()).expect("a request")).await.expect("infallible");
        let id = response.headers()[correlation::HEADER].to_str().expect("text").to_owned();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, id, serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn every_answer_has_a_correlation_id_and_one_sent_in_is_kept() {
        let (status, id, _) = ask("GET", "/here", Some("1bcd3a2c-1547-45fe")).await;
        assert_eq!((status, id.as_str()), (200, "1bcd3a2c-1547-45fe"));
        let (_, new, _) = ask("GET", "/here", None).await;
        let (_, other, _) = ask("GET", "/here", None).await;
        assert!(new.len() == 36 && new != other, "{new} {other}");
        for bad in ["", "two words", "<script>", &"x".repeat(65)] {
            let (_, id, _) = ask("GET", "/here", Some(bad)).await;
            assert_eq!(id.len(), 36, "{bad:?} is not ours to repeat");
        }
        let (status, id, body) = ask("GET", "/there", Some("mine")).await;
        assert_eq!((status, id.as_str(), &body["error"]), (404, "mine", &"not found".into()));
        assert!(body["timestamp"].is_string() && body["details"].is_string(), "{body}");
        let (status, id, body) = ask("DELETE", "/here", Some("mine")).await;
        assert_eq!((status, id.as_str(), &body["error"]), (405, "mine", &"method not allowed".into()));
    }

    #[tokio::test]
    async fn answers_are_measured_by_template_and_never_by_what_was_typed() {
        let metrics = Metrics::new("test");
        let routes = with_fallbacks(Router::new().route("/jobs/{id}", get(async || "{}")));
        let routes = measured(routes, &metrics, |route| if route == "unmatched" { "none" } else { "jobs" });
        for (method, path) in
            [("GET", "/jobs/1"), ("GET", "/jobs/2"), ("DELETE", "/jobs/1"), ("SPY", "/secret")]
        {
            let request = http::Request::builder().method(method).uri(path).body(Body::empty());
            routes.clone().oneshot(request.expect("a request")).await.expect("infallible");
        }
        let text = metrics.text(&metrics::Page::default());
        for (family, method, route, status, count) in [
            ("jobs", "GET", "/jobs/{id}", 200, 2),
            ("jobs", "DELETE", "/jobs/{id}", 405, 1),
            ("none", "other", "unmatched", 404, 1),
        ] {
            let line = format!(
                "migratekit_http_request_duration_seconds_count{{family=\"{family}\",method=\"{method}\",\
                 route=\"{route}\",status=\"{status}\"}} {count}"
            );
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        assert!(!text.contains("secret") && !text.contains("SPY"));
    }
}
