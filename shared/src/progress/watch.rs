//! A watch: a job's present state at once, then its changes, each with its number, until it has ended.
//!
//! ```text
//!  writer ── number of the new state ──►  watch::Receiver  ── read the latest ──►  reader, at its own pace
//! ```
//!
//! Only the number is kept for a reader, and the state is read when the reader asks for the next one. So a slow reader
//! misses states between, never the latest, and nobody waits for it.

use super::View;
use futures::Stream;
use futures::stream::unfold;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

/// States are not handed out faster than this: enough for a bar.
const PACE: Duration = Duration::from_millis(200);

/// A state and its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Grows with each change. The state may be a little newer than its number, never older.
    pub sequence: u64,
    pub view: View,
}

/// Where a watch stands.
struct Watch<R> {
    numbers: Receiver<u64>,
    /// The number that the reader has already.
    after: u64,
    /// Not sooner than this.
    next: Instant,
    read: R,
    ended: bool,
}

/// The states of a job behind these numbers, until one that has ended, or until it cannot be read. A reader that has
/// seen the state `after` gets it again only if that is the last.
pub fn states<R, F, E>(
    numbers: Receiver<u64>,
    after: u64,
    read: R,
) -> impl Stream<Item = Result<Seen, E>> + Send
where
    R: FnMut() -> F + Send,
    F: Future<Output = Result<View, E>> + Send,
    E: Send,
{
    let watch = Watch { numbers, after, next: Instant::now(), read, ended: false };
    unfold(watch, async |mut watch| {
        if watch.ended {
            return None;
        }
        let seen = watch.next().await;
        watch.ended |= seen.as_ref().map_or(true, |seen| seen.view.has_ended());
        Some((seen, watch))
    })
}

impl<R, F, E> Watch<R>
where
    R: FnMut() -> F + Send,
    F: Future<Output = Result<View, E>> + Send,
{
    async fn next(&mut self) -> Result<Seen, E> {
        sleep_until(self.next).await;
        loop {
            // The number first: what changes between the two comes again, under its own.
            let sequence = *self.numbers.borrow_and_update();
            let view = (self.read)().await?;
            if sequence != self.after || view.has_ended() {
                self.after = sequence;
                self.next = Instant::now() + PACE;
                return Ok(Seen { sequence, view });
            }
            if self.numbers.changed().await.is_err() {
                // The job was forgotten, and reading it says so.
                self.ended = true;
                return (self.read)().await.map(|view| Seen { sequence, view });
            }
        }
    }
}
