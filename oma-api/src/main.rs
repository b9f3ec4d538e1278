//! `oma-api`: the control plane's daemon.

use clap::Parser;
use oma_api::{Config, Listeners, Oma};
use shared::config::EXIT_CONFIGURATION;
use shared::tls::Role;
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
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => return shared::daemon::configuration_error("oma-api", &error),
    };
    if let Err(error) = config.check() {
        return shared::daemon::configuration_error("oma-api", error.as_ref());
    }
    if args.check_config {
        // Not at every start: the clock may be set only after us, and the peers say what they do not take.
        if let Err(error) = config.tls.check_own(Role::Oma) {
            return shared::daemon::configuration_error("oma-api", &error);
        }
        eprintln!("oma-api: {} is usable", args.config.display());
        return ExitCode::SUCCESS;
    }
    shared::daemon::run("oma-api", &config.log.clone(), |shutdown| serve(config, shutdown))
}

async fn serve(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&config).await?;
    Oma::open(&config).await?.serve(listeners, shutdown).await
}
