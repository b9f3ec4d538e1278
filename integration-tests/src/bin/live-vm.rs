//! A live VM's disks for the demo and for trying things out: see `integration_tests::live_vm`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Parser;
use integration_tests::live_vm::{DiskSpec, LiveVm, Meter, Writer, WriterDisk, WriterOptions};
use shared::config::ByteSize;
use shared::range::ByteRange;
use tokio::signal::unix::{SignalKind, signal};

/// Starts a qemu-storage-daemon that behaves as a running VM: disks, a monitor for the agent, and a guest that writes.
///
/// Prints what an agent needs to know, then "ready", and runs until SIGTERM or SIGINT. DIR/source.toml is the VM's
/// part of vma-agent.toml.
#[derive(Debug, Parser)]
#[command(name = "live-vm")]
struct Args {
    /// Folder for images, sockets and the log; made where missing, disks of an earlier run are overwritten
    #[arg(long)]
    dir: PathBuf,
    /// A disk, as KEY=SIZE (root=1GiB); the first is the one to boot from
    #[arg(long = "disk", required = true, value_parser = pair)]
    disks: Vec<(String, String)>,
    /// What a disk begins with, as KEY=FILE: a raw image, of a file system say
    #[arg(long = "image", value_parser = pair)]
    images: Vec<(String, String)>,
    /// Let a guest write so many bytes a second to each disk (4MiB)
    #[arg(long, value_name = "RATE")]
    writer: Option<ByteSize>,
    /// Where the guest writes on a disk, as KEY=START-END in bytes; the whole disk by default
    #[arg(long = "writer-range", value_parser = pair)]
    ranges: Vec<(String, String)>,
    /// The guest's dice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Count what the agent reads: DIR/metered-bytes grows by every byte that it is given
    #[arg(long)]
    meter: bool,
    /// End also when standard input is closed (not for a shell's background jobs, whose input is /dev/null)
    #[arg(long)]
    watch_stdin: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let specs = specs(&args)?;
    let vm = LiveVm::start_with(&args.dir, &specs)?;
    let writer = start_writer(&args, &vm)?;
    let socket = nbd_socket(&args, &vm)?;
    let source = source_toml(&vm, &socket);
    std::fs::write(args.dir.join("source.toml"), &source).context("write source.toml")?;
    let mut out = std::io::stdout().lock();
    write!(out, "{source}")?;
    writeln!(out, "ready")?;
    out.flush()?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        () = stdin_closed(), if args.watch_stdin => {}
    }
    drop(writer);
    Ok(())
}

fn specs(args: &Args) -> anyhow::Result<Vec<DiskSpec>> {
    let mut images: HashMap<_, _> = args.images.iter().cloned().collect();
    let spec = |(key, size): &(String, String)| {
        let size =
            size.parse::<ByteSize>().map_err(anyhow::Error::msg).with_context(|| format!("disk {key}"))?;
        Ok(DiskSpec { key: key.clone(), size: size.bytes(), image: images.remove(key).map(PathBuf::from) })
    };
    let specs = args.disks.iter().map(spec).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(images.is_empty(), "an image for a disk that is not there: {:?}", images.keys());
    Ok(specs)
}

fn start_writer(args: &Args, vm: &LiveVm) -> anyhow::Result<Option<Writer>> {
    let Some(rate) = args.writer else { return Ok(None) };
    let options = WriterOptions { seed: args.seed, rate: Some(rate.bytes()), ..WriterOptions::default() };
    let mut disks = Vec::new();
    for disk in vm.disks() {
        let size = vm.guest(&disk.key)?.size();
        let range = match args.ranges.iter().find(|(key, _)| *key == disk.key) {
            None => ByteRange::new(0, size),
            Some((_, range)) => {
                let (start, end) = range.split_once('-').context("a range is START-END")?;
                ByteRange::new(start.parse()?, end.parse()?)
            }
        };
        ensure!(
            range.end <= size && range.len() >= 512,
            "range {range:?} of disk {} of {size} bytes",
            disk.key
        );
        disks.push(WriterDisk { key: disk.key.clone(), range });
    }
    Ok(Some(vm.writer_on(disks, &options)))
}

/// Where the agent is to read: the VM's own socket, or the counting one before it.
fn nbd_socket(args: &Args, vm: &LiveVm) -> anyhow::Result<PathBuf> {
    if !args.meter {
        return Ok(vm.nbd_socket());
    }
    let dir = args.dir.canonicalize()?;
    let socket = dir.join("metered.sock");
    Meter::start(&socket, &vm.nbd_socket(), &dir.join("metered-bytes"))?;
    Ok(socket)
}

/// The VM's part of an agent's configuration.
fn source_toml(vm: &LiveVm, nbd_socket: &Path) -> String {
    let mut toml =
        format!("[vm.qemu]\nqmp = {:?}\nnbd = \"unix:{}\"\n", vm.agent_qmp(), nbd_socket.display());
    for disk in vm.disks() {
        let table = "[[vm.qemu.disks]]";
        toml.push_str(&format!(
            "\n{table}\nkey = {:?}\nnode = {:?}\ntop = {:?}\n",
            disk.key, disk.node, disk.top
        ));
    }
    toml
}

/// Waits in a thread of its own, which the process does not wait for.
async fn stdin_closed() {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut rest = [0; 4096];
        while std::io::stdin().lock().read(&mut rest).is_ok_and(|n| n > 0) {}
        let _ = tell.send(());
    });
    let _ = told.await;
}
