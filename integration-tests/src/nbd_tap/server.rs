//! A plain NBD server of files, which loses what it knew about holes when it is told to.

use anyhow::Context as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whether the server tells data from holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extents {
    Told,
    /// Everything is data, as far as a client can see.
    Lost,
}

/// `nbdkit` on a folder: each file is an export of its name, read-only. Dropping it ends it.
#[derive(Debug)]
pub struct FolderServer {
    folder: PathBuf,
    socket: PathBuf,
    child: Child,
}

impl FolderServer {
    /// Starts it on a Unix socket and waits until it answers.
    ///
    /// # Errors
    /// It does not start, or not within twenty seconds.
    pub fn start(folder: &Path, socket: &Path, extents: Extents) -> anyhow::Result<Self> {
        let child = nbdkit(folder, socket, extents)?;
        Ok(Self { folder: folder.to_owned(), socket: socket.to_owned(), child })
    }

    /// kill −9, and again with or without extents.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self, extents: Extents) -> anyhow::Result<()> {
        self.end();
        self.child = nbdkit(&self.folder, &self.socket, extents)?;
        Ok(())
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Drop for FolderServer {
    fn drop(&mut self) {
        self.end();
    }
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
