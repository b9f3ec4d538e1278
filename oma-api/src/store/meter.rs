//! How long writing transactions take, and how many wait for their turn.
//!
//! One writes at a time, so the queue before them is the first thing that grows when the database is slow.

use super::Store;
use prometheus::{Histogram, HistogramOpts, HistogramTimer, IntGauge};
use shared::metrics::Metrics;

const CONSTANT: &str = "names and help are constants of this program and fit together";

/// From a commit on a fast disk to what an operator would call a stop.
const SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Clone)]
pub(super) struct Meter {
    waiting: IntGauge,
    waited: Histogram,
    took: Histogram,
}

impl Default for Meter {
    fn default() -> Self {
        let seconds = |name: &str, help: &str| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec())).expect(CONSTANT)
        };
        Self {
            waiting: IntGauge::new(
                "migratekit_store_transactions_waiting",
                "Writing transactions that wait for their turn; one runs at a time.",
            )
            .expect(CONSTANT),
            waited: seconds(
                "migratekit_store_transaction_wait_seconds",
                "Time that a writing transaction waited for its turn.",
            ),
            took: seconds(
                "migratekit_store_transaction_duration_seconds",
                "Time from a writing transaction's turn to its end, its COMMIT included.",
            ),
        }
    }
}

impl Meter {
    /// Until it is dropped, one more waits.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.inc();
        Waiting { gauge: &self.waiting, _timer: self.waited.start_timer() }
    }

    /// Until it is dropped, a transaction runs.
    pub(super) fn run(&self) -> HistogramTimer {
        self.took.start_timer()
    }
}

/// See [`Meter::wait`]. A wait that was given up counts too.
pub(super) struct Waiting<'a> {
    gauge: &'a IntGauge,
    _timer: HistogramTimer,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Store {
    /// Shows what is measured of its transactions.
    pub fn show(&self, metrics: &Metrics) {
        let Meter { waiting, waited, took } = self.meter.clone();
        metrics.register(waiting);
        metrics.register(waited);
        metrics.register(took);
    }
}
