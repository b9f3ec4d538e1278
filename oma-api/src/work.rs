//! One task an id at a time, and a pause after one that failed.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

/// How a task ended that did not succeed.
#[derive(Debug)]
pub(crate) enum Failed<E> {
    Error(E),
    /// A defect; the message is for the log.
    Panic(JoinError),
}

/// See the module.
pub(crate) struct Work<K, E> {
    pause: Duration,
    tasks: JoinSet<Result<(), E>>,
    of: HashMap<Id, K>,
    /// Being worked on, or left alone until then.
    busy: HashMap<K, Option<Instant>>,
}

impl<K: Clone + Eq + Hash, E: Send + 'static> Work<K, E> {
    pub(crate) fn new(pause: Duration) -> Self {
        Self { pause, tasks: JoinSet::new(), of: HashMap::new(), busy: HashMap::new() }
    }

    pub(crate) fn may_start(&mut self, id: &K) -> bool {
        self.busy.retain(|_, until| until.is_none_or(|at| at > Instant::now()));
        !self.busy.contains_key(id)
    }

    pub(crate) fn start(&mut self, id: K, work: impl Future<Output = Result<(), E>> + Send + 'static) {
        self.busy.insert(id.clone(), None);
        self.of.insert(self.tasks.spawn(work).id(), id);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The next one that ends, and why it failed if it did. `None`: nothing is under way.
    pub(crate) async fn ended(&mut self) -> Option<(K, Option<Failed<E>>)> {
        let (task, failure) = match self.tasks.join_next_with_id().await? {
            Ok((task, Ok(()))) => (task, None),
            Ok((task, Err(error))) => (task, Some(Failed::Error(error))),
            Err(panic) => (panic.id(), Some(Failed::Panic(panic))),
        };
        let id = self.of.remove(&task)?;
        match failure {
            Some(_) => self.busy.insert(id.clone(), Some(Instant::now() + self.pause)),
            None => self.busy.remove(&id),
        };
        Some((id, failure))
    }

    /// Drops all that is under way, where it is, and waits until it is dropped.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}
