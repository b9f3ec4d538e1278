//! Logs on stderr, and trace ids that travel.
//!
//! Every span gets a W3C trace id from an OpenTelemetry provider inside the process, so that one trace spans CLI, OMA
//! and VMA: [`inject`] puts `traceparent` into the metadata of a call, [`adopt`] takes it up on the other side. Where a
//! collector is named, `export` sends the spans there; elsewhere they only carry the ids.
//!
//! Not here: metrics, and what is logged. Logs go to stderr only; the journal keeps them.

mod export;

pub use export::{Exporting, Traces};

use std::io::IsTerminal as _;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::Deserialize;
use std::collections::HashMap;
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// What `--version` prints after the program's name.
pub const VERSION: &str = match option_env!("MIGRATEKIT_VERSION") {
    Some(given) => given,
    None => env!("CARGO_PKG_VERSION"),
};

/// The `[log]` table of a daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level, or directives such as `info,oma_api::store=debug`. `RUST_LOG` overrides it.
    pub level: String,
    /// How a line looks.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Text }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A level or a directive that is none.
    #[error(
        "log level {given:?} (from {origin}) is not understood: use error, warn, info, debug, trace, \
         or directives such as info,oma_api::store=debug"
    )]
    Level {
        /// As given.
        given: String,
        /// `RUST_LOG` or the configuration.
        origin: &'static str,
        /// The parser's reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An address of a collector that is none, or a share that is none.
    #[error("telemetry.{key} {given:?} cannot be used: {why}")]
    Traces {
        /// `otlp_endpoint` or `sample_ratio`.
        key: &'static str,
        /// As given.
        given: String,
        /// What would be right.
        why: String,
    },
    /// Telemetry was started before, by this process.
    #[error("logging was already started in this process")]
    AlreadyStarted,
}

/// Starts logging for the whole process, and the sending of spans where a collector is named. `service` names the
/// program in traces. What it gives is dropped at the end: that sends what is left.
///
/// # Errors
/// [`Error::Level`] for a level that cannot be read, from the configuration or from `RUST_LOG`; [`Error::Traces`].
pub fn init(service: &'static str, log: &Log, traces: &Traces) -> Result<Exporting, Error> {
    let filter = filter(log, std::env::var("RUST_LOG").ok())?;
    let colour = if std::io::stderr().is_terminal() { Colour::Yes } else { Colour::No };
    let exporting = Exporting::start(service, traces)?;
    let subscriber = subscriber(exporting.provider(), service, log.format, filter, colour, std::io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::AlreadyStarted)?;
    Ok(exporting)
}

/// Whether the level can be read; starts nothing.
///
/// # Errors
/// [`Error::Level`].
pub fn check(log: &Log) -> Result<(), Error> {
    filter(log, None).map(|_| ())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    Yes,
    No,
}

fn filter(log: &Log, environment: Option<String>) -> Result<EnvFilter, Error> {
    let (given, origin) = match environment.filter(|text| !text.is_empty()) {
        Some(text) => (text, "RUST_LOG"),
        None => (log.level.clone(), "the configuration, log.level"),
    };
    // A word alone is a level: as a directive, a misspelt one would pass for a module's name and silence all others.
    let parsed: Result<EnvFilter, Box<dyn std::error::Error + Send + Sync>> =
        if given.chars().all(|c| c.is_ascii_alphanumeric()) {
            given
                .parse()
                .map(|level: LevelFilter| EnvFilter::default().add_directive(level.into()))
                .map_err(Into::into)
        } else {
            EnvFilter::builder().parse(&given).map_err(Into::into)
        };
    parsed.map_err(|source| Error::Level { given, origin, source })
}

fn subscriber<W>(
    provider: &SdkTracerProvider,
    service: &'static str,
    format: Format,
    filter: EnvFilter,
    colour: Colour,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // What is traced does not depend on what is logged: a quiet program is traced all the same. Lines are not sent along,
    // nor are the spans of libraries, of which there are thousands a second.
    let traced = filter_fn(|of| {
        let ours = OURS.iter().any(|name| of.target().starts_with(name));
        of.is_span() && *of.level() <= tracing::Level::INFO && ours
    });
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        .with_location(false)
        .with_threads(false)
        // Not worth two looks at the clock for every poll of a transfer.
        .with_tracked_inactivity(false)
        .with_filter(traced);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour == Colour::Yes);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    tracing_subscriber::registry().with(traces).with(lines.with_filter(filter))
}

/// The packages whose spans are sent.
const OURS: &[&str] = &["shared", "migratekit", "oma_api", "vma_agent"];

/// The header, and the metadata.
const TRACEPARENT: &str = "traceparent";

/// The current span as a `traceparent`, for whoever goes on with the trace; `None` outside of any.
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    let mut out = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut out);
    out.remove(TRACEPARENT)
}

/// Puts the current span's `traceparent` into the metadata of a call. Without a trace nothing is added.
pub fn inject(metadata: &mut MetadataMap) {
    if let Some(value) = traceparent().and_then(|value| MetadataValue::try_from(value).ok()) {
        metadata.insert(TRACEPARENT, value);
    }
}

/// As [`inject`], for a request that is made by hand.
pub fn inject_headers(headers: &mut HeaderMap) {
    if let Some(value) = traceparent().and_then(|value| value.try_into().ok()) {
        headers.insert(TRACEPARENT, value);
    }
}

/// Makes `span` a child of the one that `traceparent` names, if it is one; otherwise it starts a trace of its own. To be
/// called before the span is entered.
pub fn adopt(span: &Span, traceparent: Option<&str>) {
    let Some(value) = traceparent else { return };
    let context = TraceContextPropagator::new().extract(&Incoming(value));
    if context.span().span_context().is_valid() {
        // Fails for a span that is disabled or already entered: then the trace merely begins here.
        let _ = span.set_parent(context);
    }
}

/// As [`adopt`], with the caller's of a request.
pub fn adopt_headers(span: &Span, headers: &HeaderMap) {
    adopt(span, headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()));
}

/// The trace id of the current span, 32 hexadecimal digits; `None` outside of any trace.
pub fn trace_id() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let id = span.span_context();
    id.is_valid().then(|| id.trace_id().to_string())
}

struct Incoming<'a>(&'a str);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new() // asked for by baggage only, which is not carried
    }
}

#[cfg(test)]
mod tests;
