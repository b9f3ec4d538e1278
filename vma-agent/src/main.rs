//! `vma-agent`: the source side's daemon.

use clap::Parser;
use shared::config::{ByteSize, EXIT_CONFIGURATION};
use shared::daemon::{self, Purpose};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;
use vma_agent::{Agent, Config, Listeners};

/// The source-side agent of MigrateKit: snapshots VMs and sends their changed blocks to the OMA.
#[derive(Parser)]
#[command(version = shared::telemetry::VERSION)]
struct Args {
    /// Configuration file (TOML); deploy/examples/vma-agent.toml documents every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Bytes a second to the OMA, of all disks together ("100MiB"; 0: no limit); instead of `transfer.rate` of the file.
    #[arg(long, value_name = "SIZE")]
    rate: Option<ByteSize>,
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
    daemon::main("vma-agent", &args.config, Config::load(&args.config, args.rate), purpose, serve)
}

async fn serve(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&config).await?;
    Agent::open(&config)?.serve(listeners, shutdown).await
}
