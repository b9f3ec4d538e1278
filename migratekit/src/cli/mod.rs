//! The operator's commands: arguments → a call of the library or of a daemon → a table, JSON, or one clear error.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0; 64 for arguments and configuration that cannot be
//! used; 2 when the preflight of `migration plan` blocks; 1 otherwise. No logic of the product lives here.

mod accept;
mod act;
mod adopt;
mod client;
mod configuration;
mod dev_ca;
mod estimate;
mod failover;
mod migration;
mod orphans;
mod plan;
mod schedule;
mod show;
mod status;
mod target;
mod token;
mod verify;
mod vm;
mod wait;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use shared::config::EXIT_CONFIGURATION;
use shared::telemetry::{self, Log, Traces};
use tracing::{Instrument as _, info_span};

/// Something stands against what was looked at.
const EXIT_BLOCKED: u8 = 2;

/// Moves running virtual machines from VMware to CloudStack.
#[derive(Debug, Parser)]
#[command(name = "migratekit", version = telemetry::VERSION, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Copy(Box<migratekit::copy::Args>),
    Bench(migratekit::bench::Args),
    DevCa(dev_ca::Args),
    Vm(vm::Vm),
    Migration(migration::Migration),
    Failover(Box<failover::Failover>),
    Status(status::Status),
    Orphans(orphans::Orphans),
    Target(Box<target::Target>),
    Verify(verify::Verify),
    Token(token::Token),
    /// Print what makes a shell complete our commands, such as: migratekit completion bash > /etc/bash_completion.d/migratekit
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Reads the arguments, runs the command, prints its error.
pub(crate) fn main() -> ExitCode {
    let parsed = Cli::command()
        .try_get_matches()
        .and_then(|matches| Ok((name_of(&matches), Cli::from_arg_matches(&matches)?)));
    let (name, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // A closed stdout or stderr is no reason to fail.
            let _ = error.print();
            return exit_code(&error);
        }
    };
    // Progress and results are the command's own output; logs are for finding faults (RUST_LOG).
    let log = Log { level: "warn".to_owned(), ..Log::default() };
    let done = telemetry::init("migratekit", &log, &Traces::of_environment())
        .map_err(Into::into)
        // The traces are sent when the command has ended.
        .and_then(|_exporting| run(cli, &name, &mut io::stdout()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // `migratekit … | head`: who reads has enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done when stderr is closed, too.
            let _ = writeln!(io::stderr(), "migratekit: {error:#}");
            let of_copy = error.downcast_ref().map(migratekit::copy::Error::exit_code);
            let of_bench = error.downcast_ref().map(migratekit::bench::Error::exit_code);
            let of_waiting = error.downcast_ref().map(wait::Outcome::exit_code);
            let unusable = error.is::<client::Missing>()
                || error.is::<client::BadToken>()
                || error.is::<client::BadAddress>()
                || error.is::<target::Unusable>()
                || error.is::<failover::Twice>();
            let of_arguments = unusable.then_some(EXIT_CONFIGURATION);
            let of_plan = error.is::<plan::Blocked>().then_some(EXIT_BLOCKED);
            let code = of_copy.or(of_bench).or(of_waiting).or(of_arguments).or(of_plan);
            ExitCode::from(code.unwrap_or(1))
        }
    }
}

/// clap's own code for wrong arguments is 2; help and version are no error.
fn exit_code(error: &clap::Error) -> ExitCode {
    if error.use_stderr() { ExitCode::from(EXIT_CONFIGURATION) } else { ExitCode::SUCCESS }
}

/// The commands that were given, without what they were given: `migratekit migration sync`.
fn name_of(matches: &ArgMatches) -> String {
    let commands = std::iter::successors(matches.subcommand(), |(_, of)| of.subcommand());
    commands.fold("migratekit".to_owned(), |name, (command, _)| format!("{name} {command}"))
}

fn run(cli: Cli, name: &str, out: &mut (impl Write + Send)) -> anyhow::Result<()> {
    // The root of the trace: what daemons do for this command lies below it.
    let span = info_span!("command", otel.name = name, otel.kind = "client");
    match cli.command {
        Command::Copy(args) => copy(&args, out),
        Command::Bench(args) => bench(&args, out),
        Command::DevCa(args) => dev_ca::run(&args, out),
        Command::Vm(args) => block_on(vm::run(args, out).instrument(span)),
        Command::Migration(args) => block_on(migration::run(args, out).instrument(span)),
        Command::Failover(args) => block_on(failover::run(*args, out).instrument(span)),
        Command::Status(args) => block_on(status::run(args, out).instrument(span)),
        Command::Orphans(args) => block_on(orphans::run(args, out).instrument(span)),
        Command::Target(args) => block_on(target::run(*args, out).instrument(span)),
        Command::Verify(args) => block_on(verify::run(args, out).instrument(span)),
        Command::Token(args) => block_on(token::run(args, out).instrument(span)),
        Command::Completion { shell } => {
            // It does not take a pipe that is closed.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "migratekit", &mut script);
            Ok(out.write_all(&script)?)
        }
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn copy(args: &migratekit::copy::Args, out: &mut (impl Write + Send)) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(migratekit::copy::run(args, out)).map(|_| ());
    // Nobody waits until the name of a progress API's host is found; the copy's own writes have ended.
    runtime.shutdown_background();
    Ok(done?)
}

/// On several threads, as the daemons are.
fn bench(args: &migratekit::bench::Args, out: &mut (impl Write + Send)) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(migratekit::bench::run(args, out)).map(|_| ());
    // A write that is under way must not hold up the end.
    runtime.shutdown_background();
    Ok(done?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_arguments_are_code_64_and_help_is_0() {
        let code = |arguments: &[&str]| {
            let error = Cli::try_parse_from(["migratekit"].iter().chain(arguments)).expect_err("no command");
            format!("{:?}", exit_code(&error))
        };
        assert_eq!(code(&["--help"]), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(&["--version"]), format!("{:?}", ExitCode::SUCCESS));
        for wrong in [&["no-such-command"][..], &["dev-ca"], &["dev-ca", "--out", "x", "--days", "0"]] {
            assert_eq!(code(wrong), format!("{:?}", ExitCode::from(64)), "{wrong:?}");
        }
    }

    #[test]
    fn a_trace_is_named_after_the_command_and_not_after_what_it_was_given() {
        let matches =
            Cli::command().try_get_matches_from(["migratekit", "migration", "sync", "web-1", "--wait"]);
        assert_eq!(name_of(&matches.expect("a command")), "migratekit migration sync");
    }
}
