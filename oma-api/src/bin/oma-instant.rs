//! `oma-instant`: the control plane with machines that are only remembered, which `make bench` measures. Not delivered.

use clap::Parser;
use oma_api::{Config, Listeners, Oma};
use shared::daemon::{self, Purpose};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// As oma-api, for measuring it; `[compute] kind = "instant"` answers at once.
#[derive(Parser)]
struct Args {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let config = Args::parse().config;
    daemon::main("oma-instant", &config, Config::load(&config), Purpose::Serve, serve)
}

async fn serve(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&config).await?;
    Box::pin(Oma::open(&config).await?.serve(listeners, shutdown)).await
}
