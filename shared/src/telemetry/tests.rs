use std::io;
use std::sync::{Arc, Mutex};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no writer panicked").clone()).expect("logs are text")
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn with_logs(format: Format, level: &str, run: impl FnOnce()) -> String {
    let lines = Lines::default();
    let log = Log { level: level.to_owned(), format };
    let writer = lines.clone();
    let filter = filter(&log, None).expect("a level");
    let provider = SdkTracerProvider::builder().build();
    let subscriber = subscriber(&provider, "test", format, filter, Colour::No, move || writer.clone());
    tracing::subscriber::with_default(subscriber, run);
    lines.text()
}

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_trace_goes_from_the_caller_through_a_service_to_the_next() {
    with_logs(Format::Text, "info", || {
        let span = tracing::info_span!("rpc");
        adopt(&span, Some(CALLER));
        let _entered = span.enter();
        assert_eq!(trace_id().as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));

        let inner = tracing::info_span!("call");
        let _entered = inner.enter();
        let mut out = MetadataMap::new();
        inject(&mut out);
        let sent = out.get("traceparent").expect("injected").to_str().expect("ascii");
        assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{sent}");
        assert!(sent.ends_with("-01"), "sampled as the caller's: {sent}");
        assert!(!sent.contains("b7ad6b7169203331"), "the parent is our span, not the caller's: {sent}");
    });
}

#[test]
fn a_trace_begins_here_when_the_caller_sent_none_or_nonsense() {
    let short = "00-0af7651916cd43dd8448eb211c80319c-01";
    let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
    for given in [None, Some("junk"), Some(short), Some(zero)] {
        with_logs(Format::Text, "info", || {
            let span = tracing::info_span!("rpc");
            adopt(&span, given);
            let id = span.in_scope(trace_id).expect("a trace of its own");
            assert_eq!(id.len(), 32);
            assert!(!id.starts_with("0af7651916cd43dd"), "{given:?}");
        });
    }
}

#[test]
fn what_is_not_logged_is_traced_and_libraries_are_not() {
    let text = with_logs(Format::Text, "error", || {
        let span = tracing::info_span!("rpc");
        assert!(span.in_scope(trace_id).is_some(), "a program that says nothing is traced all the same");
        let library = tracing::info_span!(target: "h2::codec", "frame");
        assert_eq!(library.in_scope(trace_id), None);
    });
    assert_eq!(text, "");
}

#[test]
fn without_a_span_nothing_is_sent() {
    with_logs(Format::Text, "info", || {
        let mut out = MetadataMap::new();
        inject(&mut out);
        assert!(out.is_empty(), "{out:?}");
        assert_eq!(trace_id(), None);
    });
}

#[test]
fn json_is_one_object_a_line_with_its_spans() {
    let text = with_logs(Format::Json, "info", || {
        let span = tracing::info_span!("cycle", job_id = "job-1");
        let _entered = span.enter();
        tracing::info!(bytes = 5u64, "disk\nfinished");
        tracing::debug!("not asked for");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in [r#""level":"INFO""#, r#""bytes":5"#, r#""job_id":"job-1""#, r#""message":"disk\nfinished""#]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn text_has_fields_and_keeps_to_the_level() {
    let text = with_logs(Format::Text, "warn", || {
        tracing::info!("quiet");
        tracing::warn!(disk_id = "d1", "slow");
    });
    assert!(text.contains("slow") && text.contains("disk_id=\"d1\"") && !text.contains("quiet"), "{text}");
}

#[test]
fn the_environment_wins_and_a_misspelt_level_is_refused() {
    let log = |level: &str| Log { level: level.to_owned(), format: Format::Text };
    assert_eq!(filter(&log("info"), Some("debug".to_owned())).expect("a level").to_string(), "debug");
    assert_eq!(filter(&log("info"), Some(String::new())).expect("a level").to_string(), "info");
    assert!(filter(&log("info,oma_api::store=debug"), None).is_ok());
    for bad in ["inffo", "info,shared=loud", "verbose"] {
        let error = filter(&log(bad), None).expect_err(bad);
        assert!(error.to_string().contains(bad), "{error}");
        assert!(error.to_string().contains("log.level"), "{error}");
    }
    let error = filter(&log("info"), Some("loud".to_owned())).expect_err("no level");
    assert!(error.to_string().contains("RUST_LOG"), "{error}");
}
