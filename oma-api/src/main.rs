//! `oma-api`: the control plane's daemon.

use clap::Parser;
use oma_api::backup::Command;
use oma_api::{Config, Listeners, Oma, targets};
use shared::config::EXIT_CONFIGURATION;
use shared::daemon::{self, Purpose};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// The control plane of MigrateKit: keeps the state, receives the disks, writes the replicas.
#[derive(Parser)]
#[command(version = shared::telemetry::VERSION, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Args {
    /// Configuration file (TOML); deploy/examples/oma-api.toml documents every key.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Read and check the configuration and the certificates, then exit.
    #[arg(long)]
    check_config: bool,
    /// Ask LINSTOR and CloudStack whether they are as the configuration has them, change nothing, print a line for each thing
    /// looked at, then exit: 0, or 1 if something is missing. May be run beside the daemon.
    #[arg(long, conflicts_with = "check_config")]
    check_targets: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A closed stdout or stderr is no reason to fail.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_CONFIGURATION } else { 0 });
        }
    };
    if let Some(command) = args.command {
        let path = command.config().to_owned();
        return daemon::command("oma-api", Config::load(&path), |config| command.run(config));
    }
    let config = args.config.unwrap_or_default();
    if args.check_targets {
        return daemon::checked_command("oma-api", Config::load(&config), targets::check);
    }
    let purpose = if args.check_config { Purpose::CheckOnly } else { Purpose::Serve };
    daemon::main("oma-api", &config, Config::load(&config), purpose, serve)
}

async fn serve(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&config).await?;
    Box::pin(Oma::open(&config).await?.serve(listeners, shutdown)).await
}
