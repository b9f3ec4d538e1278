//! Following a failover: a line a step as it ends. It survives restarts of the control plane.

use super::super::client::{Channel, Connection, said};
use super::super::show::Output;
use super::{get, show, subject};
use proto::v1;
use proto::v1::failover_service_client::FailoverServiceClient;
use std::collections::HashSet;
use std::io::Write;
use std::time::{Duration, Instant};
use tonic::Code;

/// How long a control plane may be away before a watch gives up.
const AWAY: Duration = Duration::from_secs(300);

/// How long a migration may take to follow its live failover, and to remove its replica after a commit.
const FOLLOWS: Duration = Duration::from_secs(10);
pub(super) const REMOVAL: Duration = Duration::from_secs(300);

/// Between looks at a migration.
const SETTLES: Duration = Duration::from_millis(100);

/// Between looks at a console.
pub(super) const CONSOLE: Duration = Duration::from_millis(500);

/// Prints every state until all of it has ended. JSON: one object a line.
pub(super) async fn watch(
    connection: &Connection,
    channel: Channel,
    job: &str,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    let last = each_state(connection, channel, job, |failover| {
        match output {
            Output::Json => writeln!(out, "{}", show::job_json(failover))?,
            Output::Table | Output::Wide => steps.say(failover, out)?,
        }
        Ok(true)
    })
    .await?;
    match (output, last) {
        (Output::Table | Output::Wide, Some(last)) => Ok(writeln!(out, "{}", outcome(&last))?),
        _ => Ok(()),
    }
}

/// Waits until its machine runs or it has failed.
pub(super) async fn until_done(
    connection: &Connection,
    channel: Channel,
    begun: v1::Failover,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let job = begun.job_id.clone();
    let goes_on = |f: &v1::Failover| !matches!(f.status.as_str(), "completed" | "failed");
    let ended = wait(connection, channel.clone(), &job, Steps::default(), goes_on).await?;
    if ended.r#type == "live" {
        settled(&channel, &ended.migration_id, FOLLOWS).await?;
    }
    show::one(&ended, output, out)?;
    match ended.status.as_str() {
        "completed" => Ok(()),
        _ => Err(failed(&ended.error_code, &ended.error_message)),
    }
}

/// Why a clean-up has nothing to do: what was committed is production.
pub(super) fn nothing_to_clean(failover: &v1::Failover) -> Option<String> {
    let committed = failover.standing == "handed_over";
    committed.then(|| format!("{} was committed: nothing of it is left to clean up", failover.job_id))
}

/// Waits until nothing is left, or something cannot be removed.
pub(super) async fn until_cleaned(
    connection: &Connection,
    channel: Channel,
    begun: v1::Failover,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let job = begun.job_id.clone();
    let goes_on = |f: &v1::Failover| {
        f.cleanup.as_ref().is_some_and(|c| !matches!(c.status.as_str(), "completed" | "failed"))
    };
    // How the test went is no news.
    let mut steps = Steps::default();
    steps.say(&begun, &mut std::io::sink())?;
    let ended = match goes_on(&begun) {
        true => wait(connection, channel, &job, steps, goes_on).await?,
        false => begun,
    };
    show::one(&ended, output, out)?;
    match &ended.cleanup {
        Some(cleanup) if ended.is_there => Err(failed(&cleanup.error_code, &cleanup.error_message)),
        _ => Ok(()),
    }
}

/// Waits until a live failover is taken back, or that cannot go on.
pub(super) async fn until_back(
    connection: &Connection,
    channel: Channel,
    begun: v1::Failover,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let job = begun.job_id.clone();
    let goes_on = |f: &v1::Failover| {
        f.rollback.as_ref().is_some_and(|r| !matches!(r.status.as_str(), "completed" | "failed"))
    };
    // How it went on its way there is no news.
    let mut steps = Steps::default();
    let before = v1::Failover { rollback: None, ..begun.clone() };
    steps.say(&before, &mut std::io::sink())?;
    let ended = match goes_on(&begun) {
        true => wait(connection, channel.clone(), &job, steps, goes_on).await?,
        false => begun,
    };
    settled(&channel, &ended.migration_id, FOLLOWS).await?;
    show::one(&ended, output, out)?;
    match &ended.rollback {
        Some(back) if back.status != "completed" => Err(failed(&back.error_code, &back.error_message)),
        _ => Ok(()),
    }
}

/// Waits a while until the migration does no work any more, so that the next command finds it as this one says; why its work
/// failed, if it did.
pub(super) async fn settled(channel: &Channel, id: &str, within: Duration) -> anyhow::Result<Option<String>> {
    let until = Instant::now() + within;
    loop {
        let migration = subject::vm(channel, id).await?;
        match migration.state() {
            v1::State::Running if Instant::now() < until => {}
            v1::State::Failed => {
                return Ok(Some(format!("{}: {}", migration.error_reason, migration.error_message)));
            }
            _ => return Ok(None),
        }
        tokio::time::sleep(SETTLES).await;
    }
}

fn failed(code: &str, message: &str) -> anyhow::Error {
    let code = if code.is_empty() { "FAILED" } else { code };
    anyhow::anyhow!("{message} [{code}]")
}

/// Lines to stderr meanwhile: stdout is the result's. Ctrl-C ends the waiting, never the job.
async fn wait(
    connection: &Connection,
    channel: Channel,
    job: &str,
    mut steps: Steps,
    goes_on: impl Fn(&v1::Failover) -> bool,
) -> anyhow::Result<v1::Failover> {
    let mut last = None;
    let waiting = each_state(connection, channel.clone(), job, |failover| {
        steps.say(failover, &mut std::io::stderr())?;
        last = Some(failover.clone());
        Ok(goes_on(failover))
    });
    tokio::select! {
        ended = waiting => {
            ended?;
            match last {
                Some(last) => Ok(last),
                None => get(channel, job.to_owned()).await,
            }
        }
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            anyhow::bail!("no longer waited for; {job} goes on: `migratekit failover watch {job}` follows it, \
                           `migratekit failover cancel {job}` takes it back")
        }
    }
}

/// Calls `state` with each state until it says `false` or all has ended; gives the last.
async fn each_state(
    connection: &Connection,
    mut channel: Channel,
    job: &str,
    mut state: impl FnMut(&v1::Failover) -> anyhow::Result<bool>,
) -> anyhow::Result<Option<v1::Failover>> {
    let (mut last, mut seen) = (None, 0);
    let mut away_since: Option<Instant> = None;
    loop {
        let request = v1::FailoverServiceWatchRequest { job_id: job.to_owned() };
        let broken = match FailoverServiceClient::new(channel.clone()).watch(request).await {
            Ok(answer) => {
                let mut states = answer.into_inner();
                loop {
                    match states.message().await {
                        Ok(Some(v1::FailoverServiceWatchResponse { sequence, failover: Some(failover) })) => {
                            away_since = None;
                            // After a break it begins with the state as it is: perhaps the one that was said.
                            if sequence != seen || last.is_none() {
                                seen = sequence;
                                if !state(&failover)? {
                                    return Ok(Some(failover));
                                }
                                last = Some(failover);
                            }
                        }
                        Ok(Some(_)) => {}
                        Ok(None) if last.as_ref().is_some_and(has_ended) => return Ok(last),
                        Ok(None) => break tonic::Status::unavailable("the control plane closed the stream"),
                        Err(status) => break status,
                    }
                }
            }
            Err(status) => status,
        };
        let passing =
            matches!(broken.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal);
        let since = *away_since.get_or_insert_with(Instant::now);
        if !passing || since.elapsed() > AWAY {
            return Err(said(&broken));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        if let Ok(again) = connection.open().await {
            channel = again;
        }
    }
}

fn has_ended(failover: &v1::Failover) -> bool {
    let ended = |state: &str| matches!(state, "succeeded" | "rolled_back");
    // One that waits for a decision has its rollback in its place.
    (failover.rollback.is_some() || ended(&failover.engine_state))
        && failover.rollback.as_ref().is_none_or(|r| ended(&r.engine_state))
        && failover.cleanup.as_ref().is_none_or(|c| ended(&c.engine_state))
}

/// In one line.
fn outcome(failover: &v1::Failover) -> String {
    let job = &failover.job_id;
    match (&failover.cleanup, &failover.rollback, failover.status.as_str()) {
        (Some(cleanup), _, _) if cleanup.status == "completed" => format!("{job} is cleaned up"),
        (_, Some(rollback), _) if rollback.status == "completed" => format!("{job} is rolled back"),
        (_, Some(rollback), _) => {
            let (code, message) = (&rollback.error_code, &rollback.error_message);
            format!("the rollback of {job} has {}: {message} [{code}]", rollback.status)
        }
        _ if failover.standing == "handed_over" => format!("{job} is committed"),
        (_, None, "completed") if failover.r#type == "live" => format!(
            "{job} has completed: `migratekit failover commit {job}` keeps it, `migratekit failover rollback {job}` takes it back"
        ),
        (_, None, "completed") => format!("{job} has completed"),
        (_, None, status) => {
            format!("{job} has {status}: {} [{}]", failover.error_message, failover.error_code)
        }
    }
}

/// Says each step once, when it has ended.
#[derive(Default)]
struct Steps {
    said: HashSet<String>,
}

impl Steps {
    fn say(&mut self, failover: &v1::Failover, out: &mut impl Write) -> std::io::Result<()> {
        let back = failover.rollback.iter().flat_map(|rollback| &rollback.steps);
        for step in failover.steps.iter().chain(back) {
            let ended = matches!(step.status.as_str(), "completed" | "failed");
            // One that was tried again, or taken back, is said again.
            if ended && self.said.insert(format!("{} {} {}", step.name, step.status, step.completed_at)) {
                writeln!(out, "{}", show::step_line(step))?;
            }
        }
        for warning in &failover.warnings {
            if self.said.insert(format!("warning {warning}")) {
                writeln!(out, "warning: {warning}")?;
            }
        }
        if let Some(rollback) = &failover.rollback
            && self.said.insert(format!("rollback {}", rollback.status))
        {
            writeln!(out, "rollback {}", rollback.status)?;
        }
        if let Some(cleanup) = &failover.cleanup
            && self.said.insert(format!("clean-up {}", cleanup.status))
        {
            writeln!(out, "clean-up {}", cleanup.status)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_said_once_when_it_has_ended() {
        let step = |name: &str, status: &str, completed_at: &str| v1::FailoverStep {
            name: name.to_owned(),
            status: status.to_owned(),
            started_at: "2026-11-22T10:00:00Z".to_owned(),
            completed_at: completed_at.to_owned(),
            ..v1::FailoverStep::default()
        };
        let mut failover = v1::Failover {
            steps: vec![
                step("validation", "completed", "2026-11-22T10:00:01Z"),
                step("snapshot", "executing", ""),
            ],
            ..v1::Failover::default()
        };
        let (mut steps, mut said) = (Steps::default(), Vec::new());
        steps.say(&failover, &mut said).expect("said");
        steps.say(&failover, &mut said).expect("said");
        failover.steps[1] = step("snapshot", "completed", "2026-11-22T10:00:03.5Z");
        steps.say(&failover, &mut said).expect("said");
        let said = String::from_utf8(said).expect("text");
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(said.contains("snapshot") && said.contains("3.5s"), "{said}");
    }

    #[test]
    fn all_has_ended_when_the_clean_up_has() {
        let of = |state: &str, cleanup: Option<&str>| v1::Failover {
            engine_state: state.to_owned(),
            cleanup: cleanup
                .map(|state| v1::FailoverCleanup { engine_state: state.to_owned(), ..Default::default() }),
            ..v1::Failover::default()
        };
        assert!(has_ended(&of("succeeded", None)) && has_ended(&of("rolled_back", None)));
        assert!(has_ended(&of("succeeded", Some("succeeded"))));
        assert!(!has_ended(&of("running", None)) && !has_ended(&of("needs_attention", None)));
        assert!(!has_ended(&of("succeeded", Some("running"))));
        let rolled = |state: &str, back: &str| v1::Failover {
            rollback: Some(v1::FailoverRollback { engine_state: back.to_owned(), ..Default::default() }),
            ..of(state, None)
        };
        assert!(!has_ended(&rolled("succeeded", "running")) && has_ended(&rolled("succeeded", "succeeded")));
        assert!(has_ended(&rolled("needs_attention", "succeeded")), "the rollback has its place");
        assert!(!has_ended(&rolled("succeeded", "needs_attention")));
    }

    #[test]
    fn the_last_line_says_what_became_of_it() {
        let live = v1::Failover {
            job_id: "j".to_owned(),
            r#type: "live".to_owned(),
            status: "completed".to_owned(),
            ..v1::Failover::default()
        };
        assert!(
            outcome(&live).contains("failover commit j") && outcome(&live).contains("failover rollback j")
        );
        let committed = v1::Failover { standing: "handed_over".to_owned(), ..live.clone() };
        assert_eq!(outcome(&committed), "j is committed");
        let back = |status: &str| {
            Some(v1::FailoverRollback {
                status: status.to_owned(),
                error_code: "POWER_ON_FAILED".to_owned(),
                ..Default::default()
            })
        };
        let rolled = v1::Failover { rollback: back("completed"), ..live.clone() };
        assert_eq!(outcome(&rolled), "j is rolled back");
        let stuck = outcome(&v1::Failover { rollback: back("failed"), ..live });
        assert!(stuck.contains("[POWER_ON_FAILED]"), "{stuck}");
    }

    #[test]
    fn a_committed_failover_has_nothing_to_clean_up() {
        let of = |standing: &str| v1::Failover { standing: standing.to_owned(), ..Default::default() };
        assert!(nothing_to_clean(&of("handed_over")).is_some_and(|why| why.contains("committed")));
        assert!(["there", "kept", "gone"].iter().all(|standing| nothing_to_clean(&of(standing)).is_none()));
    }
}
