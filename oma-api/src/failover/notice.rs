//! What somebody is told by mail of a failover, and when. Pure: it is written in the transaction of the change that it
//! tells of, and says what was so then.

use super::live::{self, CommitPolicy};
use super::status::Status;
use super::{Failover, Kind};
use crate::workflow::{Job, JobState, WorkflowId, policy};
use serde_json::{Map, Value};
use shared::words;
use std::fmt::Write as _;

words!(
    /// What happened.
    Event, "event of a failover", {
        Completed = "completed",
        Failed = "failed",
        /// It goes on when somebody has decided.
        Waiting = "waiting",
        RolledBack = "rolled_back",
        Committed = "committed",
    }
);

/// A mail, but for who sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub event: Event,
    /// A mailbox, as it was asked for.
    pub to: String,
    pub subject: String,
    /// Plain text.
    pub body: String,
}

/// Who wants to hear of it: `{"email": "admin@example.org"}`.
///
/// # Errors
/// What is wrong with it.
pub fn recipient(config: &Map<String, Value>) -> Result<Option<&str>, String> {
    let Some(email) = config.get("email") else { return Ok(None) };
    let address = email.as_str().ok_or_else(|| "takes one mail address, as a text".to_owned())?;
    match address.parse::<lettre::Address>() {
        Ok(_) if address.len() <= 320 => Ok(Some(address)),
        Ok(_) | Err(_) => {
            let shown: String = address.chars().take(80).collect();
            Err(format!("{shown:?} is no mail address: write it as admin@example.org"))
        }
    }
}

/// Of a job of the failover that has come to another state: itself, its clean-up, its rollback. `None`: nobody is told.
pub fn of_job(failover: &Failover, changed: &WorkflowId) -> Option<Notice> {
    use JobState as S;
    let is = |job: &Option<Job>| job.as_ref().filter(|job| job.id == *changed).cloned();
    let (job, event) = if failover.job.id == *changed {
        let event = match failover.job.state {
            S::Succeeded => Event::Completed,
            S::RolledBack => Event::Failed,
            S::AwaitingApproval | S::NeedsAttention => Event::Waiting,
            S::Queued | S::Running | S::Paused | S::Unwinding => return None,
        };
        (failover.job.clone(), event)
    } else {
        let rollback = is(&failover.rollback);
        let event = match rollback.as_ref().or(is(&failover.cleanup).as_ref())?.state {
            S::Succeeded if rollback.is_some() => Event::RolledBack,
            S::AwaitingApproval | S::NeedsAttention => Event::Waiting,
            S::Queued | S::Running | S::Paused | S::Unwinding | S::Succeeded | S::RolledBack => return None,
        };
        (rollback.or_else(|| is(&failover.cleanup))?, event)
    };
    notice(failover, &job, event)
}

/// Of a live one that was committed.
pub fn of_commit(failover: &Failover) -> Option<Notice> {
    notice(failover, &failover.job, Event::Committed)
}

fn notice(failover: &Failover, job: &Job, event: Event) -> Option<Notice> {
    let config = failover.record.notification_config.as_ref()?.as_object()?;
    let to = recipient(config).ok().flatten()?.to_owned();
    let record = &failover.record;
    // A subject is one line.
    let vm: String = record.vm_name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let what = match event {
        Event::Completed => "has completed",
        Event::Failed => "has failed",
        Event::Waiting => "waits for a decision",
        Event::RolledBack => "was rolled back",
        Event::Committed => "was committed",
    };
    let subject = format!("{} failover of {vm} {what}", record.kind);
    let mut body = format!("The {subject}.\n\n");
    let mut line = |name: &str, value: String| {
        // Writing to a text cannot fail.
        let _ = writeln!(body, "{:<16}{value}", format!("{name}:"));
    };
    line("Job", record.job.to_string());
    if job.id != record.job {
        line("Its job now", job.id.to_string());
    }
    line("VM", format!("{vm} ({})", record.vm));
    line("Status", format!("{} ({})", Status::of(job), job.state));
    if let Some(error) = &job.error {
        line("Error", error.reason.clone());
        line("", error.message.clone());
    }
    line("Restore point", record.restore_point.to_string());
    if let Some(ended) = job.ended_at {
        let took = ended.duration_since(job.created_at).as_secs_f64();
        line("Took", format!("{took:.1} s, from the request on"));
    }
    line("Asked for by", record.requested_by.clone());
    line("Correlation id", job.correlation.clone());
    let next = next(failover, job, event);
    let _ = write!(body, "\nWhat to do next:\n{next}\n");
    Some(Notice { event, to, subject: format!("[MigrateKit] {subject}"), body })
}

fn next(failover: &Failover, job: &Job, event: Event) -> String {
    let (record, id) = (&failover.record, &failover.record.job);
    match (event, record.kind) {
        (Event::Completed, Kind::Test) => match failover.expires() {
            Some(at) => format!(
                "Its machine runs beside the VM until {at}, and is then removed by itself; `migratekit failover cleanup {id}` \
                 does it at once, `migratekit failover report {id}` says how it went."
            ),
            None => format!(
                "Its machine runs beside the VM until `migratekit failover cleanup {id}`; `migratekit failover report {id}` \
                 says how it went."
            ),
        },
        (Event::Completed, Kind::Live) => {
            let policy = match live::due(&failover.job) {
                Some((CommitPolicy::Commit, at)) => format!(" At {at} it is committed by itself."),
                Some((CommitPolicy::Rollback, at)) => format!(" At {at} it is rolled back by itself."),
                Some((CommitPolicy::None, _)) | None => String::new(),
            };
            format!(
                "The VM runs on the target. See that it does its work; then `migratekit failover commit {id}` ends the way back, or \
                 `migratekit failover rollback {id}` takes it.{policy}"
            )
        }
        (Event::Failed, _) => {
            "What it had made was taken back, and replication goes on. What the error code means, and what to do: \
             /docs/failover/troubleshooting.md of the REST API. Then ask for it again."
                .to_owned()
        }
        (Event::Waiting, _) if job.state == JobState::AwaitingApproval => format!(
            "`migratekit failover approve {id}` lets its next step be taken, `migratekit failover cancel {id}` takes it back."
        ),
        (Event::Waiting, _) => format!(
            "Look after what the message says; then `migratekit failover retry {id}`. What may be asked of it now: {}. What the \
             error code means: /docs/failover/troubleshooting.md of the REST API.",
            policy::allowed(job).join(", ")
        ),
        (Event::RolledBack, _) => format!(
            "The VM is at its source again, and replication goes on. What its machine had written on the target is kept for {} \
             hours; `migratekit failover cleanup {id}` removes it at once.",
            record.keep.as_secs() / 3600
        ),
        (Event::Committed, _) => {
            "Nothing: the VM stays on the target, and there is no way back by MigrateKit.".to_owned()
        }
    }
}
