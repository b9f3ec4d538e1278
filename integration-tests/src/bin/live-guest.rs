//! A small real machine for the demo and for trying things out: see `integration_tests::guest`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use integration_tests::convertible::debian;
use integration_tests::guest::{
    Bus, Console, Drivers, Found, LiveGuest, Machine, Options, Power, Sizes, boot as boot_images,
};
use shared::config::ByteSize;
use tokio::signal::unix::{SignalKind, signal};

/// A small Linux machine that runs, writes to its two disks, and says at every boot whether all is there.
#[derive(Debug, Parser)]
#[command(name = "live-guest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a machine and switches it on
    ///
    /// When it has booted, prints what an agent needs to know, then "ready", and runs until SIGTERM or SIGINT.
    /// DIR/source.toml is the VM's part of vma-agent.toml, DIR/console.log what the guest says.
    Run(Run),
    /// Makes the disk of a Debian that has no virtio driver in its initramfs, as root: a guest to be converted
    Debian {
        /// The raw image to make; its folder has the room for all that it is made of, some 4 GiB
        #[arg(long)]
        out: PathBuf,
    },
    /// Boots raw images of its disks, which stay as they are
    ///
    /// Prints what the guest says, then "ready", and runs until SIGTERM or SIGINT. Fails when the guest is damaged.
    Boot(Boot),
    /// Types a line on the console of a machine that runs, and prints the guest's answer: status, poweroff, deaf
    Ask {
        /// Its folder
        #[arg(long)]
        dir: PathBuf,
        line: String,
    },
    /// Presses the power button of a machine that runs, and waits until the guest has powered off
    ///
    /// QEMU stays, so that an agent can go on reading the disks.
    PowerOff {
        /// Its folder
        #[arg(long)]
        dir: PathBuf,
    },
    /// Switches a machine on again, and waits until it has booted
    PowerOn {
        /// Its folder
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// Folder for images, sockets and logs; made where missing, disks of an earlier run are overwritten
    #[arg(long)]
    dir: PathBuf,
    /// What the disks hang on
    #[arg(long, default_value = "virtio-blk")]
    bus: BusName,
    /// Size of the disk to boot from
    #[arg(long, default_value = "256MiB")]
    root: ByteSize,
    /// Size of the other disk
    #[arg(long, default_value = "96MiB")]
    data: ByteSize,
    /// Leave the virtio drivers out: a guest that was not prepared for a move
    #[arg(long)]
    without_virtio: bool,
}

#[derive(Debug, Args)]
struct Boot {
    /// Folder for sockets, logs, and what the guest writes; made where missing
    #[arg(long)]
    dir: PathBuf,
    /// A raw image; the first is the one to boot from
    #[arg(long = "disk", required = true)]
    disks: Vec<PathBuf>,
    /// What the disks hang on
    #[arg(long, default_value = "virtio-blk")]
    bus: BusName,
    /// End when the guest is ready
    #[arg(long)]
    once: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BusName {
    VirtioBlk,
    VirtioScsi,
    Ide,
    Pvscsi,
}

impl From<BusName> for Bus {
    fn from(name: BusName) -> Self {
        match name {
            BusName::VirtioBlk => Self::VirtioBlk,
            BusName::VirtioScsi => Self::VirtioScsi,
            BusName::Ide => Self::Ide,
            BusName::Pvscsi => Self::Pvscsi,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(run) => live(run).await,
        Command::Boot(boot) => boot_replica(boot).await,
        Command::Debian { out } => debian::make(&out, out.parent().unwrap_or(Path::new("."))),
        Command::Ask { dir, line } => say(&format!("guest: {}", Console::new(&dir)?.ask(&line)?)),
        Command::PowerOff { dir } => Power::of(&dir).off(),
        Command::PowerOn { dir } => power_on(&dir),
    }
}

async fn live(run: Run) -> anyhow::Result<()> {
    let drivers = if run.without_virtio { Drivers::WithoutVirtio } else { Drivers::All };
    let sizes = Sizes { root: run.root.bytes(), data: run.data.bytes() };
    let mut guest = LiveGuest::start(&run.dir, Options { sizes, drivers, bus: run.bus.into() })?;
    let source = guest.source_toml();
    std::fs::write(run.dir.join("source.toml"), &source).context("write source.toml")?;
    let found = guest.ready()?;
    say(source.trim_end())?;
    tell(found)?;
    until_signal(guest.machine()).await
}

async fn boot_replica(boot: Boot) -> anyhow::Result<()> {
    let mut machine = boot_images(&boot.dir, &boot.disks, boot.bus.into())?;
    let ready = machine.ready();
    for line in machine.console().said()? {
        if line != "ready" {
            say(&format!("guest: {line}"))?;
        }
    }
    ready?;
    say("ready")?;
    if boot.once { Ok(()) } else { until_signal(&mut machine).await }
}

fn power_on(dir: &Path) -> anyhow::Result<()> {
    let console = Console::new(dir)?;
    Power::of(dir).on()?;
    tell(console.ready()?)
}

fn tell(found: Found) -> anyhow::Result<()> {
    let Found { boot, first, last } = found;
    match last {
        0 => say(&format!("# boot {boot}, no record yet\nready")),
        _ => say(&format!("# boot {boot}, records {first}..{last} intact\nready")),
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Or until the machine's process ends by itself, which is an error.
async fn until_signal(machine: &mut Machine) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut look = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
            _ = look.tick() => machine.ensure_running()?,
        }
    }
}
