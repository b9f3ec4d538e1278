//! `make bench`; see [`integration_tests::bench`].
#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

use anyhow::Context as _;
use clap::Parser;
use integration_tests::bench::{self, Options, Sizes};
use std::path::PathBuf;

/// Measures the daemons that were built beside this program, against nbdcopy and against themselves.
#[derive(Parser)]
struct Args {
    /// Small sizes, two runs: only to see that everything works.
    #[arg(long)]
    quick: bool,
    /// Runs of each side [default: 5; with --quick 2].
    #[arg(long)]
    runs: Option<usize>,
    /// Only this one, may be repeated: copy (copy-tmpfs, copy-disk, copy-plain), sparse, gigabit, latency, disks,
    /// incremental, memory, verify, fifty, crowd, start, watchers, estimate, failover, recovery, cloud, console.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// A folder on a disk, for targets and state.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    disk: PathBuf,
    /// A folder on a tmpfs, for the source and targets.
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    tmpfs: PathBuf,
    /// A line for the agent's [transfer] table, may be repeated: 'connections = 4'.
    #[arg(long, value_name = "TOML")]
    transfer: Vec<String>,
    /// Where the results go as JSON.
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    results: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = Options {
        sizes: if args.quick { Sizes::QUICK } else { Sizes::FULL },
        runs: args.runs.unwrap_or(if args.quick { 2 } else { 5 }).max(1),
        cases: args.cases,
        disk: args.disk,
        memory: args.tmpfs,
        transfer: args.transfer.join("\n"),
    };
    let report = bench::run(&options, |text| println!("{text}")).await?;
    std::fs::create_dir_all(&args.results)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let path = args.results.join(format!("{}{now}.json", if args.quick { "quick-" } else { "" }));
    std::fs::write(&path, serde_json::to_string_pretty(&report.json())?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    let failed: Vec<_> = report.failed.iter().map(|(case, _)| *case).collect();
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}
