//! What a stream is told: which of its pieces are durable.
//!
//! Acknowledgements of a slow reader merge; they never queue up and never slow the session.

use std::sync::{Arc, Mutex, PoisonError};

use shared::range::{ByteRange, RangeSet};
use tokio::sync::Notify;

use super::Error;
use super::core::Core;

#[derive(Default)]
pub(super) struct AckCell {
    ranges: Mutex<RangeSet>,
    news: Notify,
}

impl AckCell {
    pub(super) fn add(&self, range: ByteRange) {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner).insert(range);
        self.news.notify_one();
    }

    pub(super) fn wake(&self) {
        self.news.notify_one();
    }

    fn take(&self) -> RangeSet {
        std::mem::take(&mut *self.ranges.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The acknowledgements of one stream.
pub struct Acks {
    pub(super) core: Arc<Core>,
    pub(super) cell: Arc<AckCell>,
}

impl Acks {
    /// The ranges of this stream that became durable since the last call. `Ok(None)`: the disk is sealed and
    /// everything was told. `Err`: why the session ended; nothing that was not told before is known.
    ///
    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Option<RangeSet>, Error> {
        loop {
            // In this order: an acknowledgement made before the end is still told.
            let end = self.core.end();
            let ranges = self.cell.take();
            if !ranges.is_empty() {
                return Ok(Some(ranges));
            }
            match end {
                Some(Ok(())) => return Ok(None),
                Some(Err(why)) => return Err(why),
                None => self.cell.news.notified().await,
            }
        }
    }
}
