//! The verbs that ask something of a migration.

use super::client::{Channel, Connection, said};
use super::migration::{Of, one};
use super::show::Output;
use super::watch;
use clap::Args;
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use shared::config::Period;
use shared::ids::ProfileName;
use std::io::Write;

/// What every action takes.
#[derive(Debug, Args)]
pub(super) struct Act {
    #[command(flatten)]
    of: Of,
    /// Wait for the outcome, with a bar per disk; exit code 1 when it failed.
    #[arg(long)]
    wait: bool,
    /// Sent with the request: the same request with the same key again does nothing and is answered as before, for 24
    /// hours. Made here when left out.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// What begins a protection.
#[derive(Debug, Args)]
pub(super) struct Begin {
    #[command(flatten)]
    act: Act,
    /// Kept with the migration and shown, such as 'instance!=web-02'; may be repeated.
    #[arg(long, value_name = "RULE")]
    affinity: Vec<String>,
    /// Target profile by which its VM is made. Default: the default profile, else none.
    #[arg(long, value_name = "NAME")]
    target: Option<ProfileName>,
    /// Go on although a finding blocks (`migration plan` shows them), for this reason, which is recorded.
    #[arg(long, value_name = "REASON")]
    force: Option<String>,
}

/// Nothing would be taken for nothing said.
fn some_time(text: &str) -> Result<Period, String> {
    match text.parse::<Period>() {
        Ok(span) if span.0.is_zero() => Err("a switch takes some time: at least 1s".to_owned()),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

/// Begin, sync until a switch is short enough, switch.
#[derive(Debug, Args)]
pub(super) struct Automatic {
    #[command(flatten)]
    begin: Begin,
    /// Switch when the predicted downtime is not longer, such as 90s. Default: 1m.
    #[arg(long, value_name = "SPAN", value_parser = some_time)]
    max_downtime: Option<Period>,
    /// Give up after so many cycles. Default: 20.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_cycles: Option<u32>,
}

/// Move the VM to the target, now or at a set time: a planned live failover as it usually is (`failover live` says more).
#[derive(Debug, Args)]
pub(super) struct Switch {
    #[command(flatten)]
    act: Act,
    /// Not now but then, RFC 3339, such as 2026-12-01T02:00:00+01:00.
    #[arg(long, value_name = "TIME", conflicts_with = "cancel")]
    at: Option<String>,
    /// Not at the time that was set.
    #[arg(long)]
    cancel: bool,
}

impl Act {
    fn request(&self, action: v1::Action) -> v1::ActRequest {
        v1::ActRequest {
            vm: self.of.vm.clone(),
            action: action.into(),
            idempotency_key: self.idempotency_key.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
            ..v1::ActRequest::default()
        }
    }
}

/// A request, and whether its outcome is waited for.
pub(super) struct Asked {
    request: v1::ActRequest,
    wait: bool,
}

impl Asked {
    pub(super) fn of(act: &Act, action: v1::Action) -> Self {
        Self { request: act.request(action), wait: act.wait }
    }
}

impl From<Begin> for Asked {
    fn from(begin: Begin) -> Self {
        let mut asked = Self::of(&begin.act, v1::Action::Begin);
        asked.request.affinity = begin.affinity;
        asked.request.target_profile = begin.target.map(String::from).unwrap_or_default();
        asked.request.force_reason = begin.force.unwrap_or_default();
        asked
    }
}

impl From<Automatic> for Asked {
    fn from(automatic: Automatic) -> Self {
        let mut asked = Self::from(automatic.begin);
        asked.request.action = v1::Action::Automatic.into();
        asked.request.max_downtime_ms =
            automatic.max_downtime.map_or(0, |span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX));
        asked.request.max_cycles = automatic.max_cycles.unwrap_or(0);
        asked
    }
}

impl From<Switch> for Asked {
    fn from(switch: Switch) -> Self {
        let mut asked = Self::of(&switch.act, v1::Action::Switch);
        asked.request.scheduled_timestamp = switch.at.unwrap_or_default();
        asked.request.cancel_scheduled = switch.cancel;
        asked
    }
}

/// Asks, and waits if that was said.
pub(super) async fn run(
    asked: Asked,
    connection: &Connection,
    channel: Channel,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let Asked { request, wait } = asked;
    let action = request.action();
    let answer = MigrationServiceClient::new(channel.clone()).act(request).await.map_err(|s| said(&s))?;
    let migration = answer.into_inner().migration.unwrap_or_default();
    if !wait {
        return one(&migration, output, out);
    }
    let ended = watch::until_done(connection, channel, &migration.migration_id, output).await?;
    one(&ended, output, out)?;
    done(action, &ended)
}

/// What was waited for, or why it did not come: a script goes by the exit code.
fn done(action: v1::Action, ended: &v1::Migration) -> anyhow::Result<()> {
    let cycle = ended.cycle.clone().unwrap_or_default();
    match action {
        _ if ended.state() == v1::State::Failed => {
            anyhow::bail!("{}: {}", ended.error_reason, ended.error_message)
        }
        v1::Action::Abort => Ok(()),
        v1::Action::Finalize if ended.phase() == v1::Phase::Finalize => Ok(()),
        _ if !ended.finished_at.is_empty() => anyhow::bail!("somebody aborted the migration meanwhile"),
        v1::Action::Sync if cycle.status != "completed" => anyhow::bail!(
            "cycle {} is {}: somebody paused it; `migratekit migration sync` goes on",
            cycle.job_id,
            cycle.status
        ),
        // What fails before its machine has run is taken back by itself: the VM is where it was.
        v1::Action::Switch if ended.phase() != v1::Phase::Switch && !ended.error_reason.is_empty() => {
            anyhow::bail!("it was taken back: {}: {}", ended.error_reason, ended.error_message)
        }
        // It stops by itself, and says why.
        v1::Action::Automatic if !ended.error_reason.is_empty() => {
            anyhow::bail!("{}: {}", ended.error_reason, ended.error_message)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_succeeds_when_what_was_asked_for_has_come() {
        let ended = |state: v1::State, cycle: &str, finished_at: &str| v1::Migration {
            state: state.into(),
            finished_at: finished_at.to_owned(),
            cycle: Some(v1::Cycle { status: cycle.to_owned(), ..v1::Cycle::default() }),
            ..v1::Migration::default()
        };
        let now = "2026-11-21T10:00:00Z";
        assert!(done(v1::Action::Sync, &ended(v1::State::Paused, "completed", "")).is_ok());
        assert!(done(v1::Action::Sync, &ended(v1::State::Paused, "paused", "")).is_err());
        assert!(done(v1::Action::Sync, &ended(v1::State::Failed, "failed", "")).is_err());
        assert!(done(v1::Action::Sync, &ended(v1::State::Paused, "aborted", now)).is_err());
        assert!(done(v1::Action::Pause, &ended(v1::State::Paused, "paused", "")).is_ok());
        assert!(done(v1::Action::Abort, &ended(v1::State::Paused, "aborted", now)).is_ok());
        assert!(done(v1::Action::Begin, &ended(v1::State::Paused, "", "")).is_ok());
        let stopped = v1::Migration {
            error_reason: "NON_CONVERGING".to_owned(),
            ..ended(v1::State::Paused, "completed", "")
        };
        assert!(done(v1::Action::Automatic, &stopped).is_err());
        let at = |phase: v1::Phase, m: v1::Migration| v1::Migration { phase: phase.into(), ..m };
        assert!(
            done(v1::Action::Switch, &at(v1::Phase::Switch, ended(v1::State::Successful, "", ""))).is_ok()
        );
        assert!(done(v1::Action::Switch, &at(v1::Phase::Switch, ended(v1::State::Failed, "", ""))).is_err());
        let said =
            done(v1::Action::Switch, &at(v1::Phase::Sync, stopped)).expect_err("taken back").to_string();
        assert!(said.contains("taken back") && said.contains("NON_CONVERGING"), "{said}");
        let later = at(v1::Phase::Sync, ended(v1::State::Paused, "completed", ""));
        assert!(done(v1::Action::Switch, &later).is_ok(), "at a set time");
        assert!(done(v1::Action::Rollback, &later).is_ok());
        assert!(
            done(v1::Action::Finalize, &at(v1::Phase::Finalize, ended(v1::State::Successful, "", now)))
                .is_ok()
        );
        assert!(
            done(v1::Action::Finalize, &at(v1::Phase::Abort, ended(v1::State::Aborted, "", now))).is_err()
        );
    }
}
