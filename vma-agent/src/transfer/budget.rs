//! Connections to one source host, shared by the disks that are read from it.
//!
//! A disk gets one for certain, sooner or later, and then as many as its share of the budget allows and are free now:
//! it never waits for a second one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Where disks are read that lie behind Unix sockets.
const HERE: &str = "";

/// The budgets of all hosts; clones are the same.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Connections a host.
    most: usize,
    hosts: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// So many connections; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share(OwnedSemaphorePermit);

impl Share {
    pub(super) fn connections(&self) -> usize {
        self.0.num_permits()
    }
}

impl Budget {
    /// At most `most` connections a host.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), hosts: Arc::default() }
    }

    /// Connections that one host may be given.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Connections that are given out now, to all hosts.
    pub(crate) fn in_use(&self) -> usize {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.values().map(|host| self.most.saturating_sub(host.available_permits())).sum()
    }

    /// Up to `wanted` connections to `host` (`None`: this machine) for one of `disks` that begin together.
    pub(crate) async fn take(&self, host: Option<&str>, wanted: usize, disks: usize) -> Share {
        let connections = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            let host = hosts.entry(host.unwrap_or(HERE).to_owned());
            Arc::clone(host.or_insert_with(|| Arc::new(Semaphore::new(self.most))))
        };
        let first = Arc::clone(&connections).acquire_owned().await;
        let mut share = first.expect("it is never closed");
        let more = wanted.min(self.most / disks.max(1)).saturating_sub(1);
        for _ in 0..more {
            match Arc::clone(&connections).try_acquire_owned() {
                Ok(one) => share.merge(one),
                Err(_) => break,
            }
        }
        Share(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn disks_that_begin_together_get_equal_shares() {
        let budget = Budget::new(8);
        let mut shares = vec![];
        for _ in 0..4 {
            shares.push(budget.take(Some("esx1"), 4, 4).await);
        }
        assert!(shares.iter().all(|share| share.connections() == 2));
        assert!(budget.take(Some("esx1"), 4, 4).now_or_never().is_none(), "all are taken");
        assert_eq!(budget.take(Some("esx2"), 4, 1).await.connections(), 4, "another host has its own");
        drop(shares.pop());
        assert_eq!(budget.take(Some("esx1"), 4, 1).await.connections(), 2, "what is free now");
    }

    #[tokio::test]
    async fn more_disks_than_connections_take_turns() {
        let budget = Budget::new(2);
        let first = budget.take(None, 4, 3).await;
        let second = budget.take(None, 4, 3).await;
        assert_eq!((first.connections(), second.connections()), (1, 1));
        let third = budget.take(None, 4, 3);
        tokio::pin!(third);
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(third.await.connections(), 1);
    }
}
