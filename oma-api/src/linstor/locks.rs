//! A lock for each resource.

use super::name::Name;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// One lock a resource, across snapshot, restore and deletion: LINSTOR lets a snapshot be deleted under its own restore, and
/// destroys both.
#[derive(Default)]
pub(crate) struct Locks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// In one order for everybody.
    pub(crate) async fn hold<'a>(
        &self,
        names: impl IntoIterator<Item = &'a Name>,
    ) -> Vec<OwnedMutexGuard<()>> {
        let mut names: Vec<_> = names.into_iter().map(|name| name.as_str().to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        let mut held = Vec::new();
        for name in names {
            let lock = {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|_, lock| Arc::strong_count(lock) > 1);
                Arc::clone(all.entry(name).or_default())
            };
            held.push(lock.lock_owned().await);
        }
        held
    }
}
