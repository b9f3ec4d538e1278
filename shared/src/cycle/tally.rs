//! What a disk of a cycle has come to over all attempts at it, whatever an agent says. Pure: no clock, no lock.
//!
//! An agent counts within one attempt, told from others by its epoch: it begins at zero after every retry, and what was under
//! way when the last attempt was cut is sent again. What people see runs forwards all the same, and counts a byte of data once:
//!
//! ```text
//!  data shown   = the greater of: what was shown, and min(shown when the attempt began, found durable) + data of the attempt
//!  wire, read   = of all attempts, one added to the other: that work was done
//!  done, planned: never less than before, nor more than the disk has
//! ```
//!
//! The last numbers of a disk ([`Tally::last`]) are stored with its seal, and stay. Only what the attempt that ended read and
//! sent is told a moment later, by another way.

use super::DiskProgress;
use crate::ids::Epoch;

/// One disk of a cycle.
#[derive(Clone, Debug)]
pub struct Tally {
    shown: DiskProgress,
    /// As last reported; as stored, until something is.
    attempt: DiskProgress,
    heard: bool,
    /// What was shown when the attempt began.
    before: DiskProgress,
    sealed: bool,
}

impl Tally {
    /// Goes on from what is stored. An attempt that says its epoch is a new one; any other is taken for the one that was
    /// running, unless it counts lower.
    pub fn new(stored: &DiskProgress) -> Self {
        Self {
            shown: stored.clone(),
            attempt: DiskProgress { epoch: None, ..stored.clone() },
            heard: false,
            before: DiskProgress::default(),
            sealed: false,
        }
    }

    /// The counters as people see them.
    pub fn shown(&self) -> &DiskProgress {
        &self.shown
    }

    /// The disk is finished, with these numbers.
    pub fn seal(&mut self, stored: &DiskProgress) {
        let (read, wire) = (stored.read.max(self.shown.read), stored.wire.max(self.shown.wire));
        self.shown = DiskProgress { read, wire, ..stored.clone() };
        self.sealed = true;
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Whether anything was heard since it was made.
    pub fn is_heard(&self) -> bool {
        self.heard
    }

    /// Whether something was heard of the attempt under this epoch.
    pub fn knows(&self, epoch: Epoch) -> bool {
        self.attempt.epoch == Some(epoch)
    }

    /// The attempt under this epoch is under way, though its agent may not have said so: what it says later, after the disk
    /// is sealed even, is of this one.
    pub fn begun(&mut self, epoch: Epoch) {
        if !self.heard || self.attempt.epoch.is_some_and(|had| had < epoch) {
            let nothing = DiskProgress { epoch: Some(epoch), ..DiskProgress::default() };
            self.take(&nothing, self.shown.size);
        }
    }

    /// Takes what an agent reported of the running attempt. `size`: bytes of the disk; its own word does not count.
    pub fn take(&mut self, said: &DiskProgress, size: u64) {
        let anew = match (self.attempt.epoch, said.epoch) {
            // The last word of an attempt that another one has followed.
            (Some(had), Some(says)) if says < had => return,
            (had, Some(says)) => had != Some(says),
            (_, None) => counts_lower(&self.attempt, said),
        };
        match anew {
            // There is nothing to begin anew.
            true if self.sealed => return,
            true => self.before = self.shown.clone(),
            false => {}
        }
        (self.attempt, self.heard) = (said.clone(), true);
        let (was, before) = (self.shown.clone(), &self.before);
        let read = was.read.max(before.read.saturating_add(said.read));
        let wire = was.wire.max(before.wire.saturating_add(said.wire));
        if self.sealed {
            self.shown = DiskProgress { read, wire, ..was };
            return;
        }
        let done = was.done.max(said.done.min(size));
        let planned = said.planned.min(size);
        // The plan of a snapshot is the same in every attempt: once made, it counts until it is made again, or passed.
        let (planned, plan_complete) = match (said.plan_complete, was.plan_complete && planned <= was.planned)
        {
            (true, _) => (planned, true),
            (false, true) => (was.planned, true),
            (false, false) => (was.planned.max(planned), false),
        };
        let planned = planned.max(done).max(was.data);
        let data = before.data.min(said.resumed).saturating_add(said.data).min(planned);
        self.shown = DiskProgress {
            disk: was.disk,
            size,
            planned,
            done,
            read,
            wire,
            data: was.data.max(data),
            resumed: was.resumed.max(said.resumed.min(size)),
            plan_complete,
            epoch: None,
        };
    }

    /// The numbers a finished disk keeps, once its last attempt has [`begun`](Self::begun). `durable`: bytes that the cycle
    /// made durable, where it writes; `found`: of those, what the last attempt was told when it began; `data` and `zero`:
    /// bytes of the sender's plan, as it said at the end of that attempt.
    pub fn last(&self, durable: Option<u64>, found: u64, data: u64, zero: u64) -> DiskProgress {
        let all = durable.unwrap_or(data.saturating_add(zero)).min(self.shown.size);
        // One that does not say its epoch may have said nothing, or nothing yet of what it found.
        let silent = self.attempt.epoch.is_none() && data < self.attempt.data;
        let (before, found) = match silent {
            true => (self.shown.data, found),
            false => (self.before.data, found.max(self.attempt.resumed)),
        };
        let data = before.min(found).saturating_add(data).max(self.shown.data).min(all);
        let resumed = self.shown.resumed.max(found.min(all));
        DiskProgress { planned: all, done: all, data, resumed, plan_complete: true, ..self.shown.clone() }
    }
}

/// Within one attempt no counter runs backwards.
fn counts_lower(had: &DiskProgress, says: &DiskProgress) -> bool {
    says.planned < had.planned
        || says.done < had.done
        || says.read < had.read
        || says.wire < had.wire
        || says.data < had.data
        || says.resumed < had.resumed
        || (had.plan_complete && !says.plan_complete)
}

#[cfg(test)]
mod tests;
