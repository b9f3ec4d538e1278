//! A machine's QEMU: started, found again by whoever comes later, and killed without hitting anybody else.
//!
//! QEMU takes a lock on its pid file before anything else and holds it until it ends, however it ends. The number in the
//! file is never read: the kernel says who holds the lock.

use super::AtEnd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Flock, FlockType, Pid, PidfdFlags, Signal, fcntl_getlk, pidfd_open, pidfd_send_signal,
};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const QEMU: &str = "qemu-system-x86_64";

/// Starts QEMU in that folder, in a process group of its own: what ends this program does not end it. What is given says
/// something when it has ended.
pub(super) fn start(
    folder: &Path,
    arguments: Vec<OsString>,
    at_end: AtEnd,
) -> io::Result<mpsc::Receiver<()>> {
    let log = File::options().create(true).append(true).open(folder.join("qemu.log"))?;
    let mut command = match at_end {
        AtEnd::Leave => Command::new(QEMU),
        AtEnd::Kill => {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", QEMU]);
            command
        }
    };
    command.args(arguments).current_dir(folder).process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    // This thread reaps it. And the kernel sends the signal when the *thread* ends that started it: not before.
    std::thread::spawn(move || match command.spawn() {
        Err(error) => drop(tell.send(Err(error))),
        Ok(mut child) => {
            let _ = tell.send(Ok(()));
            let _ = child.wait();
            let _ = end.send(());
        }
    });
    told.recv().map_err(|_| io::Error::other("the thread that starts QEMU ended"))??;
    Ok(ended)
}

/// Who holds the lock of the pid file.
fn holder(pid_file: &Path) -> io::Result<Option<Pid>> {
    let file = match File::open(pid_file) {
        Ok(file) => file,
        // QEMU removes it when it ends in order.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))? {
        None => Ok(None),
        Some(Flock { pid: Some(pid), .. }) => Ok(Some(pid)),
        Some(_) => Err(io::Error::other("it runs where its number means nothing here")),
    }
}

/// One that runs, or has run until just now: not another process that got its number.
#[derive(Debug)]
pub(super) struct Process {
    handle: OwnedFd,
}

impl Process {
    /// None: it does not run.
    pub(super) fn of(pid_file: &Path) -> io::Result<Option<Self>> {
        loop {
            let Some(pid) = holder(pid_file)? else { return Ok(None) };
            match pidfd_open(pid, PidfdFlags::empty()) {
                // It held the lock before and holds it now: the handle in between is its.
                Ok(handle) if holder(pid_file)? == Some(pid) => return Ok(Some(Self { handle })),
                Ok(_) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits so long for its end. Whether it has ended.
    pub(super) fn ended(&self, within: Duration) -> bool {
        let within = Timespec {
            tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(within.subsec_nanos()),
        };
        poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], Some(&within)).is_ok_and(|ready| ready > 0)
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
