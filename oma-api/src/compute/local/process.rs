//! Whether a machine's QEMU lives, and the means to end it.
//!
//! QEMU takes a write lock (POSIX, `fcntl`) on its pid file before it does anything else, and holds it for as long as it
//! lives. The lock is the kernel's: it goes with the process however that ends, no other process gets it by having the
//! same number later, and a second QEMU with that file ends at once. So the lock says whether the machine runs, and its
//! holder is the process that may be signalled; the number in the file is never read.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Flock, FlockType, Pid, PidfdFlags, Signal, fcntl_getlk, pidfd_open, pidfd_send_signal,
};
use tokio::time::Instant;

/// How often is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(25);

/// How often a holder is looked for that ends, and is followed by another, while it is looked at: once is rare.
const TRIES: u32 = 100;

/// Who holds the lock of a pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The machine does not run.
    Nobody,
    Process(Pid),
    /// Somebody whose number means nothing here: a QEMU in another container, on the same folder.
    Elsewhere,
}

/// Asks the kernel. No such file: nobody (QEMU removes it when it ends in order).
pub(super) fn holder(pid_file: &Path) -> io::Result<Holder> {
    let file = match File::open(pid_file) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Holder::Nobody);
        }
        Err(e) => return Err(e),
    };
    Ok(match fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))? {
        None => Holder::Nobody,
        Some(Flock { pid: Some(pid), .. }) => Holder::Process(pid),
        Some(_) => Holder::Elsewhere,
    })
}

/// A machine's QEMU, even after it has ended: the number of an ended process is given to another one, this is not.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    handle: OwnedFd,
    pid_file: PathBuf,
}

impl Process {
    /// The one that holds the lock. `None`: nobody does, or somebody elsewhere.
    pub(super) fn of(pid_file: &Path) -> io::Result<Option<Self>> {
        for _ in 0..TRIES {
            let Holder::Process(pid) = holder(pid_file)? else { return Ok(None) };
            match pidfd_open(pid, PidfdFlags::empty()) {
                // It held the lock before and holds it now: the handle in between is its.
                Ok(handle) if holder(pid_file)? == Holder::Process(pid) => {
                    return Ok(Some(Self { pid, handle, pid_file: pid_file.to_owned() }));
                }
                // It ended in between.
                Ok(_) | Err(Errno::SRCH) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(io::Error::other("its holder changes faster than it can be looked at"))
    }

    /// The one of that number, whose pid file has lost its name: the caller makes sure whose it is before each signal.
    /// `None`: there is none.
    pub(super) fn numbered(pid: Pid, pid_file: &Path) -> io::Result<Option<Self>> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Ok(Some(Self { pid, handle, pid_file: pid_file.to_owned() })),
            Err(Errno::SRCH) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The whole process is gone, and nothing is open any more.
    fn has_ended(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        Ok(poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
    }

    /// Waits until it has ended; `false`: it has not, `within` that time.
    pub(super) async fn ended(&self, within: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + within;
        loop {
            if self.has_ended()? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends it without asking, if it is still the machine's.
    pub(super) fn kill(&self) -> io::Result<()> {
        match holder(&self.pid_file)? {
            Holder::Process(pid) if pid == self.pid => {}
            // On its way out it gives the file back before it is gone; the handle is its all the same.
            Holder::Nobody => {}
            Holder::Process(_) | Holder::Elsewhere => return Ok(()),
        }
        self.signal(Signal::KILL)
    }

    /// One that has ended is told nothing.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}
