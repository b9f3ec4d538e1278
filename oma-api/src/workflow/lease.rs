//! Whose a job is, without comparing two clocks.
//!
//! The owner counts: its lease is good for [`Terms::time`] from before the last beat that it stored. Whoever wants to take
//! a job over watches: it has to see the same beat for that long itself. What is left is a call that was under way when the
//! owner's lease ran out; effects have names that can be found, so that it is found and not doubled.

use super::record::{Held, WorkflowId};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Who drives: a part that stays as long as the data folder does, and one of this run of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    instance: String,
    run: String,
}

impl Owner {
    /// `instance` is held by a lock: while this program runs no other has it, so that a job of an earlier run of it is
    /// nobody's.
    pub fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), run: uuid::Uuid::new_v4().to_string() }
    }

    /// As it stands in the rows.
    pub fn text(&self) -> String {
        format!("{}/{}", self.instance, self.run)
    }

    fn is_of_instance(&self, owner: &str) -> bool {
        owner.rsplit_once('/').is_some_and(|(instance, _)| instance == self.instance)
    }
}

/// How long this program may still act in its own name.
#[derive(Debug)]
pub struct Lease {
    time: Duration,
    until: Mutex<Instant>,
}

impl Lease {
    /// Not held yet.
    pub(super) fn new(time: Duration) -> Self {
        Self { time, until: Mutex::new(Instant::now()) }
    }

    /// A beat was stored, whose storing began then.
    pub(super) fn beaten(&self, begun: Instant) {
        *self.until.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = begun + self.time;
    }

    pub fn is_held(&self) -> bool {
        Instant::now() < self.end()
    }

    /// Returns when it is not held any more.
    pub(super) async fn lost(&self) {
        while self.is_held() {
            sleep_until(self.end()).await;
        }
    }

    fn end(&self) -> Instant {
        *self.until.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What was seen of the leases of others.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    seen: HashMap<WorkflowId, (Held, Instant)>,
}

impl Watcher {
    /// Whether `me` may take the job: it is nobody's, of an earlier run of ours, or its owner has been silent for `time`.
    pub(super) fn may_take(&mut self, me: &Owner, id: &WorkflowId, held: &Held, time: Duration) -> bool {
        match &held.owner {
            None => true,
            Some(owner) if me.is_of_instance(owner) => true,
            Some(_) => {
                let now = Instant::now();
                let (seen, since) = self.seen.entry(id.clone()).or_insert_with(|| (held.clone(), now));
                if seen != held {
                    (*seen, *since) = (held.clone(), now);
                }
                now.duration_since(*since) >= time
            }
        }
    }

    /// Forgets those that are not among these.
    pub(super) fn keep<'a>(&mut self, open: impl Iterator<Item = &'a WorkflowId>) {
        let open: std::collections::HashSet<_> = open.collect();
        self.seen.retain(|id, _| open.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(15);

    fn held(owner: &str, epoch: u64, beat: u64) -> Held {
        Held { owner: Some(owner.to_owned()), epoch, beat }
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_taken_from_the_silent_only() {
        let (me, id) = (Owner::new("oma-1"), WorkflowId::parse("job-1").expect("an id"));
        let mut watcher = Watcher::default();
        let mut may = |held: &Held| watcher.may_take(&me, &id, held, TIME);
        assert!(may(&Held::default()), "nobody's");
        assert!(may(&held("oma-1/an-earlier-run", 3, 9)), "the lock says that it is dead");
        assert!(!may(&held("oma-2/run", 1, 1)), "just seen");
        tokio::time::advance(TIME - Duration::from_millis(1)).await;
        assert!(!may(&held("oma-2/run", 1, 1)), "not for long enough");
        assert!(!may(&held("oma-2/run", 1, 2)), "it lives");
        tokio::time::advance(TIME - Duration::from_millis(1)).await;
        assert!(!may(&held("oma-2/run", 1, 2)), "from the last beat on");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(may(&held("oma-2/run", 1, 2)), "silent");
        assert!(!may(&held("oma-3/run", 2, 2)), "another was quicker");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_from_before_its_beat() {
        let lease = Lease::new(TIME);
        assert!(!lease.is_held(), "no beat yet");
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        lease.beaten(begun);
        tokio::time::advance(TIME - Duration::from_millis(5001)).await;
        assert!(lease.is_held());
        tokio::time::timeout(Duration::from_secs(1), lease.lost()).await.expect("lost in a millisecond");
        assert_eq!(begun.elapsed(), TIME);
    }
}
