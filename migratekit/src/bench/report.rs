//! The table, the JSON, and the verdict.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::BinaryBytes;
use serde::Serialize;

use super::measure::Measured;
use crate::copy::Output;

/// Together at least so much of the slowest stage alone: then that stage is what holds all back.
const NEARLY: f64 = 0.8;

/// Together more than so much of the slowest stage alone: then something else slowed that one down.
const ODD: f64 = 1.15;

/// Processors this busy have nothing left to give, in percent.
const BUSY: f64 = 85.0;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Without secrets.
    pub source: String,
    pub target: String,
    pub processors: usize,
    pub stages: Vec<Measured>,
    /// `read`, `wire`, `write`, `flush`, `processors` or `shared`.
    pub bottleneck: &'static str,
    /// In a sentence.
    pub verdict: String,
}

impl Report {
    pub(super) fn new(source: String, target: String, stages: Vec<Measured>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (bottleneck, verdict) = judge(&stages, processors);
        Self { source, target, processors, stages, bottleneck, verdict }
    }

    pub(super) fn print(&self, output: Output, out: &mut dyn Write) -> io::Result<()> {
        match output {
            Output::Json => {
                serde_json::to_writer(&mut *out, self)?;
                writeln!(out)?;
            }
            Output::Text => {
                writeln!(out, "{} -> {}, {} processors\n", self.source, self.target, self.processors)?;
                writeln!(out, "{}\n\n{}", self.table(), self.verdict)?;
            }
        }
        out.flush()
    }

    fn table(&self) -> Table {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["STAGE", "BYTES", "SECONDS", "MiB/s", "CPU", ""]);
        for row in &self.stages {
            let note = match (row.stage, row.read_again) {
                ("hash", _) => "BLAKE3, one processor, in memory",
                ("read", false) => "source alone, hashes made",
                ("read", true) => "source alone, hashes made; partly read again, maybe from a cache",
                ("wire", _) => "mutual TLS over loopback, both ends here",
                ("write", _) => "target alone: time in writes",
                ("flush", _) => "target alone: time in flushes",
                ("target", _) => "target alone: both, as a transfer overlaps them",
                (_, false) => "read, sent, written, flushed",
                (_, true) => "read, sent, written, flushed; partly read again, maybe from a cache",
            };
            let bytes = row.bytes;
            table.add_row([
                Cell::new(row.stage),
                number(BinaryBytes(bytes).to_string()),
                number(format!("{:.2}", row.seconds)),
                number(format!("{:.0}", row.bytes_per_second / f64::from(1 << 20))),
                number(row.processors_percent.map_or(String::new(), |busy| format!("{busy:.0} %"))),
                Cell::new(note),
            ]);
        }
        table
    }
}

/// Which of them holds the transfer back.
fn judge(stages: &[Measured], processors: usize) -> (&'static str, String) {
    let rate = |name: &str| {
        stages.iter().find(|row| row.stage == name).map_or(f64::INFINITY, |row| row.bytes_per_second)
    };
    let slowest = ["read", "wire", "target"].into_iter().min_by(|a, b| rate(a).total_cmp(&rate(b)));
    let slowest = slowest.unwrap_or("read");
    let together = rate("together");
    let share = together / rate(slowest);
    let busy = stages.iter().find(|row| row.stage == "together").and_then(|row| row.processors_percent);
    let (name, of) = match slowest {
        "read" => ("read", "reading the source"),
        "wire" => ("wire", "the wire (TLS, HTTP/2 and TCP, both ends on this machine)"),
        _ if rate("flush") < rate("write") => ("flush", "flushing the target"),
        _ => ("write", "writing the target"),
    };
    let percent = share * 100.0;
    if share >= NEARLY {
        let odd = match share > ODD {
            true => {
                " That is more, so something else slowed it down meanwhile: measure again, or for longer."
            }
            false => "",
        };
        return (name, format!("Bottleneck: {of}. Together runs at {percent:.0} % of it alone.{odd}"));
    }
    match busy.filter(|&busy| busy >= BUSY) {
        Some(busy) => (
            "processors",
            format!(
                "Bottleneck: the processors of this machine, {busy:.0} % busy ({processors} of them, for all stages at once). Together runs at {percent:.0} % of the slowest stage alone, which is {of}."
            ),
        ),
        None => (
            "shared",
            format!(
                "Bottleneck: something that the stages share, such as a disk that is read and written at once, or waits for each other. Together runs at {percent:.0} % of the slowest stage alone, which is {of}; the processors are not busy."
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stages(read: u64, wire: u64, write: u64, flush: u64, together: u64, busy: f64) -> Vec<Measured> {
        let row = |stage, rate| Measured::new(stage, rate, Duration::from_secs(1), Some(busy));
        let target = write.min(flush);
        [
            ("read", read),
            ("wire", wire),
            ("write", write),
            ("flush", flush),
            ("target", target),
            ("together", together),
        ]
        .map(|(stage, rate)| row(stage, rate))
        .to_vec()
    }

    #[test]
    fn the_slowest_stage_is_the_bottleneck_unless_all_share_something() {
        let of = |stages: &[Measured]| judge(stages, 2).0;
        assert_eq!(of(&stages(10, 90, 90, 90, 9, 20.0)), "read");
        assert_eq!(of(&stages(90, 10, 90, 90, 9, 100.0)), "wire");
        assert_eq!(of(&stages(90, 90, 10, 90, 8, 20.0)), "write");
        assert_eq!(of(&stages(90, 90, 90, 10, 8, 20.0)), "flush");
        assert_eq!(of(&stages(90, 80, 90, 90, 40, 99.0)), "processors");
        let odd = |together| judge(&stages(10, 90, 90, 90, together, 20.0), 2).1.contains("measure again");
        assert!(odd(12) && !odd(11));
        let (shared, words) = judge(&stages(90, 80, 90, 90, 40, 30.0), 2);
        assert!(shared == "shared" && words.contains("50 %") && words.contains("the wire"), "{words}");
    }
}
