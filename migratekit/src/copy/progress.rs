//! What an operator sees: a bar on a terminal, plain lines elsewhere, the summary at the end.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Output, Summary};
use crate::nbd::NbdUri;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress on stderr.
pub(super) struct Meter {
    verb: &'static str,
    total: u64,
    done: AtomicU64,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { last: Mutex<Instant> },
}

impl Meter {
    pub(super) fn new(verb: &'static str, total: u64) -> Self {
        let shown = if io::stderr().is_terminal() {
            let style =
                "{bar:30} {percent:>3} %  {bytes} of {total_bytes} {msg}  {bytes_per_sec}  {eta} left";
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(verb);
            Shown::Bar(bar)
        } else {
            Shown::Lines { last: Mutex::new(Instant::now()) }
        };
        Self { verb, total, done: AtomicU64::new(0), shown }
    }

    /// So many more; returns how many in all.
    pub(super) fn add(&self, bytes: u64) -> u64 {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.show(done);
        done
    }

    pub(super) fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.show(done);
    }

    pub(super) fn finish(&self) {
        match &self.shown {
            Shown::Bar(bar) => bar.finish_and_clear(),
            Shown::Lines { .. } => line(self.verb, self.total, self.total),
        }
    }

    fn show(&self, done: u64) {
        match &self.shown {
            Shown::Bar(bar) => bar.set_position(done.min(self.total)),
            Shown::Lines { last } => {
                // Whoever is late finds the line printed by another.
                let Ok(mut last) = last.try_lock() else { return };
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    line(self.verb, done, self.total);
                }
            }
        }
    }
}

fn line(verb: &str, done: u64, total: u64) {
    let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(100);
    // A closed stderr is no reason to stop.
    let _ = writeln!(io::stderr(), "{verb} {done} of {total} bytes ({percent} %)");
}

/// The summary, as the operator asked for it.
pub(super) fn print(summary: &Summary, output: Output, out: &mut dyn Write) -> io::Result<()> {
    match output {
        Output::Json => {
            serde_json::to_writer(&mut *out, summary)?;
            writeln!(out)?;
        }
        Output::Text => {
            let Summary { source, target, size_bytes, .. } = summary;
            writeln!(out, "{source} -> {target}: {}", HumanBytes(*size_bytes))?;
            write!(
                out,
                "  {} read, {} written, {} zero in {:.1} s",
                HumanBytes(summary.read_bytes),
                HumanBytes(summary.written_bytes),
                HumanBytes(summary.zero_bytes),
                summary.seconds
            )?;
            if summary.resumed_bytes > 0 {
                write!(out, "; {} had been copied before", HumanBytes(summary.resumed_bytes))?;
            }
            writeln!(out)?;
            if let Some(verified) = summary.verified_bytes {
                let how = match NbdUri::is_uri(target) {
                    true => "read back from its server and equal",
                    false => "read back and equal",
                };
                writeln!(out, "  {} verified: {how}", HumanBytes(verified))?;
            }
            if summary.beyond_bytes > 0 {
                let beyond = HumanBytes(summary.beyond_bytes);
                writeln!(out, "  {beyond} of the target, beyond the source's size, were left alone")?;
            }
            if !summary.flushed {
                writeln!(
                    out,
                    "  NOT flushed: the target's server cannot; nothing says that it is on stable storage"
                )?;
            }
        }
    }
    out.flush()
}
