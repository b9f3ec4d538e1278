//! The same copy by the product and by `nbdcopy`, in turns.
//!
//! ```text
//! nbdkit (Unix socket) ─► vma-agent ══ TLS or clear, a link if there is one ══► oma-api ─► file     against
//! nbdkit (Unix socket) ─► nbdcopy ══ nbds or nbd, the same link ══► nbdkit ─► file
//! ```
//!
//! Each run begins with fresh servers and an empty target, and ends with a comparison of hashes.

mod ours;
mod sources;
mod theirs;

pub(super) use sources::Sources;

use super::cpu::Used;
use super::place::Place;
use super::{Options, report};
use crate::harness::Transport;
use crate::link::Shape;
use serde_json::{Value, json};
use std::time::Duration;

/// What is copied, and over what.
pub(super) struct Setup<'a> {
    pub(super) options: &'a Options,
    /// Goes before "to a file on …".
    pub(super) title: String,
    pub(super) sources: Sources,
    pub(super) target: Place,
    pub(super) transport: Transport,
    pub(super) link: Option<Shape>,
    /// Of each side.
    pub(super) runs: usize,
}

/// All runs.
pub(super) struct Pair {
    pub(super) ours: Vec<Run>,
    pub(super) theirs: Vec<Run>,
}

/// One copy.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Until everything was durable.
    pub(super) copy: Duration,
    /// Ours: the commit. Theirs: hashing both sides.
    pub(super) then: Duration,
    pub(super) used: Used,
    /// Seconds of processor time. Ours: agent, OMA, sources. Theirs: sources, targets, nbdcopy.
    pub(super) parts: [f64; 3],
    /// Ours only.
    pub(super) daemons: Option<Daemons>,
}

/// What only ours say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Daemons {
    /// Peak RSS, bytes.
    pub(super) agent: u64,
    pub(super) oma: u64,
    /// Bytes handed to the transport.
    pub(super) wire: u64,
}

impl Setup<'_> {
    pub(super) async fn run(&self) -> anyhow::Result<Pair> {
        let mut pair = Pair { ours: vec![], theirs: vec![] };
        self.target.touch(2 * self.sources.allocated)?;
        // Whoever comes second finds warm memory and a busy disk: they take turns at it.
        for round in 0..self.runs {
            if round % 2 == 1 {
                pair.theirs.push(theirs::run(self).await?);
            }
            pair.ours.push(ours::run(self).await?);
            if round % 2 == 0 {
                pair.theirs.push(theirs::run(self).await?);
            }
        }
        Ok(pair)
    }

    pub(super) fn table(&self, pair: &Pair) -> String {
        let bytes = self.sources.total();
        let server = if self.transport == Transport::Tls { "nbds" } else { "nbd" };
        let mut rows = vec![
            ["", "seconds", "min..max", "MiB/s", "cpu s", "of it", "others' cpu s", "then s", "peak RSS MiB"]
                .map(String::from),
        ];
        for (name, runs) in [
            ("vma-agent → oma-api".to_owned(), &pair.ours),
            (format!("nbdcopy --flush {server}"), &pair.theirs),
        ] {
            let seconds = median(runs, |r| r.copy.as_secs_f64());
            let all = report::sorted(runs.iter().map(|r| r.copy.as_secs_f64()));
            let peak = |of: fn(Daemons) -> u64| runs.iter().filter_map(|r| r.daemons.map(of)).max();
            let peaks = peak(|d| d.agent).zip(peak(|d| d.oma));
            let parts = [0, 1, 2].map(|part| format!("{:.1}", median(runs, |r| r.parts[part])));
            rows.push([
                name,
                format!("{seconds:.2}"),
                format!("{:.2}..{:.2}", all.first().unwrap_or(&0.0), all.last().unwrap_or(&0.0)),
                format!("{:.0}", report::float(bytes) / seconds / report::float(1 << 20)),
                format!("{:.2}", median(runs, |r| r.used.ours())),
                parts.join("+"),
                format!("{:.2}", median(runs, |r| r.used.others)),
                format!("{:.2}", median(runs, |r| r.then.as_secs_f64())),
                peaks
                    .map_or(String::new(), |(agent, oma)| format!("agent {} oma {}", agent >> 20, oma >> 20)),
            ]);
        }
        format!(
            "{}, to a file on {}, {} runs each\n{}  'of it': agent, OMA, source; source, target, nbdcopy\n  \
             'then' is not in 'seconds': ours, the commit (a copy of the file where blocks cannot be shared);\n  \
             nbdcopy's, BLAKE3 of both sides, at the same time, one thread a file, from the page cache\n  \
             {:.2} x nbdcopy plus hashing both sides, to know as much\n",
            self.title,
            self.target.name,
            self.runs,
            report::table(&rows),
            pair.ratio_hashed(),
        )
    }

    pub(super) fn json(&self, pair: &Pair) -> Value {
        json!({
            "what": self.title,
            "target": self.target.name,
            "bytes": self.sources.total(),
            "disks": self.sources.count(),
            "ratio": pair.ratio(),
            "ratio_with_hashing": pair.ratio_hashed(),
            "ours": pair.ours.iter().map(Run::json).collect::<Vec<_>>(),
            "nbdcopy": pair.theirs.iter().map(Run::json).collect::<Vec<_>>(),
        })
    }
}

impl Pair {
    /// Theirs over ours: above 1, ours is faster.
    pub(super) fn ratio(&self) -> f64 {
        median(&self.theirs, |r| r.copy.as_secs_f64()) / self.seconds()
    }

    /// The same against nbdcopy with hashing both sides.
    fn ratio_hashed(&self) -> f64 {
        median(&self.theirs, |r| (r.copy + r.then).as_secs_f64()) / self.seconds()
    }

    /// Ours.
    pub(super) fn seconds(&self) -> f64 {
        median(&self.ours, |r| r.copy.as_secs_f64())
    }

    /// Bytes we sent, the most of all runs.
    pub(super) fn wire(&self) -> u64 {
        self.ours.iter().filter_map(|r| r.daemons.map(|d| d.wire)).max().unwrap_or(0)
    }
}

impl Run {
    fn json(&self) -> Value {
        json!({
            "seconds": self.copy.as_secs_f64(),
            "then_seconds": self.then.as_secs_f64(),
            "cpu_seconds": self.used.ours(),
            "cpu_seconds_of": self.parts,
            "others_cpu_seconds": self.used.others,
            "watched_seconds": self.used.wall.as_secs_f64(),
            "wire_bytes": self.daemons.map(|d| d.wire),
            "peak_rss": self.daemons.map(|d| json!({ "agent": d.agent, "oma": d.oma })),
        })
    }
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    report::median(runs.iter().map(of))
}
