//! What transfers say about themselves, for whoever asks: the register behind the progress API.
//!
//! ```text
//!  engine ── update(job) ──►  Register  ──► view(job) ── REST, gRPC
//!  agent's own cycles ─────►  (memory)  ──► numbers of its states ── whoever watches
//! ```
//!
//! A job is one disk (`migration-vol-<uuid>`) or a VM's cycle (`job-YYYYMMDD-HHMMSS`), whose bytes are the sum of its
//! disks'. Nothing here is truth: it is lost with the process, and nobody waits for it. Time comes in as an argument.
//!
//! Deliberately not here: HTTP, the database, and any decision about a transfer.

mod job;
mod view;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

pub use job::Status;
pub use view::{PhaseView, Throughput, Timing, View, VmInfo, eta_seconds, moment};
pub use watch::{Seen, states};

use job::{Job, float};
use tokio::sync::watch::{Receiver, Sender};

/// Where the API lies on its server.
pub const ROOT: &str = "/api/v1/progress";

/// How long a job that ended can still be asked about.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// How long a job may be silent before it is forgotten: an engine that was killed says nothing more.
const SILENT: SignedDuration = SignedDuration::from_hours(24);

/// Most jobs at a time; more are refused.
const MOST: usize = 10_000;

/// Longest id of a job or a disk, and longest name, in bytes.
const LONGEST: usize = 256;

/// Why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody registered the job, or it ended too long ago.
    #[error("job not found")]
    NotFound,
    /// What was sent cannot be right.
    #[error("{0}")]
    Invalid(String),
    /// The register is full.
    #[error("{MOST} jobs are registered already; jobs are forgotten an hour after they ended")]
    Full,
}

/// What an engine says now and then. Bytes are those of one disk.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Update {
    /// `Discover`, `Transfer`, `Complete`; another name is shown as it is.
    pub stage: String,
    /// Without it the job is running, or what it was.
    #[serde(default)]
    pub status: Option<Status>,
    /// Bytes transferred so far; fewer than before are as many as before.
    pub bytes_transferred: i64,
    /// Bytes to transfer; 0: as before.
    #[serde(default)]
    pub total_bytes: i64,
    /// Bytes a second, as the engine measures; 0: as it follows from the bytes.
    #[serde(default)]
    pub throughput_bps: i64,
    /// Of the disk; 0: as it follows from the bytes.
    #[serde(default)]
    pub percent: f64,
    /// Which disk of the job, where it has several.
    #[serde(default)]
    pub disk_id: String,
}

/// What is known of a job before it begins. All of it may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// `full` or `incremental`.
    pub sync_type: String,
    /// The VM's name and where the source has it.
    pub vm_name: String,
    pub vm_path: String,
    /// Bytes of the disk, or of all of the VM's.
    pub total_bytes: i64,
    /// Whether the source tells what changed.
    pub cbt_enabled: bool,
}

impl Default for Registration {
    fn default() -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            sync_type: "full".to_owned(),
            vm_name: unknown(),
            vm_path: unknown(),
            total_bytes: 0,
            cbt_enabled: false,
        }
    }
}

/// Whether a registration made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    New,
    /// It was there, and goes on as it was: an engine that was started again registers again.
    Known,
}

/// All jobs of this process.
#[derive(Debug, Default)]
pub struct Register {
    jobs: Mutex<HashMap<String, Entry>>,
}

/// A job, and who is told when it changes: the number of its present state. It begins at the microseconds since 1970, so
/// that it grows over a restart, too.
#[derive(Debug)]
struct Entry {
    job: Job,
    number: Sender<u64>,
}

impl Entry {
    fn change(&mut self, change: impl FnOnce(&mut Job)) {
        change(&mut self.job);
        self.number.send_modify(|number| *number += 1);
    }
}

impl Register {
    /// Makes a job known. One that ended begins anew.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id or a registration that cannot be; [`Error::Full`].
    pub fn register(
        &self,
        id: &str,
        registration: &Registration,
        now: Timestamp,
    ) -> Result<Registered, Error> {
        check_job_id(id)?;
        check_registration(registration)?;
        let mut jobs = self.lock(now);
        let new = Job::new(registration, now);
        let room = jobs.len() < MOST;
        match jobs.get_mut(id) {
            Some(entry) if !entry.job.has_ended() => return Ok(Registered::Known),
            Some(ended) => ended.change(|job| *job = new),
            None if !room => return Err(Error::Full),
            None => {
                let number = Sender::new(u64::try_from(now.as_microsecond()).unwrap_or(1));
                jobs.insert(id.to_owned(), Entry { job: new, number });
            }
        }
        Ok(Registered::New)
    }

    /// Takes an update.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what is wrong; [`Error::NotFound`]. Nothing of it is taken then.
    pub fn update(&self, id: &str, update: &Update, now: Timestamp) -> Result<(), Error> {
        check_update(update)?;
        self.change(id, now, |job| job.update(update, now))
    }

    /// Something went wrong, and is tried again; the text is shown as the job's last error.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn complain(&self, id: &str, why: &str, now: Timestamp) -> Result<(), Error> {
        self.change(id, now, |job| job.complain(why))
    }

    /// All of the job is done; one that ended before stays as it ended.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn complete(&self, id: &str, now: Timestamp) -> Result<(), Error> {
        self.change(id, now, |job| job.complete(now))
    }

    /// The job failed, with its reason; one that ended before stays as it ended.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn fail(&self, id: &str, why: &str, now: Timestamp) -> Result<(), Error> {
        self.change(id, now, |job| job.fail(why, now))
    }

    /// How the job stands.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn view(&self, id: &str, now: Timestamp) -> Result<View, Error> {
        self.lock(now).get(id).map(|entry| View::of(id, &entry.job, now)).ok_or(Error::NotFound)
    }

    /// The numbers of the job's states: the present one at once, then one with each change; see [`states`]. Closed when
    /// the job is forgotten.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn watch(&self, id: &str, now: Timestamp) -> Result<Receiver<u64>, Error> {
        self.lock(now).get(id).map(|entry| entry.number.subscribe()).ok_or(Error::NotFound)
    }

    fn change(&self, id: &str, now: Timestamp, change: impl FnOnce(&mut Job)) -> Result<(), Error> {
        self.lock(now).get_mut(id).ok_or(Error::NotFound)?.change(change);
        Ok(())
    }

    /// Without what nobody can ask about any more.
    fn lock(&self, now: Timestamp) -> MutexGuard<'_, HashMap<String, Entry>> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|_, Entry { job, .. }| {
            let kept = if job.has_ended() { KEPT } else { SILENT };
            now.duration_since(job.last_update()) <= kept
        });
        jobs
    }
}

/// 0 to 100; 0 of nothing.
pub fn percent(done: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { float(done.min(total)) * 100.0 / float(total) }
}

/// What a job may be called.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_job_id(id: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    match (1..=LONGEST).contains(&id.len()) && id.chars().all(plain) {
        true => Ok(()),
        false => Err(Error::Invalid(format!("a job id must be 1 to {LONGEST} letters, digits or -_.:"))),
    }
}

fn check_registration(registration: &Registration) -> Result<(), Error> {
    at_least_zero("total_bytes", registration.total_bytes)?;
    let Registration { sync_type, vm_name, vm_path, .. } = registration;
    for (what, text) in [("sync_type", sync_type), ("vm_name", vm_name), ("vm_path", vm_path)] {
        if text.len() > LONGEST {
            return Err(Error::Invalid(format!("{what} must be at most {LONGEST} bytes")));
        }
    }
    Ok(())
}

fn check_update(update: &Update) -> Result<(), Error> {
    at_least_zero("bytes_transferred", update.bytes_transferred)?;
    at_least_zero("total_bytes", update.total_bytes)?;
    at_least_zero("throughput_bps", update.throughput_bps)?;
    if update.total_bytes > 0 && update.bytes_transferred > update.total_bytes {
        return Err(Error::Invalid("bytes_transferred must be <= total_bytes".to_owned()));
    }
    if !(0.0..=100.0).contains(&update.percent) {
        return Err(Error::Invalid("percent must be 0 to 100".to_owned()));
    }
    if update.stage.is_empty() || update.stage.len() > LONGEST {
        return Err(Error::Invalid(format!("stage must be 1 to {LONGEST} bytes")));
    }
    if update.disk_id.len() > LONGEST {
        return Err(Error::Invalid(format!("disk_id must be at most {LONGEST} bytes")));
    }
    Ok(())
}

fn at_least_zero(what: &str, number: i64) -> Result<(), Error> {
    match number < 0 {
        true => Err(Error::Invalid(format!("{what} must be >= 0"))),
        false => Ok(()),
    }
}
