//! What surrounds every call of a gRPC server: its correlation id, its place in the caller's trace, its duration.
//!
//! In front of all else, so that a refusal by role has them too. The answer's stream is made under the same id: what a
//! watch says an hour later belongs to the call that opened it.

use crate::correlation::{self, CorrelationId};
use crate::metrics::Metrics;
use crate::telemetry;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};

/// See the module.
#[derive(Clone)]
pub struct Called<S> {
    metrics: Metrics,
    inner: S,
}

impl<S> Called<S> {
    /// Around this service.
    pub fn new(metrics: Metrics, inner: S) -> Self {
        Self { metrics, inner }
    }
}

impl<S> Service<Request<Body>> for Called<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let id = CorrelationId::of_headers(request.headers());
        let path = request.uri().path().to_owned();
        let span = info_span!("rpc", otel.name = path, otel.kind = "server", correlation_id = %id,
                              migration_id = Empty, path);
        telemetry::adopt_headers(&span, request.headers());
        let (metrics, begun) = (self.metrics.clone(), Instant::now());
        let work = span.in_scope(|| id.step(|| self.inner.call(request)));
        Box::pin(async move {
            let mut response = id.clone().scope(work).instrument(span.clone()).await?;
            let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
            metrics.grpc(&path, code, begun.elapsed());
            response.headers_mut().insert(correlation::HEADER, id.to_header());
            Ok(response.map(|body| Body::new(Answer { body, id, span })))
        })
    }
}

/// An answer that is still being made by the call.
struct Answer {
    body: Body,
    id: CorrelationId,
    span: Span,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, id, span } = &mut *self;
        span.in_scope(|| id.step(|| Pin::new(body).poll_frame(cx)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Page;
    use crate::wire::refusal;
    use tonic_types::StatusExt as _;
    use tower::{ServiceExt as _, service_fn};

    async fn called(sent: Option<&str>) -> (String, Status, String) {
        let metrics = Metrics::new("test");
        let refusing = service_fn(async |_: Request<Body>| {
            Ok::<_, Infallible>(refusal::status(Code::NotFound, "NOT_THERE", "no").into_http())
        });
        let refusing = refusing.map_future(Box::pin);
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = "/migratekit.v1.MigrationService/Get".parse().expect("a path");
        if let Some(id) = sent {
            request.headers_mut().insert(correlation::HEADER, id.parse().expect("a header"));
        }
        let response = Called::new(metrics.clone(), refusing).oneshot(request).await.expect("infallible");
        let id = response.headers()[correlation::HEADER].to_str().expect("text").to_owned();
        let status = Status::from_header_map(response.headers()).expect("a status");
        (id, status, metrics.text(&Page::default()))
    }

    /// One id in the answer's metadata, in what the refusal carries, and in the log; the one that was sent, if it can be.
    #[tokio::test]
    async fn a_call_has_one_correlation_id_and_is_measured() {
        let (id, status, text) = called(Some("mine-1")).await;
        let told = status.get_error_details().request_info().map(|info| info.request_id.clone());
        assert_eq!((id.as_str(), told.as_deref()), ("mine-1", Some("mine-1")));
        let line = "migratekit_grpc_request_duration_seconds_count{code=\"NotFound\",method=\"Get\",\
                    service=\"migratekit.v1.MigrationService\"} 1";
        assert!(text.contains(line), "{text}");
        for sent in [None, Some("not one"), Some("<b>")] {
            let (id, status, _) = called(sent).await;
            let told = status.get_error_details().request_info().map(|info| info.request_id.clone());
            assert_eq!((id.len(), told), (36, Some(id)), "{sent:?}");
        }
    }
}
