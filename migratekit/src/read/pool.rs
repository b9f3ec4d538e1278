//! Read buffers, bounded in bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::leaf::LEAF;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::nbd::Buffer;

/// Bytes of one permit. (A semaphore counts in `u32` per acquisition.)
const UNIT: u64 = 4096;

/// Hands out buffers of at least a leaf; what is out and what lies free is together at most `memory` bytes.
pub(super) struct Pool {
    memory: u64,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: Vec<Buffer>,
    /// Bytes of all buffers, free or out.
    held: u64,
}

impl Pool {
    pub(super) fn new(memory: u64) -> Arc<Self> {
        let memory = memory.next_multiple_of(UNIT);
        let units = usize::try_from(memory / UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Arc::new(Self { memory, permits: Arc::new(Semaphore::new(units)), state: Mutex::default() })
    }

    /// A buffer of `bytes`, waiting for memory; `None` when the pool was closed.
    pub(super) async fn take(self: &Arc<Self>, bytes: u64) -> Option<Lease> {
        let class = bytes.max(LEAF).next_power_of_two().min(self.memory.max(bytes));
        let units = u32::try_from(class.min(self.memory).div_ceil(UNIT)).ok()?;
        let permit = Arc::clone(&self.permits).acquire_many_owned(units).await.ok()?;
        let capacity = usize::try_from(class).ok()?;
        let reused = {
            let mut state = self.state();
            let found = state.free.iter().rposition(|b| b.capacity() == capacity);
            let reused = found.map(|index| state.free.swap_remove(index));
            if reused.is_none() {
                // Buffers of another size make room.
                while state.held.saturating_add(class) > self.memory
                    && let Some(other) = state.free.pop()
                {
                    state.held = state.held.saturating_sub(other.capacity() as u64);
                }
                state.held += class;
            }
            reused
        };
        let mut buffer = reused.unwrap_or_else(|| Buffer::new(capacity));
        buffer.set_len(usize::try_from(bytes).ok()?);
        Some(Lease { buffer: Some(buffer), class, shown: (0, 0), pool: Arc::clone(self), _permit: permit })
    }

    /// Bytes of all buffers together, at most.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// Nobody gets a buffer any more.
    pub(super) fn close(&self) {
        self.permits.close();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        self.state().held
    }
}

/// The right to a buffer's memory, and the buffer while it is not being read into. Goes back to the pool when dropped.
pub(super) struct Lease {
    buffer: Option<Buffer>,
    class: u64,
    /// What `as_ref` shows: start and end within the buffer.
    shown: (usize, usize),
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Takes the buffer out, to be read into.
    pub(super) fn take_buffer(&mut self) -> Option<Buffer> {
        self.buffer.take()
    }

    /// Puts it back, showing `start..end` of it.
    pub(super) fn put_buffer(&mut self, buffer: Buffer, start: usize, end: usize) {
        let end = end.min(buffer.len());
        self.shown = (start.min(end), end);
        self.buffer = Some(buffer);
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |b| &b.as_slice()[self.shown.0..self.shown.1])
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        match self.buffer.take() {
            Some(buffer) => state.free.push(buffer),
            // It went down with its connection.
            None => state.held = state.held.saturating_sub(self.class),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_bounded_and_reused() {
        let pool = Pool::new(4 * LEAF);
        let mut leases = Vec::new();
        for _ in 0..4 {
            leases.push(pool.take(LEAF).await.expect("open"));
        }
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), pool.take(1)).await;
        assert!(waits.is_err(), "a fifth has to wait");
        drop(leases.pop());
        let again = pool.take(1).await.expect("open");
        assert_eq!(pool.held(), 4 * LEAF, "the one that came back is used");
        drop((leases, again));
        let big = pool.take(4 * LEAF).await.expect("open");
        assert_eq!(pool.held(), 4 * LEAF, "small ones made room for the big one");
        drop(big);
        pool.close();
        assert!(pool.take(1).await.is_none());
    }

    #[tokio::test]
    async fn lost_buffers_are_not_counted() {
        let pool = Pool::new(2 * LEAF);
        for _ in 0..10 {
            let mut lease = pool.take(2 * LEAF).await.expect("open");
            drop(lease.take_buffer());
        }
        assert_eq!(pool.held(), 0);
    }
}
