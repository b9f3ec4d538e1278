//! When a cycle's counters are stored: at once when they were not for a second, else a second after the last time. So a
//! burst costs one write a second, and its last state is stored a second later at the latest.
//!
//! ```text
//!  changed(job) ──► waiting ── a second since stored(job) ──► due() ── the write ──► stored(job)
//!                      └────── the cycle ends: take(job) ──────────────────┘
//! ```
//!
//! It knows when, not what: the counters are the hub's, the writing is a service's.

use shared::ids::JobId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Between two writes of one cycle's counters.
pub const PERIOD: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// There is something that is not stored.
    waiting: bool,
    /// Not sooner than this.
    next: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Pace {
    jobs: Mutex<HashMap<JobId, Slot>>,
    changed: Notify,
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Slot>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cycle's counters changed.
    pub fn changed(&self, job: &JobId) {
        self.lock().entry(job.clone()).or_default().waiting = true;
        self.changed.notify_one();
    }

    /// Waits for a cycle whose counters are to be stored now; they do not wait any more then. For one caller at a time.
    pub async fn due(&self) -> JobId {
        loop {
            let next = {
                let now = Instant::now();
                let mut jobs = self.lock();
                let waiting = jobs.iter_mut().filter(|(_, slot)| slot.waiting);
                match waiting.min_by_key(|(_, slot)| slot.next) {
                    Some((job, slot)) if slot.next.is_none_or(|next| next <= now) => {
                        slot.waiting = false;
                        return job.clone();
                    }
                    Some((_, slot)) => slot.next,
                    None => None,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {}
            }
        }
    }

    /// Whether the cycle's counters wait; they do not any more then: the caller stores them at once.
    pub fn take(&self, job: &JobId) -> bool {
        self.lock().get_mut(job).is_some_and(|slot| std::mem::take(&mut slot.waiting))
    }

    /// All whose counters wait.
    pub fn waiting(&self) -> Vec<JobId> {
        self.lock().iter().filter(|(_, slot)| slot.waiting).map(|(job, _)| job.clone()).collect()
    }

    /// They were stored, or it was tried. A cycle that was forgotten meanwhile stays so.
    pub fn stored(&self, job: &JobId) {
        if let Some(slot) = self.lock().get_mut(job) {
            slot.next = Some(Instant::now() + PERIOD);
        }
    }

    /// The cycle ended.
    pub fn forget(&self, job: &JobId) {
        self.lock().remove(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{sleep, timeout};

    fn job(number: u32) -> JobId {
        format!("job-20261121-1000{number:02}").parse().expect("an id")
    }

    /// What is due within this time, each stored at once, and when, in milliseconds since `start`.
    async fn stored(pace: &Pace, start: Instant, within: Duration) -> Vec<(JobId, u128)> {
        let mut seen = vec![];
        let _ = timeout(within, async {
            loop {
                let job = pace.due().await;
                pace.stored(&job);
                seen.push((job, start.elapsed().as_millis()));
            }
        })
        .await;
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_one_write_a_second_and_its_last_state_is_stored() {
        let (pace, start) = (Pace::default(), Instant::now());
        // 100 a second for 2.5 s, of one cycle; one change of another in the midst of it.
        let saying = async {
            for number in 0..250 {
                pace.changed(&job(1));
                if number == 120 {
                    pace.changed(&job(2));
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let ((), seen) = tokio::join!(saying, stored(&pace, start, Duration::from_secs(60)));
        let times =
            |of: u32| seen.iter().filter(|(j, _)| *j == job(of)).map(|(_, at)| *at).collect::<Vec<_>>();
        assert_eq!((times(1), times(2)), (vec![0, 1000, 2000, 3000], vec![1200]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_cycle_takes_what_waits_at_once() {
        let (pace, start) = (Pace::default(), Instant::now());
        pace.changed(&job(1));
        assert_eq!(stored(&pace, start, Duration::from_millis(1)).await.len(), 1);
        assert!(!pace.take(&job(1)), "all is stored");
        pace.changed(&job(1));
        assert_eq!(pace.waiting(), [job(1)]);
        assert!(pace.take(&job(1)));
        pace.forget(&job(1));
        pace.stored(&job(1));
        assert_eq!(stored(&pace, start, Duration::from_secs(60)).await, []);
        assert!(pace.lock().is_empty(), "nothing is left of it");
    }

    /// A second between the end of a write and the next, however long a write takes.
    #[tokio::test(start_paused = true)]
    async fn a_slow_write_is_not_followed_by_the_next_at_once() {
        let pace = Pace::default();
        pace.changed(&job(1));
        pace.due().await;
        sleep(Duration::from_millis(1500)).await;
        pace.changed(&job(1));
        pace.stored(&job(1));
        assert!(timeout(Duration::from_millis(999), pace.due()).await.is_err());
        assert!(timeout(Duration::from_millis(2), pace.due()).await.is_ok());
    }
}
