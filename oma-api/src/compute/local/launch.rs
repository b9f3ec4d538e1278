//! One start of a machine's QEMU, up to the moment at which it is a daemon.
//!
//! It is no child of this process: it goes on when this one ends, and is found again by its lock (see `process`). What
//! is waited for here is the process that makes the daemon, which ends when the daemon has opened all it needs.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::blocking;
use super::folder::{Folder, failed};
use super::process::Process;
use crate::compute::{Error, MachineName};

/// Opening disks and making memory: a tenth of a second, on a busy host a few.
const READY: Duration = Duration::from_secs(60);

/// How the attempt ended.
#[derive(Debug)]
pub(super) enum Launched {
    /// It is there.
    Daemon,
    /// Somebody else's attempt came first.
    RunsAlready,
    /// A disk is locked by another program; the path as QEMU says it.
    Locked(String),
    /// It ended, and said why.
    Ended(String),
}

/// Starts it. It is there when this returns [`Launched::Daemon`]; after an error, whoever has the lock is to be asked for.
pub(super) async fn launch(
    name: &MachineName,
    folder: &Folder,
    qemu: &Path,
    arguments: Vec<OsString>,
) -> Result<Launched, Error> {
    let log = folder.qemu_log();
    let (out, errors) = blocking(move || {
        // Each writes at the end: where two start at once, neither's words lie over the other's, which are looked for below.
        let made = File::create(&log)
            .and_then(|_| OpenOptions::new().append(true).open(&log))
            .and_then(|file| Ok((file.try_clone()?, file)));
        made.map_err(|e| failed("write", &log, e))
    })
    .await?;
    let mut command = Command::new(qemu);
    command.args(arguments).current_dir(&folder.path);
    command.stdin(Stdio::null()).stdout(out).stderr(errors);
    let mut child = bare(&mut command).spawn().map_err(|e| failed("run", qemu, e))?;
    let Ok(ended) = timeout(READY, child.wait()).await else {
        // Both halves: the one that waits, and the daemon if it got that far.
        child.start_kill().map_err(|e| failed("end", qemu, e))?;
        let daemon =
            Process::of(&folder.pid()).map_err(|e| failed("ask for the lock of", &folder.pid(), e))?;
        if let Some(daemon) = daemon {
            daemon.kill().map_err(|e| failed("end", qemu, e))?;
        }
        let why = format!("QEMU was not ready after {} s: {}", READY.as_secs(), folder.last_words());
        return Err(Error::Start { name: name.clone(), why });
    };
    let ended = ended.map_err(|e| failed("wait for", qemu, e))?;
    if ended.success() {
        return Ok(Launched::Daemon);
    }
    let words = folder.last_words();
    if words.contains("Cannot lock pid file") {
        return Ok(Launched::RunsAlready);
    }
    let image =
        words.split_once("Is another process using the image [").and_then(|(_, rest)| rest.split_once("]?"));
    Ok(match image {
        Some((image, _)) => Launched::Locked(image.to_owned()),
        None if words.is_empty() => Launched::Ended(format!("QEMU ended with {ended}, and said nothing")),
        None => Launched::Ended(words),
    })
}

/// A process group of its own, so that a terminal's Ctrl-C is not for it; and nothing of our environment, which may hold
/// what a process with a stranger's guest in it should not.
pub(super) fn bare(command: &mut Command) -> &mut Command {
    command.process_group(0).env_clear().env("LC_ALL", "C");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}
