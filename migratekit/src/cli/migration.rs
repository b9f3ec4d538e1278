//! `migratekit migration …`

use super::accept::{self, Accept};
use super::act::{self, Act, Asked, Automatic, Begin, Switch};
use super::adopt;
use super::client::{Channel, Connection, said};
use super::estimate;
use super::plan::{self, Plan};
use super::schedule::{self, Schedule};
use super::show::{self, Output};
use super::wait::{self, Wait};
use super::watch;
use clap::{Args, Subcommand, ValueEnum};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use shared::config::ByteSize;
use std::io::Write;

/// Protect a VM: begin, sync, switch, pause, abort, and look at it.
///
/// Exit codes: 0; 1 when it was refused or failed; 64 for arguments that cannot be used; of `wait` 2 when the migration has
/// failed, 3 when it was aborted, 4 when the time was up; of `plan` 2 when begin would be refused.
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
    /// What stands against protecting a VM, and what would be made of it; changes nothing. Exit code 2 when begin would be
    /// refused.
    Plan(Plan),
    /// Make the replica's volumes; the first step.
    #[command(visible_alias = "start")]
    Begin(Begin),
    /// Say what the next cycle and a switch will take, from what was measured.
    Estimate(Of),
    /// After the loss of the database: take back the volumes that are on the target; the first sync compares them.
    Adopt(adopt::Adopt),
    /// Bring the replica up to date: all of it the first time, then what changed. Ends in a restore point.
    Sync(Act),
    /// Move the VM to the target, now or at a set time: a planned live failover as it usually is. `failover live` takes more options,
    /// and `failover list` shows how it goes.
    Switch(Switch),
    /// Begin, sync until a switch is short enough, switch.
    Automatic(Automatic),
    /// Stop the running sync at a durable point; `sync` goes on from there.
    Pause(Act),
    /// Keep the schedule from starting cycles.
    Hold(Act),
    /// Let the schedule start cycles again.
    Release(Act),
    /// End the protection: remove the replica with its restore points, and everything of ours at the source.
    Abort(Act),
    /// Keep the VM on the target for good, after a switch: there is no way back then, and the replica goes.
    Finalize(Act),
    /// Take a switch back: the VM goes on at its source.
    Rollback(Act),
    /// Protect a VM whose disks came, went or have another size, as it is now. The next sync copies a new disk as a whole,
    /// compares a grown one, and leaves out what is gone; restore points of before stay as they are.
    Accept(Accept),
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
    Get {
        #[command(flatten)]
        of: Of,
        /// Newest runs of its phases that are shown, at most 1000.
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
        history: u32,
    },
    /// List migrations, newest first.
    List(List),
    /// Follow a migration until it ends or Ctrl-C.
    Watch(Of),
    /// Wait until nothing of a migration runs.
    Wait(Wait),
}

#[derive(Debug, Args)]
pub(super) struct Of {
    /// Name or uuid of the VM, or the migration's id.
    #[arg(value_name = "VM")]
    pub(super) vm: String,
}

/// Which migrations.
#[derive(Debug, Args)]
struct List {
    /// Ended ones too.
    #[arg(long)]
    all: bool,
    /// Only in this phase.
    #[arg(long, value_enum)]
    phase: Option<Phase>,
    /// Only in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only of this agent.
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Only with this in the VM's name, its uuid or the migration's id.
    #[arg(long)]
    text: Option<String>,
    /// Not more than so many.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

macro_rules! words {
    ($name:ident { $($word:ident),* }) => {
        #[derive(Clone, Copy, Debug, ValueEnum)]
        enum $name { $($word),* }

        impl From<$name> for v1::$name {
            fn from(word: $name) -> Self {
                match word { $($name::$word => Self::$word),* }
            }
        }
    };
}

words!(Phase { Begin, Sync, Switch, Finalize, Abort, Rollback });
words!(State { Running, Paused, Failed, Successful, Aborted });

pub(super) async fn run(args: Migration, out: &mut impl Write) -> anyhow::Result<()> {
    let channel = args.connection.open().await?;
    let (connection, output) = (&args.connection, args.output);
    let asked: Asked = match args.verb {
        Verb::Begin(begin) => begin.into(),
        Verb::Automatic(automatic) => automatic.into(),
        Verb::Switch(switch) => switch.into(),
        Verb::Sync(act) => Asked::of(&act, v1::Action::Sync),
        Verb::Pause(act) => Asked::of(&act, v1::Action::Pause),
        Verb::Hold(act) => Asked::of(&act, v1::Action::Hold),
        Verb::Release(act) => Asked::of(&act, v1::Action::Release),
        Verb::Abort(act) => Asked::of(&act, v1::Action::Abort),
        Verb::Finalize(act) => Asked::of(&act, v1::Action::Finalize),
        Verb::Rollback(act) => Asked::of(&act, v1::Action::Rollback),
        Verb::Estimate(of) => return estimate::run(of.vm, channel, output, out).await,
        Verb::Accept(asked) => return one(&accept::accept(asked, channel).await?, output, out),
        Verb::Limit { of, rate } => {
            let request = v1::LimitRequest { vm: of.vm, rate_bytes_per_second: rate.bytes() };
            let answer = MigrationServiceClient::new(channel).limit(request).await.map_err(|s| said(&s))?;
            return one(&answer.into_inner().migration.unwrap_or_default(), output, out);
        }
        Verb::Adopt(asked) => return adopt::run(asked, channel, output, out).await,
        Verb::Plan(asked) => return plan::run(asked, channel, output, out).await,
        Verb::Schedule(asked) => return schedule::run(asked, channel, output, out).await,
        Verb::Get { of, history } => return one(&get(channel, &of.vm, history).await?, output, out),
        Verb::List(which) => return list(channel, which, output, out).await,
        Verb::Watch(of) => return watch::follow(connection, channel, &of.vm, output, out).await,
        Verb::Wait(wait) => return wait::run(wait, connection, channel, output, out).await,
    };
    act::run(asked, connection, channel, output, out).await
}

async fn get(channel: Channel, vm: &str, history: u32) -> anyhow::Result<v1::Migration> {
    let request = v1::GetRequest { vm: vm.to_owned(), history };
    let answer = MigrationServiceClient::new(channel).get(request).await.map_err(|s| said(&s))?;
    Ok(answer.into_inner().migration.unwrap_or_default())
}

async fn list(channel: Channel, which: List, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    let mut client = MigrationServiceClient::new(channel);
    let (mut migrations, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListRequest {
            all: which.all,
            phase: which.phase.map(v1::Phase::from).unwrap_or_default().into(),
            state: which.state.map(v1::State::from).unwrap_or_default().into(),
            agent_id: which.agent.clone().unwrap_or_default(),
            text: which.text.clone().unwrap_or_default(),
            page_size: 500,
            page_token,
            history: 0,
        };
        let answer = client.list(request).await.map_err(|s| said(&s))?.into_inner();
        migrations.extend(answer.migrations);
        page_token = answer.next_page_token;
        if page_token.is_empty() || which.limit.is_some_and(|limit| migrations.len() >= limit) {
            break;
        }
    }
    let limit = which.limit.unwrap_or(usize::MAX);
    if migrations.len() > limit || !page_token.is_empty() {
        writeln!(std::io::stderr(), "there are more than these {limit}")?;
    }
    migrations.truncate(limit);
    match output {
        Output::Table | Output::Wide if migrations.is_empty() => {
            // stdout stays empty: it is what scripts count.
            writeln!(
                std::io::stderr(),
                "no VM is protected; `migratekit vm list` shows the VMs, `migratekit migration begin VM` protects one"
            )?;
        }
        Output::Table | Output::Wide => writeln!(out, "{}", show::migrations_table(&migrations, output))?,
        Output::Json => {
            let all: Vec<_> = migrations.iter().map(show::migration_json).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        }
    }
    Ok(())
}

pub(super) fn one(migration: &v1::Migration, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    match output {
        Output::Table | Output::Wide => writeln!(out, "{}", show::migration_text(migration))?,
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&show::migration_json(migration))?)?,
    }
    Ok(())
}
