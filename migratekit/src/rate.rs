//! Bytes a second, not more.
//!
//! ```text
//!  take(bytes) ─ queue, in order ─► debt ──(rate × time)──► paid
//! ```
//!
//! Who takes goes into debt for what it takes, and the next one waits until the debt is paid: any number of bytes can
//! be taken, and over a long time exactly the rate is. A limit that was idle has nothing saved up. One limit may be
//! shared, and changed while others wait for it.
//!
//! It does not cut anything into parts: whoever sends slowly sends small messages (see [`Limit::grain`]).

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Nobody has to wait longer for a message of the size that [`Limit::grain`] names.
const PERIOD: Duration = Duration::from_millis(50);

/// A bound on bytes a second, or none.
#[derive(Debug)]
pub struct Limit {
    /// Bytes a second; 0: no bound.
    rate: watch::Sender<u64>,
    /// First come, first served.
    queue: tokio::sync::Mutex<()>,
    /// When what was taken is paid for, at the rate of then.
    free_at: Mutex<Instant>,
    changed: Notify,
}

impl Default for Limit {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Limit {
    /// `rate` in bytes a second; 0: no bound.
    pub fn new(rate: u64) -> Self {
        Self {
            rate: watch::Sender::new(rate),
            queue: tokio::sync::Mutex::default(),
            free_at: Mutex::new(Instant::now()),
            changed: Notify::new(),
        }
    }

    /// Bytes a second; 0: no bound.
    pub fn rate(&self) -> u64 {
        *self.rate.borrow()
    }

    /// Another bound from now on, for those who wait as well.
    pub fn set(&self, rate: u64) {
        let before = self.rate.send_replace(rate);
        if before == rate {
            return;
        }
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        // What is owed is bytes: at the new rate it takes another time.
        let owed = free_at.saturating_duration_since(now).as_secs_f64() * float(before);
        *free_at = now + time_for(owed, rate);
        drop(free_at);
        self.changed.notify_waiters();
    }

    /// The most bytes to send at once, so that a slow rate is kept over short times too.
    pub fn grain(&self) -> u64 {
        match self.rate() {
            0 => u64::MAX,
            rate => (rate / 1000).saturating_mul(u64::try_from(PERIOD.as_millis()).unwrap_or(1)).max(1),
        }
    }

    /// Waits until what was taken before is paid for, then takes `bytes`. Dropped while it waits, it takes nothing.
    pub async fn take(&self, bytes: u64) {
        if self.rate() == 0 {
            return;
        }
        let _turn = self.queue.lock().await;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (rate, now) = (self.rate(), Instant::now());
            let free_at = {
                let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
                if rate == 0 || *free_at <= now {
                    // A timer is late by up to a millisecond each time; only a real pause is not made up for.
                    let since = (*free_at).max(now.checked_sub(PERIOD).unwrap_or(now));
                    *free_at = since + time_for(float(bytes), rate);
                    return;
                }
                *free_at
            };
            tokio::select! {
                () = tokio::time::sleep_until(free_at) => {}
                () = changed => {}
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 bytes a second are enough")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

fn time_for(bytes: f64, rate: u64) -> Duration {
    match rate {
        0 => Duration::ZERO,
        rate => Duration::try_from_secs_f64(bytes / float(rate)).unwrap_or(Duration::from_secs(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const MIB: u64 = 1 << 20;

    /// Bytes taken within `time` by `takers` who take `each` at a time.
    async fn taken(limit: &Arc<Limit>, takers: usize, each: u64, time: Duration) -> u64 {
        let all = (0..takers).map(|_| {
            let limit = Arc::clone(limit);
            async move {
                let (begun, mut bytes) = (Instant::now(), 0);
                while begun.elapsed() < time {
                    if tokio::time::timeout(time - begun.elapsed(), limit.take(each)).await.is_ok() {
                        bytes += each;
                    }
                }
                bytes
            }
        });
        futures::future::join_all(all).await.into_iter().sum()
    }

    /// The clock of the test stands still but for the sleeps: this is arithmetic, not timing.
    #[tokio::test(start_paused = true)]
    async fn it_is_exact_within_5_percent_over_10_s() {
        for (rate, takers) in [(MIB, 1), (10 * MIB, 8), (1000 * MIB, 3)] {
            let limit = Arc::new(Limit::new(rate));
            let each = limit.grain().min(512 << 10);
            let bytes = taken(&limit, takers, each, Duration::from_secs(10)).await;
            let ratio = float(bytes) / float(10 * rate);
            assert!((0.95..=1.05).contains(&ratio), "{rate} B/s by {takers}: {ratio}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_limit_saves_nothing_up() {
        let limit = Arc::new(Limit::new(MIB));
        tokio::time::sleep(Duration::from_secs(100)).await;
        let bytes = taken(&limit, 1, 64 << 10, Duration::from_secs(1)).await;
        assert!(bytes <= MIB + MIB / 8, "{bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_sees_another_rate_at_once() {
        let limit = Arc::new(Limit::new(1));
        limit.take(MIB).await;
        let waiting = tokio::spawn({
            let limit = Arc::clone(&limit);
            async move { limit.take(1).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished(), "twelve days to go");
        limit.set(0);
        waiting.await.expect("no panic");
        limit.set(MIB);
        let begun = Instant::now();
        limit.take(MIB).await;
        limit.take(1).await;
        assert!(begun.elapsed() >= Duration::from_millis(900), "bounded again");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_nothing() {
        let limit = Limit::new(MIB);
        limit.take(MIB).await;
        let gave_up = tokio::time::timeout(Duration::from_millis(10), limit.take(1000 * MIB)).await;
        assert!(gave_up.is_err());
        let begun = Instant::now();
        limit.take(1).await;
        assert!(begun.elapsed() <= Duration::from_millis(1010), "only the first was owed");
    }
}
