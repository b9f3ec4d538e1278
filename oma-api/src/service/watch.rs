//! A migration's states for all who watch it: read once a change, and shared.
//!
//! ```text
//!  hub: "changed" ──► one task a watched migration: reads, publishes ──► watch channel (the latest only)
//!                                                                          ├─► gRPC   ├─► WebSocket   ├─► NDJSON
//! ```
//!
//! Who reads slowly misses states, never the latest, and holds up nobody. The task ends with its last watcher.

use super::{App, Error, MigrationView};
use shared::ids::MigrationId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// States are not published faster than this: enough for a bar.
const PACE: Duration = Duration::from_millis(200);

/// A state is read again after this, whatever is heard: what only time changes.
const PERIOD: Duration = Duration::from_secs(30);

/// After a state could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs of phases that a state shows.
const HISTORY: u32 = 1;

/// A state and its number.
#[derive(Debug)]
pub struct Seen {
    /// Grows with each change, over restarts too.
    pub sequence: u64,
    /// With its last run.
    pub view: MigrationView,
}

/// The states of one migration, for one who watches.
pub struct States {
    latest: Latest,
    /// What is older than the watch is not shown: who acts and then watches must not take the state before for the outcome.
    least: u64,
    begun: bool,
}

/// The latest state; `None` until the first is read.
type Latest = watch::Receiver<Option<Arc<Seen>>>;

impl States {
    /// One state that never changes; the sender keeps it open.
    #[cfg(test)]
    pub(crate) fn fixed(view: MigrationView) -> (Self, watch::Sender<Option<Arc<Seen>>>) {
        let (sender, latest) = watch::channel(Some(Arc::new(Seen { sequence: 1, view })));
        (Self { latest, least: 0, begun: false }, sender)
    }

    /// The current state at once, then the next one that is new; `None`: there will be none. May be dropped and asked again.
    pub async fn next(&mut self) -> Option<Arc<Seen>> {
        loop {
            if self.begun {
                self.latest.changed().await.ok()?;
            }
            self.begun = true;
            let state = self.latest.borrow_and_update().clone();
            if let Some(state) = state.filter(|state| state.sequence >= self.least) {
                return Some(state);
            }
        }
    }
}

/// Who publishes for whom.
#[derive(Debug, Default)]
pub struct Watches(Mutex<HashMap<MigrationId, watch::Sender<Option<Arc<Seen>>>>>);

impl Watches {
    /// The channel of this migration, and whether it needs a publisher.
    fn join(&self, id: &MigrationId) -> (Latest, Option<watch::Sender<Option<Arc<Seen>>>>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = all.get(id) {
            return (sender.subscribe(), None);
        }
        let sender = watch::Sender::new(None);
        let states = sender.subscribe();
        all.insert(id.clone(), sender.clone());
        (states, Some(sender))
    }

    /// Under the lock, so that nobody joins a channel that is being left.
    fn leave(&self, id: &MigrationId) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let nobody = all.get(id).is_none_or(|sender| sender.receiver_count() == 0);
        if nobody {
            all.remove(id);
        }
        nobody
    }

    /// How many migrations are watched, and by how many.
    pub fn count(&self) -> (usize, usize) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (all.len(), all.values().map(watch::Sender::receiver_count).sum())
    }
}

impl App {
    /// The states of a migration.
    ///
    /// # Errors
    /// As [`migration_find`](Self::migration_find).
    pub async fn migration_watch(&self, asked: &str) -> Result<States, Error> {
        let id = self.migration_find(asked).await?.id;
        let least = *self.hub.watch(&id).borrow();
        let (latest, publisher) = self.hub.watches.join(&id);
        if let Some(sender) = publisher {
            let app = self.clone();
            tokio::spawn(async move { app.publish(&id, &sender).await });
        }
        Ok(States { latest, least, begun: false })
    }

    async fn publish(&self, id: &MigrationId, sender: &watch::Sender<Option<Arc<Seen>>>) {
        let mut numbers = self.hub.watch(id);
        loop {
            let sequence = *numbers.borrow_and_update();
            let pause = match self.watched(id).await {
                Ok(view) => {
                    sender.send_replace(Some(Arc::new(Seen { sequence, view })));
                    PACE
                }
                Err(error) => {
                    warn!(migration_id = %id, error = %shared::error::chain(&error), "a watched state could not be read");
                    PAUSE
                }
            };
            tokio::time::sleep(pause).await;
            tokio::select! {
                _ = tokio::time::timeout(PERIOD, numbers.changed()) => {}
                () = sender.closed() => {}
            }
            if sender.is_closed() && self.hub.watches.leave(id) {
                return;
            }
        }
    }

    async fn watched(&self, id: &MigrationId) -> Result<MigrationView, Error> {
        let view = self.migration_view(id).await?;
        self.with_history(view, HISTORY).await
    }
}
