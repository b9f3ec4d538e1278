//! Makes what was written durable, records it, and only then lets it be acknowledged.
//!
//! The order is the rule: data on stable storage, then its hashes in the manifest on stable storage, then the
//! checkpoint's row. Whatever is cut off, what a checkpoint names is there and the manifest knows it.

use std::sync::Arc;

use shared::range::RangeSet;

use super::core::{Batch, Content, Core};
use super::{Cause, Journal, Options};
use crate::manifest::Manifest;
use crate::target::Target;

pub(super) struct Flusher {
    pub(super) core: Arc<Core>,
    pub(super) target: Arc<dyn Target>,
    pub(super) manifest: Arc<Manifest>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) options: Options,
}

impl Flusher {
    /// Until the session is sealed or closed.
    pub(super) async fn run(self) {
        let guard = Guard(self.core.clone());
        while let Some(batch) = self.core.next_batch(&self.options).await {
            let mut ranges = RangeSet::new();
            batch.written.iter().for_each(|w| ranges.insert(w.range));
            match self.flush(batch, &ranges).await {
                Ok(batch) => self.core.checkpointed(batch, &ranges),
                Err(cause) => {
                    self.core.close(cause);
                    break;
                }
            }
        }
        drop(guard);
    }

    async fn flush(&self, batch: Batch, ranges: &RangeSet) -> Result<Batch, Cause> {
        let (target, manifest) = (self.target.clone(), self.manifest.clone());
        let durable = tokio::task::spawn_blocking(move || {
            target.flush()?;
            for written in &batch.written {
                match &written.content {
                    Content::Hashes(hashes) => manifest.set(written.range.start, hashes)?,
                    Content::Zero => manifest.set_zero(written.range)?,
                }
            }
            manifest.flush()?;
            Ok::<Batch, Cause>(batch)
        });
        let batch = durable.await.map_err(|_| Cause::Died { who: "flusher" })??;
        // Ended meanwhile: what comes after may have another epoch, and would find this in its journal.
        if !ranges.is_empty() && self.core.end().is_none() {
            self.journal.checkpoint(ranges).await.map_err(Cause::Checkpoint)?;
        }
        Ok(batch)
    }
}

/// A flusher that was dropped with its runtime, or panicked, must not leave a session that waits for it.
struct Guard(Arc<Core>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(Cause::Died { who: "flusher" });
        self.0.flush_ended();
    }
}
