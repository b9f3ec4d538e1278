//! `migratekit failover …`

mod follow;
mod live;
mod ready;
mod report;
mod show;
mod subject;
mod test;

use super::client::{Channel, Connection, said};
use super::show::Output;
use clap::{Args, Subcommand, ValueEnum};
use proto::v1;
use proto::v1::failover_service_client::FailoverServiceClient;
use show::{list_table, one};
use std::io::Write;

pub(super) use test::Twice;

/// Start a VM from a restore point on the target: as a test, while replication goes on, or live, which moves it.
///
/// Exit codes: 0; 1 when it was refused, and with --wait when it failed; 64 for arguments that cannot be used.
#[derive(Debug, Args)]
pub(super) struct Failover {
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
    /// Start a second copy of a VM from a restore point, in isolated networks. The VM itself, and its replication, go on.
    Test(test::Test),
    /// Move a VM: power it off at its source, copy what it wrote last, and start it on the target. It can be rolled back until it is
    /// committed.
    Live(Box<live::Live>),
    /// Take a live failover back: the VM goes on at its source, what its machine wrote is kept for a time. Such as:
    /// migratekit failover rollback shop-db --wait
    Rollback(Decided),
    /// Make a live failover final: there is no way back then, and the replica goes. Such as: migratekit failover commit shop-db
    Commit(Decided),
    /// Remove what a test made: machine, clones, snapshot. Again, it is the same clean-up. Of a live failover that was rolled back
    /// (by its job): what was kept.
    Cleanup {
        /// The job; or name or uuid of the VM, or the migration's id, where there is one test of it.
        #[arg(value_name = "JOB|VM")]
        of: String,
        /// Wait for the end; exit code 1 when something is left.
        #[arg(long)]
        wait: bool,
    },
    /// Show one failover.
    Get(Of),
    /// List failovers, newest first.
    List(List),
    /// Follow a failover until it, and its rollback or clean-up if there is one, has ended, or Ctrl-C.
    Watch(Of),
    /// Print what its machine has written to its serial console.
    Console {
        #[command(flatten)]
        of: Of,
        /// Go on with what it writes, until the machine is gone or Ctrl-C.
        #[arg(short, long)]
        follow: bool,
    },
    /// Say how one went: steps, age of the data, health, console, findings. After its clean-up, too.
    Report(report::Report),
    /// Take everything back.
    Cancel(Of),
    /// Stop before the next step.
    Pause(Of),
    /// Go on after a pause.
    Resume(Of),
    /// Let the step be taken that waits for an approval.
    Approve(Of),
    /// Try what failed again.
    Retry(Of),
    /// Go on without what failed; refused where it protects data.
    Skip {
        #[command(flatten)]
        of: Of,
        /// Recorded with the step, and shown.
        #[arg(long)]
        reason: String,
    },
    /// Go on with the steps instead of taking them back.
    RollForward(Of),
}

#[derive(Debug, Args)]
struct Of {
    /// The job, such as enhanced-test-failover-420570c7-f61f-a930-77c5-1e876786cb3c-1756882765.
    #[arg(value_name = "JOB")]
    job: String,
}

/// Which live failover is decided about.
#[derive(Debug, Args)]
struct Decided {
    /// The job; or name or uuid of the VM, or the migration's id.
    #[arg(value_name = "JOB|VM")]
    of: String,
    /// Wait for the end; exit code 1 when it failed.
    #[arg(long)]
    wait: bool,
}

/// Which failovers.
#[derive(Debug, Args)]
struct List {
    /// Only with this status.
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Only of this type.
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// Only of this VM: name, uuid or migration id.
    #[arg(long)]
    vm: Option<String>,
    /// Not more than so many.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Pending,
    Validating,
    Executing,
    Completed,
    Failed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Test,
    Live,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Validating => "validating",
            Self::Executing => "executing",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }
}

pub(super) async fn run(args: Failover, out: &mut (impl Write + Send)) -> anyhow::Result<()> {
    // What is wrong with the arguments is said before anything is dialled.
    match &args.verb {
        Verb::Test(test) => test.check()?,
        Verb::Live(live) => live.check()?,
        _ => {}
    }
    let channel = args.connection.open().await?;
    let (connection, output) = (&args.connection, args.output);
    let mut client = FailoverServiceClient::new(channel.clone());
    let (job, action, reason) = match args.verb {
        Verb::Test(test) => return test::run(test, connection, channel, output, out).await,
        Verb::Live(live) => return live::run(*live, connection, channel, output, out).await,
        Verb::Rollback(which) => return live::roll_back(which, connection, channel, output, out).await,
        Verb::Commit(which) => return live::commit(which, channel, output, out).await,
        Verb::Cleanup { of, wait } => {
            let job_id = subject::test_of(&channel, &of).await?;
            let request = v1::FailoverServiceCleanupRequest { job_id };
            let answer = client.cleanup(request).await.map_err(|s| said(&s))?;
            let begun = answer.into_inner().failover.unwrap_or_default();
            if let Some(why) = follow::nothing_to_clean(&begun) {
                writeln!(std::io::stderr(), "{why}")?;
            }
            if !wait {
                return one(&begun, output, out);
            }
            return follow::until_cleaned(connection, channel, begun, output, out).await;
        }
        Verb::Get(of) => return one(&get(channel, of.job).await?, output, out),
        Verb::List(which) => return list(channel, which, output, out).await,
        Verb::Watch(of) => return follow::watch(connection, channel, &of.job, output, out).await,
        Verb::Console { of, follow } => return console(client, of.job, follow, out).await,
        Verb::Report(report) => return report::run(report, channel, out).await,
        Verb::Cancel(of) => (of.job, v1::FailoverAction::Cancel, String::new()),
        Verb::Pause(of) => (of.job, v1::FailoverAction::Pause, String::new()),
        Verb::Resume(of) => (of.job, v1::FailoverAction::Resume, String::new()),
        Verb::Approve(of) => (of.job, v1::FailoverAction::Approve, String::new()),
        Verb::Retry(of) => (of.job, v1::FailoverAction::Retry, String::new()),
        Verb::Skip { of, reason } => (of.job, v1::FailoverAction::Skip, reason),
        Verb::RollForward(of) => (of.job, v1::FailoverAction::RollForward, String::new()),
    };
    let request = v1::FailoverServiceAskRequest { job_id: job, action: action.into(), reason };
    let asked = client.ask(request).await.map_err(|s| said(&s))?.into_inner().failover;
    one(&asked.unwrap_or_default(), output, out)
}

async fn get(channel: Channel, job_id: String) -> anyhow::Result<v1::Failover> {
    let request = v1::FailoverServiceGetRequest { job_id };
    let answer = FailoverServiceClient::new(channel).get(request).await.map_err(|s| said(&s))?;
    Ok(answer.into_inner().failover.unwrap_or_default())
}

async fn list(channel: Channel, which: List, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    let vm_id = match &which.vm {
        Some(vm) => subject::vm(&channel, vm).await?.vm_uuid,
        None => String::new(),
    };
    let of = v1::FailoverServiceListRequest {
        status: which.status.map(Status::as_str).unwrap_or_default().to_owned(),
        r#type: which.kind.map(Kind::as_str).unwrap_or_default().to_owned(),
        vm_id,
        ..v1::FailoverServiceListRequest::default()
    };
    let (found, total) = subject::failovers(&channel, of, which.limit.unwrap_or(usize::MAX)).await?;
    if output == Output::Json {
        let rows: Vec<_> = found.iter().map(show::row_json).collect();
        let page = serde_json::json!({ "success": true, "data": rows, "total": total });
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&page)?)?);
    }
    if found.is_empty() {
        // stdout stays empty: it is what scripts count.
        writeln!(std::io::stderr(), "there is no such failover; `migratekit failover test VM` begins one")?;
        return Ok(());
    }
    if total > u64::try_from(found.len())? {
        writeln!(std::io::stderr(), "there are {total} of them")?;
    }
    Ok(writeln!(out, "{}", list_table(&found, output))?)
}

async fn console(
    mut client: FailoverServiceClient<Channel>,
    job_id: String,
    follow: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (mut offset, mut seen) = (0, false);
    loop {
        let request = v1::FailoverServiceConsoleRequest { job_id: job_id.clone(), offset };
        let part = match client.console(request).await {
            Ok(part) => part.into_inner(),
            // It was there: this is the end of it.
            Err(status)
                if seen
                    && shared::wire::refusal::reason_of(&status)
                        .is_some_and(|reason| reason == "NO_MACHINE") =>
            {
                return Ok(());
            }
            Err(status) => return Err(said(&status)),
        };
        seen = true;
        out.write_all(&part.data)?;
        out.flush()?;
        offset = part.offset + u64::try_from(part.data.len())?;
        if offset < part.end && !part.data.is_empty() {
            continue;
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(follow::CONSOLE).await;
    }
}
