//! A live VM's disks, without the VM: a real `qemu-storage-daemon` with qcow2 images and a guest that writes to them.
//!
//! ```text
//!  Writer (guest) ── NBD ── export live-KEY ── top-KEY (raw) ── disk-KEY (qcow2, holds bitmaps) ── file
//!  agent ─────────── QMP ── agent.qmp          test ── QMP ── test.qmp
//! ```
//!
//! The agent has a monitor of its own, as it would have at a hypervisor, and inserts its snapshots below `top-KEY`.
//! It may be killed and started again, its disks resized and added, as VMs' are. Not here: a CPU, a file system of
//! its own (see [`DiskSpec::image`]), live migration.

pub(crate) mod daemon;
mod meter;
mod monitor;
mod nbd;
mod writer;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use shared::range::ByteRange;

pub use meter::Meter;
pub use monitor::Monitor;
pub use nbd::Nbd;
pub use writer::{Counters, Pause, Writer, WriterDisk, WriterOptions};

use daemon::Daemon;

/// A disk to start with.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// The disk's key: a word of at most 20 letters, digits and hyphens.
    pub key: String,
    /// Bytes; a multiple of 512.
    pub size: u64,
    /// A raw image to begin with (a file system, say); grown to `size`.
    pub image: Option<PathBuf>,
}

/// A disk of the stand-in.
#[derive(Clone, Debug)]
pub struct LiveDisk {
    /// Key of the disk.
    pub key: String,
    /// Format node, where the bitmaps live.
    pub node: String,
    /// Node below the guest's device, whose child a snapshot swaps.
    pub top: String,
    /// The qcow2 image.
    pub image: PathBuf,
}

impl LiveDisk {
    pub(crate) fn new(key: &str, image: PathBuf) -> Self {
        Self { key: key.to_owned(), node: format!("disk-{key}"), top: format!("top-{key}"), image }
    }
}

/// The stand-in. Dropping it ends the daemon; the files stay.
#[derive(Debug)]
pub struct LiveVm {
    dir: PathBuf,
    disks: Vec<LiveDisk>,
    daemon: Option<Daemon>,
}

/// Name of the NBD export that the guest writes to.
pub(crate) fn live_export(key: &str) -> String {
    format!("live-{key}")
}

impl LiveVm {
    /// Makes empty disks in `dir` (made where missing) and starts the daemon.
    pub fn start(dir: &Path, disks: &[(&str, u64)]) -> anyhow::Result<Self> {
        let specs: Vec<_> =
            disks.iter().map(|&(key, size)| DiskSpec { key: key.to_owned(), size, image: None }).collect();
        Self::start_with(dir, &specs)
    }

    /// Makes the disks in `dir` (made where missing) and starts the daemon.
    pub fn start_with(dir: &Path, disks: &[DiskSpec]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut this = Self { dir: dir.canonicalize()?, disks: Vec::new(), daemon: None };
        for spec in disks {
            this.disks.push(this.make_disk(spec)?);
        }
        this.restart()?;
        Ok(this)
    }

    /// The monitor socket that is the agent's.
    pub fn agent_qmp(&self) -> PathBuf {
        self.dir.join("agent.qmp")
    }

    /// The Unix socket of the daemon's NBD server.
    pub fn nbd_socket(&self) -> PathBuf {
        self.dir.join("nbd.sock")
    }

    /// The disks in order.
    pub fn disks(&self) -> &[LiveDisk] {
        &self.disks
    }

    /// NBD URI of the live disk, for people and tools.
    pub fn live_uri(&self, key: &str) -> String {
        format!("nbd+unix:///{}?socket={}", live_export(key), self.nbd_socket().display())
    }

    /// A connection to the live disk, as the guest has it.
    pub fn guest(&self, key: &str) -> anyhow::Result<Nbd> {
        self.connect(&live_export(key))
    }

    /// A connection to any export of the daemon.
    pub fn connect(&self, export: &str) -> anyhow::Result<Nbd> {
        Nbd::connect(&self.nbd_socket(), export)
    }

    /// Starts a guest that writes all over every disk.
    pub fn writer(&self, options: &WriterOptions) -> anyhow::Result<Writer> {
        let whole = self.disks.iter().map(|disk| {
            let range = ByteRange::new(0, self.guest(&disk.key)?.size());
            Ok(WriterDisk { key: disk.key.clone(), range })
        });
        Ok(self.writer_on(whole.collect::<anyhow::Result<_>>()?, options))
    }

    /// Starts a guest that writes to these parts of these disks.
    pub fn writer_on(&self, disks: Vec<WriterDisk>, options: &WriterOptions) -> Writer {
        Writer::start(self.nbd_socket(), disks, options)
    }

    /// Everything on the live disk; of one point in time only while the writer is paused.
    pub fn read_disk(&self, key: &str) -> anyhow::Result<Vec<u8>> {
        read_all(&mut self.guest(key)?)
    }

    /// BLAKE3 of the live disk; of one point in time only while the writer is paused.
    pub fn hash_disk(&self, key: &str) -> anyhow::Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        visit(&mut self.guest(key)?, |bytes| {
            hasher.update(bytes);
        })?;
        Ok(*hasher.finalize().as_bytes())
    }

    /// Runs one command on the test's monitor.
    pub fn execute(&self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        Monitor::connect(&self.dir.join("test.qmp"))?.execute(command, arguments)
    }

    /// Gives the disk another size, as an operator of the hypervisor would. No snapshot may be there, and the guest
    /// sees the new size only after a [`restart`](Self::restart).
    pub fn resize_disk(&mut self, key: &str, size: u64) -> anyhow::Result<()> {
        let disk = self.disk(key)?.clone();
        // An NBD export holds the size of its node, so the guest's goes away for an instant.
        self.execute("block-export-del", json!({ "id": live_export(key), "mode": "hard" }))?;
        daemon::wait_for("the export to go", || {
            let exports = self.execute("query-block-exports", json!({}))?;
            let id = Value::from(live_export(key));
            Ok(exports.as_array().is_some_and(|all| all.iter().all(|e| e["id"] != id)).then_some(()))
        })?;
        self.execute("block_resize", json!({ "node-name": disk.top, "size": size }))?;
        self.execute("block-export-add", export(&disk))?;
        Ok(())
    }

    /// Adds an empty disk to the running VM.
    pub fn add_disk(&mut self, key: &str, size: u64) -> anyhow::Result<()> {
        let disk = self.make_disk(&DiskSpec { key: key.to_owned(), size, image: None })?;
        for node in nodes(&disk) {
            self.execute("blockdev-add", node)?;
        }
        self.execute("block-export-add", export(&disk))?;
        self.disks.push(disk);
        Ok(())
    }

    /// Takes a disk away from the running VM. No snapshot may be there. Its image stays.
    pub fn remove_disk(&mut self, key: &str) -> anyhow::Result<()> {
        let disk = self.disk(key)?.clone();
        self.disks.retain(|other| other.key != key);
        self.stop();
        self.restart().with_context(|| format!("start again without {}", disk.key))
    }

    /// Ends the daemon as a power cut would.
    pub fn kill9(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Ends the daemon in order: bitmaps are stored in the images.
    pub fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            let _ = self.execute("quit", json!({}));
            daemon.wait_or_kill();
        }
    }

    /// Starts the daemon (again), on the images as they are.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill9();
        let mut arguments = vec![];
        for (id, file) in [("agent", "agent.qmp"), ("test", "test.qmp")] {
            let path = self.dir.join(file);
            let _ = std::fs::remove_file(&path);
            arguments.push("--chardev".to_owned());
            arguments.push(format!("socket,id={id},path={},server=on,wait=off", path.display()));
            arguments.push("--monitor".to_owned());
            arguments.push(format!("chardev={id}"));
        }
        let _ = std::fs::remove_file(self.nbd_socket());
        for node in self.disks.iter().flat_map(nodes) {
            arguments.extend(["--blockdev".to_owned(), node.to_string()]);
        }
        arguments.push("--nbd-server".to_owned());
        arguments
            .push(format!("addr.type=unix,addr.path={},max-connections=256", self.nbd_socket().display()));
        for disk in &self.disks {
            arguments.extend(["--export".to_owned(), export(disk).to_string()]);
        }
        let daemon = Daemon::start("qemu-storage-daemon", arguments, &self.dir.join("daemon.log"))?;
        let daemon = self.daemon.insert(daemon);
        let (monitor, nbd) = (self.dir.join("test.qmp"), self.dir.join("nbd.sock"));
        let first = self.disks.first().map(|disk| live_export(&disk.key));
        daemon::wait_for("qemu-storage-daemon", || {
            daemon.ensure_running()?;
            let guest = first.as_deref().map_or(Ok(()), |export| Nbd::connect(&nbd, export).map(|_| ()));
            Ok(Monitor::connect(&monitor).and(guest).ok())
        })
    }

    fn disk(&self, key: &str) -> anyhow::Result<&LiveDisk> {
        self.disks.iter().find(|disk| disk.key == key).with_context(|| format!("no disk {key}"))
    }

    fn make_disk(&self, spec: &DiskSpec) -> anyhow::Result<LiveDisk> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        ensure!(
            !spec.key.is_empty() && spec.key.len() <= 20 && spec.key.chars().all(plain),
            "disk key {}",
            spec.key
        );
        let image = self.dir.join(format!("{}.qcow2", spec.key));
        let size = spec.size.to_string();
        match &spec.image {
            None => daemon::run("qemu-img", &["create", "-q", "-f", "qcow2", &path(&image)?, &size])?,
            Some(raw) => {
                daemon::run(
                    "qemu-img",
                    &["convert", "-q", "-f", "raw", "-O", "qcow2", &path(raw)?, &path(&image)?],
                )?;
                daemon::run("qemu-img", &["resize", "-q", "-f", "qcow2", &path(&image)?, &size])?;
            }
        }
        Ok(LiveDisk::new(&spec.key, image))
    }
}

impl Drop for LiveVm {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Everything on the export, from the start to the end.
pub fn read_all(nbd: &mut Nbd) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    visit(nbd, |bytes| all.extend_from_slice(bytes))?;
    Ok(all)
}

fn visit(nbd: &mut Nbd, mut see: impl FnMut(&[u8])) -> anyhow::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < nbd.size() {
        let length = usize::try_from((nbd.size() - offset).min(1 << 20))?;
        nbd.read(offset, &mut buffer[..length])?;
        see(&buffer[..length]);
        offset += length as u64;
    }
    Ok(())
}

/// The disk's part of the block graph, children first.
pub(crate) fn nodes(disk: &LiveDisk) -> [Value; 3] {
    let file = format!("file-{}", disk.key);
    [
        json!({ "driver": "file", "node-name": file, "filename": disk.image, "discard": "unmap" }),
        json!({ "driver": "qcow2", "node-name": disk.node, "file": file, "discard": "unmap" }),
        json!({ "driver": "raw", "node-name": disk.top, "file": disk.node, "discard": "unmap" }),
    ]
}

fn export(disk: &LiveDisk) -> Value {
    let name = live_export(&disk.key);
    json!({ "type": "nbd", "id": name, "node-name": disk.top, "name": name, "writable": true })
}

fn path(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned())
}

#[cfg(test)]
mod tests;
