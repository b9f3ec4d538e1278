//! Who used the processors: ours, and everybody else on the machine.

use anyhow::Context as _;
use std::time::{Duration, Instant};

/// Between the start of a run and its end.
#[derive(Clone, Debug)]
pub(super) struct Used {
    pub(super) wall: Duration,
    /// Seconds of processor time of the processes that were named, in their order, then of children that ended.
    pub(super) parts: Vec<f64>,
    /// Seconds of processor time of all else.
    pub(super) others: f64,
}

impl Used {
    /// Seconds of processor time of all that took part.
    pub(super) fn ours(&self) -> f64 {
        self.parts.iter().sum()
    }
}

/// A run being watched.
pub(super) struct Watch {
    pids: Vec<u32>,
    begun: Instant,
    parts: Vec<u64>,
    all: u64,
}

impl Watch {
    /// Watches these processes, this one, and its children that end meanwhile.
    pub(super) fn start(pids: Vec<u32>) -> anyhow::Result<Self> {
        let parts = parts(&pids)?;
        Ok(Self { pids, begun: Instant::now(), parts, all: all()? })
    }

    pub(super) fn end(&self) -> anyhow::Result<Used> {
        let wall = self.begun.elapsed();
        let now = parts(&self.pids)?;
        let ticks: Vec<u64> =
            now.iter().zip(&self.parts).map(|(now, then)| now.saturating_sub(*then)).collect();
        let others = all()?.saturating_sub(self.all).saturating_sub(ticks.iter().sum());
        Ok(Used { wall, parts: ticks.into_iter().map(seconds).collect(), others: seconds(others) })
    }
}

/// Ticks to seconds.
fn seconds(ticks: u64) -> f64 {
    let a_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_micros(ticks.saturating_mul(1_000_000) / a_second).as_secs_f64()
}

/// Ticks of these processes, and of this one with the children it has waited for.
fn parts(pids: &[u32]) -> anyhow::Result<Vec<u64>> {
    let mut ticks = pids.iter().map(|&pid| stat(pid, 2)).collect::<anyhow::Result<Vec<_>>>()?;
    ticks.push(stat(std::process::id(), 4)?);
    Ok(ticks)
}

/// The first `fields` of utime, stime, cutime, cstime.
fn stat(pid: u32, fields: usize) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it is in parentheses and may hold anything.
    let after = text.rsplit_once(") ").context("no name in a stat file")?.1;
    Ok(after.split(' ').skip(11).take(fields).filter_map(|field| field.parse::<u64>().ok()).sum())
}

/// Ticks of the machine that were not idle.
fn all() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    // user nice system idle iowait irq softirq
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    Ok(fields.iter().take(7).enumerate().filter(|(i, _)| *i != 3 && *i != 4).map(|(_, ticks)| ticks).sum())
}
