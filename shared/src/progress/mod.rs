//! What transfers say about themselves, for whoever asks: the register behind the progress API.
//!
//! ```text
//!  outside engine ── Outside ──►  Register  ──► view(job) ── REST, gRPC
//!  agent's own cycles ─────────►  (memory)  ──► numbers of its states ── whoever watches
//! ```
//!
//! The process's own jobs come first: they take over an outsider's of the same id, outsiders cannot change them, and
//! however many an outsider registers, there is room for them.
//!
//! A job is one disk (`migration-vol-<uuid>`) or a VM's cycle (`job-YYYYMMDD-HHMMSS`), whose bytes are the sum of its
//! disks'. Nothing here is truth: it is lost with the process, and nobody waits for it. Time comes in as an argument.
//!
//! Deliberately not here: HTTP, the database, and any decision about a transfer.

mod check;
mod job;
mod outside;
mod speed;
mod view;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

pub use check::check_job_id;
pub use job::Status;
pub use outside::Outside;
pub use view::{PhaseView, Throughput, Timing, View, VmInfo, eta_seconds, moment};
pub use watch::{Seen, states};

use check::{check_registration, check_update};
use job::{Job, float};
use tokio::sync::watch::{Receiver, Sender};

/// Where the API lies on its server.
pub const ROOT: &str = "/api/v1/progress";

/// How long a job that ended can still be asked about.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// How long a job may be silent before it is forgotten: an engine that was killed says nothing more.
const SILENT: SignedDuration = SignedDuration::from_hours(24);

/// Most jobs at a time of the process's own, and as many of outside engines. For one more, the one that ended longest
/// ago is forgotten.
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
    /// Too many of outside engines' jobs are under way.
    #[error(
        "{MOST} jobs of outside engines are registered, and none of them has ended: end some, or wait a day"
    )]
    Full,
    /// It is over, and stays as it ended.
    #[error("the job has ended as {0}: register it again to begin it anew")]
    Ended(Status),
    /// It is not the outsider's who spoke of it.
    #[error(
        "the job is one of the agent's own cycles or disks, of which only the agent reports: choose another id"
    )]
    NotYours,
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
    /// Bytes to transfer; 0: as before, or as registered.
    #[serde(default)]
    pub total_bytes: i64,
    /// Bytes a second, as the engine measures; 0: as it follows from the bytes.
    #[serde(default)]
    pub throughput_bps: i64,
    /// Of the disk; 0: as it follows from the bytes.
    #[serde(default)]
    pub percent: f64,
    /// Which disk of the job, where it has several; left out, the only one that is known.
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
    /// It was there, and goes on as it was: an engine that was started again registers again. What that one had when it
    /// first speaks is not counted as moved since.
    Known,
}

/// All jobs of this process.
#[derive(Debug, Default)]
pub struct Register {
    jobs: Mutex<HashMap<String, Entry>>,
}

/// Who speaks for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The process itself.
    Own,
    /// An outside engine.
    Outside,
}

/// A job, and who is told when it changes: the number of its present state. It begins at the microseconds since 1970, so
/// that it grows over a restart, too.
#[derive(Debug)]
struct Entry {
    owner: Owner,
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
    /// Makes a job of the process's own known. One that ended begins anew, and so does one of an outsider.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id or a registration that cannot be.
    pub fn register(
        &self,
        id: &str,
        registration: &Registration,
        now: Timestamp,
    ) -> Result<Registered, Error> {
        self.register_for(Owner::Own, id, registration, now)
    }

    /// The register as outside engines may use it.
    pub fn outside(&self) -> Outside<'_> {
        Outside(self)
    }

    fn register_for(
        &self,
        owner: Owner,
        id: &str,
        registration: &Registration,
        now: Timestamp,
    ) -> Result<Registered, Error> {
        check_job_id(id)?;
        check_registration(registration)?;
        let mut jobs = self.lock(now);
        let new = Job::new(registration, now);
        if let Some(entry) = jobs.get_mut(id) {
            match (owner, entry.owner) {
                (Owner::Outside, Owner::Own) => return Err(Error::NotYours),
                (Owner::Own, Owner::Own) | (Owner::Outside, Owner::Outside) if !entry.job.has_ended() => {
                    entry.job.begin_anew();
                    return Ok(Registered::Known);
                }
                _ => {}
            }
            entry.owner = owner;
            entry.change(|job| *job = new);
            return Ok(Registered::New);
        }
        if !make_room(&mut jobs, owner) {
            return Err(Error::Full);
        }
        let number = Sender::new(u64::try_from(now.as_microsecond()).unwrap_or(1));
        jobs.insert(id.to_owned(), Entry { owner, job: new, number });
        Ok(Registered::New)
    }

    /// Takes an update of a job of the process's own. The end of one that has ended may be said again, and changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what is wrong; [`Error::NotFound`]; [`Error::Ended`]. Nothing of it is taken then.
    pub fn update(&self, id: &str, update: &Update, now: Timestamp) -> Result<(), Error> {
        self.update_for(Owner::Own, id, update, now)
    }

    fn update_for(&self, owner: Owner, id: &str, update: &Update, now: Timestamp) -> Result<(), Error> {
        check_update(update)?;
        let mut jobs = self.lock(now);
        let entry = jobs.get_mut(id).ok_or(Error::NotFound)?;
        match (owner, entry.owner) {
            (Owner::Own, Owner::Own) | (Owner::Outside, Owner::Outside) => {}
            (Owner::Own, Owner::Outside) => return Err(Error::NotFound),
            (Owner::Outside, Owner::Own) => return Err(Error::NotYours),
        }
        let status = entry.job.status;
        if entry.job.has_ended() {
            // Whoever missed the answer to its last word says it again.
            return if update.status == Some(status) { Ok(()) } else { Err(Error::Ended(status)) };
        }
        entry.job.check(update)?;
        entry.change(|job| job.update(update, now));
        Ok(())
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
        let mut jobs = self.lock(now);
        jobs.get_mut(id).filter(|entry| entry.owner == Owner::Own).ok_or(Error::NotFound)?.change(change);
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

/// Whether one more of this owner may be taken, for which the one that ended longest ago may have gone.
fn make_room(jobs: &mut HashMap<String, Entry>, owner: Owner) -> bool {
    if jobs.values().filter(|entry| entry.owner == owner).count() < MOST {
        return true;
    }
    let ended = jobs.iter().filter(|(_, entry)| entry.owner == owner && entry.job.has_ended());
    let oldest = ended.min_by_key(|(_, entry)| entry.job.last_update()).map(|(id, _)| id.clone());
    let went = oldest.is_some_and(|id| jobs.remove(&id).is_some());
    // The process's own that are under way are as many as there are disks.
    went || owner == Owner::Own
}

/// 0 to 100; 0 of nothing.
pub fn percent(done: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { float(done.min(total)) * 100.0 / float(total) }
}
