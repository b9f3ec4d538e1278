//! `make bench`: the product side by side with what an operator would use instead, or with itself.
//!
//! ```text
//! copy         nbdkit (Unix socket) ─► vma-agent ══ mTLS ══► oma-api ─► file     against
//!              nbdkit (Unix socket) ─► nbdcopy ══ nbds, X.509 ══► nbdkit ─► file
//! incremental  the same changes on a small and on a huge disk
//! memory       peak RSS of both daemons over small and huge, one and two disks
//! ```
//!
//! Runs of what is compared are interleaved, medians are shown as ratios, and beside them stands what else used the
//! processors meanwhile. Nothing here passes or fails by time: a floor that is not met is said, not asserted.

mod copy;
mod cpu;
mod incremental;
mod memory;
mod place;
mod report;
mod servers;
mod world;

use std::path::PathBuf;

pub use report::Report;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    pub sizes: Sizes,
    /// Runs of each side.
    pub runs: usize,
    /// Names of cases; empty: all.
    pub cases: Vec<String>,
    /// A folder on a disk.
    pub disk: PathBuf,
    /// A folder on a tmpfs.
    pub memory: PathBuf,
    /// Lines for the agent's `[transfer]` table.
    pub transfer: String,
}

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of the disk that is copied, and of the small one of the other cases.
    pub small: u64,
    /// Of the sparse one.
    pub huge: u64,
    /// What is changed between two cycles.
    pub changed: u64,
}

impl Sizes {
    /// Those of the floors.
    pub const FULL: Self = Self { small: 2 << 30, huge: 1 << 40, changed: 20 << 20 };
    /// To see whether it runs.
    pub const QUICK: Self = Self { small: 128 << 20, huge: 16 << 30, changed: 2 << 20 };
}

/// Runs the cases and shows each table as soon as it is there.
///
/// # Errors
/// When something cannot be started or a copy is wrong; never because it is slow.
pub async fn run(options: &Options, mut show: impl FnMut(&str)) -> anyhow::Result<Report> {
    let mut report = Report::new(options);
    show(&report.heading());
    let wanted = |name: &str| options.cases.is_empty() || options.cases.iter().any(|case| case == name);
    for place in place::both(options) {
        if wanted("copy") || wanted(&format!("copy-{}", place.name)) {
            let copied = copy::run(options, &place).await?;
            show(&copied.table());
            report.copy.push(copied);
        }
    }
    if wanted("incremental") {
        let incremental = incremental::run(options).await?;
        show(&incremental.table());
        report.incremental = Some(incremental);
    }
    if wanted("memory") {
        let memory = memory::run(options).await?;
        show(&memory.table());
        report.memory = Some(memory);
    }
    Ok(report)
}
