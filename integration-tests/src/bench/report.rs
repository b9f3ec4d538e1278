//! Everything that was measured: the overview for people, JSON for machines.

use super::outcome::Outcome;
use serde_json::{Value, json};

/// See the module.
#[derive(Clone, Debug)]
pub struct Report {
    sizes: super::Sizes,
    runs: usize,
    pub(super) outcomes: Vec<Outcome>,
    /// Names of cases that could not be measured, and why.
    pub failed: Vec<(&'static str, String)>,
}

impl Report {
    pub(super) fn new(options: &super::Options) -> Self {
        Self { sizes: options.sizes, runs: options.runs, outcomes: vec![], failed: vec![] }
    }

    pub(super) fn heading(&self) -> String {
        let (cores, kernel, load) = machine();
        format!("{cores} cores, Linux {kernel}, load {load} at the start\n")
    }

    /// One line for each figure.
    pub(super) fn overview(&self) -> String {
        let mut rows = vec![["case", "measured", "", "floor", "aim"].map(String::from)];
        rows.extend(self.outcomes.iter().flat_map(Outcome::overview));
        let failed = self.failed.iter().map(|(case, why)| format!("  {case}: NOT MEASURED: {why}\n"));
        format!("overview\n{}{}", table(&rows), failed.collect::<String>())
    }

    /// All of it, in seconds and bytes.
    pub fn json(&self) -> Value {
        let (cores, kernel, load) = machine();
        json!({
            "machine": { "cores": cores, "kernel": kernel, "load_at_the_end": load },
            "sizes": {
                "small": self.sizes.small,
                "huge": self.sizes.huge,
                "changed": self.sizes.changed,
                "sparse": self.sizes.sparse,
                "linked": self.sizes.linked,
                "each": self.sizes.each,
            },
            "runs": self.runs,
            "cases": self.outcomes.iter().map(Outcome::json).collect::<Vec<_>>(),
            "failed": self.failed.iter().map(|(case, why)| json!({ "case": case, "why": why })).collect::<Vec<_>>(),
        })
    }
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

/// What so many of a hundred did not exceed, of sorted ones.
pub(super) fn percentile(sorted: &[f64], of_hundred: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * of_hundred / 100).copied().unwrap_or(f64::NAN)
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
