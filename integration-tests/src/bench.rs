//! `make bench`: the product side by side with what an operator would use instead, or with itself.
//!
//! ```text
//! copy-*, sparse, gigabit, latency, disks    copies by the daemons and by nbdcopy, in turns (`pair`, `copies`)
//! incremental                                the same changes on a small and on a huge disk
//! memory                                     peak RSS of both daemons over small and huge, one and two disks
//! verify                                     the replica read back and hashed, against b3sum
//! fifty                                      what fifty running cycles cost the OMA
//! estimate                                   the predicted downtime beside the real one
//! watchers                                   a thousand who watch one migration
//! failover, recovery                         test failovers without their machines; a hundred of them interrupted
//! cloud                                      fifty of them at a time on both simulated targets: calls, polls, memory
//! console                                    a machine of a test failover, against the same QEMU by hand
//! crowd, start                               a store of a year's use and a thousand agents: answers, memory, processors
//! ```
//!
//! Runs of what is compared are interleaved, medians are shown as ratios, and beside them stands what else used the
//! processors meanwhile. Nothing here passes or fails by time: a floor that is not met is said, not asserted; a copy
//! that is not the source ends it.

mod copies;
mod cpu;
mod crowd;
mod estimate;
mod failover;
mod fifty;
mod image;
mod incremental;
mod memory;
mod outcome;
mod pair;
mod place;
mod report;
mod servers;
mod verify;
mod watchers;
mod world;

use outcome::Outcome;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

pub use report::Report;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    pub sizes: Sizes,
    /// Runs of each side.
    pub runs: usize,
    /// Names of cases, or their beginnings up to a hyphen; empty: all.
    pub cases: Vec<String>,
    /// A folder on a disk.
    pub disk: PathBuf,
    /// A folder on a tmpfs.
    pub memory: PathBuf,
    /// Lines for the agent's `[transfer]` table.
    pub transfer: String,
}

impl Options {
    /// Runs of each side where one takes long, or where they hardly differ.
    fn few(&self) -> usize {
        self.runs.min(3)
    }
}

/// Bytes, and how long a load is watched.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of the disk that is copied, and of the small one of the other cases.
    pub small: u64,
    /// Of the huge one.
    pub huge: u64,
    /// What is changed between two cycles.
    pub changed: u64,
    /// Of the disk of which a tenth is allocated.
    pub sparse: u64,
    /// Of what goes over a slow link.
    pub linked: u64,
    /// Of each of several disks.
    pub each: u64,
    /// How long the OMA is watched.
    pub watched: Duration,
    /// What is in its store, of the cases that are about that.
    pub(crate) year: crowd::Year,
    /// Questions of each kind.
    pub asked: usize,
    /// Changes that are watched.
    pub changes: usize,
    /// Test failovers, one after the other.
    pub tests: usize,
}

impl Sizes {
    /// Those of the floors.
    pub const FULL: Self = Self {
        small: 2 << 30,
        huge: 1 << 40,
        changed: 20 << 20,
        sparse: 8 << 30,
        linked: 1 << 30,
        each: 512 << 20,
        watched: Duration::from_secs(30),
        year: crowd::Year::FULL,
        asked: 500,
        changes: 60,
        tests: 100,
    };
    /// To see whether it runs.
    pub const QUICK: Self = Self {
        small: 128 << 20,
        huge: 16 << 30,
        changed: 2 << 20,
        sparse: 256 << 20,
        linked: 64 << 20,
        each: 16 << 20,
        watched: Duration::from_secs(3),
        year: crowd::Year::QUICK,
        asked: 50,
        changes: 10,
        tests: 10,
    };
}

type Measuring<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>> + 'a>>;

/// A case by its name.
struct Case {
    name: &'static str,
    run: for<'a> fn(&'a Options) -> Measuring<'a>,
}

const CASES: &[Case] = &[
    Case { name: "copy-tmpfs", run: |options| Box::pin(copies::tmpfs(options)) },
    Case { name: "copy-disk", run: |options| Box::pin(copies::disk(options)) },
    Case { name: "copy-plain", run: |options| Box::pin(copies::plain(options)) },
    Case { name: "sparse", run: |options| Box::pin(copies::sparse(options)) },
    Case { name: "gigabit", run: |options| Box::pin(copies::gigabit(options)) },
    Case { name: "latency", run: |options| Box::pin(copies::latency(options)) },
    Case { name: "disks", run: |options| Box::pin(copies::disks(options)) },
    Case { name: "incremental", run: |options| Box::pin(incremental::run(options)) },
    Case { name: "memory", run: |options| Box::pin(memory::run(options)) },
    Case { name: "verify", run: |options| Box::pin(verify::run(options)) },
    Case { name: "fifty", run: |options| Box::pin(fifty::run(options)) },
    Case { name: "crowd", run: |options| Box::pin(crowd::run(options)) },
    Case { name: "watchers", run: |options| Box::pin(watchers::run(options)) },
    Case { name: "estimate", run: |options| Box::pin(estimate::run(options)) },
    Case { name: "failover", run: |options| Box::pin(failover::run(options)) },
    Case { name: "recovery", run: |options| Box::pin(failover::recovery(options)) },
    Case { name: "cloud", run: |options| Box::pin(failover::cloud(options)) },
    Case { name: "console", run: |options| Box::pin(failover::console(options)) },
    Case { name: "start", run: |options| Box::pin(crowd::start(options)) },
];

/// All names, in the order in which they run.
pub fn names() -> Vec<&'static str> {
    CASES.iter().map(|case| case.name).collect()
}

impl Case {
    /// `copy` means all that begin with `copy-`.
    fn is(&self, name: &str) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// Runs the cases and shows each table as soon as it is there, and an overview. A case that cannot be measured (something
/// cannot be started, a copy is wrong) is among the report's `failed`, and does not keep the others from being measured.
///
/// # Errors
/// When a case is not known.
pub async fn run(options: &Options, mut show: impl FnMut(&str)) -> anyhow::Result<Report> {
    for wanted in &options.cases {
        let known = CASES.iter().any(|case| case.is(wanted));
        anyhow::ensure!(known, "there is no case {wanted:?}, only {}", names().join(", "));
    }
    let mut report = Report::new(options);
    show(&report.heading());
    let wanted = |case: &&Case| options.cases.is_empty() || options.cases.iter().any(|name| case.is(name));
    for case in CASES.iter().filter(wanted) {
        match (case.run)(options).await {
            Ok(outcome) => {
                show(&outcome.said());
                report.outcomes.push(outcome);
            }
            Err(error) => {
                let why = format!("{error:#}");
                show(&format!("{}: NOT MEASURED: {why}\n", case.name));
                report.failed.push((case.name, why));
            }
        }
    }
    show(&report.overview());
    Ok(report)
}
