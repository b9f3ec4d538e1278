//! A program that is run once: without a shell, in its own process group, and never longer than it may.
//!
//! libguestfs starts QEMU, virt-v2v starts nbdkit, and either may leave our process group or lose its parent. So each run carries a
//! mark in its environment, which all it starts inherit, and ends when nobody carries that mark any more.
//!
//! Each run has a thread that starts and waits for it. The thread matters: the kernel's "parent died" signal, by which
//! the program ends when the daemon is killed, fires when the *thread* that started it ends, and a runtime's may.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How often the thread looks whether its program has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long a program that was asked to end may clean up before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// The variable that all of a run carry. No secret: it only tells one run from another.
const MARK: &str = "MIGRATEKIT_CONVERSION";

/// What to run.
pub(super) struct Spec {
    /// Looked up in the `PATH` of `environment`.
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// Besides the daemon's own.
    pub environment: Vec<(&'static str, OsString)>,
    pub input: Stdio,
    pub output: Stdio,
    pub errors: Stdio,
}

/// Why a run did not end by itself.
#[derive(Debug)]
pub(super) enum Ended {
    Stopped,
    TooLong,
    Io(io::Error),
}

/// A program that runs. Dropping it ends the program, and all that the program started, without waiting for it.
pub(super) struct Running {
    pub input: Option<ChildStdin>,
    pub output: Option<ChildStdout>,
    /// Dropped: end it.
    end: Option<mpsc::Sender<()>>,
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
}

impl Running {
    /// Starts it.
    pub(super) async fn start(spec: Spec) -> io::Result<Self> {
        let (end, told) = mpsc::channel();
        let (say_started, started) = oneshot::channel();
        let (say_ended, ended) = oneshot::channel();
        std::thread::Builder::new().name("conversion".to_owned()).spawn(move || {
            let mark = format!("{MARK}={}", uuid::Uuid::new_v4());
            let child = begin(spec, &mark);
            let result = match child {
                Ok(mut child) => {
                    // A caller that is gone already has dropped its end of `told` as well.
                    let _ = say_started.send(Ok((child.stdin.take(), child.stdout.take())));
                    run(&mut child, &mark, &told)
                }
                Err(error) => return drop(say_started.send(Err(error))),
            };
            let _ = say_ended.send(result);
        })?;
        let (input, output) = started.await.map_err(|_| died())??;
        Ok(Self { input, output, end: Some(end), ended })
    }

    /// Waits until the program and all it started have ended, by themselves or because they had to.
    pub(super) async fn wait(
        &mut self,
        stop: &CancellationToken,
        deadline: tokio::time::Instant,
    ) -> Result<ExitStatus, Ended> {
        let why = tokio::select! {
            biased;
            ended = &mut self.ended => return ended.map_err(|_| died()).flatten().map_err(Ended::Io),
            () = stop.cancelled() => Ended::Stopped,
            () = tokio::time::sleep_until(deadline) => Ended::TooLong,
        };
        self.end = None;
        // However it ended now, it was not by itself.
        let _ = (&mut self.ended).await;
        Err(why)
    }
}

fn died() -> io::Error {
    io::Error::other("the thread that waits for the program ended: this is a defect")
}

fn begin(spec: Spec, mark: &str) -> io::Result<Child> {
    // The kernel ends it when this thread is gone, whatever the program does about parents by itself.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(spec.program).args(spec.arguments);
    command.envs(spec.environment);
    if let Some((name, value)) = mark.split_once('=') {
        command.env(name, value);
    }
    command.stdin(spec.input).stdout(spec.output).stderr(spec.errors).process_group(0).spawn()
}

/// Until the program has ended, or the other end of `told` is gone; then until nobody carries the mark.
fn run(child: &mut Child, mark: &str, told: &mpsc::Receiver<()>) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            // libguestfs has a process that watches its QEMU and ends a moment later.
            if !gone(mark, GRACE) {
                signal(mark, Signal::KILL);
                gone(mark, GRACE);
            }
            return Ok(status);
        }
        if told.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
            return end(child, mark);
        }
    }
}

fn end(child: &mut Child, mark: &str) -> io::Result<ExitStatus> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    for signal_now in [Signal::TERM, Signal::KILL] {
        if let Some(group) = group {
            // Gone already is as good. It is not reaped yet, so the number is still its own.
            let _ = rustix::process::kill_process_group(group, signal_now);
        }
        let deadline = Instant::now() + GRACE;
        loop {
            signal(mark, signal_now);
            if child.try_wait()?.is_some() && carriers(mark).is_empty() {
                return child.wait();
            }
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
    // A process in the kernel's hands (a device that does not answer) cannot be waited for.
    match child.try_wait()? {
        Some(status) => Ok(status),
        None => Err(io::Error::other("the program cannot be killed: a device may not answer")),
    }
}

/// Whether nobody carries the mark, before the time is over.
fn gone(mark: &str, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while !carriers(mark).is_empty() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

fn signal(mark: &str, signal: Signal) {
    for pid in carriers(mark) {
        // Held by a descriptor before it is looked at again, so that a number used anew is never hit.
        if let Ok(held) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            && carries(pid, mark)
        {
            let _ = rustix::process::pidfd_send_signal(held, signal);
        }
    }
}

/// All processes with the mark in their environment. Zombies have none.
fn carriers(mark: &str) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
        .filter_map(Pid::from_raw);
    pids.filter(|pid| carries(*pid, mark)).collect()
}

fn carries(pid: Pid, mark: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// Where a program would be found: itself if it is a path, else in the `PATH`.
pub(super) fn find(program: &OsStr, path: &OsStr) -> Option<std::path::PathBuf> {
    if program.as_encoded_bytes().contains(&b'/') {
        let program = std::path::PathBuf::from(program);
        return program.is_file().then_some(program);
    }
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests;
