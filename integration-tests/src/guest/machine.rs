//! One emulated machine: its processor, its bus for disks, a network card that leads nowhere, console and monitors.
//!
//! A guest that powers itself off leaves the process: as at a hypervisor, its disks can be read on, and the power can
//! be switched on again.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::console::{Console, Found};
use super::image::text;
use super::power::Power;
use crate::live_vm::Monitor;
use crate::live_vm::daemon::{Daemon, run, wait_for};

/// What the disks hang on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk, as after a move.
    #[default]
    VirtioBlk,
    /// virtio-scsi.
    VirtioScsi,
    /// Two disks of the first IDE channel.
    Ide,
    /// VMware's paravirtual SCSI controller, as before a move; with its network card.
    Pvscsi,
}

impl Bus {
    /// As `vma-agent.toml` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VirtioBlk => "virtio-blk",
            Self::VirtioScsi => "virtio-scsi",
            Self::Ide => "ide",
            Self::Pvscsi => "pvscsi",
        }
    }

    /// Model of the network card beside it, as `vma-agent.toml` names it.
    pub(super) fn nic(self) -> &'static str {
        match self {
            Self::Pvscsi => "vmxnet3",
            Self::VirtioBlk | Self::VirtioScsi | Self::Ide => "virtio",
        }
    }

    fn devices(self, disks: &[Disk]) -> Vec<Value> {
        let controller = match self {
            Self::VirtioBlk | Self::Ide => None,
            Self::VirtioScsi => Some("virtio-scsi-pci"),
            Self::Pvscsi => Some("pvscsi"),
        };
        let mut devices: Vec<_> =
            controller.map(|driver| json!({ "driver": driver, "id": "scsi0" })).into_iter().collect();
        for (unit, disk) in disks.iter().enumerate() {
            let (driver, place) = match self {
                Self::VirtioBlk => ("virtio-blk-pci", json!({})),
                Self::Ide => ("ide-hd", json!({ "bus": "ide.0", "unit": unit })),
                Self::VirtioScsi | Self::Pvscsi => ("scsi-hd", json!({ "bus": "scsi0.0", "scsi-id": unit })),
            };
            let mut device =
                json!({ "driver": driver, "drive": disk.device, "id": format!("dev-{}", disk.device) });
            device["bootindex"] = unit.into();
            if let (Some(device), Some(place)) = (device.as_object_mut(), place.as_object()) {
                device.extend(place.clone());
            }
            devices.push(device);
        }
        devices
    }
}

/// A disk of the machine.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    /// Nodes of the block graph, children first.
    pub(super) nodes: Vec<Value>,
    /// Name of the one that the guest's device has.
    pub(super) device: String,
}

/// A machine. Dropping it ends its process as a power cut would; the files stay.
#[derive(Debug)]
pub struct Machine {
    dir: PathBuf,
    bus: Bus,
    disks: Vec<Disk>,
    console: Console,
    process: Option<Daemon>,
}

/// Of the network card.
pub(super) const MAC: &str = "52:54:00:67:75:65";

/// Memory in MiB.
pub(super) const MEMORY: u64 = 256;

impl Machine {
    /// A machine that is switched off. `dir` is for its sockets and logs; it must be there.
    pub(super) fn new(dir: &Path, bus: Bus, disks: Vec<Disk>) -> anyhow::Result<Self> {
        let dir = dir.canonicalize()?;
        Ok(Self { console: Console::new(&dir)?, dir, bus, disks, process: None })
    }

    /// What the guest says.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Its switch, and what else its monitor does.
    pub fn power(&self) -> Power {
        Power::of(&self.dir)
    }

    /// Switches the machine on; without a process, with a new one. Does not wait for the guest.
    ///
    /// # Errors
    /// It is on, or QEMU cannot be started: see `qemu.log` in its folder.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        self.console.begin()?;
        if self.process.is_some() {
            return self.power().on();
        }
        for socket in ["agent.qmp", "test.qmp", "console.sock", "nbd.sock"] {
            let _ = std::fs::remove_file(self.dir.join(socket));
        }
        let process = Daemon::start("qemu-system-x86_64", self.arguments()?, &self.dir.join("qemu.log"))?;
        let process = self.process.insert(process);
        let monitor = self.dir.join("test.qmp");
        wait_for("QEMU's monitor", || {
            process.ensure_running()?;
            Ok(Monitor::connect(&monitor).ok())
        })?;
        Ok(())
    }

    /// Waits until the guest is ready, and gives what it found on its disks.
    ///
    /// # Errors
    /// It is damaged, or does not boot.
    pub fn ready(&self) -> anyhow::Result<Found> {
        self.console.ready()
    }

    /// Fails when the process has ended.
    ///
    /// # Errors
    /// It has.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        self.process.as_mut().context("QEMU was not started")?.ensure_running()
    }

    /// Ends the process as a power cut of its host would.
    pub fn kill9(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Ends the process in order: bitmaps are stored in the images. The guest is not asked.
    pub fn quit(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = self.power().execute("quit", json!({}));
            process.wait_or_kill();
        }
    }

    fn arguments(&self) -> anyhow::Result<Vec<String>> {
        let [agent, test, console, log] = [
            &self.dir.join("agent.qmp"),
            &self.dir.join("test.qmp"),
            self.console.socket(),
            self.console.log(),
        ]
        .map(text);
        let memory = MEMORY.to_string();
        let nic = match self.bus.nic() {
            "vmxnet3" => "vmxnet3",
            _ => "virtio-net-pci",
        };
        let mut arguments: Vec<_> =
            ["-no-user-config", "-nodefaults", "-machine", "pc", "-accel", "tcg", "-m", &memory]
                .into_iter()
                // Without a card for graphics, SeaBIOS and boot loaders wait for one.
                .chain(["-vga", "std", "-display", "none", "-no-shutdown", "-serial", "chardev:console"])
                .map(str::to_owned)
                .collect();
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        for (id, path) in [("agent", agent?), ("test", test?)] {
            add("-chardev", format!("socket,id={id},path={path},server=on,wait=off"));
            add("-mon", format!("chardev={id},mode=control"));
        }
        let (console, log) = (console?, log?);
        add(
            "-chardev",
            format!("socket,id=console,path={console},server=on,wait=off,logfile={log},logappend=on"),
        );
        for node in self.disks.iter().flat_map(|disk| &disk.nodes) {
            add("-blockdev", node.to_string());
        }
        for device in self.bus.devices(&self.disks) {
            add("-device", device.to_string());
        }
        add("-netdev", "user,id=nic0,restrict=on".to_owned());
        add("-device", json!({ "driver": nic, "netdev": "nic0", "mac": MAC }).to_string());
        Ok(arguments)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A machine on a replica's disks, which stay as they are: what it writes goes to overlays of its own.
///
/// Boots from raw images, the first one's first. `dir` (made where missing) is for overlays, sockets and logs. Does not
/// wait for the guest.
///
/// # Errors
/// QEMU cannot be started.
pub fn boot(dir: &Path, images: &[PathBuf], bus: Bus) -> anyhow::Result<Machine> {
    std::fs::create_dir_all(dir)?;
    let dir = dir.canonicalize()?;
    let mut disks = Vec::new();
    for (index, image) in images.iter().enumerate() {
        let image = image.canonicalize().with_context(|| format!("no disk image {}", image.display()))?;
        let overlay = dir.join(format!("overlay-{index}.qcow2"));
        let (below, above) = (text(&image)?, text(&overlay)?);
        run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &below, "-F", "raw", &above])?;
        let (file, device) = (format!("file-{index}"), format!("disk-{index}"));
        let nodes = vec![
            json!({ "driver": "file", "node-name": file, "filename": overlay }),
            json!({ "driver": "qcow2", "node-name": device, "file": file }),
        ];
        disks.push(Disk { nodes, device });
    }
    let mut machine = Machine::new(&dir, bus, disks)?;
    machine.power_on()?;
    Ok(machine)
}
