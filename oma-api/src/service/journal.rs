//! The journal of events for all who follow it: read once, and shared.
//!
//! The numbers are the database's, so a follower goes on from any number after any restart, of either side; events are
//! kept for 90 days.

use super::{App, Error};
use crate::store::Event;
use futures::Stream;
use futures::stream::try_unfold;
use shared::ids::MigrationId;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Events of one read.
const BATCH: u32 = 500;

/// The newest events, in memory, for those who are not far behind.
#[derive(Debug, Default)]
pub struct Journal(Mutex<VecDeque<Arc<Event>>>);

/// Events that are kept in memory.
const RECENT: usize = 2048;

impl Journal {
    /// The events after `seq` if all of them are here.
    fn after(&self, seq: u64) -> Option<Vec<Arc<Event>>> {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The one before the first must be known to be seen.
        let complete = recent.front().is_some_and(|first| first.seq <= seq.saturating_add(1));
        complete.then(|| recent.iter().filter(|event| event.seq > seq).cloned().collect())
    }

    fn learn(&self, events: &[Arc<Event>]) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            match recent.back().map(|last| last.seq) {
                Some(last) if event.seq <= last => continue,
                // A gap: what is here is of no use for who is before it.
                Some(last) if event.seq > last.saturating_add(1) => recent.clear(),
                Some(_) | None => {}
            }
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(Arc::clone(event));
        }
    }
}

impl App {
    /// The number of the newest event.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn journal_last(&self) -> Result<u64, Error> {
        Ok(self.store.event_last().await?)
    }

    /// The events after `seq`, for ever; of one migration, or of all.
    pub fn journal(
        &self,
        seq: u64,
        migration: Option<MigrationId>,
    ) -> impl Stream<Item = Result<Arc<Event>, Error>> + Send + use<> {
        let follower = Follower {
            app: self.clone(),
            changes: self.store.changes(),
            migration,
            seq,
            ready: VecDeque::new(),
        };
        try_unfold(follower, Follower::next)
    }

    async fn journal_read(&self, seq: u64) -> Result<Vec<Arc<Event>>, Error> {
        if let Some(events) = self.hub.journal.after(seq)
            && !events.is_empty()
        {
            return Ok(events);
        }
        let events: Vec<_> =
            self.store.event_list(seq, None, BATCH).await?.into_iter().map(Arc::new).collect();
        self.hub.journal.learn(&events);
        Ok(events)
    }
}

struct Follower {
    app: App,
    changes: watch::Receiver<u64>,
    migration: Option<MigrationId>,
    /// The last that was given or passed over.
    seq: u64,
    ready: VecDeque<Arc<Event>>,
}

impl Follower {
    async fn next(mut self) -> Result<Option<(Arc<Event>, Self)>, Error> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                self.seq = event.seq;
                if self.migration.is_none() || event.migration == self.migration {
                    return Ok(Some((event, self)));
                }
            }
            let newest = *self.changes.borrow_and_update();
            if newest > self.seq {
                self.ready = self.app.journal_read(self.seq).await?.into();
                if !self.ready.is_empty() {
                    continue;
                }
                // All after it were forgotten.
                self.seq = newest;
            }
            if self.changes.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}
