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

/// Together at least so much of the slowest stage alone, and that one by far the slowest: it still is what holds all
/// back, as what else runs at once slows it down.
const MOSTLY: f64 = 1.0 / 1.7;

/// Each other stage at least so many times as fast: then one is the slowest by far.
const BY_FAR: f64 = 2.0;

/// Less was not measured, in seconds: on a file system in memory a flush has nothing to do.
const SENSIBLE: f64 = 0.001;

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
            let idle = row.stage == "flush" && row.seconds < SENSIBLE;
            let note = match (row.stage, row.read_again) {
                ("hash", _) => "BLAKE3, one processor, in memory",
                ("read", false) => "source alone, hashes made",
                ("read", true) => "source alone, hashes made; partly read again, maybe from a cache",
                ("wire", _) => "mutual TLS over loopback, both ends here",
                ("write", _) => "target alone: time in writes",
                ("flush", _) if idle => "target alone: nothing to flush",
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
                number(match idle {
                    true => "-".to_owned(),
                    false => format!("{:.0}", row.bytes_per_second / f64::from(1 << 20)),
                }),
                number(row.processors_percent.map_or(String::new(), |busy| format!("{busy:.0} %"))),
                Cell::new(note),
            ]);
        }
        table
    }
}

/// What is compared with all together.
const STAGES: [&str; 3] = ["read", "wire", "target"];

/// Which of them holds the transfer back.
fn judge(stages: &[Measured], processors: usize) -> (&'static str, String) {
    let rate = |name: &str| {
        stages.iter().find(|row| row.stage == name).map_or(f64::INFINITY, |row| row.bytes_per_second)
    };
    let slowest = STAGES.into_iter().min_by(|a, b| rate(a).total_cmp(&rate(b)));
    let slowest = slowest.unwrap_or("read");
    let others = STAGES.into_iter().filter(|&name| name != slowest).map(rate).fold(f64::INFINITY, f64::min);
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
        None if share >= MOSTLY && others >= BY_FAR * rate(slowest) => (
            name,
            format!(
                "Bottleneck: {of}, by far the slowest stage. Together runs at {percent:.0} % of it alone: what else runs at once slows it down."
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

    #[test]
    fn a_flush_that_took_no_time_has_no_speed() {
        let table = |took| {
            let stages = vec![Measured::new("flush", 1 << 30, took, None)];
            Report::new("s".into(), "t".into(), stages).table().to_string()
        };
        let (none, some) = (table(Duration::from_nanos(60)), table(Duration::from_millis(100)));
        assert!(none.contains(" - ") && none.contains("nothing to flush"), "{none}");
        assert!(some.contains(" 10240 ") && some.contains("time in flushes"), "{some}");
    }

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
        // Alone 186 MiB/s, together 115.
        let (slow, words) = judge(&stages(900, 700, 186, 400, 115, 40.0), 2);
        assert!(slow == "write" && words.contains("62 %") && words.contains("by far"), "{words}");
        assert_eq!(of(&stages(900, 700, 186, 400, 100, 40.0)), "shared", "too much is lost");
        assert_eq!(of(&stages(900, 300, 186, 400, 115, 40.0)), "shared", "not by far");
        assert_eq!(of(&stages(900, 700, 186, 400, 115, 95.0)), "processors");
        let odd = |together| judge(&stages(10, 90, 90, 90, together, 20.0), 2).1.contains("measure again");
        assert!(odd(12) && !odd(11));
        let (shared, words) = judge(&stages(90, 80, 90, 90, 40, 30.0), 2);
        assert!(shared == "shared" && words.contains("50 %") && words.contains("the wire"), "{words}");
    }
}
