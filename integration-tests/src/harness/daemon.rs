//! A daemon of ours as a child process.

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running daemon; its log is a file that grows over restarts.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    /// Where in the log this run begins.
    from: u64,
}

/// The built binary of that name, beside the test's own.
///
/// # Errors
/// When it was not built: `cargo build --workspace --bins` does it.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe()?;
    let folders = me.ancestors().skip(1).take(3);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!("{name} is not built: run `cargo build --workspace --bins` (make test does)")
    })
}

impl Daemon {
    /// Starts `name --config CONFIG`, under `wrapper` (a tracer with its arguments) if there is one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, config: &Path, log: &Path, wrapper: &[&str]) -> anyhow::Result<Self> {
        let out = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let from = out.metadata()?.len();
        let program = binary(name)?;
        let mut command = match wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        command.env("NO_COLOR", "1");
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, log: log.to_owned(), from })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What this run has logged so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn logged(&self) -> anyhow::Result<String> {
        let all = std::fs::read(&self.log)?;
        let from = usize::try_from(self.from)?.min(all.len());
        Ok(String::from_utf8_lossy(&all[from..]).into_owned())
    }

    /// Waits for a line that contains `what`, and gives it.
    ///
    /// # Errors
    /// When it does not come in time, or the daemon ends first; with the end of the log.
    pub fn wait_for(&mut self, what: &str, deadline: Duration) -> anyhow::Result<String> {
        let end = Instant::now() + deadline;
        loop {
            let logged = self.logged()?;
            if let Some(line) = logged.lines().find(|line| line.contains(what)) {
                return Ok(line.to_owned());
            }
            let ended = self.child.try_wait()?;
            let late = Instant::now() >= end;
            if ended.is_some() || late {
                let tail: Vec<_> = logged.lines().rev().take(15).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                anyhow::bail!("no line with {what:?} ({ended:?}); the log ends with\n{tail}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end; kill -9 after `grace`.
    ///
    /// # Errors
    /// When it did not end by itself in time.
    pub fn stop(&mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Gone already: the wait below finds it.
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + grace;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        anyhow::bail!("did not end within {grace:?} of SIGTERM")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        super::clock::sweep();
    }
}
