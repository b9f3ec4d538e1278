//! A source's changed areas, as the planner asks for them.

use crate::source::{ChangeId, Snapshot, Source};
use async_trait::async_trait;
use migratekit::plan::{ChangedAreas, ChangedPage, SourceError};
use shared::ids::DiskKey;
use shared::range::RangeSet;
use std::sync::Arc;

/// Changes between a change id and a snapshot.
pub(super) struct Changes {
    pub(super) source: Arc<dyn Source>,
    pub(super) snapshot: Snapshot,
    pub(super) key: DiskKey,
    pub(super) since: ChangeId,
}

#[async_trait]
impl ChangedAreas for Changes {
    async fn page(&mut self, offset: u64) -> Result<ChangedPage, SourceError> {
        Ok(self.source.changed(&self.snapshot, &self.key, &self.since, offset).await?)
    }
}

impl Changes {
    /// All pages at once, for a pass that leaves the changes out.
    pub(super) async fn collect(mut self, size: u64) -> Result<RangeSet, crate::source::Error> {
        let mut all = RangeSet::new();
        let mut offset = 0;
        while offset < size {
            let page = self.source.changed(&self.snapshot, &self.key, &self.since, offset).await?;
            page.ranges.iter().for_each(|r| all.insert(shared::leaf::round_out(*r, size)));
            if page.next_offset <= offset {
                break;
            }
            offset = page.next_offset;
        }
        self.since = ChangeId::new(String::new());
        Ok(all)
    }
}
