//! The guest's serial console: what it said since its power came on, and typing.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::power::PATIENCE;

/// What all that the guest itself says begins with.
const SAYS: &str = "guest: ";

/// A console; QEMU writes all that is said on it to a file.
#[derive(Clone, Debug)]
pub struct Console {
    log: PathBuf,
    socket: PathBuf,
    /// Where in the log this boot begins.
    from: u64,
}

/// What a guest found on its disks when it booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Counts from 1.
    pub boot: u64,
    /// The oldest record that is still there; 0: none was ever written.
    pub first: u64,
    /// The newest; all from `first` to this one are there and whole.
    pub last: u64,
}

/// How far a running guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Counts from 1.
    pub boot: u64,
    /// Number of the newest record that is durable on both disks.
    pub record: u64,
}

impl Console {
    /// The console of the machine in that folder, from here on.
    ///
    /// # Errors
    /// The log is there and cannot be looked at.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let mut this = Self { log: dir.join("console.log"), socket: dir.join("console.sock"), from: 0 };
        this.begin()?;
        Ok(this)
    }

    /// Of a machine that others run, from the log's beginning.
    pub fn whole(log: PathBuf, socket: PathBuf) -> Self {
        Self { log, socket, from: 0 }
    }

    /// What is there was said before this boot.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        self.from = match std::fs::metadata(&self.log) {
            Ok(log) => log.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error).with_context(|| format!("look at {}", self.log.display())),
        };
        Ok(())
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// All that was said in this boot, the kernel's words included.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn all(&self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        match std::fs::File::open(&self.log) {
            Ok(mut log) => {
                log.seek(SeekFrom::Start(self.from))?;
                log.read_to_end(&mut bytes)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("read {}", self.log.display())),
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What the guest itself said in this boot, in whole lines, without their common beginning.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn said(&self) -> anyhow::Result<Vec<String>> {
        let all = self.all()?;
        let whole = all.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Ok(whole.lines().filter_map(|line| line.trim_end().strip_prefix(SAYS)).map(str::to_owned).collect())
    }

    /// Waits until the guest says something that begins so, after the first `skip` lines, and gives it.
    ///
    /// # Errors
    /// It does not within `deadline`, or says that it is damaged; all that it said is in the error.
    pub fn wait_for(&self, beginning: &str, skip: usize, deadline: Duration) -> anyhow::Result<String> {
        let end = Instant::now() + deadline;
        loop {
            let said = self.said()?;
            if let Some(line) = said.iter().skip(skip).find(|line| line.starts_with(beginning)) {
                return Ok(line.clone());
            }
            if said.iter().skip(skip).any(|line| line.starts_with("DAMAGED")) {
                bail!("the guest says: {said:?}");
            }
            if Instant::now() > end {
                bail!("the guest did not say {beginning:?} within {deadline:?}, but: {}", self.all()?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the guest is ready, and gives what it found on its disks.
    ///
    /// # Errors
    /// It is damaged, or does not boot.
    pub fn ready(&self) -> anyhow::Result<Found> {
        self.wait_for("ready", 0, PATIENCE)?;
        found(&self.wait_for("boot ", 0, PATIENCE)?)
    }

    /// Waits until the guest is ready in that boot, whoever switched it on, and gives what it found on its disks.
    ///
    /// # Errors
    /// It is damaged, or does not boot.
    pub fn booted(&self, boot: u64) -> anyhow::Result<Found> {
        let line = self.wait_for(&format!("boot {boot}, "), 0, PATIENCE)?;
        let at = self.said()?.iter().position(|said| *said == line).context("it was just said")?;
        self.wait_for("ready", at, PATIENCE)?;
        found(&line)
    }

    /// Types a line, and gives the guest's next word.
    ///
    /// # Errors
    /// Nobody listens, or nothing is said.
    pub fn ask(&self, line: &str) -> anyhow::Result<String> {
        ensure!(!line.contains('\n'), "one line, not {line:?}");
        let skip = self.said()?.len();
        // Kept to the end: what is typed and not yet read goes with the connection.
        let mut typed = UnixStream::connect(&self.socket)
            .with_context(|| format!("type on {}", self.socket.display()))?;
        typed.write_all(format!("{line}\n").as_bytes())?;
        self.wait_for("", skip, PATIENCE)
    }

    /// How far the guest is.
    ///
    /// # Errors
    /// As of [`ask`](Self::ask).
    pub fn status(&self) -> anyhow::Result<Progress> {
        let line = self.ask("status")?;
        let [boot, record] = numbers(&line)[..] else { bail!("a status in other words: {line:?}") };
        Ok(Progress { boot, record })
    }
}

/// Reads "boot 3, last record 12, records 1..12 intact" or "boot 1, no record yet".
pub(super) fn found(line: &str) -> anyhow::Result<Found> {
    match numbers(line)[..] {
        [boot] if line.ends_with("no record yet") => Ok(Found { boot, first: 0, last: 0 }),
        [boot, last, first, end] if line.ends_with("intact") && last == end => {
            Ok(Found { boot, first, last })
        }
        _ => bail!("the guest's word is not understood: {line:?}"),
    }
}

fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}
