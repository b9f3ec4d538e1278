//! A session's journal in the database, which refuses an epoch that is over.

use crate::store::{CheckpointKind, CheckpointOf, Store};
use async_trait::async_trait;
use jiff::Timestamp;
use migratekit::replica::{Journal, JournalError};
use shared::range::RangeSet;

pub(super) struct DbJournal {
    pub(super) store: Store,
    pub(super) of: CheckpointOf,
}

#[async_trait]
impl Journal for DbJournal {
    async fn intend(&self, ranges: &RangeSet) -> Result<(), JournalError> {
        Ok(self.store.checkpoint_append(&self.of, CheckpointKind::Intent, ranges, Timestamp::now()).await?)
    }

    async fn checkpoint(&self, ranges: &RangeSet) -> Result<(), JournalError> {
        Ok(self.store.checkpoint_append(&self.of, CheckpointKind::Durable, ranges, Timestamp::now()).await?)
    }
}
