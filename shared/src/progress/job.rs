//! One job: its disks' bytes, its phases, its rates.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Error, Registration, Update, percent};

/// How a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    #[default]
    Queued,
    Running,
    Completed,
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The first phase of a job that said nothing yet.
const QUEUED: &str = "Discover";

/// The last phase of one that was completed.
const COMPLETE: &str = "Complete";

/// Most disks of a job, phases and errors that are kept: what an engine may make us remember.
const MOST: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) about: Registration,
    pub(super) status: Status,
    pub(super) started: Timestamp,
    pub(super) last_update: Timestamp,
    pub(super) phases: Vec<Phase>,
    pub(super) errors: Vec<String>,
    /// Bytes a second: since the last update, and the most of these.
    pub(super) current: f64,
    pub(super) peak: f64,
    disks: BTreeMap<String, Disk>,
}

#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) started: Timestamp,
    pub(super) ended: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Disk {
    done: u64,
    total: u64,
    /// As the engine says it: what is zero, or did not change, is done without being transferred.
    percent: f64,
}

impl Disk {
    fn percent(&self) -> f64 {
        percent(self.done, self.total).max(self.percent)
    }

    /// After the update. An engine that was started again counts from zero; what it had moved was moved.
    fn after(self, update: &Update) -> Self {
        Self {
            done: self.done.max(unsigned(update.bytes_transferred)),
            total: self.total.max(unsigned(update.total_bytes)),
            percent: self.percent.max(update.percent),
        }
    }
}

impl Job {
    pub(super) fn new(about: &Registration, now: Timestamp) -> Self {
        Self {
            about: about.clone(),
            status: Status::Queued,
            started: now,
            last_update: now,
            phases: vec![],
            errors: vec![],
            current: 0.0,
            peak: 0.0,
            disks: BTreeMap::new(),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.status, Status::Completed | Status::Failed)
    }

    pub(super) fn last_update(&self) -> Timestamp {
        self.last_update
    }

    /// Bytes of all disks: transferred.
    pub(super) fn done(&self) -> u64 {
        sum(self.disks.values().map(|disk| disk.done))
    }

    /// Bytes of all disks: to transfer; 0 when unknown.
    pub(super) fn total(&self) -> u64 {
        match unsigned(self.about.total_bytes).max(self.told()) {
            0 => 0,
            // Of disks whose size nobody said there may be more.
            known => known.max(self.done()),
        }
    }

    /// Bytes to transfer of all disks whose updates said it.
    fn told(&self) -> u64 {
        sum(self.disks.values().map(|disk| disk.total))
    }

    /// 0 to 100; each disk counts by its size, or as much as any other where sizes are unknown.
    pub(super) fn percent(&self) -> f64 {
        if self.status == Status::Completed {
            return 100.0;
        }
        let registered = self.about.total_bytes > 0;
        let sized = registered || self.disks.values().all(|disk| disk.total > 0);
        // Disks of which nothing was heard yet are part of the whole too.
        let whole = if sized { float(self.total()) } else { float(self.disks.len() as u64) };
        let sole = self.disks.len() == 1;
        let part = |disk: &Disk| match disk.total {
            _ if !sized => disk.percent(),
            // The only disk there is is what was registered. Which part of that one of several is, nobody said.
            0 if sole => Disk { total: self.total(), ..*disk }.percent() * whole,
            0 => 100.0 * float(disk.done),
            total => disk.percent() * float(total),
        };
        let done: f64 = self.disks.values().map(part).sum();
        if whole > 0.0 { (done / whole).min(100.0) } else { 0.0 }
    }

    /// Until now, or until it ended.
    pub(super) fn elapsed(&self, now: Timestamp) -> SignedDuration {
        let end = if self.has_ended() { self.last_update } else { now };
        end.duration_since(self.started).max(SignedDuration::ZERO)
    }

    /// The name of the present phase.
    pub(super) fn phase(&self) -> &str {
        self.phases.last().map_or(QUEUED, |phase| &phase.name)
    }

    /// Whether the update can be of this job: no more is transferred than there is, as far as that is known.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub(super) fn check(&self, update: &Update) -> Result<(), Error> {
        let over = |total: u64| {
            Err(Error::Invalid(format!("bytes_transferred must be <= total_bytes, known to be {total}")))
        };
        let before = self.disks.get(&update.disk_id).copied().unwrap_or_default();
        let after = before.after(update);
        if after.total > 0 && after.done > after.total {
            return over(after.total);
        }
        // Of disks whose size nobody said, together with the others.
        let registered = unsigned(self.about.total_bytes);
        let whole = registered.max(self.told().saturating_add(after.total - before.total));
        let done = self.done().saturating_add(after.done - before.done);
        if registered > 0 && done > whole { over(whole) } else { Ok(()) }
    }

    pub(super) fn update(&mut self, update: &Update, now: Timestamp) {
        // A clock that was set back: no time passed.
        let now = now.max(self.last_update);
        let before = self.done();
        if self.disks.len() < MOST || self.disks.contains_key(&update.disk_id) {
            let disk = self.disks.entry(update.disk_id.clone()).or_default();
            *disk = disk.after(update);
        }
        self.status = match update.status {
            Some(status) => status,
            None if self.status == Status::Queued => Status::Running,
            None => self.status,
        };
        self.rate(self.done().saturating_sub(before), update.throughput_bps, now);
        self.enter(&update.stage, now);
        self.last_update = now;
    }

    pub(super) fn complain(&mut self, why: &str) {
        // Tried again and again, it fails again and again.
        if self.errors.last().is_some_and(|last| last == why) {
            return;
        }
        if self.errors.len() == MOST {
            self.errors.remove(0);
        }
        self.errors.push(why.to_owned());
    }

    pub(super) fn complete(&mut self, now: Timestamp) {
        if self.has_ended() {
            return;
        }
        self.status = Status::Completed;
        self.current = 0.0;
        self.last_update = now.max(self.last_update);
        self.enter(COMPLETE, self.last_update);
    }

    pub(super) fn fail(&mut self, why: &str, now: Timestamp) {
        if self.has_ended() {
            return;
        }
        self.complain(why);
        self.status = Status::Failed;
        self.current = 0.0;
        self.last_update = now.max(self.last_update);
        let phase = self.phase().to_owned();
        self.enter(&phase, self.last_update);
    }

    /// A job that is queued or has ended moves nothing.
    fn rate(&mut self, bytes: u64, told: i64, now: Timestamp) {
        let seconds = now.duration_since(self.last_update).as_secs_f64();
        self.current = match (self.status, told) {
            (Status::Running, 0) if seconds > 0.0 => float(bytes) / seconds,
            // Two updates at once: the rate is what it was.
            (Status::Running, 0) => self.current,
            (Status::Running, told) => float(u64::try_from(told).unwrap_or(0)),
            (Status::Queued | Status::Completed | Status::Failed, _) => 0.0,
        };
        self.peak = self.peak.max(self.current);
    }

    fn enter(&mut self, stage: &str, now: Timestamp) {
        let (status, ended) = (self.status, self.has_ended());
        match self.phases.last_mut() {
            Some(phase) if phase.name == stage => phase.status = status,
            last => {
                if let Some(phase) = last {
                    phase.ended = Some(now);
                    phase.status = Status::Completed;
                }
                if self.phases.len() < MOST {
                    let started = if self.phases.is_empty() { self.started } else { now };
                    self.phases.push(Phase { name: stage.to_owned(), status, started, ended: None });
                }
            }
        }
        if let Some(phase) = self.phases.last_mut().filter(|_| ended) {
            phase.ended = Some(now);
        }
    }
}

/// 0 of less.
fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

/// No more than readers of the API can hold, who count in signed numbers.
fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add).min(i64::MAX.unsigned_abs())
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
pub(super) fn float(bytes: u64) -> f64 {
    bytes as f64
}
