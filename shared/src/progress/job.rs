//! One job: its disks' bytes, its phases.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::speed::Speed;
use super::{Error, Registration, Update, percent};

/// How a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
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
    pub(super) speed: Speed,
    /// The highest percentage so far: a disk or a size that is heard of late takes nothing back.
    reached: f64,
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
    /// Whether it was told of since the last registration: what it had before that was moved who knows when.
    heard: bool,
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
            heard: true,
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
            speed: Speed::default(),
            reached: 0.0,
            disks: BTreeMap::new(),
        }
    }

    /// It was registered again while it was under way: by an engine that was started again.
    pub(super) fn begin_anew(&mut self) {
        self.disks.values_mut().for_each(|disk| disk.heard = false);
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

    /// 0 to 100, and never less than before.
    pub(super) fn percent(&self) -> f64 {
        if self.status == Status::Completed { 100.0 } else { self.reached }
    }

    /// 0 to 100, as of now; each disk counts by its size, or as much as any other where sizes are unknown.
    fn share(&self) -> f64 {
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
        // The sum of no floats is -0.0, which is not how a job begins.
        let done = self.disks.values().map(part).fold(0.0, |sum, part| sum + part);
        if whole > 0.0 { (done / whole).min(100.0) } else { 0.0 }
    }

    /// Until now, or until it ended.
    pub(super) fn elapsed(&self, now: Timestamp) -> SignedDuration {
        let end = if self.has_ended() { self.last_update } else { now };
        end.duration_since(self.started).max(SignedDuration::ZERO)
    }

    /// Bytes a second.
    pub(super) fn average(&self, now: Timestamp) -> f64 {
        self.speed.average(self.status, self.elapsed(now))
    }

    /// The name of the present phase.
    pub(super) fn phase(&self) -> &str {
        self.phases.last().map_or(QUEUED, |phase| &phase.name)
    }

    /// The name under which the update's disk is known. An engine does not always say which disk it means, and where only
    /// one is known it means that one, whether it was named before or is named now.
    fn known<'a>(&'a self, update: &'a Update) -> &'a str {
        let mut names = self.disks.keys();
        match (names.next(), names.next()) {
            (Some(sole), None) if sole.is_empty() || update.disk_id.is_empty() => sole,
            _ => &update.disk_id,
        }
    }

    /// Whether the update can be of this job: no more is transferred than there is, as far as that is known.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub(super) fn check(&self, update: &Update) -> Result<(), Error> {
        let over = |total: u64| {
            Err(Error::Invalid(format!("bytes_transferred must be <= total_bytes, known to be {total}")))
        };
        let before = self.disks.get(self.known(update)).copied().unwrap_or_default();
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
        let moved = self.take(update);
        self.status = match update.status {
            Some(status) => status,
            None if self.status == Status::Queued => Status::Running,
            None => self.status,
        };
        self.speed.update(moved, unsigned(update.throughput_bps), self.status, now);
        self.enter(&update.stage, now);
        self.last_update = now;
        self.reached = self.reached.max(self.share());
        self.speed.keep(self.average(now));
    }

    /// The update's bytes. Returns how many were moved since the disk was last told of.
    fn take(&mut self, update: &Update) -> u64 {
        let known = self.known(update).to_owned();
        let name = if update.disk_id.is_empty() { known.clone() } else { update.disk_id.clone() };
        if self.disks.len() == MOST && !self.disks.contains_key(&known) {
            return 0;
        }
        let before = self.disks.remove(&known).unwrap_or_default();
        let after = before.after(update);
        self.disks.insert(name, after);
        if before.heard { after.done - before.done } else { 0 }
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
        self.last_update = now.max(self.last_update);
        self.enter(COMPLETE, self.last_update);
        self.stop();
    }

    pub(super) fn fail(&mut self, why: &str, now: Timestamp) {
        if self.has_ended() {
            return;
        }
        self.complain(why);
        self.status = Status::Failed;
        self.last_update = now.max(self.last_update);
        let phase = self.phase().to_owned();
        self.enter(&phase, self.last_update);
        self.stop();
    }

    /// It ended without an update.
    fn stop(&mut self) {
        self.speed.current = 0.0;
        self.speed.keep(self.average(self.last_update));
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
