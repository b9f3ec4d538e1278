//! What was handed to the transfer and is not known durable yet.

use shared::range::{ByteRange, RangeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore};

/// Bounds the data that is read but not acknowledged, and tells when nothing is left.
pub(super) struct Window {
    room: Semaphore,
    state: Mutex<Outstanding>,
    changed: Notify,
}

#[derive(Default)]
struct Outstanding {
    /// Chunks that hold room.
    data: RangeSet,
    /// Ranges of zeros; they cost nothing.
    zero: RangeSet,
    /// Bytes acknowledged since the start.
    done: u64,
}

impl Window {
    /// Room for `bytes` of data.
    pub(super) fn new(bytes: u32) -> Self {
        let room = Semaphore::new(usize::try_from(bytes).expect("a u32 fits"));
        Self { room, state: Mutex::default(), changed: Notify::new() }
    }

    /// Waits for room for a chunk (at most 4 MiB), which is outstanding from then on.
    pub(super) async fn enter(&self, chunk: ByteRange) {
        let bytes = u32::try_from(chunk.len()).expect("chunks are at most 4 MiB");
        // Never closed.
        if let Ok(permit) = self.room.acquire_many(bytes).await {
            permit.forget();
        }
        self.lock().data.insert(chunk);
    }

    /// A range of zeros is outstanding.
    pub(super) fn enter_zero(&self, range: ByteRange) {
        self.lock().zero.insert(range);
    }

    /// The control plane called these durable.
    pub(super) fn acknowledge(&self, durable: &RangeSet) {
        let mut freed = 0;
        {
            let mut state = self.lock();
            for range in durable.iter() {
                let data: u64 = state.data.within(range).map(ByteRange::len).sum();
                let zero: u64 = state.zero.within(range).map(ByteRange::len).sum();
                state.data.remove(range);
                state.zero.remove(range);
                state.done += data + zero;
                freed += data;
            }
        }
        self.room.add_permits(usize::try_from(freed).unwrap_or(0));
        self.changed.notify_waiters();
    }

    /// Bytes acknowledged since the start.
    pub(super) fn done(&self) -> u64 {
        self.lock().done
    }

    /// Returns when everything that entered is durable.
    pub(super) async fn drained(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.lock();
                if state.data.is_empty() && state.zero.is_empty() {
                    return;
                }
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outstanding> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        ranges.iter().map(|&(s, e)| ByteRange::new(s, e)).collect()
    }

    #[tokio::test]
    async fn only_durable_data_makes_room() {
        let window = Window::new(100);
        window.enter(ByteRange::new(0, 60)).await;
        window.enter_zero(ByteRange::new(1000, 9000));
        assert!(window.enter(ByteRange::new(60, 120)).now_or_never().is_none(), "60 + 60 > 100");
        window.acknowledge(&set(&[(1000, 9000)]));
        assert!(window.enter(ByteRange::new(60, 120)).now_or_never().is_none(), "zeros hold no room");
        window.acknowledge(&set(&[(0, 30)]));
        assert!(window.enter(ByteRange::new(60, 120)).now_or_never().is_some());
        window.acknowledge(&set(&[(0, 30)]));
        assert!(
            window.enter(ByteRange::new(200, 220)).now_or_never().is_none(),
            "twice acknowledged counts once"
        );
        assert!(window.drained().now_or_never().is_none());
        window.acknowledge(&set(&[(0, 200)]));
        assert!(window.drained().now_or_never().is_some());
        assert_eq!(window.done(), 8000 + 60 + 60);
    }
}
