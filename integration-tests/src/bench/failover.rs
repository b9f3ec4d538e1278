//! What the control plane itself takes for a test failover, and what a test failover's machine takes beside one by hand.
//!
//! ```text
//!  failover, recovery:  gRPC ──► oma-instant ── SQLite and replicas on a disk, with all their syncs
//!                                     └── machines that are only remembered
//!  console:             gRPC ──► oma-api ──► QEMU, the first line of its console   | in turns
//!                                            QEMU by hand, told the same           |
//! ```
//!
//! `oma-instant` is the whole of oma-api, but for its compute backend; see the feature `test-compute` of oma-api.

mod cloud;
mod console;
mod protected;
mod recovery;

use super::outcome::{Mark, Outcome};
use super::{Options, report, world};
use anyhow::Context as _;
use jiff::Timestamp;
use protected::{Protected, VMS, begin, clean, completed};
use proto::v1;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

pub(super) use cloud::run as cloud;
pub(super) use console::run as console;
pub(super) use recovery::run as recovery;

/// Tests that are begun together.
const AT_ONCE: usize = 50;

pub(super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let there = Protected::start(options).await?;
    let mut client = there.client().await?;
    let (mut times, mut steps, mut jobs) = (Vec::new(), Steps::default(), Vec::new());
    let before = there.journal().await?;
    for number in 0..options.sizes.tests {
        let begun = Instant::now();
        let job = begin(&mut client, number % VMS).await?.job_id;
        let ended = completed(&mut client, &job).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        steps.add(&ended)?;
        jobs.push(job);
    }
    let (transactions, transaction) = there.journal().await?.since(before, jobs.len());
    // Not between them: its transactions are not counted.
    clean(&mut client, &jobs).await?;
    let times = report::sorted(times.into_iter());
    let ms = |of_hundred| report::percentile(&times, of_hundred);
    let (seconds, first) = together(&there).await?;
    let mib = report::float(world::peak(there.world.oma.pid())?) / report::float(1 << 20);
    let mut text = format!(
        "failover, {} tests one after the other, {VMS} VMs of two disks, machines that answer at once\n  \
         from the request to the end: {:.0} ms in the middle, {:.0} ms at p99, {:.0} ms at most\n  \
         of that {transactions:.1} transactions of {transaction:.1} ms; by step, the transaction before it included:\n",
        times.len(),
        ms(50),
        ms(99),
        ms(100)
    );
    writeln!(text, "{}", steps.table())?;
    writeln!(
        text,
        "  {AT_ONCE} at a time: the first ended after {first:.2} s, the last after {seconds:.2} s; oma-api {mib:.0} MiB at most"
    )?;
    Ok(Outcome {
        case: "failover",
        text,
        marks: vec![
            Mark::at_most("ms, p99 of a test failover without its machine", ms(99), 500.0),
            Mark::at_most("MiB of RSS, 50 at a time", mib, 400.0),
        ],
        runs: json!({
            "ms": times,
            "transactions": transactions,
            "transaction_ms": transaction,
            "steps_ms": steps.medians(),
            "at_once": AT_ONCE,
            "at_once_s": seconds,
            "at_once_first_s": first,
            "peak_rss_mib": mib,
        }),
    })
}

/// Seconds until the last one of many ended, and until the first did. All end well, or it fails.
async fn together(there: &Protected) -> anyhow::Result<(f64, f64)> {
    let client = there.client().await?;
    let begun = Timestamp::now();
    let jobs = begin_all(&client, AT_ONCE, VMS).await?;
    let mut ends = Vec::new();
    // One watch at a time: each reads what it watches whenever anything changes.
    for job in &jobs {
        ends.push(time(&completed(&mut client.clone(), job).await?.completed_at)?);
    }
    let after = |end: Option<&Timestamp>| end.map_or(f64::NAN, |end| end.duration_since(begun).as_secs_f64());
    let (last, first) = (after(ends.iter().max()), after(ends.iter().min()));
    clean(&mut client.clone(), &jobs).await?;
    Ok((last, first))
}

/// Asks for all of them at once; their jobs.
async fn begin_all(
    client: &v1::failover_service_client::FailoverServiceClient<tonic::transport::Channel>,
    count: usize,
    vms: usize,
) -> anyhow::Result<Vec<String>> {
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..count {
        let mut client = client.clone();
        asked.spawn(async move { begin(&mut client, number % vms).await });
    }
    let mut jobs = Vec::new();
    while let Some(answer) = asked.join_next().await {
        jobs.push(answer??.job_id);
    }
    Ok(jobs)
}

fn time(text: &str) -> anyhow::Result<Timestamp> {
    text.parse().with_context(|| format!("{text:?} is no time"))
}

/// Milliseconds of each step, over the runs.
#[derive(Default)]
struct Steps(BTreeMap<(usize, String), Vec<f64>>);

impl Steps {
    fn add(&mut self, of: &v1::Failover) -> anyhow::Result<()> {
        for (position, part) in of.steps.iter().flat_map(|step| &step.parts).enumerate() {
            let took = time(&part.completed_at)?.duration_since(time(&part.started_at)?);
            self.0.entry((position, part.name.clone())).or_default().push(took.as_secs_f64() * 1e3);
        }
        Ok(())
    }

    fn medians(&self) -> BTreeMap<String, f64> {
        self.0.iter().map(|((_, name), all)| (name.clone(), report::median(all.iter().copied()))).collect()
    }

    fn table(&self) -> String {
        let medians = self.0.iter().map(|((_, name), all)| (name, report::median(all.iter().copied())));
        format!(
            "   {}",
            medians.map(|(name, ms)| format!(" {name} {ms:.1} ms")).collect::<Vec<_>>().join(",")
        )
    }
}
