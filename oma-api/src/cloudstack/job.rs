//! Jobs: what a poll says, and when to poll again. Pure.

use super::answer::refusal;
use super::error::Refusal;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// Between two polls of a job, at most.
const MOST: Duration = Duration::from_secs(5);

/// The id of a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobId(String);

impl From<&str> for JobId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JobId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a command began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub command: String,
    /// Of what the command makes, where the server says it at once.
    pub makes: Option<String>,
}

impl Job {
    /// Of the answer to `command`. `None`: it began none.
    pub fn of(command: &str, answer: &Value) -> Option<Self> {
        let text = |name| answer.get(name).and_then(Value::as_str);
        let id = JobId::from(text("jobid")?);
        Some(Self { id, command: command.to_owned(), makes: text("id").map(str::to_owned) })
    }
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Poll {
    Pending,
    /// What it gave; `Null` where it gives nothing.
    Done(Value),
    Failed(Refusal),
    /// It is over, and no result of it is known. It may have been carried out.
    Lost(&'static str),
}

impl Poll {
    /// Reads the outer status only: what a job made may have one of its own.
    pub fn of(answer: &Value) -> Self {
        let result = answer.get("jobresult");
        match answer.get("jobstatus").and_then(Value::as_u64) {
            Some(0) => Self::Pending,
            Some(1) => Self::Done(result.cloned().unwrap_or_default()),
            Some(2) => match result.and_then(refusal) {
                Some(refusal) => Self::Failed(refusal),
                // As a server says of the jobs that it was running when it ended.
                None => Self::Lost("it ended without a result, as when the management server was restarted"),
            },
            Some(3) => Self::Lost("it was cancelled at the server"),
            Some(_) | None => Self::Lost("the server says of it what this version does not know"),
        }
    }

    /// The server does not know the job any more.
    pub fn expired() -> Self {
        Self::Lost("the management server has no record of it any more")
    }
}

/// How long to wait before poll number `polls` (0: the first, after `first`).
pub(super) fn patience(first: Duration, polls: u32) -> Duration {
    let grown = first.mul_f64(1.5_f64.powi(i32::try_from(polls.min(20)).unwrap_or(20)));
    grown.min(MOST.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_outer_status_counts() {
        let inner = json!({"volume": {"id": "v", "jobstatus": 0, "jobid": "x"}});
        assert_eq!(
            Poll::of(&json!({"jobstatus": 1, "jobresult": inner, "jobresultcode": 0})),
            Poll::Done(inner)
        );
        assert_eq!(Poll::of(&json!({"jobstatus": 0, "jobresultcode": 0})), Poll::Pending);
        assert_eq!(Poll::of(&json!({"jobstatus": 1})), Poll::Done(Value::Null));
    }

    #[test]
    fn a_failure_without_a_reason_is_no_failure() {
        let failed = json!({"jobstatus": 2, "jobresultcode": 530, "jobresult": {"errorcode": 530, "errortext": "no room"}});
        assert_eq!(
            Poll::of(&failed),
            Poll::Failed(Refusal { code: 530, exception: None, text: "no room".to_owned() })
        );
        for lost in [
            json!({"jobstatus": 2, "jobresultcode": 530}),
            json!({"jobstatus": 3}),
            json!({"jobstatus": 7}),
            json!({}),
        ] {
            assert!(matches!(Poll::of(&lost), Poll::Lost(_)), "{lost}");
        }
    }

    #[test]
    fn a_job_is_asked_for_at_most_once_a_second() {
        let first = Duration::from_secs(1);
        let waits: Vec<_> = (0..30).map(|polls| patience(first, polls)).collect();
        assert!(waits.iter().all(|wait| (first..=MOST).contains(wait)), "{waits:?}");
        assert!(waits.is_sorted() && waits.last() == Some(&MOST), "{waits:?}");
    }

    #[test]
    fn a_command_may_say_at_once_what_it_makes() {
        let job = Job::of("createVolume", &json!({"id": "v", "jobid": "j"}));
        assert_eq!(
            job,
            Some(Job {
                id: JobId::from("j"),
                command: "createVolume".to_owned(),
                makes: Some("v".to_owned())
            })
        );
        assert_eq!(Job::of("updateVolume", &json!({"volume": {"jobid": "j"}})), None);
    }
}
