//! What of a test failover is the control plane's own: its duration, without the time in which it waited for an answer of a target
//! or for a job, by the lines of its log that carry the test's id.
//!
//! What a step asks, it asks one after the other, so that the waits of one test do not overlap, and their sum is what it waited.
//! A sleep counts with the time for which it was meant: what it took longer is the control plane's own.

use super::super::super::report;
use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;

const ANSWERS: [&str; 2] = ["asked CloudStack", "asked LINSTOR"];
const SLEEP: &str = "a job is waited for";

/// Milliseconds of each test, sorted.
pub(super) struct Own {
    all: Vec<f64>,
    answers: Vec<f64>,
    sleeps: Vec<f64>,
    own: Vec<f64>,
}

impl Own {
    /// Of tests from one time to another.
    pub(super) fn of(log: &str, tests: &[(String, Timestamp, Timestamp)]) -> anyhow::Result<Self> {
        let spans: HashMap<_, _> = tests.iter().map(|(job, from, to)| (job.as_str(), (*from, *to))).collect();
        let mut waited: HashMap<&str, (f64, f64)> = HashMap::new();
        for line in log.lines() {
            let answer = ANSWERS.iter().any(|what| line.contains(what));
            if !answer && !line.contains(SLEEP) {
                continue;
            }
            let Some(job) = field(line, "workflow=") else { continue };
            let Some((job, (from, to))) = spans.get_key_value(job) else { continue };
            let at: Timestamp = line.split_whitespace().next().unwrap_or_default().parse()?;
            if at < *from || at > *to {
                continue;
            }
            let ms: f64 = field(line, " ms=").context("a wait without its time")?.parse()?;
            let (answers, sleeps) = waited.entry(job).or_default();
            *(if answer { answers } else { sleeps }) += ms;
        }
        anyhow::ensure!(waited.len() == tests.len(), "the log has waits of {} tests", waited.len());
        let all = tests.iter().map(|(_, from, to)| to.duration_since(*from).as_secs_f64() * 1e3);
        let own = tests.iter().zip(all.clone()).map(|((job, ..), all)| {
            let (answers, sleeps) = waited.get(job.as_str()).copied().unwrap_or_default();
            all - answers - sleeps
        });
        Ok(Self {
            own: report::sorted(own),
            all: report::sorted(all),
            answers: report::sorted(waited.values().map(|(answers, _)| *answers)),
            sleeps: report::sorted(waited.values().map(|(_, sleeps)| *sleeps)),
        })
    }

    /// What 99 of a hundred did not exceed; of fewer than a hundred, none.
    pub(super) fn p99(&self) -> f64 {
        let rank = (self.own.len() * 99).div_ceil(100);
        self.own.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    pub(super) fn said(&self) -> String {
        let middle = |of: &[f64]| report::percentile(of, 50);
        format!(
            "{} tests, {:.0} ms in the middle, of which {:.0} ms waits for answers and {:.0} ms for jobs; own {:.0} ms, {:.0} at p99, \
             {:.0} at most",
            self.all.len(),
            middle(&self.all),
            middle(&self.answers),
            middle(&self.sleeps),
            middle(&self.own),
            self.p99(),
            report::percentile(&self.own, 100),
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({ "all_ms": self.all, "answers_ms": self.answers, "jobs_ms": self.sleeps, "own_ms": self.own })
    }
}

/// What stands behind a word, up to what cannot be in an id or a number.
fn field<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    let rest = rest.trim_start_matches('"');
    rest.split(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_within_a_test_is_not_its_own() -> anyhow::Result<()> {
        let line = |at: u32, job: &str, what: &str, ms: f64| {
            format!(
                "2026-01-01T00:00:0{at}Z DEBUG workflow{{workflow={job} correlation_id=\"c\"}}: x: {what} status=200 ms={ms}\n"
            )
        };
        let log = [
            line(1, "a", "asked LINSTOR call=\"GET /v1/nodes\"", 100.5),
            line(2, "a", "a job is waited for job=j", 1000.0),
            line(2, "a", "a step has begun", 500.0),
            // Somebody else's, and its clean-up's.
            line(2, "b", "asked CloudStack command=\"x\"", 1000.0),
            line(5, "a", "asked CloudStack command=\"x\"", 1000.0),
        ];
        let tests = [("a".to_owned(), "2026-01-01T00:00:00Z".parse()?, "2026-01-01T00:00:03Z".parse()?)];
        let own = Own::of(&log.concat(), &tests)?;
        assert_eq!((own.own.as_slice(), own.p99()), ([1899.5].as_slice(), 1899.5));
        Ok(())
    }
}
