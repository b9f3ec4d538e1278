//! A verification of the whole replica against `b3sum` of the same file by one thread, and against reading it only.
//!
//! The product reads past the page cache. The others begin with an empty one, where this may be emptied (as root);
//! elsewhere the kernel is only asked to forget the file.

use super::outcome::{Mark, Outcome};
use super::pair::Sources;
use super::place::Place;
use super::{Options, report, world};
use crate::harness::{self, SourceKind, World};
use anyhow::Context as _;
use rustix::fs::{Advice, fadvise};
use serde_json::json;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds of each run.
#[derive(Default)]
struct Verified {
    ours: Vec<f64>,
    b3sum: Vec<f64>,
    read: Vec<f64>,
}

pub(super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let sources = Sources::random(options, 1, options.sizes.small).await?;
    let bytes = sources.total();
    let target = Place::disk(options).folder(2 * bytes + (64 << 20))?;
    let world = World::start(&harness::Options {
        source: SourceKind::Uris(sources.uris()),
        transfer: options.transfer.clone(),
        replicas: Some(target.path().to_owned()),
        ..harness::Options::default()
    })
    .await?;
    world.begin_forced("a benchmark: the disk stays as full as it is").await?;
    let cycle = world::sync(&world, &[]).await?;
    let replica = world.replica(&cycle.migration, &sources.keys()[0])?;
    let (mut verified, mut emptied) = (Verified::default(), true);
    for _ in 0..options.few() {
        emptied &= forget(&replica)?;
        let begun = Instant::now();
        let (result, mismatches) = world.verify(false).await?;
        verified.ours.push(begun.elapsed().as_secs_f64());
        anyhow::ensure!(result.equal, "the replica differs: {mismatches:?}");
        forget(&replica)?;
        let hash = timed(Command::new("b3sum").args(["--num-threads", "1", "--no-names"]).arg(&replica))?;
        verified.b3sum.push(hash.0.as_secs_f64());
        let is = blake3::Hash::from_bytes(sources.hash()).to_hex();
        anyhow::ensure!(hash.1.trim() == is.as_str(), "b3sum found something else in the replica");
        let input = format!("if={}", replica.display());
        let read = ["iflag=direct", "bs=2M", "of=/dev/null", "status=none"];
        verified.read.push(timed(Command::new("dd").arg(input).args(read))?.0.as_secs_f64());
    }
    Ok(outcome(&verified, bytes, emptied))
}

fn outcome(verified: &Verified, bytes: u64, emptied: bool) -> Outcome {
    let Verified { ours, b3sum, read } = verified;
    let middle = |all: &[f64]| report::median(all.iter().copied());
    let mut rows = vec![["", "seconds", "min..max", "MiB/s"].map(String::from)];
    for (name, all) in [
        ("verify, replica arm", ours),
        ("b3sum --num-threads 1", b3sum),
        ("dd iflag=direct bs=2M, to read only", read),
    ] {
        let sorted = report::sorted(all.iter().copied());
        rows.push([
            name.to_owned(),
            format!("{:.2}", middle(all)),
            format!("{:.2}..{:.2}", sorted.first().unwrap_or(&0.0), sorted.last().unwrap_or(&0.0)),
            format!("{:.0}", report::float(bytes >> 20) / middle(all)),
        ]);
    }
    let cache = if emptied { "emptied" } else { "only asked to forget the file (not root)" };
    Outcome {
        case: "verify",
        text: format!(
            "verify, {} MiB on disk, {} runs each, the page cache {cache} before each\n{}",
            bytes >> 20,
            ours.len(),
            report::table(&rows)
        ),
        marks: vec![
            Mark::at_least("x b3sum by one thread", middle(b3sum) / middle(ours), 1.0, None),
            Mark::aim("x the disk's speed", middle(read) / middle(ours), 1.0),
        ],
        runs: json!({ "bytes": bytes, "cache_emptied": emptied, "ours": ours, "b3sum": b3sum, "direct_read": read }),
    }
}

/// Empties the page cache; `false` where only this file could be dropped.
fn forget(file: &Path) -> anyhow::Result<bool> {
    rustix::fs::sync();
    if std::fs::write("/proc/sys/vm/drop_caches", "1").is_ok() {
        return Ok(true);
    }
    fadvise(File::open(file)?, 0, None, Advice::DontNeed)?;
    Ok(false)
}

/// How long it took, and what it said.
fn timed(command: &mut Command) -> anyhow::Result<(Duration, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {name}: make bench installs it"))?;
    anyhow::ensure!(output.status.success(), "{name} ended with {}", output.status);
    Ok((begun.elapsed(), String::from_utf8_lossy(&output.stdout).into_owned()))
}
