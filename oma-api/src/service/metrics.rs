//! The page that Prometheus reads: what is counted while the process runs, and what database and hub say now.
//!
//! A scrape costs five statements, whatever there is, and a second one within a second costs nothing. Only unfinished
//! migrations have series of their own, and at most [`NAMED`] of them; all are in the totals.

use super::App;
use crate::hub::Hub;
use crate::outbound::{self as circuit, Standing};
use crate::store::{Active, Census, JobKind, JobStatus};
use jiff::Timestamp;
use shared::ids::MigrationId;
use shared::metrics::{Page, amount, number};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::warn;

/// Migrations with series of their own, those with the lowest ids.
pub const NAMED: u32 = 10_000;

/// For so long the same page is given.
const FRESH: Duration = Duration::from_secs(1);

/// For the storage's answer: a scrape has ten seconds by default.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last page, and when it was made. Who comes meanwhile waits for it instead of making another.
pub type Last = Mutex<Option<(Instant, String)>>;

impl App {
    /// The text of `/metrics`. What cannot be read is left out, and said by `migratekit_scrape_errors`.
    pub async fn metrics(&self) -> String {
        let mut last = self.hub.metrics.last.lock().await;
        if let Some((at, text)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return text.clone();
        }
        let page = Page::default();
        let mut errors = 0;
        match self.store.census(NAMED).await {
            Ok(census) => counted(&page, &census, &self.hub, Timestamp::now()),
            Err(error) => {
                errors += 1;
                warn!(error = %shared::error::chain(&error), "metrics of the database are left out");
            }
        }
        match timeout(PATIENCE, self.storage.space()).await {
            Ok(Ok(space)) => {
                page.gauge(
                    "migratekit_target_free_bytes",
                    "Bytes that the target's storage can still take.",
                    number(space.free),
                );
            }
            failed => {
                errors += 1;
                warn!(?failed, "metrics of the storage are left out");
            }
        }
        standing(&page, self.servers());
        let now = [
            ("migratekit_agents_connected", "Agents that are connected.", self.hub.agents_connected()),
            ("migratekit_transfer_sessions", "Disks that can be written now.", self.transfers.sessions()),
            ("migratekit_watchers", "Watches of migrations and cycles that are open.", self.hub.watching()),
            (
                "migratekit_progress_waiting",
                "Cycles whose counters wait to be stored.",
                self.hub.pace.waiting().len(),
            ),
            ("migratekit_scrape_errors", "Parts of this page that could not be read.", errors),
        ];
        for (name, help, value) in now {
            page.gauge(name, help, amount(value));
        }
        let text = self.hub.metrics.common.text(&page);
        *last = Some((Instant::now(), text.clone()));
        text
    }
}

/// What the database says, with what the hub knows of it.
fn counted(page: &Page, census: &Census, hub: &Hub, now: Timestamp) {
    let help = "Migrations by phase and state, ended ones included.";
    let positions = page.gauges("migratekit_migrations", help, &["phase", "state"]);
    for (phase, state, count) in &census.positions {
        positions.with_label_values(&[phase.as_str(), state.as_str()]).set(number(*count));
    }
    page.gauge("migratekit_agents_known", "Agents that ever connected.", number(census.agents));
    cycles(page, &census.active);
    let waits = |one: &&Active| one.status == JobStatus::Committing && hub.waiting(&one.id).is_some();
    page.gauge(
        "migratekit_commits_waiting",
        "Cycles that have all their data and cannot be committed now: each says why.",
        amount(census.active.iter().filter(waits).count()),
    );
    let speeds = speeds(&census.active, hub);
    let total: u64 = speeds.values().fold(0, |sum, speed| sum.saturating_add(*speed));
    let help = "Bytes of data a second of all running cycles, over the last one or two seconds.";
    page.gauge("migratekit_throughput_bytes_per_second", help, number(total));
    let of_each = |name: &str, help: &str| page.gauges(name, help, &["vm", "migration_id"]);
    let speed = of_each(
        "migratekit_migration_throughput_bytes_per_second",
        "Bytes of data a second of this migration's running cycle.",
    );
    let rpo = of_each(
        "migratekit_migration_rpo_seconds",
        "Age of the newest restore point, by its source snapshot's time; none before the first.",
    );
    let target = of_each(
        "migratekit_migration_rpo_target_seconds",
        "What the age of the newest restore point may come to, by the migration's schedule.",
    );
    let breached = of_each(
        "migratekit_migration_rpo_breached",
        "1: the newest restore point is older than its schedule says, or there is none; of those that have a target.",
    );
    let points = of_each("migratekit_migration_restore_points", "Restore points that are kept.");
    for migration in &census.unfinished {
        let labels = [migration.vm_name.as_str(), migration.id.as_str()];
        points.with_label_values(&labels).set(number(migration.restore_points));
        if let Some(newest) = migration.newest {
            rpo.with_label_values(&labels).set(now.duration_since(newest).as_secs_f64().max(0.0));
        }
        if let Some(seconds) = migration.rpo_target {
            target.with_label_values(&labels).set(number(seconds));
            breached.with_label_values(&labels).set(f64::from(u8::from(migration.rpo_breached)));
        }
        if let Some(bytes) = speeds.get(&migration.id) {
            speed.with_label_values(&labels).set(number(*bytes));
        }
    }
}

/// How it stands with the servers that the target is reached by; nothing where there are none.
fn standing(page: &Page, of: impl IntoIterator<Item = Standing>) {
    let mut of = of.into_iter().peekable();
    if of.peek().is_none() {
        return;
    }
    let states = page.gauges(
        "migratekit_target_circuit",
        "1 at the state of the circuit to this server of the target: closed, half-open, open.",
        &["peer", "state"],
    );
    let silent = page.gauges(
        "migratekit_target_silent_seconds",
        "How long this server of the target has not answered; 0 while it does.",
        &["peer"],
    );
    for of in of {
        for state in circuit::State::ALL {
            let is_it = f64::from(u8::from(of.state == state));
            states.with_label_values(&[of.peer, state.as_str()]).set(is_it);
        }
        silent.with_label_values(&[of.peer]).set(of.silent.as_secs_f64());
    }
}

fn cycles(page: &Page, active: &[Active]) {
    let gauges = page.gauges("migratekit_cycles", "Cycles that have not ended.", &["kind", "status"]);
    // All there can be, so that none is 0 and not missing.
    for kind in [JobKind::Full, JobKind::Incremental, JobKind::VerifySource] {
        for status in [JobStatus::Running, JobStatus::Paused, JobStatus::Committing] {
            let count = active.iter().filter(|one| one.kind == kind && one.status == status).count();
            gauges.with_label_values(&[kind.as_str(), status.as_str()]).set(amount(count));
        }
    }
}

/// Of the running cycles that something was heard of.
fn speeds(active: &[Active], hub: &Hub) -> HashMap<MigrationId, u64> {
    let running = active.iter().filter(|cycle| cycle.status == JobStatus::Running);
    running.filter_map(|cycle| Some((cycle.migration.clone(), hub.live(&cycle.id)?.speed))).collect()
}

#[cfg(test)]
mod tests;
