//! The power of a machine, by its monitor: this process may have started it, or another.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::live_vm::Monitor;

/// How long a guest takes at most to boot, to write a few records, or to power off: emulated, on a machine that has much
/// else to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// After this long, one that was still booting has learnt to hear the button.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// The switch of the machine in a folder.
#[derive(Clone, Debug)]
pub struct Power {
    monitor: PathBuf,
}

impl Power {
    /// Of the machine in this folder.
    pub fn of(dir: &Path) -> Self {
        Self { monitor: dir.join("test.qmp") }
    }

    /// Runs one command on the test's monitor.
    ///
    /// # Errors
    /// There is no process, or it refuses.
    pub fn execute(&self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        Monitor::connect(&self.monitor)?.execute(command, arguments)
    }

    /// Whether the machine is on.
    ///
    /// # Errors
    /// The monitor does not answer.
    pub fn is_on(&self) -> anyhow::Result<bool> {
        let status = self.execute("query-status", json!({}))?;
        Ok(status["status"].as_str().context("no status")? != "shutdown")
    }

    /// Switches on a machine that was powered off. Does not wait for the guest.
    ///
    /// # Errors
    /// It is on, or there is no process.
    pub fn on(&self) -> anyhow::Result<()> {
        ensure!(!self.is_on()?, "the machine is on");
        self.execute("system_reset", json!({}))?;
        self.execute("cont", json!({}))?;
        Ok(())
    }

    /// Presses the power button and waits until the guest has obeyed.
    ///
    /// # Errors
    /// It does not.
    pub fn off(&self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut pressed: Option<Instant> = None;
        while self.is_on()? {
            ensure!(Instant::now() < end, "the guest did not power itself off within {PATIENCE:?}");
            if pressed.is_none_or(|at| at.elapsed() > PRESS_AGAIN) {
                self.execute("system_powerdown", json!({}))?;
                pressed = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}
