//! Following a migration: bars on a terminal, lines elsewhere. It survives restarts of the control plane.

use super::client::{Channel, Connection, said};
use super::show::{self, Output};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use std::collections::HashMap;
use std::io::{IsTerminal as _, Write};
use std::time::{Duration, Instant};
use tonic::Code;

/// How long a control plane may be away before a watch gives up.
const AWAY: Duration = Duration::from_secs(300);

/// Between lines where there is no terminal.
const LINE: Duration = Duration::from_secs(2);

/// Prints every state until the migration ends. JSON: one object a line.
pub(super) async fn follow(
    connection: &Connection,
    channel: Channel,
    vm: &str,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut show = Progress::new(output);
    each_state(connection, channel, vm, |m| {
        match output {
            Output::Json => writeln!(out, "{}", show::migration_json(m))?,
            Output::Table | Output::Wide => show.state(m),
        }
        Ok(m.finished_at.is_empty())
    })
    .await
    .map(|_| ())
}

/// Waits until nothing runs any more, with bars.
pub(super) async fn until_done(
    connection: &Connection,
    channel: Channel,
    vm: &str,
    output: Output,
) -> anyhow::Result<v1::Migration> {
    let mut show = Progress::new(output);
    let ended = each_state(connection, channel, vm, |m| {
        show.state(m);
        // Between two cycles of `automatic` nothing runs for a moment.
        Ok(m.state() == v1::State::Running || m.automatic.is_some() && !m.held)
    })
    .await?;
    show.end(&ended);
    Ok(ended)
}

/// Calls `state` with each state until it says `false`; gives the last.
async fn each_state(
    connection: &Connection,
    mut channel: Channel,
    vm: &str,
    mut state: impl FnMut(&v1::Migration) -> anyhow::Result<bool>,
) -> anyhow::Result<v1::Migration> {
    let mut after_sequence = 0;
    let mut away_since: Option<Instant> = None;
    loop {
        let request = v1::WatchRequest { vm: vm.to_owned(), after_sequence };
        let broken = match MigrationServiceClient::new(channel.clone()).watch(request).await {
            Ok(answer) => {
                let mut states = answer.into_inner();
                loop {
                    match states.message().await {
                        Ok(Some(v1::WatchResponse { sequence, migration: Some(migration) })) => {
                            (after_sequence, away_since) = (sequence, None);
                            if !state(&migration)? {
                                return Ok(migration);
                            }
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => break tonic::Status::unavailable("the control plane closed the stream"),
                        Err(status) => break status,
                    }
                }
            }
            Err(status) => status,
        };
        let passing =
            matches!(broken.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal);
        let since = *away_since.get_or_insert_with(Instant::now);
        if !passing || since.elapsed() > AWAY {
            return Err(said(&broken));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        if let Ok(again) = connection.open().await {
            channel = again;
        }
    }
}

/// One bar a disk, or a line now and then.
struct Progress {
    bars: Option<MultiProgress>,
    of_disk: HashMap<(String, String), ProgressBar>,
    last_line: Option<Instant>,
    quiet: bool,
}

impl Progress {
    fn new(output: Output) -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars, of_disk: HashMap::new(), last_line: None, quiet: output == Output::Json }
    }

    fn state(&mut self, m: &v1::Migration) {
        let Some(cycle) = m.cycle.as_ref().filter(|c| c.finished_at.is_empty()) else { return };
        if self.bars.is_some() {
            for disk in &cycle.disks {
                self.bar(cycle, disk, m);
            }
            return;
        }
        let due = self.last_line.is_none_or(|at| at.elapsed() >= LINE);
        if due && !self.quiet {
            self.last_line = Some(Instant::now());
            let disks: Vec<_> = cycle
                .disks
                .iter()
                .map(|d| format!("{} {} of {}", d.key, show::bytes(d.done_bytes), show::bytes(total(d))))
                .collect();
            let why =
                if m.error_message.is_empty() { String::new() } else { format!(" ({})", m.error_message) };
            let speed = show::bytes(cycle.transfer_speed_bps);
            // Nothing is left to be done when stderr is closed.
            let _ = writeln!(
                std::io::stderr(),
                "{} {}: {} at {speed}/s{why}",
                cycle.job_id,
                cycle.status,
                disks.join(", ")
            );
        }
    }

    fn bar(&mut self, cycle: &v1::Cycle, disk: &v1::CycleDisk, m: &v1::Migration) {
        let Some(bars) = &self.bars else { return };
        let key = (cycle.job_id.clone(), disk.disk_id.clone());
        let bar = self.of_disk.entry(key).or_insert_with(|| {
            let template = "{prefix:>12} {bar:32} {binary_bytes:>10} of {binary_total_bytes:<10} {binary_bytes_per_sec:>12} {msg}";
            let style = ProgressStyle::with_template(template).expect("a constant").progress_chars("█▉▊▋▌▍▎▏ ");
            bars.add(ProgressBar::new(0).with_style(style).with_prefix(disk.key.clone()))
        });
        bar.set_length(total(disk));
        bar.set_position(disk.done_bytes.min(total(disk)));
        bar.set_message(match (m.error_message.is_empty(), cycle.status.as_str()) {
            (false, _) => m.error_message.clone(),
            (true, "running") => String::new(),
            (true, other) => other.to_owned(),
        });
    }

    fn end(&mut self, m: &v1::Migration) {
        let cycle = m.cycle.as_ref();
        for disk in cycle.iter().flat_map(|c| &c.disks) {
            if let Some(bar) =
                self.of_disk.get(&(cycle.map(|c| c.job_id.clone()).unwrap_or_default(), disk.disk_id.clone()))
            {
                bar.set_length(total(disk));
                bar.set_position(disk.done_bytes);
            }
        }
        for bar in self.of_disk.values() {
            bar.abandon();
        }
    }
}

/// While the plan is made, the disk's size is the better total.
fn total(disk: &v1::CycleDisk) -> u64 {
    if disk.plan_complete { disk.planned_bytes } else { disk.size_bytes.max(disk.planned_bytes) }
}
