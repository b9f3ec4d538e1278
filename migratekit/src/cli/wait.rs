//! `migratekit migration wait VM`: until nothing runs any more, with an exit code an outcome.

use super::client::{Channel, Connection};
use super::migration::{Of, one};
use super::show::Output;
use super::watch;
use clap::Args;
use proto::v1;
use shared::config::Period;
use std::io::Write;

/// Wait until nothing of the migration runs.
#[derive(Debug, Args)]
pub(super) struct Wait {
    #[command(flatten)]
    pub(super) of: Of,
    /// Give up after this, with exit code 4. Default: never.
    #[arg(long, value_name = "SPAN")]
    timeout: Option<Period>,
}

/// How the waiting ended, where it is no success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Outcome {
    #[error("the migration of {vm} has failed: {reason}: {message}")]
    Failed { vm: String, reason: String, message: String },
    #[error("the migration of {vm} was aborted")]
    Aborted { vm: String },
    #[error("the migration of {vm} still runs after {after}; it goes on, wait again")]
    TimedOut { vm: String, after: String },
}

impl Outcome {
    /// For scripts; 64 and 1 are those of every command.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::Failed { .. } => 2,
            Self::Aborted { .. } => 3,
            Self::TimedOut { .. } => 4,
        }
    }
}

pub(super) async fn run(
    wait: Wait,
    connection: &Connection,
    channel: Channel,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let vm = wait.of.vm;
    let waiting = watch::until_done(connection, channel, &vm, output);
    let ended = match wait.timeout {
        None => waiting.await?,
        Some(Period(after)) => tokio::time::timeout(after, waiting)
            .await
            .map_err(|_| Outcome::TimedOut { vm, after: humanly(after) })??,
    };
    one(&ended, output, out)?;
    match outcome(&ended) {
        Some(outcome) => Err(outcome.into()),
        None => Ok(()),
    }
}

fn humanly(span: std::time::Duration) -> String {
    indicatif::HumanDuration(span).to_string()
}

fn outcome(ended: &v1::Migration) -> Option<Outcome> {
    let vm = ended.vm_name.clone();
    match ended.state() {
        v1::State::Failed => Some(Outcome::Failed {
            vm,
            reason: ended.error_reason.clone(),
            message: ended.error_message.clone(),
        }),
        v1::State::Aborted => Some(Outcome::Aborted { vm }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_an_exit_code_of_its_own() {
        let code = |state: v1::State| {
            let ended = v1::Migration { state: state.into(), ..v1::Migration::default() };
            outcome(&ended).map_or(0, |outcome| outcome.exit_code())
        };
        assert_eq!(code(v1::State::Paused), 0);
        assert_eq!(code(v1::State::Successful), 0);
        assert_eq!(code(v1::State::Failed), 2);
        assert_eq!(code(v1::State::Aborted), 3);
    }
}
