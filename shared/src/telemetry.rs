//! Logs on stderr, and trace ids that travel.
//!
//! Every span gets a W3C trace id from an OpenTelemetry provider inside the process, so that one trace spans CLI, OMA
//! and VMA: [`inject`] puts `traceparent` into the metadata of a call, [`adopt`] takes it up on the other side.
//! Nothing is exported: an exporter is one line at the provider when there is a collector to send to.
//!
//! Not here: metrics, and what is logged. Logs go to stderr only; the journal keeps them.

use std::io::IsTerminal as _;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::Deserialize;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::LevelFilter;
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
    /// Telemetry was started before, by this process.
    #[error("logging was already started in this process")]
    AlreadyStarted,
}

/// Starts logging for the whole process. `service` names the program in traces.
///
/// # Errors
/// [`Error::Level`] for a level that cannot be read, from the configuration or from `RUST_LOG`.
pub fn init(service: &'static str, log: &Log) -> Result<(), Error> {
    let filter = filter(log, std::env::var("RUST_LOG").ok())?;
    let colour = if std::io::stderr().is_terminal() { Colour::Yes } else { Colour::No };
    let subscriber = subscriber(service, log.format, filter, colour, std::io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::AlreadyStarted)
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
    service: &'static str,
    format: Format,
    filter: EnvFilter,
    colour: Colour,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let tracer = SdkTracerProvider::builder().build().tracer(service);
    let traces = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour == Colour::Yes);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(traces).with(lines)
}

/// Puts the current span's `traceparent` into the metadata of a call. Without a trace nothing is added.
pub fn inject(metadata: &mut MetadataMap) {
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut Outgoing(metadata));
}

/// Makes `span` a child of the caller's, if the metadata carries a valid `traceparent`; otherwise it starts a trace of
/// its own. To be called before the span is entered.
pub fn adopt(span: &Span, metadata: &MetadataMap) {
    let context = TraceContextPropagator::new().extract(&Incoming(metadata));
    if context.span().span_context().is_valid() {
        // Fails for a span that is disabled or already entered: then the trace merely begins here.
        let _ = span.set_parent(context);
    }
}

/// The trace id of the current span, 32 hexadecimal digits; `None` outside of any trace.
pub fn trace_id() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let id = span.span_context();
    id.is_valid().then(|| id.trace_id().to_string())
}

struct Outgoing<'a>(&'a mut MetadataMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = MetadataKey::from_bytes(key.as_bytes());
        if let (Ok(key), Ok(value)) = (key, MetadataValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

struct Incoming<'a>(&'a MetadataMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new() // asked for by baggage only, which is not carried
    }
}

#[cfg(test)]
mod tests;
