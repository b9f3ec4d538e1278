//! One caller at a time, for each machine: to change it, to ask its monitor, to type, to ask its agent.
//!
//! Turns are held while something is waited for, each with a deadline; those of one machine hold up no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::MachineName;

/// What a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum For {
    /// Its folder, and its start.
    Change,
    /// QEMU listens for one client and one that waits; the next is turned away.
    Monitor,
    /// Two texts at once would be one jumble.
    Console,
    /// One client at a time, and answers say not whose they are.
    Agent,
}

type Turn = Arc<tokio::sync::Mutex<()>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<(MachineName, For), Turn>>);

impl Turns {
    pub(super) async fn change(&self, name: &MachineName) -> OwnedMutexGuard<()> {
        self.of(name, For::Change).lock_owned().await
    }

    pub(super) async fn monitor(&self, name: &MachineName) -> OwnedMutexGuard<()> {
        self.of(name, For::Monitor).lock_owned().await
    }

    pub(super) async fn console(&self, name: &MachineName) -> OwnedMutexGuard<()> {
        self.of(name, For::Console).lock_owned().await
    }

    pub(super) async fn agent(&self, name: &MachineName) -> OwnedMutexGuard<()> {
        self.of(name, For::Agent).lock_owned().await
    }

    fn of(&self, name: &MachineName, what: For) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody has or waits for need not be kept.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry((name.clone(), what)).or_default())
    }
}
