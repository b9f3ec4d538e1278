//! Spans to a collector, by OTLP over gRPC, in batches, from a runtime of their own.
//!
//! ```text
//!  spans that ended ──► queue (2048, then dropped) ──► a thread: a batch every second ──► collector
//! ```
//!
//! A collector that is slow or away costs spans, never work: nobody waits for the queue, an export is given up after
//! three seconds, and the end of the program waits two at most. It is said in the log once in a while.
//!
//! In clear: the collector belongs on the same machine or network; a collector there can go on with TLS.

use super::{Error, VERSION};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use serde::Deserialize;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tracing::warn;

/// For one batch.
const EXPORT_DEADLINE: Duration = Duration::from_secs(3);

/// For what is left at the end.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// Between two batches.
const PERIOD: Duration = Duration::from_secs(1);

/// Between two complaints.
const COMPLAINT: Duration = Duration::from_secs(60);

/// The `[telemetry]` table of a daemon's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// `http://host:port` of a collector that takes OTLP over gRPC; `None`: nothing is sent.
    pub otlp_endpoint: Option<String>,
    /// Which share of the traces that begin here is sent, 0 to 1. Those that come from a caller are as the caller
    /// decided.
    pub sample_ratio: f64,
}

impl Default for Traces {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_ratio: 1.0 }
    }
}

impl Traces {
    /// As the standard's variable says: for programs without a configuration.
    pub fn of_environment() -> Self {
        let endpoint = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|value| !value.is_empty());
        Self { otlp_endpoint: endpoint, ..Self::default() }
    }

    /// Whether it can be used; sends nothing.
    ///
    /// # Errors
    /// [`Error::Traces`].
    pub fn check(&self) -> Result<(), Error> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            let why = "it is a share, from 0 (none) to 1 (all)".to_owned();
            return Err(Error::Traces { key: "sample_ratio", given: self.sample_ratio.to_string(), why });
        }
        let Some(given) = &self.otlp_endpoint else { return Ok(()) };
        let wrong = |why: &str| Error::Traces { key: "otlp_endpoint", given: given.clone(), why: why.into() };
        match given.parse::<http::Uri>() {
            Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some_and(|h| !h.is_empty()) => {
                Ok(())
            }
            Ok(uri) if uri.scheme_str() == Some("https") => Err(wrong(
                "spans are sent in clear: name a collector of this machine or network as http://host:4317, \
                 and let that one go on with TLS",
            )),
            Ok(_) | Err(_) => Err(wrong("it must be http://host:port, such as http://localhost:4317")),
        }
    }
}

/// The sending of spans, until it is dropped.
pub struct Exporting {
    provider: SdkTracerProvider,
    /// Of its own: the exporter must get on while the program's runtime is busy, or gone.
    runtime: Option<Runtime>,
}

impl Exporting {
    pub(super) fn start(service: &'static str, traces: &Traces) -> Result<Self, Error> {
        traces.check()?;
        let Some(endpoint) = &traces.otlp_endpoint else {
            return Ok(Self { provider: SdkTracerProvider::builder().build(), runtime: None });
        };
        let unusable = |why: String| Error::Traces { key: "otlp_endpoint", given: endpoint.clone(), why };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        let inner = {
            let _entered = runtime.enter();
            OtlpExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .with_timeout(EXPORT_DEADLINE)
                .build()
                .map_err(|error| unusable(error.to_string()))?
        };
        let exporter = Complaining { inner, endpoint: endpoint.clone(), last: Mutex::default() };
        let config = BatchConfigBuilder::default().with_scheduled_delay(PERIOD).build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        let resource = Resource::builder_empty()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", VERSION))
            .with_attribute(KeyValue::new("service.instance.id", uuid::Uuid::now_v7().to_string()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(traces.sample_ratio))))
            .with_span_processor(processor)
            .build();
        Ok(Self { provider, runtime: Some(runtime) })
    }

    pub(super) fn provider(&self) -> &SdkTracerProvider {
        &self.provider
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // It failed, or took too long: that was said, and the program ends all the same.
        let _ = self.provider.shutdown_with_timeout(FLUSH_DEADLINE);
        runtime.shutdown_background();
    }
}

/// Says that spans are lost, once in a while.
struct Complaining {
    inner: OtlpExporter,
    endpoint: String,
    last: Mutex<Option<Instant>>,
}

impl fmt::Debug for Complaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Complaining").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl SpanExporter for Complaining {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let done = self.inner.export(batch).await;
        if let Err(error) = &done {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_none_or(|at| at.elapsed() >= COMPLAINT) {
                *last = Some(Instant::now());
                warn!(endpoint = self.endpoint, spans, %error, "the collector does not take our traces");
            }
        }
        done
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(endpoint: &str, sample_ratio: f64) -> Traces {
        Traces { otlp_endpoint: Some(endpoint.to_owned()), sample_ratio }
    }

    #[test]
    fn an_address_that_is_none_is_refused_with_what_would_be_right() {
        to("http://localhost:4317", 0.1).check().expect("usable");
        Traces::default().check().expect("nothing is sent");
        for (wrong, says) in [
            (to("localhost:4317", 1.0), "http://localhost:4317"),
            (to("https://otel.example", 1.0), "in clear"),
            (to("", 1.0), "http://host:port"),
            (to("http://x:1", 1.5), "from 0 (none) to 1 (all)"),
            (to("http://x:1", f64::NAN), "sample_ratio"),
        ] {
            let error = wrong.check().expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    /// Nobody is there: spans are made as fast as ever, and the end comes within its bound.
    #[test]
    fn a_collector_that_is_away_holds_up_nothing() {
        use opentelemetry::trace::{Tracer as _, TracerProvider as _};
        // A port that takes connections and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
        let exporting = Exporting::start("test", &to(&endpoint, 1.0)).expect("usable");
        let tracer = exporting.provider().tracer("test");
        let begun = Instant::now();
        for _ in 0..10_000 {
            drop(tracer.start("span"));
        }
        let made = begun.elapsed();
        drop(exporting);
        assert!(made < Duration::from_secs(2), "{made:?} for spans that nobody takes");
        let all = begun.elapsed();
        assert!(all < made + FLUSH_DEADLINE + Duration::from_secs(3), "{all:?}");
    }
}
