//! Children of the agent: started without a shell, watched, started again when they end, and never outliving it.
//!
//! Each child has a thread that starts it, waits for it and starts it again with growing pauses (nbdkit 1.32 aborts
//! when a client is killed with requests in flight). The thread matters: the kernel's "parent died" signal, by which a
//! child ends when the agent is killed, fires when the *thread* that started it ends, and a runtime's threads may.
//! A child is its own process group, so that a terminal's Ctrl-C does not reach it before the agent has finished.
//!
//! Deliberately not here: what a child serves, and its output's meaning (it goes to the agent's log line by line).

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How often the thread looks whether its child has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long an ended agent waits for a child to follow before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// A child that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The supervising thread could not be made.
    #[error("cannot start a thread for {program}")]
    Thread { program: String, source: io::Error },
    /// It runs, or tries to, and does not answer.
    #[error("{program} does not answer at {} after {} s ({starts} starts): see the agent's log for what it said", socket.display(), after.as_secs())]
    NotReady { program: String, socket: PathBuf, after: Duration, starts: u64 },
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The program, looked up in `PATH`.
    pub program: &'static str,
    /// Its arguments. Secrets do not belong here.
    pub arguments: Vec<OsString>,
    /// The Unix socket it serves. It is removed before each start: a killed server leaves it behind.
    pub socket: PathBuf,
    /// Pause before the first new start; doubled each time, up to [`Spec::longest_pause`].
    pub pause: Duration,
    /// Longest pause between starts. A child that ran longer than this begins with the short pause again.
    pub longest_pause: Duration,
}

impl Spec {
    /// With pauses of 50 ms to 10 s.
    pub fn new(program: &'static str, arguments: Vec<OsString>, socket: PathBuf) -> Self {
        let (pause, longest_pause) = (Duration::from_millis(50), Duration::from_secs(10));
        Self { program, arguments, socket, pause, longest_pause }
    }
}

/// A supervised child. Dropping it ends the process: asked first, then killed.
#[derive(Debug)]
pub struct Child {
    program: &'static str,
    socket: PathBuf,
    state: std::sync::Arc<State>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// 0: none now.
    pid: AtomicU32,
    starts: AtomicU64,
}

impl Child {
    /// Starts supervising. That the program exists is found out by [`ready`](Self::ready).
    pub fn start(spec: Spec) -> Result<Self, Error> {
        let (program, socket) = (spec.program, spec.socket.clone());
        let state = std::sync::Arc::<State>::default();
        let (stop, stopped) = mpsc::channel();
        let supervised = std::sync::Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name(format!("child {program}"))
            .spawn(move || supervise(&spec, &supervised, &stopped))
            .map_err(|source| Error::Thread { program: program.to_owned(), source })?;
        Ok(Self { program, socket, state, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits until somebody accepts at the socket.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if listens(&self.socket) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Error::NotReady {
                    program: self.program.to_owned(),
                    socket: self.socket.clone(),
                    after: within,
                    starts: self.starts(),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        Some(self.state.pid.load(Ordering::Relaxed)).filter(|&pid| pid != 0)
    }

    /// How often it was started.
    pub fn starts(&self) -> u64 {
        self.state.starts.load(Ordering::Relaxed)
    }

    /// The Unix socket it serves.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A few milliseconds, as children that serve Unix sockets end at once when asked.
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Whether somebody listens, without connecting: nbdkit would complain of a client that goes without a word.
fn listens(socket: &Path) -> bool {
    // Flags in the fourth column, `__SO_ACCEPTCON`; the path is the rest of the line after seven.
    let listening = |line: &str| {
        line.split_ascii_whitespace().nth(3) == Some("00010000")
            && socket.to_str().is_some_and(|path| line.ends_with(&format!(" {path}")))
    };
    // One that was removed is listened at all the same.
    socket.exists()
        && std::fs::read_to_string("/proc/net/unix").is_ok_and(|sockets| sockets.lines().any(listening))
}

/// The thread: start, wait, pause, again, until the other end of `stopped` is gone.
fn supervise(spec: &Spec, state: &State, stopped: &mpsc::Receiver<()>) {
    let mut pause = spec.pause;
    loop {
        let began = Instant::now();
        match run(spec, state, stopped) {
            Ok(None) => return,
            Ok(Some(status)) => tracing::warn!(
                program = spec.program,
                code = status.code(),
                signal = status.signal(),
                "a child ended and is started again"
            ),
            Err(error) => tracing::error!(program = spec.program, %error, "a child cannot be started"),
        }
        if began.elapsed() > spec.longest_pause {
            pause = spec.pause;
        }
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        pause = (pause * 2).min(spec.longest_pause);
    }
}

/// One life of the child; `None` when it was asked to end.
fn run(spec: &Spec, state: &State, stopped: &mpsc::Receiver<()>) -> io::Result<Option<process::ExitStatus>> {
    match std::fs::remove_file(&spec.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // The kernel ends it when this thread is gone, whatever the program does about parents by itself.
    let mut command = process::Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", spec.program]).args(&spec.arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    state.pid.store(child.id(), Ordering::Relaxed);
    state.starts.fetch_add(1, Ordering::Relaxed);
    let said = child.stderr.take().map(|stderr| log(spec.program, stderr));
    let mut served = false;
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if served && !spec.socket.exists() {
            // Somebody removed it: nobody can reach the child any more, and it will not make another.
            tracing::warn!(program = spec.program, socket = %spec.socket.display(), "a child's socket is gone");
            end(&mut child)?;
            break Some(child.wait()?);
        }
        served |= spec.socket.exists();
        if stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
            end(&mut child)?;
            break None;
        }
    };
    state.pid.store(0, Ordering::Relaxed);
    if let Some(said) = said {
        let _ = said.join();
    }
    Ok(ended)
}

fn end(child: &mut process::Child) -> io::Result<()> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| {
        if let Some(group) = group {
            // Gone already is as good.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    };
    signal(Signal::TERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::sleep(LOOK / 4);
    }
    signal(Signal::KILL);
    child.wait().map(|_| ())
}

/// Passes on what the child says, line by line, until it closes its end.
fn log(program: &'static str, stderr: process::ChildStderr) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            tracing::warn!(program, "{}", String::from_utf8_lossy(&line));
        }
    })
}

#[cfg(test)]
mod tests;
