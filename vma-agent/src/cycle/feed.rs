//! Tells the progress register how a cycle stands: the VM's job as a whole, and each of its disks by its own id.

use shared::cycle::DiskProgress;
use shared::cycle::tally::Tally;
use shared::ids::{DiskId, JobId};
use shared::progress::{Register, Registration, Status, Update, percent};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The stage of the API's document in which bytes move.
const TRANSFER: &str = "Transfer";

/// What of one cycle is told.
#[derive(Clone)]
pub(super) struct Feed {
    register: Arc<Register>,
    job: JobId,
    /// The cycle's id, and those of its disks.
    ids: Vec<String>,
    /// Over all attempts: the counters of this one begin at zero.
    disks: Arc<Mutex<HashMap<DiskId, Tally>>>,
}

/// A disk's transfer, as the API's document names it.
fn volume(disk: &DiskId) -> String {
    format!("migration-vol-{disk}")
}

impl Feed {
    /// Registers the cycle and its disks, which have these sizes in bytes. `about` is the VM's part; its total is not
    /// looked at.
    pub(super) fn begin(
        register: &Arc<Register>,
        job: &JobId,
        about: &Registration,
        disks: impl Iterator<Item = (DiskId, u64)>,
    ) -> Self {
        let (register, job, ids) = (Arc::clone(register), job.clone(), Vec::new());
        let mut feed = Self { register, job, ids, disks: Arc::default() };
        let (mut all, mut tallies) = (0, HashMap::new());
        for (disk, size) in disks {
            all += size;
            feed.register(&volume(&disk), about, size);
            let known = feed.register.view(&volume(&disk), jiff::Timestamp::now());
            let data = known.map_or(0, |known| known.bytes_transferred);
            let stored = DiskProgress { disk: Some(disk.clone()), size, data, ..DiskProgress::default() };
            tallies.insert(disk, Tally::new(&stored));
        }
        feed.disks = Arc::new(Mutex::new(tallies));
        feed.register(&feed.job.to_string(), about, all);
        feed
    }

    /// The cycle it is about.
    pub(super) fn job(&self) -> &JobId {
        &self.job
    }

    fn register(&mut self, id: &str, about: &Registration, bytes: u64) {
        self.ids.push(id.to_owned());
        let about = Registration { total_bytes: signed(bytes), ..about.clone() };
        // A full register costs the view, never the cycle.
        if let Err(error) = self.register.register(id, &about, jiff::Timestamp::now()) {
            tracing::debug!(job = id, %error, "progress is not shown");
        }
    }

    /// Counters of the disks, as of now.
    pub(super) fn update(&self, disks: &[DiskProgress]) {
        let now = jiff::Timestamp::now();
        let mut tallies = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        for said in disks {
            let Some((id, tally)) = said.disk.as_ref().and_then(|id| Some((id, tallies.get_mut(id)?))) else {
                continue;
            };
            if !tally.is_heard() {
                // What was there before is no speed.
                self.tell(id, tally.shown(), now);
            }
            tally.take(said, said.size);
            self.tell(id, tally.shown(), now);
        }
    }

    fn tell(&self, id: &DiskId, disk: &DiskProgress, now: jiff::Timestamp) {
        // Of the disk, until it is known what is to be done.
        let total = if disk.plan_complete { disk.planned } else { disk.size.max(disk.planned) };
        let update = Update {
            stage: TRANSFER.to_owned(),
            status: Some(Status::Running),
            bytes_transferred: signed(disk.data),
            total_bytes: signed(disk.size),
            // Zeros included, which are done without being transferred.
            percent: percent(disk.done, total),
            disk_id: id.to_string(),
            ..Update::default()
        };
        for job in [&volume(id), self.job.as_str()] {
            // Unknown: it was not taken in the first place.
            let _ = self.register.update(job, &update, now);
        }
    }

    /// All is durable, of the disks that an earlier attempt finished, too.
    pub(super) fn completed(&self, disks: &[DiskProgress]) {
        self.update(disks);
        let now = jiff::Timestamp::now();
        self.ids.iter().for_each(|id| _ = self.register.complete(id, now));
    }

    /// Something went wrong; the cycle is not over for that.
    pub(super) fn complain(&self, why: &str) {
        let now = jiff::Timestamp::now();
        self.ids.iter().for_each(|id| _ = self.register.complain(id, why, now));
    }

    /// The cycle is over: what was not completed failed.
    pub(super) fn end(&self) {
        let now = jiff::Timestamp::now();
        self.ids
            .iter()
            .for_each(|id| _ = self.register.fail(id, "the OMA ended the cycle before all was sent", now));
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(id: &str, done: u64, data: u64) -> DiskProgress {
        DiskProgress {
            disk: Some(DiskId::parse(id).unwrap()),
            size: 1000,
            planned: 1000,
            done,
            data,
            plan_complete: true,
            ..DiskProgress::default()
        }
    }

    const A: &str = "01a1fe91-ad88-7241-9f60-950add1d2808";
    const B: &str = "01a1fe91-cdfc-75ee-99c6-e17e6d1db1de";

    #[test]
    fn the_job_is_its_disks_and_either_can_be_asked_for() {
        let register = Arc::new(Register::default());
        let job = JobId::parse("job-20261121-144523").unwrap();
        let sizes = [A, B].map(|id| (DiskId::parse(id).unwrap(), 1000));
        let feed = Feed::begin(&register, &job, &Registration::default(), sizes.into_iter());
        let view = |id: &str| register.view(id, jiff::Timestamp::now()).unwrap();
        assert_eq!((view(job.as_str()).status, view(job.as_str()).total_bytes), (Status::Queued, 2000));
        feed.update(&[disk(A, 500, 100), disk(B, 100, 100)]);
        let (whole, one) = (view(job.as_str()), view(&format!("migration-vol-{A}")));
        assert_eq!((whole.bytes_transferred, whole.percentage, whole.status), (200, 30.0, Status::Running));
        assert_eq!((one.bytes_transferred, one.total_bytes, one.percentage), (100, 1000, 50.0));
        // The connection broke, and the next attempt counts from zero. Of B it speaks no more: it was finished before.
        let sizes = [A, B].map(|id| (DiskId::parse(id).unwrap(), 1000));
        let feed = Feed::begin(&register, &job, &Registration::default(), sizes.into_iter());
        // 10 bytes of A were under way, and are sent again.
        let again = |done, data| DiskProgress { resumed: 90, ..disk(A, done, data) };
        feed.update(&[again(600, 30)]);
        assert_eq!(view(&format!("migration-vol-{A}")).bytes_transferred, 120);
        feed.completed(&[again(1000, 100)]);
        for (id, bytes) in [(job.as_str(), 290), (&format!("migration-vol-{B}"), 100)] {
            let view = view(id);
            assert_eq!(
                (view.status, view.percentage, view.bytes_transferred),
                (Status::Completed, 100.0, bytes)
            );
            assert_eq!(view.phase, "Complete");
        }
        feed.end();
        assert_eq!(view(job.as_str()).status, Status::Completed, "what was completed stays so");
        // One that is ended before that failed, with all that went wrong.
        let job = JobId::parse("job-20261121-144524").unwrap();
        let feed = Feed::begin(&register, &job, &Registration::default(), std::iter::empty());
        feed.complain("the target is full");
        feed.complain("the target is full");
        assert_eq!((view(job.as_str()).status, view(job.as_str()).errors.len()), (Status::Queued, 1));
        feed.end();
        let view = view(job.as_str());
        assert_eq!((view.status, view.errors.len()), (Status::Failed, 2));
    }
}
