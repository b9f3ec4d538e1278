//! A child process of a test: started, watched, and gone when the test is, however the test ends.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// A running child. The kernel kills it when this process goes, a kill −9 included.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    name: &'static str,
    /// The kernel's signal fires when the *thread* that started the child ends, so that thread waits for this to go.
    _keep: mpsc::Sender<()>,
}

impl Daemon {
    /// Starts the program with its output in `log`.
    pub(crate) fn start(name: &'static str, arguments: Vec<String>, log: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let (keep, kept) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let spawn = || {
                let errors = log.try_clone()?;
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", name]).args(arguments);
                command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0).spawn()
            };
            let _ = tell.send(spawn());
            let _ = kept.recv();
        });
        let child = told.recv().context("the thread that starts children ended")?;
        Ok(Self { child: child.with_context(|| format!("start {name} by setpriv"))?, name, _keep: keep })
    }

    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}; see its log", self.name),
        }
    }

    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Gives it ten seconds to end by itself.
    pub(crate) fn wait_or_kill(mut self) {
        let ended = wait_for("the end", || Ok(self.child.try_wait()?.map(|_| ())));
        if ended.is_err() {
            self.kill();
        }
    }
}

/// Asks again and again for at most 20 seconds.
pub(crate) fn wait_for<T>(
    what: &str,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = ask()? {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, "waited 20 s in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a program to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
