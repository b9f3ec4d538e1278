//! The guest as a live source: its disks are qcow2 images in the graph that the agent wants.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::console::{Console, Found, Progress};
use super::image::{Drivers, Image, Sizes, text};
use super::machine::{Bus, Disk, MAC, MEMORY, Machine};
use super::power::PATIENCE;
use super::tools::Tools;
use crate::live_vm::LiveDisk;
use crate::live_vm::daemon::{run, wait_for};

/// How a guest is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub sizes: Sizes,
    pub drivers: Drivers,
    pub bus: Bus,
}

/// A running guest whose disks an agent can replicate. Dropping it is a power cut; the images stay.
#[derive(Debug)]
pub struct LiveGuest {
    dir: PathBuf,
    bus: Bus,
    disks: Vec<LiveDisk>,
    machine: Machine,
}

impl LiveGuest {
    /// Makes the guest's disks in `dir` (made where missing; those of an earlier run go) and switches it on. Does not
    /// wait until it has booted: see [`ready`](Self::ready).
    ///
    /// # Errors
    /// A tool is missing: `deploy/install-deps.sh test` gets them.
    pub fn start(dir: &Path, options: Options) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let image = Image::make(&Tools::find()?, &dir, options.sizes, options.drivers)?;
        let disks = vec![into_qcow2(&dir, "root", &image.root)?, into_qcow2(&dir, "data", &image.data)?];
        let machine = Machine::new(&dir, options.bus, disks.iter().map(graph).collect())?;
        let mut this = Self { dir, bus: options.bus, disks, machine };
        this.power_on()?;
        Ok(this)
    }

    /// Switches it on, after [`power_off`](Self::power_off) or [`kill9`](Self::kill9), on its disks as they are. Does
    /// not wait until it has booted.
    ///
    /// # Errors
    /// It is on, or QEMU cannot be started.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        self.machine.power_on()?;
        let nbd = json!({ "addr": { "type": "unix", "data": { "path": self.nbd_socket() } }, "max-connections": 256 });
        if !self.nbd_socket().exists() {
            self.machine.power().execute("nbd-server-start", nbd)?;
        }
        wait_for("QEMU's NBD server", || Ok(self.nbd_socket().exists().then_some(())))
    }

    /// Presses the power button and waits until the guest has obeyed. Its disks can be read on.
    ///
    /// # Errors
    /// The guest does not power itself off.
    pub fn power_off(&mut self) -> anyhow::Result<()> {
        self.machine.power().off()
    }

    /// Makes the guest ignore its power button until it boots again, as one that hangs does.
    ///
    /// # Errors
    /// It does not answer.
    pub fn deafen(&self) -> anyhow::Result<()> {
        let answer = self.console().ask("deaf")?;
        ensure!(answer == "deaf", "the guest says {answer:?}");
        Ok(())
    }

    /// A power cut of its host.
    pub fn kill9(&mut self) {
        self.machine.kill9();
    }

    /// Waits until the guest is ready, and gives what it found on its disks.
    ///
    /// # Errors
    /// It is damaged, or does not boot.
    pub fn ready(&self) -> anyhow::Result<Found> {
        self.machine.ready()
    }

    /// How far the guest is.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> anyhow::Result<Progress> {
        self.console().status()
    }

    /// Waits until the guest has written so many more records.
    ///
    /// # Errors
    /// It does not.
    pub fn wait_for_records(&self, more: u64) -> anyhow::Result<Progress> {
        let end = Instant::now() + PATIENCE;
        let mut now = self.status()?;
        let goal = now.record + more;
        while now.record < goal {
            ensure!(Instant::now() < end, "the guest wrote up to record {}, not {goal}", now.record);
            std::thread::sleep(Duration::from_millis(100));
            now = self.status()?;
        }
        Ok(now)
    }

    /// What the guest says.
    pub fn console(&self) -> &Console {
        self.machine.console()
    }

    /// What runs it.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// The monitor socket that is the agent's.
    pub fn agent_qmp(&self) -> PathBuf {
        self.dir.join("agent.qmp")
    }

    /// The Unix socket of QEMU's NBD server.
    pub fn nbd_socket(&self) -> PathBuf {
        self.dir.join("nbd.sock")
    }

    /// The disks in order.
    pub fn disks(&self) -> &[LiveDisk] {
        &self.disks
    }

    /// The VM's part of an agent's configuration: `[vm.qemu]` and `[vm.configuration]`.
    pub fn source_toml(&self) -> String {
        let (qmp, nbd) = (self.agent_qmp(), self.nbd_socket());
        let mut toml = format!("[vm.qemu]\nqmp = {qmp:?}\nnbd = \"unix:{}\"\n", nbd.display());
        for LiveDisk { key, node, top, .. } in &self.disks {
            toml += &format!("\n[[vm.qemu.disks]]\nkey = \"{key}\"\nnode = \"{node}\"\ntop = \"{top}\"\n");
        }
        toml += &format!(
            "\n[vm.configuration]\ncpus = 1\nmemory = \"{MEMORY}MiB\"\nfirmware = \"bios\"\n\
             guest_id = \"otherLinux64Guest\"\nguest_name = \"MigrateKit's test guest\"\n\
             \n[[vm.configuration.controllers]]\nkey = \"1000\"\nkind = \"{}\"\n",
            self.bus.as_str()
        );
        for (unit, disk) in self.disks.iter().enumerate() {
            let key = &disk.key;
            toml += &format!(
                "\n[[vm.configuration.disks]]\nkey = \"{key}\"\ncontroller = \"1000\"\nunit = {unit}\n"
            );
        }
        toml += &format!(
            "\n[[vm.configuration.nics]]\nkey = \"4000\"\nmac = \"{MAC}\"\nmodel = \"{}\"\n\
             network = \"VM Network\"\n",
            self.bus.nic()
        );
        toml
    }
}

fn into_qcow2(dir: &Path, key: &str, raw: &Path) -> anyhow::Result<LiveDisk> {
    let image = dir.join(format!("{key}.qcow2"));
    run("qemu-img", &["convert", "-q", "-f", "raw", "-O", "qcow2", &text(raw)?, &text(&image)?])?;
    std::fs::remove_file(raw).with_context(|| format!("remove {}", raw.display()))?;
    Ok(LiveDisk::new(key, image))
}

fn graph(disk: &LiveDisk) -> Disk {
    let nodes: [Value; 3] = crate::live_vm::nodes(disk);
    Disk { nodes: nodes.into(), device: disk.top.clone() }
}
