//! `oma-api`: the control plane's daemon.

use clap::Parser;
use oma_api::{Config, Listeners, Oma};
use shared::config::EXIT_CONFIGURATION;
use shared::daemon::{self, Purpose};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// The control plane of MigrateKit: keeps the state, receives the disks, writes the replicas.
#[derive(Parser)]
#[command(version = shared::telemetry::VERSION)]
struct Args {
    /// Configuration file (TOML); deploy/examples/oma-api.toml documents every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Read and check the configuration and the certificates, then exit.
    #[arg(long)]
    check_config: bool,
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
    let purpose = if args.check_config { Purpose::CheckOnly } else { Purpose::Serve };
    daemon::main("oma-api", &args.config, Config::load(&args.config), purpose, serve)
}

async fn serve(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&config).await?;
    Box::pin(Oma::open(&config).await?.serve(listeners, shutdown)).await
}
