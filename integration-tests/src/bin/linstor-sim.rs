//! A LINSTOR controller to rehearse with: see `integration_tests::linstor_sim`.

use anyhow::Context as _;
use clap::Parser;
use integration_tests::linstor_sim::{LinstorSim, Options, PoolSpec};
use shared::config::ByteSize;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Speaks LINSTOR's REST interface (1.33.3) and really keeps the bytes, in files below one folder.
///
/// For rehearsing without a storage cluster: point a client at it as at a controller (`http://ADDR`; no https, no tokens).
/// Volumes are sparse files (device_path), snapshots real copies, and pools fill up. What can lose data with LINSTOR can
/// lose it here. State and bytes outlast the program, also a kill -9: start it again on the same folder.
///
/// Prints "linstor-sim ready listen=ADDR" and runs until SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(name = "linstor-sim", after_long_help = SWITCHBOARD)]
struct Args {
    /// Folder for state and volumes; made where missing, gone on with where there is a state
    #[arg(long)]
    dir: PathBuf,
    /// Address and port; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:3370")]
    listen: SocketAddr,
    /// A node of a new state; as often as there are nodes. Without any, nodes are made by the client
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,
    /// A node of a new state that gets no pool; only with --drbd it reaches what lies on others
    #[arg(long = "diskless-node", value_name = "NAME")]
    diskless: Vec<String>,
    /// A pool on each of the nodes, as NAME=SIZE (thin) or NAME=SIZE:thick
    #[arg(long = "pool", value_name = "NAME=SIZE[:thick]", value_parser = pool)]
    pools: Vec<PoolSpec>,
    /// A resource group with one volume, as NAME=POOL
    #[arg(long = "group", value_name = "NAME=POOL", value_parser = pair)]
    groups: Vec<(String, String)>,
    /// Nodes have DRBD: resources can be diskless, in use, and have tie breakers
    #[arg(long)]
    drbd: bool,
    /// Seconds after a start until satellites are found; nodes are OFFLINE so long (7 to 15 with the real one)
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    reconnect: u64,
    /// Room of pools that a client makes
    #[arg(long, default_value = "4GiB", value_name = "SIZE")]
    capacity: ByteSize,
}

const SWITCHBOARD: &str = "\
Faults, over HTTP on the same port:
  POST /sim/rules   add a rule, or a list of them; GET shows those to come, DELETE forgets all
     {\"method\": \"POST\", \"path\": \"/v1/*/snapshot-rollback/*\", \"what\": {\"tool_fails\": \"restore\"}}
     nth    from which fitting call on (1), times  for how many (1; 0: for ever)
     at     before (as it is), after, registered (spawn, snapshot, restore), taken (snapshot),
            safety, deleted, marked, restored (rollback)
     what   \"die\", \"drop_answer\" (done, connection closed), {\"delay_ms\": 500},
            {\"fail\": {\"code\": 996}}, {\"tool_fails\": \"restore\"} (or any, create, snapshot,
            attach), or one of those of /sim/now
  POST /sim/now     at once
     {\"node\": {\"name\": \"oma\", \"online\": false}}
     {\"pool\": {\"node\": \"oma\", \"pool\": \"thin\", \"capacity_kib\": 1048576}}
     {\"in_use\": {\"resource\": \"cs-1\", \"node\": \"oma\", \"in_use\": true}}   known with DRBD only; what
                    QEMU has open is in use without being told
  GET /sim/calls    what was asked: method, path, status, ms;  POST /sim/reset-calls

Example:
  linstor-sim --dir /var/tmp/rehearsal --node oma --pool thin=20GiB --group cloudstack=thin
  curl -X POST 127.0.0.1:3370/v1/resource-groups/cloudstack/spawn -H 'Content-Type: application/json' \\
       -d '{\"resource_definition_name\": \"mk-1\", \"volume_sizes\": [1048576]}'
";

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected NAME=POOL")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn pool(text: &str) -> Result<PoolSpec, String> {
    let (name, size) = text.split_once('=').ok_or("expected NAME=SIZE")?;
    let (size, thin) = size.strip_suffix(":thick").map_or((size, true), |size| (size, false));
    let size = size.parse::<ByteSize>().map_err(|error| error.to_string())?;
    Ok(PoolSpec { name: name.to_owned(), thin, capacity_kib: size.bytes() / 1024 })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let options = Options {
        listen: args.listen,
        nodes: args.nodes.into_iter().chain(args.diskless.clone()).collect(),
        diskless: args.diskless,
        pools: args.pools,
        groups: args.groups,
        drbd: args.drbd,
        reconnect: Duration::from_secs(args.reconnect),
        capacity_kib: args.capacity.bytes() / 1024,
        abort_when_told_to_die: true,
        ..Options::new(args.dir)
    };
    let sim = LinstorSim::start(options).await.context("start")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "linstor-sim ready listen={}", sim.address())?;
    out.flush()?;
    drop(out);
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}
