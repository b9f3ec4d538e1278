//! Orders about the VM's power: carried out once per connection and order, and reported whatever comes of it.
//!
//! A task that is interrupted while it waits for a guest goes on from there: the time that a guest has does not begin
//! anew because something else of the desired state changed. Nothing is tried again by itself after a report; another
//! order, or the same over another connection, is.

mod orders;
mod policy;

pub(in crate::cycle) use self::orders::Orders;
use self::orders::{Work, failure};
use self::policy::{LOOK, Step, next};
use super::{Task, Wanted};
use crate::cycle::Outgoing;
use crate::source::{self, PowerState};
use shared::cycle::{DesiredVm, PowerFailure, PowerOrder, PowerReport, PowerWish};
use shared::error::chain;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A source may fail to answer for so long before an order is given up: one look of hundreds is not the end of a
/// guest's ordered shutdown.
const SILENCE: Duration = Duration::from_secs(5);

/// For a VM that only the OMA knows.
pub(in crate::cycle) fn power_of_unknown(wanted: &DesiredVm, order: &PowerOrder) -> PowerReport {
    let message = format!("VM {} is not in the inventory of this agent's configuration", wanted.vm);
    let work = Work::new(wanted, order);
    PowerReport {
        failure: Some(failure("VM_UNKNOWN", message)),
        ..work.report(&wanted.vm, PowerState::Unknown)
    }
}

impl Task {
    /// Carries out the order about the VM's power and reports, if there is one that was not reported over this connection.
    /// A pause ends it; it is taken up again.
    pub(super) async fn obey(&self, wanted: &Wanted, pause: &CancellationToken) {
        let Some(order) = &wanted.vm.power else { return self.orders.withdraw() };
        if !self.orders.is_open(wanted) {
            return;
        }
        // Of the cycle whose place it took.
        self.running.send_replace(None);
        let mut work = self.orders.take_up(&wanted.vm, order);
        let report = tokio::select! {
            report = self.carry_out(&mut work) => report,
            () = pause.cancelled() => return,
        };
        match &report.failure {
            None => {
                let how = report.how.map_or("-", |how| how.as_str());
                info!(vm = %self.vm, order = %order.id, wish = ?order.wish, power = %report.state, how, "power");
            }
            Some(PowerFailure { reason, message }) => {
                warn!(vm = %self.vm, order = %order.id, wish = ?order.wish, power = %report.state, reason,
                      error = %message, "an order about power was not carried out");
            }
        }
        // Who asks about power wants to see it in the inventory, too.
        if work.has_acted() || order.wish == PowerWish::Report {
            self.looked.notify_one();
        }
        self.say(Outgoing::Power(report)).await;
        // Not sooner: what is interrupted before it was said has to be said.
        work.reported = Some(wanted.connection);
        self.orders.keep(&work);
    }

    async fn carry_out(&self, work: &mut Work) -> PowerReport {
        // Since when the source fails, and how the power was before.
        let (mut silent, mut seen) = (None, PowerState::Unknown);
        loop {
            match self.step(work, &mut seen).await {
                Ok(Some(Step::Reached(how))) => return PowerReport { how, ..work.report(&self.vm, seen) },
                Ok(Some(_)) => {
                    return PowerReport { failure: Some(work.failure()), ..work.report(&self.vm, seen) };
                }
                Ok(None) => silent = None,
                Err(error) => {
                    let reason = match error {
                        source::Error::PowerUnsupported { .. } => Some("POWER_UNSUPPORTED"),
                        _ => (silent.get_or_insert_with(Instant::now).elapsed() >= SILENCE)
                            .then_some("SOURCE_UNAVAILABLE"),
                    };
                    if let Some(reason) = reason {
                        // What was seen may be so no more.
                        let report = work.report(&self.vm, PowerState::Unknown);
                        return PowerReport { failure: Some(failure(reason, chain(&error))), ..report };
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks, and does what comes next; gives it where it is the last.
    async fn step(&self, work: &mut Work, seen: &mut PowerState) -> Result<Option<Step>, source::Error> {
        *seen = self.source.power().await?;
        let step = next(&work.order, *seen, work.progress());
        // Noted before it is done: whoever takes it up again must not think that nothing was.
        let now = Instant::now();
        match step {
            Step::Look => {}
            Step::Press => {
                info!(vm = %self.vm, order = %work.order.id, "asking the guest to power itself off");
                self.note(work, |work| work.pressed = Some(now));
                self.done(work, self.source.shut_down().await)?;
            }
            Step::Cut => {
                warn!(vm = %self.vm, order = %work.order.id, "cutting the power, as the order allows");
                self.note(work, |work| work.cut = Some((work.cut.map_or(now, |(first, _)| first), now)));
                self.done(work, self.source.power_off().await)?;
            }
            Step::SwitchOn => {
                info!(vm = %self.vm, order = %work.order.id, "switching the power on");
                self.note(work, |work| work.switched = Some(now));
                self.done(work, self.source.power_on().await)?;
            }
            Step::Reached(_) | Step::GaveUp => return Ok(Some(step)),
        }
        Ok(None)
    }

    fn done(&self, work: &mut Work, done: Result<(), source::Error>) -> Result<(), source::Error> {
        self.note(work, |work| work.trouble = done.as_ref().err().map(|error| chain(error)));
        done
    }

    fn note(&self, work: &mut Work, change: impl FnOnce(&mut Work)) {
        change(work);
        self.orders.keep(work);
    }
}
