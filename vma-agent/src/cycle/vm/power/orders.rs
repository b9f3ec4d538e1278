//! How far an order is, kept over interruptions.

use super::policy::Progress;
use crate::cycle::vm::Wanted;
use crate::source::PowerState;
use shared::cycle::{DesiredVm, PowerFailure, PowerOrder, PowerReport, PowerWish};
use shared::ids::{MigrationId, VmUuid};
use shared::vm::Power;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// The order that was last worked on.
#[derive(Default)]
pub(in crate::cycle) struct Orders(Mutex<Option<Work>>);

#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) order: PowerOrder,
    migration: MigrationId,
    begun: Instant,
    pub(super) pressed: Option<Instant>,
    /// The first and the last time.
    pub(super) cut: Option<(Instant, Instant)>,
    pub(super) switched: Option<Instant>,
    /// Why the last of these failed.
    pub(super) trouble: Option<String>,
    /// Number of the connection in which it was reported.
    pub(super) reported: Option<u64>,
}

impl Orders {
    /// Whether this is still to be carried out, or reported over this connection.
    pub(in crate::cycle::vm) fn is_open(&self, wanted: &Wanted) -> bool {
        let Some(order) = &wanted.vm.power else { return false };
        let known = self.lock();
        let reported =
            known.as_ref().filter(|work| work.is(&wanted.vm, order)).and_then(|work| work.reported);
        reported != Some(wanted.connection)
    }

    /// Takes up the order, where it was left or from its beginning.
    pub(super) fn take_up(&self, vm: &DesiredVm, order: &PowerOrder) -> Work {
        let mut known = self.lock();
        let left = known.take().filter(|work| work.is(vm, order) && work.reported.is_none());
        known.insert(left.unwrap_or_else(|| Work::new(vm, order))).clone()
    }

    /// Given again, it is a new one: its guest has all its time.
    pub(in crate::cycle::vm) fn withdraw(&self) {
        *self.lock() = None;
    }

    pub(super) fn keep(&self, work: &Work) {
        *self.lock() = Some(work.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Work>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    pub(super) fn new(vm: &DesiredVm, order: &PowerOrder) -> Self {
        Self {
            order: order.clone(),
            migration: vm.migration.clone(),
            begun: Instant::now(),
            pressed: None,
            cut: None,
            switched: None,
            trouble: None,
            reported: None,
        }
    }

    fn is(&self, vm: &DesiredVm, order: &PowerOrder) -> bool {
        self.order == *order && self.migration == vm.migration
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            begun: self.begun.elapsed(),
            pressed: self.pressed.map(|at| at.elapsed()),
            cut: self.cut.map(|(first, _)| first.elapsed()),
            cut_again: self.cut.map(|(_, last)| last.elapsed()),
            switched: self.switched.map(|at| at.elapsed()),
        }
    }

    pub(super) fn report(&self, vm: &VmUuid, state: PowerState) -> PowerReport {
        PowerReport {
            vm: vm.clone(),
            migration: self.migration.clone(),
            order: self.order.id.clone(),
            state: match state {
                PowerState::Running => Power::On,
                PowerState::Off => Power::Off,
                PowerState::Unknown => Power::Unknown,
            },
            how: None,
            failure: None,
        }
    }

    /// Whether the power may be another than when the order came.
    pub(super) fn has_acted(&self) -> bool {
        self.pressed.is_some() || self.cut.is_some() || self.switched.is_some()
    }

    /// Why it was given up.
    pub(super) fn failure(&self) -> PowerFailure {
        let waited = self.begun.elapsed().as_secs();
        let (reason, message) = match (self.order.wish, self.cut) {
            (PowerWish::Off, None) => (
                "POWER_OFF_TIMEOUT",
                format!(
                    "the guest did not power itself off within {waited} s, and may still do so: look at it; give it more time, \
                     allow a forced power-off, or shut it down by hand, and try again"
                ),
            ),
            (PowerWish::Off, Some((first, _))) => (
                "POWER_OFF_TIMEOUT",
                format!(
                    "the VM is not off {} s after its power was cut; look at it where it runs, switch it off there, and \
                     try again",
                    first.elapsed().as_secs()
                ),
            ),
            (PowerWish::On | PowerWish::Report, _) => (
                "POWER_ON_FAILED",
                format!(
                    "the VM is not on {waited} s after its power was switched on; look at it where it runs, and try again"
                ),
            ),
        };
        match &self.trouble {
            Some(trouble) => failure(reason, format!("{message} (the last try: {trouble})")),
            None => failure(reason, message),
        }
    }
}

pub(super) fn failure(reason: &str, message: String) -> PowerFailure {
    PowerFailure { reason: reason.to_owned(), message }
}
