//! Ends the agent, as far as the source can tell, before its n-th effect: for tests only.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::qmp;

/// How many steps are left; unlimited by default. Clones share the count.
#[derive(Clone, Debug)]
pub(super) struct Faults(Arc<AtomicI64>);

impl Default for Faults {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }
}

impl Faults {
    /// Lets `steps` more pass and none after them.
    pub(super) fn kill_after(&self, steps: i64) {
        self.0.store(steps, Ordering::SeqCst);
    }

    /// Whether a step was refused.
    pub(super) fn killed(&self) -> bool {
        self.0.load(Ordering::SeqCst) < 0
    }

    /// Once refused, always refused: a dead agent tidies nothing up.
    pub(super) fn step(&self, command: &'static str) -> Result<(), qmp::Error> {
        match self.0.fetch_sub(1, Ordering::SeqCst) > 0 {
            true => Ok(()),
            false => Err(qmp::Error::Killed { command }),
        }
    }
}
