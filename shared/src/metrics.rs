//! What a daemon counts and measures, as Prometheus reads it (text format 0.0.4, which `promtool check metrics` judges).
//!
//! ```text
//!  counted where it happens ──► [`Metrics`] ────┐
//!  read when it is asked for ──► [`Page`] ──────┴──► text
//! ```
//!
//! What a database or a registry of the process knows anyway is not counted a second time: it goes onto a page, made anew
//! for each scrape, so that what is gone leaves no series behind. Labels come from sets that are known beforehand; what a
//! client can choose is never one.

mod process;

use crate::telemetry::VERSION;
use prometheus::core::{Collector, Number as _};
use prometheus::{
    Counter, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::time::Duration;
use tonic::Code;

/// Content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Of calls: from what a lookup takes to what a client waits for.
const CALL_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// A name that the code below chose.
const CONSTANT: &str = "names, labels and help are constants of this program and fit together";

/// All that is counted by a program; clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    http: HistogramVec,
    grpc: HistogramVec,
}

impl Metrics {
    /// With what every program says of itself. `program` as in the log.
    pub fn new(program: &str) -> Self {
        let registry = Registry::new();
        let info = Opts::new("migratekit_build_info", "The program that runs; always 1.");
        let info = IntGaugeVec::new(info, &["program", "version"]).expect(CONSTANT);
        info.with_label_values(&[program, VERSION]).set(1);
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(CALL_SECONDS.to_vec());
            HistogramVec::new(options, labels).expect(CONSTANT)
        };
        let http = seconds(
            "migratekit_http_request_duration_seconds",
            "Time until the answer to an HTTP request began.",
            &["family", "method", "route", "status"],
        );
        let grpc = seconds(
            "migratekit_grpc_request_duration_seconds",
            "Time until the answer to a gRPC call began, and its code as of then.",
            &["service", "method", "code"],
        );
        let metrics = Self { registry, http, grpc };
        metrics.register(info);
        metrics.register(metrics.http.clone());
        metrics.register(metrics.grpc.clone());
        metrics
    }

    /// Shows something that is counted elsewhere in the process.
    pub fn register(&self, collector: impl Collector + 'static) {
        self.registry.register(Box::new(collector)).expect(CONSTANT);
    }

    /// An HTTP request was answered. `route` is the template, never the path: a path is the client's.
    pub fn http(&self, family: &str, method: &str, route: &str, status: u16, took: Duration) {
        let status = status.to_string();
        self.http.with_label_values(&[family, method, route, &status]).observe(took.as_secs_f64());
    }

    /// A gRPC call was answered.
    pub fn grpc(&self, path: &str, code: Code, took: Duration) {
        let unknown = ("unknown", "unknown");
        let (service, method) = match code {
            // The name is the client's.
            Code::Unimplemented => unknown,
            _ => path.trim_start_matches('/').split_once('/').unwrap_or(unknown),
        };
        let code = format!("{code:?}");
        self.grpc.with_label_values(&[service, method, &code]).observe(took.as_secs_f64());
    }

    /// Everything, and what is on `page`.
    pub fn text(&self, page: &Page) -> String {
        process::read(page);
        let mut families = self.registry.gather();
        families.extend(page.0.gather());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        // It fails for a family without metrics, which is not gathered.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

/// Metrics of one moment.
#[derive(Default)]
pub struct Page(Registry);

impl Page {
    /// What goes up and down.
    pub fn gauge(&self, name: &str, help: &str, value: f64) {
        let gauge = Gauge::new(name, help).expect(CONSTANT);
        gauge.set(value);
        self.0.register(Box::new(gauge)).expect(CONSTANT);
    }

    /// What only grows.
    pub fn counter(&self, name: &str, help: &str, value: f64) {
        let counter = Counter::new(name, help).expect(CONSTANT);
        counter.inc_by(value.max(0.0));
        self.0.register(Box::new(counter)).expect(CONSTANT);
    }

    /// As [`gauge`](Self::gauge), one for each set of labels.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let gauges = GaugeVec::new(Opts::new(name, help), labels).expect(CONSTANT);
        self.0.register(Box::new(gauges.clone())).expect(CONSTANT);
        gauges
    }
}

/// A count as a metric: exact up to 2^53.
pub fn number(count: u64) -> f64 {
    count.into_f64()
}

/// As [`number`].
pub fn amount(count: usize) -> f64 {
    number(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_and_what_is_read_come_as_one_text() {
        let metrics = Metrics::new("test");
        metrics.http("progress", "GET", "/api/v1/progress/{job_id}", 404, Duration::from_millis(3));
        metrics.grpc("/migratekit.v1.MigrationService/Get", Code::Ok, Duration::from_millis(300));
        metrics.grpc("/made.up/Name", Code::Unimplemented, Duration::ZERO);
        let page = Page::default();
        page.gauges("migratekit_things", "Things.", &["kind"]).with_label_values(&["a\"b"]).set(2.0);
        let text = metrics.text(&page);
        for line in [
            "migratekit_http_request_duration_seconds_count{family=\"progress\",method=\"GET\",\
             route=\"/api/v1/progress/{job_id}\",status=\"404\"} 1",
            "migratekit_grpc_request_duration_seconds_bucket{code=\"Ok\",method=\"Get\",\
             service=\"migratekit.v1.MigrationService\",le=\"0.25\"} 0",
            "migratekit_grpc_request_duration_seconds_count{code=\"Unimplemented\",method=\"unknown\",\
             service=\"unknown\"} 1",
            "migratekit_things{kind=\"a\\\"b\"} 2",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("made.up"), "a client's word is no label");
        let again = metrics.text(&Page::default());
        assert!(!again.contains("migratekit_things"), "what is gone leaves nothing behind");
    }
}
