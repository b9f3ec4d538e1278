//! What the agent counts while it runs, and the page that Prometheus reads.
//!
//! Connections and running cycles are asked for when the page is made. Nothing is by VM: the control plane's page names
//! migrations, the agent's says how this machine does.

use crate::cycle::Manager;
use crate::transfer::Budget;
use prometheus::{IntCounterVec, Opts};
use shared::cycle::DiskProgress;
use shared::metrics::{Page, amount};

const CONSTANT: &str = "names, labels and help are constants of this program and fit together";

/// Clones count together.
#[derive(Clone, Debug)]
pub struct Counted {
    bytes: IntCounterVec,
    retries: IntCounterVec,
    findings: IntCounterVec,
}

/// What kept a cycle from getting on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The source could not be asked, or not be read.
    Source,
    /// The way to the control plane, or the control plane.
    Transfer,
}

impl Default for Counted {
    fn default() -> Self {
        let counters = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name, help), &[label]).expect(CONSTANT)
        };
        let made = Self {
            bytes: counters(
                "migratekit_agent_bytes_total",
                "Bytes of cycles since the start of the process: read at the source, data of the disks, sent on the wire.",
                "kind",
            ),
            retries: counters(
                "migratekit_agent_cycle_retries_total",
                "Cycles that could not go on and are tried again, by what was in the way.",
                "cause",
            ),
            findings: counters(
                "migratekit_agent_findings_total",
                "What sources said about their disks that a delta would have hidden.",
                "kind",
            ),
        };
        // There from the start, so that the first one is an increase.
        made.moved(&DiskProgress::default(), &DiskProgress::default());
        for cause in ["source", "transfer"] {
            made.retries.with_label_values(&[cause]);
        }
        made
    }
}

impl Counted {
    /// A disk's counters changed. What was counted backwards adds nothing.
    pub(crate) fn moved(&self, before: &DiskProgress, now: &DiskProgress) {
        let kinds = [
            ("read", before.read, now.read),
            ("data", before.data, now.data),
            ("wire", before.wire, now.wire),
        ];
        for (kind, before, now) in kinds {
            self.bytes.with_label_values(&[kind]).inc_by(now.saturating_sub(before));
        }
    }

    /// A cycle is tried again.
    pub(crate) fn retried(&self, cause: Cause) {
        let cause = match cause {
            Cause::Source => "source",
            Cause::Transfer => "transfer",
        };
        self.retries.with_label_values(&[cause]).inc();
    }

    /// A finding was reported.
    pub(crate) fn found(&self, kind: &str) {
        self.findings.with_label_values(&[kind]).inc();
    }
}

/// What the page is made of.
#[derive(Clone)]
pub(crate) struct Shown {
    common: shared::metrics::Metrics,
    manager: Manager,
    budget: Budget,
}

impl Shown {
    pub(crate) fn new(counted: &Counted, manager: Manager, budget: Budget) -> Self {
        let common = shared::metrics::Metrics::new("vma-agent");
        common.register(counted.bytes.clone());
        common.register(counted.retries.clone());
        common.register(counted.findings.clone());
        Self { common, manager, budget }
    }

    /// For the servers' calls.
    pub(crate) fn common(&self) -> &shared::metrics::Metrics {
        &self.common
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> String {
        let page = Page::default();
        let now = [
            (
                "migratekit_agent_connected",
                "1 while the agent is connected to its control plane.",
                usize::from(self.manager.is_connected()),
            ),
            ("migratekit_agent_vms", "VMs of the inventory.", self.manager.vms()),
            ("migratekit_agent_cycles_running", "Cycles at work.", self.manager.running().len()),
            ("migratekit_agent_nbd_connections", "Connections to sources in use.", self.budget.in_use()),
            (
                "migratekit_agent_nbd_connections_per_host_max",
                "Connections that one source host may be given.",
                self.budget.most(),
            ),
        ];
        for (name, help, value) in now {
            page.gauge(name, help, amount(value));
        }
        self.common.text(&page)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Config;
    use crate::transfer::Settings;
    use shared::progress::Register;
    use std::sync::Arc;

    #[tokio::test]
    async fn the_page_says_what_was_counted_and_what_is() {
        let settings = Settings { budget: Budget::new(7), ..settings() };
        let (manager, _outgoing) = Manager::start(vec![], &settings, &Arc::<Register>::default());
        let shown = Shown::new(&settings.counted, manager, settings.budget.clone());
        let disk = |read, data, wire| DiskProgress { read, data, wire, ..DiskProgress::default() };
        settings.counted.moved(&disk(0, 0, 0), &disk(100, 50, 30));
        // The next attempt begins at zero.
        settings.counted.moved(&disk(100, 50, 30), &disk(0, 0, 0));
        settings.counted.moved(&disk(0, 0, 0), &disk(10, 10, 10));
        settings.counted.retried(Cause::Source);
        let share = settings.budget.take(Some("esx1"), 3, 1).await;
        let text = shown.text();
        for line in [
            "migratekit_agent_bytes_total{kind=\"read\"} 110",
            "migratekit_agent_bytes_total{kind=\"data\"} 60",
            "migratekit_agent_bytes_total{kind=\"wire\"} 40",
            "migratekit_agent_cycle_retries_total{cause=\"source\"} 1",
            "migratekit_agent_cycle_retries_total{cause=\"transfer\"} 0",
            "migratekit_agent_connected 0",
            "migratekit_agent_nbd_connections 3",
            "migratekit_agent_nbd_connections_per_host_max 7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        drop(share);
        assert!(shown.text().contains("\nmigratekit_agent_nbd_connections 0\n"));
    }

    pub(crate) fn settings() -> Settings {
        let text = include_str!("../../deploy/examples/vma-agent.toml");
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("written");
        Config::load(file.path(), None).expect("the example is usable").settings()
    }
}
