//! Stands between any two effects on the source, for tests only: ends the agent there, or lets the guest write.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::qmp;

/// What a test does before each step.
type Hook = Box<dyn FnMut(&'static str) + Send>;

/// How many steps are left; unlimited by default. Clones share all.
#[derive(Clone)]
pub(super) struct Faults {
    left: Arc<AtomicI64>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { left: Arc::new(AtomicI64::new(i64::MAX)), hook: Arc::default() }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Faults {
    /// Lets `steps` more pass and none after them.
    pub(super) fn kill_after(&self, steps: i64) {
        self.left.store(steps, Ordering::SeqCst);
    }

    /// Whether a step was refused.
    pub(super) fn killed(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// Runs before each step; blocks it.
    pub(super) fn before_each(&self, hook: impl FnMut(&'static str) + Send + 'static) {
        *self.hook.lock().expect("no hook panics") = Some(Box::new(hook));
    }

    /// Once refused, always refused: a dead agent tidies nothing up.
    pub(super) fn step(&self, command: &'static str) -> Result<(), qmp::Error> {
        if let Some(hook) = self.hook.lock().expect("no hook panics").as_mut() {
            hook(command);
        }
        match self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            true => Ok(()),
            false => Err(qmp::Error::Killed { command }),
        }
    }
}
