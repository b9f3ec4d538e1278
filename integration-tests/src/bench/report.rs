//! Tables for people, JSON for machines.

use super::Options;
use super::copy::{Copied, Run};
use super::incremental::{Incremental, Side};
use super::memory::Memory;
use serde_json::{Value, json};

/// Everything that was measured.
#[derive(Clone, Debug)]
pub struct Report {
    sizes: super::Sizes,
    runs: usize,
    pub(super) copy: Vec<Copied>,
    pub(super) incremental: Option<Incremental>,
    pub(super) memory: Option<Memory>,
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        Self { sizes: options.sizes, runs: options.runs, copy: vec![], incremental: None, memory: None }
    }

    pub(super) fn heading(&self) -> String {
        let (cores, kernel, load) = machine();
        format!("{cores} cores, Linux {kernel}, load {load} at the start\n")
    }

    /// All of it, in seconds and bytes.
    pub fn json(&self) -> Value {
        let (cores, kernel, load) = machine();
        json!({
            "machine": { "cores": cores, "kernel": kernel, "load_at_the_end": load },
            "sizes": { "small": self.sizes.small, "huge": self.sizes.huge, "changed": self.sizes.changed },
            "runs": self.runs,
            "copy": self.copy.iter().map(copy).collect::<Vec<_>>(),
            "incremental": self.incremental.as_ref().map(incremental),
            "memory": self.memory.as_ref().map(memory),
        })
    }
}

fn copy(copied: &Copied) -> Value {
    let run = |run: &Run| {
        json!({
            "seconds": run.copy.as_secs_f64(),
            "then_seconds": run.then.as_secs_f64(),
            "cpu_seconds": run.used.ours(),
            "cpu_seconds_of": run.used.parts,
            "others_cpu_seconds": run.used.others,
            "watched_seconds": run.used.wall.as_secs_f64(),
            "peak_rss": run.peak.map(|(agent, oma)| json!({ "agent": agent, "oma": oma })),
        })
    };
    json!({
        "target": copied.place,
        "bytes": copied.bytes,
        "ratio": copied.ratio(),
        "ratio_with_hashing": copied.ratio_hashed(),
        "ours": copied.ours.iter().map(run).collect::<Vec<_>>(),
        "nbdcopy": copied.theirs.iter().map(run).collect::<Vec<_>>(),
    })
}

fn incremental(measured: &Incremental) -> Value {
    let side = |side: &Side| {
        let cycle = |run: &super::incremental::Run| json!({ "durable_seconds": run.durable.as_secs_f64(), "commit_seconds": run.commit.as_secs_f64(), "wire_bytes": run.wire });
        json!({ "bytes": side.size, "cycles": side.cycles.iter().map(cycle).collect::<Vec<_>>() })
    };
    json!({
        "changed": measured.changed,
        "replicas": measured.storage,
        "ratio": measured.ratio(),
        "wire_ratio": measured.wire_ratio(),
        "small": side(&measured.small),
        "huge": side(&measured.huge),
    })
}

fn memory(measured: &Memory) -> Value {
    let peak =
        |p: &super::memory::Peak| json!({ "disk": p.disk, "disks": p.disks, "agent": p.agent, "oma": p.oma });
    json!({
        "peaks": measured.rows.iter().map(peak).collect::<Vec<_>>(),
        "met": measured.met(),
        "further_disk": measured.further_disk(),
        "with_size": measured.with_size(),
    })
}

fn machine() -> (usize, String, String) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    (cores, kernel, read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned())
}

/// Rows of cells, the first being the heading; right-aligned but for the first column.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text += &if column == 0 { format!("  {cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

pub(super) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT MET" }
}

pub(super) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The middle one; of an even number, the upper of the two.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let all = sorted(values);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "for ratios and rates, where six digits are plenty")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_tables() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < f64::EPSILON);
        assert!(median([].into_iter()).is_nan());
        let rows = [["a", "bb"], ["long", "1"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows), "  a     bb\n  long   1\n");
    }
}
