//! `migratekit migration …`

use super::client::{Channel, Connection, said};
use super::schedule::{self, Schedule};
use super::show::{self, Output};
use super::watch;
use clap::{Args, Subcommand};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use shared::config::ByteSize;
use std::io::Write;

/// Protect a VM: begin, sync, pause, abort, and look at it.
#[derive(Debug, Args)]
pub(super) struct Migration {
    /// How the result is printed.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the replica's volumes; the first step.
    Begin(Act),
    /// Bring the replica up to date: all of it the first time, then what changed. Ends in a restore point.
    Sync(Act),
    /// Stop the running sync at a durable point; `sync` goes on from there.
    Pause(Act),
    /// Keep the schedule from starting cycles.
    Hold(Act),
    /// Let the schedule start cycles again.
    Release(Act),
    /// End the protection: remove the replica with its restore points, and everything of ours at the source.
    Abort(Act),
    /// Bound what its transfers take of the network, at once, for the running sync too.
    Limit {
        #[command(flatten)]
        of: Of,
        /// A second, for all its disks together, such as 50MiB; 0 for no limit of its own. The agent's own limit stays.
        #[arg(long, value_name = "SIZE")]
        rate: ByteSize,
    },
    /// Start cycles by themselves: intervals, cron, blackouts, rates by time of day, and how old a restore point may get.
    #[command(subcommand)]
    Schedule(Schedule),
    /// Show one migration.
    Get(Of),
    /// List migrations.
    List {
        /// Ended ones too.
        #[arg(long)]
        all: bool,
    },
    /// Follow a migration until it ends or Ctrl-C.
    Watch(Of),
}

#[derive(Debug, Args)]
struct Of {
    /// Name or uuid of the VM, or the migration's id.
    #[arg(value_name = "VM")]
    vm: String,
}

#[derive(Debug, Args)]
struct Act {
    #[command(flatten)]
    of: Of,
    /// Wait for the outcome, with a bar per disk; exit code 1 when it failed.
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(args: Migration, out: &mut impl Write) -> anyhow::Result<()> {
    let channel = args.connection.open().await?;
    let (act, action) = match args.verb {
        Verb::Begin(act) => (act, v1::Action::Begin),
        Verb::Sync(act) => (act, v1::Action::Sync),
        Verb::Pause(act) => (act, v1::Action::Pause),
        Verb::Hold(act) => (act, v1::Action::Hold),
        Verb::Release(act) => (act, v1::Action::Release),
        Verb::Abort(act) => (act, v1::Action::Abort),
        Verb::Limit { of, rate } => {
            let request = v1::LimitRequest { vm: of.vm, rate_bytes_per_second: rate.bytes() };
            let answer = MigrationServiceClient::new(channel).limit(request).await.map_err(|s| said(&s))?;
            return one(&answer.into_inner().migration.unwrap_or_default(), args.output, out);
        }
        Verb::Schedule(asked) => return schedule::run(asked, channel, args.output, out).await,
        Verb::Get(of) => return one(&get(channel, &of.vm).await?, args.output, out),
        Verb::List { all } => return list(channel, all, args.output, out).await,
        Verb::Watch(of) => return watch::follow(&args.connection, channel, &of.vm, args.output, out).await,
    };
    let request = v1::ActRequest {
        vm: act.of.vm.clone(),
        action: action.into(),
        // Made here, so that a request that is sent again by the way does nothing twice.
        idempotency_key: uuid::Uuid::now_v7().to_string(),
        ..v1::ActRequest::default()
    };
    let answer = MigrationServiceClient::new(channel.clone()).act(request).await.map_err(|s| said(&s))?;
    let migration = answer.into_inner().migration.unwrap_or_default();
    if !act.wait {
        return one(&migration, args.output, out);
    }
    let ended = watch::until_done(&args.connection, channel, &migration.migration_id, args.output).await?;
    one(&ended, args.output, out)?;
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
        _ if !ended.finished_at.is_empty() => anyhow::bail!("somebody aborted the migration meanwhile"),
        v1::Action::Sync if cycle.status != "completed" => anyhow::bail!(
            "cycle {} is {}: somebody paused it; `migratekit migration sync` goes on",
            cycle.job_id,
            cycle.status
        ),
        _ => Ok(()),
    }
}

async fn get(channel: Channel, vm: &str) -> anyhow::Result<v1::Migration> {
    let request = v1::GetRequest { vm: vm.to_owned(), history: 0 };
    let answer = MigrationServiceClient::new(channel).get(request).await.map_err(|s| said(&s))?;
    Ok(answer.into_inner().migration.unwrap_or_default())
}

async fn list(channel: Channel, all: bool, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    let mut client = MigrationServiceClient::new(channel);
    let (mut migrations, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListRequest { all, page_size: 500, page_token, ..v1::ListRequest::default() };
        let answer = client.list(request).await.map_err(|s| said(&s))?.into_inner();
        migrations.extend(answer.migrations);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    match output {
        Output::Table if migrations.is_empty() => {
            // stdout stays empty: it is what scripts count.
            writeln!(
                std::io::stderr(),
                "no VM is protected; `migratekit vm list` shows the VMs, `migratekit migration begin VM` protects one"
            )?;
        }
        Output::Table => writeln!(out, "{}", show::migrations_table(&migrations))?,
        Output::Json => {
            let all: Vec<_> = migrations.iter().map(show::migration_json).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        }
    }
    Ok(())
}

fn one(migration: &v1::Migration, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    match output {
        Output::Table => writeln!(out, "{}", show::migration_text(migration))?,
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&show::migration_json(migration))?)?,
    }
    Ok(())
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
    }
}
