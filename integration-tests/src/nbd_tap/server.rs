//! A plain NBD server of files, which loses what it knew about holes when it is told to.

use anyhow::Context as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whether the server tells data from holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extents {
    Told,
    /// Everything is data, as far as a client can see.
    Lost,
}

/// `nbdkit` on a folder: each file is an export of its name, read-only. Dropping it ends it.
///
/// It is started again when it ends by itself: nbdkit 1.32 aborts now and then when a client goes with requests in flight
/// (`raw_send_socket: Assertion`), which is what the tests do to it.
#[derive(Debug)]
pub struct FolderServer {
    served: Arc<Mutex<Served>>,
}

#[derive(Debug)]
struct Served {
    folder: PathBuf,
    socket: PathBuf,
    extents: Extents,
    child: Child,
    /// Not to be started again.
    over: bool,
}

/// Between two looks whether it still runs.
const LOOK: Duration = Duration::from_millis(20);

impl FolderServer {
    /// Starts it on a Unix socket and waits until it answers.
    ///
    /// # Errors
    /// It does not start, or not within twenty seconds.
    pub fn start(folder: &Path, socket: &Path, extents: Extents) -> anyhow::Result<Self> {
        let child = nbdkit(folder, socket, extents)?;
        let (folder, socket) = (folder.to_owned(), socket.to_owned());
        let served = Arc::new(Mutex::new(Served { folder, socket, extents, child, over: false }));
        let watched = Arc::downgrade(&served);
        std::thread::spawn(move || {
            while let Some(served) = watched.upgrade() {
                lock(&served).look();
                drop(served);
                std::thread::sleep(LOOK);
            }
        });
        Ok(Self { served })
    }

    /// kill −9, and again with or without extents.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self, extents: Extents) -> anyhow::Result<()> {
        lock(&self.served).begin(extents)
    }

    /// Lets it end as if by itself; gone, and its socket dead, when this returns.
    #[cfg(test)]
    pub(super) fn abort(&self) -> std::io::Result<()> {
        let mut served = lock(&self.served);
        served.child.kill()?;
        served.child.wait().map(|_| ())
    }
}

/// At once, whatever the thread that watches is doing.
impl Drop for FolderServer {
    fn drop(&mut self) {
        let mut served = lock(&self.served);
        served.over = true;
        served.end();
    }
}

impl Served {
    fn look(&mut self) {
        if !self.over && matches!(self.child.try_wait(), Ok(Some(_))) {
            // If it does not start now, then at the next look.
            let _ = self.begin(self.extents);
        }
    }

    fn begin(&mut self, extents: Extents) -> anyhow::Result<()> {
        self.end();
        self.extents = extents;
        self.child = nbdkit(&self.folder, &self.socket, extents)?;
        Ok(())
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn lock(served: &Mutex<Served>) -> MutexGuard<'_, Served> {
    served.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nbdkit(folder: &Path, socket: &Path, extents: Extents) -> anyhow::Result<Child> {
    let mut command = Command::new("nbdkit");
    command.args(["--foreground", "--exit-with-parent", "--readonly", "--unix"]).arg(socket);
    if extents == Extents::Lost {
        command.arg("--filter=noextents");
    }
    let mut dir = std::ffi::OsString::from("dir=");
    dir.push(folder);
    command.arg("file").arg(dir).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().context("cannot start nbdkit: make test installs it")?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while UnixStream::connect(socket).is_err() {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("nbdkit ended with {status}");
        }
        anyhow::ensure!(Instant::now() < deadline, "nbdkit does not answer at {}", socket.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}
