//! Machines that really run: one QEMU each, on the devices that LINSTOR gives.
//!
//! ```text
//!  DIR/consoles/<machine>.log            all that was said on its serial port, from all its starts
//!  DIR/machines/<machine>/pid            QEMU holds a lock on it for as long as it lives: whether the machine runs
//!                        /machine.json   what it was started with
//!                        /qmp.sock /console.sock /agent.sock    monitor, typing on the serial port, QEMU guest agent
//!                        /vars.fd        what its EFI firmware keeps;  /qemu.log  what QEMU itself said
//!  DIR/plain/<volume>.img                disks on pools that are no LINSTOR: empty files, as templates are none here
//! ```
//!
//! Nothing is known of a machine but what lies there, so that the next simulator on the folder finds those that run. A
//! guest that powers itself off leaves no process; the server's power reports find that within a second.
//!
//! Otherwise than on a real host: all hosts are this machine (its devices, its processors, no limit to them); networks
//! lead nowhere; the processor is emulated unless KVM is asked for; nothing is plugged while a machine runs; a template
//! is an empty disk. Two machines cannot write on one disk: QEMU locks it, as DRBD lets only one node be primary.

mod command;
mod process;
#[cfg(test)]
mod tests;

use super::{Hypervisor, Machine, Power, Stop};
use crate::guest::Console;
use crate::live_vm::Monitor;
use process::Process;
use serde_json::json;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Until its monitor answers.
const START: Duration = Duration::from_secs(30);

/// After its process was killed, for the kernel to take it away.
const END: Duration = Duration::from_secs(10);

/// A guest that is still booting does not hear the button; so it is pressed again and again.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

const LOOK: Duration = Duration::from_millis(25);

/// What carries out guests' instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// QEMU itself: slow, and works everywhere.
    #[default]
    Tcg,
    /// The processor.
    Kvm,
}

/// What becomes of machines when this goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// They run on, for the next one on the folder.
    Leave,
    /// They end with it, and with its process, however that ends: for tests.
    Kill,
}

/// How machines are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Made where missing.
    pub dir: PathBuf,
    pub accel: Accel,
    /// How long a guest may take to power itself off; then it is killed, as a host's agent does.
    pub patience: Duration,
    pub at_end: AtEnd,
}

impl Options {
    /// Emulated, with a minute for a guest to obey its button; machines outlive this.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let patience = Duration::from_secs(60);
        Self { dir: dir.into(), accel: Accel::default(), patience, at_end: AtEnd::Leave }
    }

    /// The same for a test: machines end with it.
    #[must_use]
    pub fn for_test(dir: impl Into<PathBuf>) -> Self {
        Self { at_end: AtEnd::Kill, ..Self::new(dir) }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Qemu {
    options: Options,
}

impl Qemu {
    /// # Errors
    /// The folder cannot be made.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        for folder in ["consoles", "machines", "plain"] {
            std::fs::create_dir_all(options.dir.join(folder))?;
        }
        // A process that is started elsewhere has to find it.
        let dir = options.dir.canonicalize()?;
        Ok(Self { options: Options { dir, ..options } })
    }

    /// A machine's serial port: all that was said since its first start, and typing.
    pub fn console(&self, id: &str) -> Console {
        let log = self.options.dir.join("consoles").join(format!("{id}.log"));
        Console::whole(log, self.folder(id).join("console.sock"))
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.options.dir.join("machines").join(id)
    }

    fn process(&self, id: &str) -> Result<Option<Process>, String> {
        Process::of(&self.folder(id).join("pid")).map_err(|error| format!("{id}: {error}"))
    }

    /// Ids of the machines that run.
    fn all(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.options.dir.join("machines")).into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
        ids.filter(|id| self.state(id) == Power::Running).collect()
    }

    /// Ends all that run, without asking them.
    ///
    /// # Errors
    /// One does not end.
    pub fn end_all(&self) -> Result<usize, String> {
        let all = self.all();
        all.iter().try_for_each(|id| self.stop(id, Stop::Forced))?;
        Ok(all.len())
    }

    /// Waits until the monitor answers: the machine is on.
    fn wait_for_monitor(&self, id: &str, ended: &Receiver<()>) -> Result<(), String> {
        let (folder, begun) = (self.folder(id), Instant::now());
        while begun.elapsed() < START {
            if monitor(&folder).is_ok() {
                return Ok(());
            }
            if ended.recv_timeout(LOOK).is_ok() {
                return Err(last_words(&folder));
            }
        }
        Err(format!("QEMU did not answer within {START:?}: {}", last_words(&folder)))
    }

    /// Presses the button until the machine is off or patience ends. Whether it is.
    fn press(&self, folder: &Path, process: &Process) -> bool {
        let (begun, mut pressed) = (Instant::now(), None::<Instant>);
        while begun.elapsed() < self.options.patience {
            if process.ended(LOOK) {
                return true;
            }
            if pressed.is_none_or(|at| at.elapsed() > PRESS_AGAIN) {
                // Refused where it is just going.
                let _ = monitor(folder).map(|mut monitor| monitor.execute("system_powerdown", json!({})));
                pressed = Some(Instant::now());
            }
        }
        false
    }
}

/// By a short path, whatever the folder's is: a socket's name may have 107 bytes.
fn monitor(folder: &Path) -> anyhow::Result<Monitor> {
    let opened = File::open(folder)?;
    Monitor::connect(Path::new(&format!("/proc/self/fd/{}/qmp.sock", opened.as_raw_fd())))
}

/// QEMU's own words about why it does not run.
fn last_words(folder: &Path) -> String {
    let said = std::fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
    if said.is_empty() { "QEMU said nothing".to_owned() } else { said.trim_end().replace('\n', "; ") }
}

impl Hypervisor for Qemu {
    fn start(&self, machine: &Machine) -> Result<(), String> {
        if self.state(&machine.id) == Power::Running {
            return Err(format!("{} runs already", machine.instance_name));
        }
        let folder = self.folder(&machine.id);
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} of {}: {error}", machine.id);
        std::fs::create_dir_all(&folder).map_err(|error| failed("the folder", &error))?;
        for left in ["qmp.sock", "console.sock", "agent.sock", "qemu.log"] {
            let _ = std::fs::remove_file(folder.join(left));
        }
        let kept = json!({"id": machine.id, "name": machine.instance_name, "host": machine.host});
        std::fs::write(folder.join("machine.json"), kept.to_string())
            .map_err(|e| failed("the record", &e))?;
        let arguments = command::arguments(&self.options.dir, &folder, self.options.accel, machine)?;
        let started = process::start(&folder, arguments, self.options.at_end);
        let ended = started.map_err(|error| failed("QEMU", &error))?;
        self.wait_for_monitor(&machine.id, &ended).inspect_err(|_| {
            // Nobody knows of a machine that did not start.
            let _ = self.stop(&machine.id, Stop::Forced);
        })
    }

    fn stop(&self, id: &str, how: Stop) -> Result<(), String> {
        let Some(process) = self.process(id)? else { return Ok(()) };
        if how == Stop::Asked && self.press(&self.folder(id), &process) {
            return Ok(());
        }
        process.kill().map_err(|error| format!("{id}: {error}"))?;
        let is_gone = process.ended(END);
        is_gone.then_some(()).ok_or_else(|| format!("{id} did not end within {END:?} of its kill"))
    }

    fn state(&self, id: &str) -> Power {
        match self.process(id) {
            Ok(None) => Power::Off,
            // What is not known to be off is not taken for it.
            Ok(Some(_)) | Err(_) => Power::Running,
        }
    }

    fn reports(&self) -> Option<Vec<(String, String)>> {
        let host = |id: &str| {
            let kept = std::fs::read(self.folder(id).join("machine.json")).ok()?;
            let kept: serde_json::Value = serde_json::from_slice(&kept).ok()?;
            kept["host"].as_str().map(str::to_owned)
        };
        Some(self.all().into_iter().map(|id| (id.clone(), host(&id).unwrap_or_default())).collect())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        if self.options.at_end == AtEnd::Kill
            && let Err(error) = self.end_all()
        {
            tracing::error!(error, "a machine runs on");
        }
    }
}
