//! A CloudStack management server to rehearse against: see `integration_tests::cloudstack_sim`.

use anyhow::Context as _;
use clap::Parser;
use integration_tests::cloudstack_sim::hypervisor::qemu::{self, Accel, Qemu};
use integration_tests::cloudstack_sim::{CloudStackSim, Options, Order, World};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Plays a CloudStack 4.22 management server: for rehearsals without a cloud.
///
/// Prints "cloudstack-sim ready listen=ADDR" when it answers, and where the root admin's keys are; runs until SIGTERM or
/// SIGINT. Machines, volumes and jobs are kept in DIR and survive a kill; a job that was pending then has failed, as with
/// the real one. Machines do not really run, unless --qemu is said.
///
/// There is one zone with KVM hosts (every other boots UEFI), networks iso1, l2a, l2v and sh1, offerings "Small Instance",
/// "Medium Instance" and "Custom Instance", disk offerings Small, Medium, Large, Custom and linstor-custom (on the LINSTOR pool), a template,
/// NFS pools and the LINSTOR pool "linstor" of the whole zone. To change that, stop it, edit DIR/world.json, start it.
#[derive(Debug, Parser)]
#[command(name = "cloudstack-sim", after_long_help = SWITCHBOARD)]
struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    listen: SocketAddr,
    /// Folder for state, world and keys; made where missing
    #[arg(long)]
    dir: PathBuf,
    /// The LINSTOR controller of the pool (at the first start only; afterwards DIR/world.json says)
    #[arg(long, default_value = "http://127.0.0.1:3370", value_name = "URL")]
    linstor_url: String,
    /// The resource group of the pool (likewise)
    #[arg(long, default_value = "cloudstack", value_name = "NAME")]
    linstor_group: String,
    /// How many milliseconds a job takes; about 2000 with the real one
    #[arg(long, default_value_t = 500, value_name = "MS")]
    job_ms: u64,
    /// Run the jobs on one machine in the order of their submission, which the real one does not
    #[arg(long)]
    in_order: bool,
    /// Play a later server, whose createVolume takes storageid
    #[arg(long)]
    placed: bool,
    /// Boot machines, each in a QEMU of its own (qemu-system-x86_64; OVMF for UEFI), on the devices that LINSTOR says, which
    /// have to be of this machine: those of linstor-sim are. Consoles are in DIR/consoles. Machines run on when this program
    /// ends, however it does, and are found again
    #[arg(long)]
    qemu: bool,
    /// What carries out the guests' instructions
    #[arg(long, value_enum, default_value_t = Accel::Tcg, requires = "qemu")]
    accel: Accel,
    /// How many seconds a guest may take to power itself off before it is killed
    #[arg(long, default_value_t = 60, value_name = "SECONDS", requires = "qemu")]
    patience: u64,
    /// End all machines that --qemu has left running in DIR, as a power cut would, and do nothing else
    #[arg(long)]
    end_machines: bool,
}

const SWITCHBOARD: &str = "\
What goes wrong is said over HTTP, unsigned, at /sim/:
  curl -d '{\"command\": \"attachVolume\", \"nth\": 2, \"what\": \"failed-though-done\"}' \\
       -H 'Content-Type: application/json' http://ADDR/sim/faults
  command  a name, * for any run of letters
  nth      at which call from now on: 1 (the next) if not said, 0 at all of them
  what     fail (code, text), failed-though-done, no-result, job-fail (code, text), capacity, quota, drop-answer,
           delay (ms), stuck, burnt, left-between, die-before, die-after
  GET /sim/faults, DELETE /sim/faults   what has not fired yet; take it back
  GET /sim/calls                        what was asked: command, status, milliseconds, its job
  GET /sim/unknown-parameters           what was sent and no such command takes
  GET /sim/state                        all that is kept
  POST /sim/settings                    {\"job_ms\": 2000, \"order\": \"any\", \"throttle\": {\"limit\": 5, \"window_ms\": 10000}}
                                        (throttles the plain user; a root admin is never throttled)";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let machines = qemu::Options {
        accel: args.accel,
        patience: Duration::from_secs(args.patience),
        ..qemu::Options::new(&args.dir)
    };
    if args.end_machines {
        let ended = Qemu::new(machines)?.end_all().map_err(anyhow::Error::msg)?;
        writeln!(std::io::stdout(), "{ended} machines ended")?;
        return Ok(());
    }
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut options = Options::new(&args.dir)?;
    options.listen = args.listen;
    options.world = World::kvm(&args.linstor_url, &args.linstor_group)?;
    options.placed = args.placed;
    options.job_time = Duration::from_millis(args.job_ms);
    options.order = if args.in_order { Order::Submission } else { Order::Any };
    if args.qemu {
        options.hypervisor = Arc::new(Qemu::new(machines)?);
    }
    let sim = CloudStackSim::start(options).await?;
    let (api_key, secret_key) = sim.admin_keys();
    let mut out = std::io::stdout().lock();
    writeln!(out, "cloudstack-sim ready listen={}", sim.address())?;
    writeln!(out, "endpoint = {:?}", sim.url())?;
    writeln!(out, "api_key_file = {api_key:?}\nsecret_key_file = {secret_key:?}")?;
    out.flush().context("say that it is ready")?;
    drop(out);
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}
