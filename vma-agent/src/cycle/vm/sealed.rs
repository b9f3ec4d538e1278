//! Disks that this process saw sealed: the desired state may be older than that, and pushing such a disk again would be
//! refused in place of the reason for which the cycle is tried again.

use shared::ids::{DiskId, Epoch, JobId};
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A disk, and the epoch in which it was sealed: under a higher one it is wanted once more.
pub(super) type Disk = (DiskId, Epoch);

/// Those of the job that was last worked on.
#[derive(Default)]
pub(in crate::cycle) struct Sealed(Mutex<(Option<JobId>, HashSet<Disk>)>);

impl Sealed {
    pub(super) fn of(&self, job: &JobId) -> HashSet<Disk> {
        let known = self.lock();
        if known.0.as_ref() == Some(job) { known.1.clone() } else { HashSet::new() }
    }

    pub(super) fn add(&self, job: &JobId, disk: Disk) {
        let mut known = self.lock();
        if known.0.as_ref() != Some(job) {
            *known = (Some(job.clone()), HashSet::new());
        }
        known.1.insert(disk);
    }

    fn lock(&self) -> MutexGuard<'_, (Option<JobId>, HashSet<Disk>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_counts_for_its_job_and_epoch() {
        let [first, second] =
            ["job-20261121-144523", "job-20261121-144524"].map(|j| JobId::parse(j).unwrap());
        let disk = DiskId::parse("01a1fe91-ad88-7241-9f60-950add1d2808").unwrap();
        let sealed = Sealed::default();
        sealed.add(&first, (disk.clone(), Epoch(3)));
        assert!(sealed.of(&first).contains(&(disk.clone(), Epoch(3))));
        assert!(!sealed.of(&first).contains(&(disk.clone(), Epoch(4))), "wanted once more");
        assert!(sealed.of(&second).is_empty());
        sealed.add(&second, (disk, Epoch(5)));
        assert!(sealed.of(&first).is_empty(), "one job at a time");
    }
}
