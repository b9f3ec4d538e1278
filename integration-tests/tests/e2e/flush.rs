//! DESIGN §6 rule 1 at the system's edge: the kernel's calls on the replica, seen and once failed by strace.
//!
//! The kernel marks pages clean when a write-back fails, so a second fdatasync succeeds although the data is gone.
//! What counts is therefore in the trace: everything that was written between the last good flush and the failed one
//! is written again before the flush that ends the cycle.

use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, World, eventually, hash_file};
use shared::range::{ByteRange, RangeSet};
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 40 * MIB + 512;

/// A call on the replica.
#[derive(Debug, PartialEq)]
enum Call {
    Write(ByteRange),
    Flush,
    FlushFailed,
}

/// Lines as `123 pwritev(9, [...], 1, 131072) = 65536`, interrupted ones in two parts.
fn calls(trace: &str) -> anyhow::Result<Vec<Call>> {
    let mut calls = Vec::new();
    let mut begun = std::collections::HashMap::new();
    for line in trace.lines() {
        let (thread, rest) = line.trim_start().split_once(' ').context("no thread id")?;
        let mut rest = rest.trim_start().to_owned();
        if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread.to_owned(), start.to_owned());
            continue;
        }
        if let Some(end) =
            rest.strip_prefix("<... ").and_then(|r| r.split_once("resumed>")).map(|(_, end)| end)
        {
            rest = format!("{}{end}", begun.remove(thread).context("resumed without a start")?);
        }
        if rest.starts_with("fdatasync(") {
            let failed = rest.contains("= -1 EIO");
            ensure!(failed || rest.contains("= 0"), "{line}");
            calls.push(if failed { Call::FlushFailed } else { Call::Flush });
        } else if rest.starts_with("pwrite") {
            let (arguments, result) = rest.rsplit_once(" = ").context("no result")?;
            // Before the bracket, and a space where the call was interrupted.
            let arguments = arguments.trim_end_matches([' ', ')']);
            let offset = arguments.rsplit(", ").next().context("no offset")?.parse()?;
            calls.push(Call::Write(ByteRange::at(offset, result.trim().parse()?).context("a range")?));
        }
    }
    Ok(calls)
}

/// Flushes, and the writes that touch these ranges.
fn story(calls: &[Call], ranges: &RangeSet) -> String {
    let matters = |call: &Call| match call {
        Call::Write(range) => ranges.within(*range).next().is_some(),
        Call::Flush | Call::FlushFailed => true,
    };
    let told = calls.iter().enumerate().filter(|(_, call)| matters(call));
    told.map(|(at, call)| format!("{at}: {call:?}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_flush_all_since_the_last_good_one_is_written_again() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let file = temp.path().join("disk.raw");
    let mut noise = vec![0; usize::try_from(SIZE)?];
    blake3::Hasher::new().update(b"flush").finalize_xof().fill(&mut noise);
    std::fs::write(&file, &noise)?;
    let mut world = World::start(&Options::files(&[("root", &file)])).await?;
    let m = world.begin().await?;
    let trace = world.dir.join("oma.trace");
    let (replica, out) = (world.replica(&m, "root")?, trace.display().to_string());
    let path = replica.display().to_string();
    // The tracer is a grandchild (-D): killing the daemon kills the daemon. It counts by thread: the first flush of
    // each fails, and whichever comes after it succeeds.
    let tracer = "strace -D -f --seccomp-bpf -q -s 0 -e trace=fdatasync,pwrite64,pwritev \
                  -e inject=fdatasync:error=EIO:when=1";
    let wrapper: Vec<_> = tracer.split_whitespace().chain(["-P", &path, "-o", &out]).collect();
    world.oma_restart(&wrapper)?;
    world.sync().await?;
    world.oma.kill();
    let calls = whole(&trace).await?;
    let last = calls.iter().rposition(|c| *c == Call::Flush).context("no flush succeeded")?;
    ensure!(!calls[last..].contains(&Call::FlushFailed), "the cycle ended on a failed flush");
    let written = |calls: &[Call]| -> RangeSet {
        calls.iter().filter_map(|c| if let Call::Write(range) = c { Some(*range) } else { None }).collect()
    };
    let mut tested = false;
    for failed in calls.iter().enumerate().filter(|(_, c)| **c == Call::FlushFailed).map(|(at, _)| at) {
        let good = calls[..failed].iter().rposition(|c| *c == Call::Flush).unwrap_or(0);
        let mut lost = written(&calls[good..failed]);
        tested |= !lost.is_empty();
        lost.subtract(&written(&calls[failed..last]));
        ensure!(
            lost.is_empty(),
            "called good without being written again: {lost:?}\n{}",
            story(&calls, &lost)
        );
    }
    ensure!(tested, "no flush failed with something to lose: nothing was tested");
    ensure!(hash_file(&replica)? == hash_file(&file)?, "the replica is not the source");
    world.oma_restart(&[])?;
    let (verdict, mismatches) = world.verify(false).await?;
    ensure!(verdict.equal, "{mismatches:?}");
    Ok(())
}

/// The tracer says last how the daemon ended, a moment after it did.
async fn whole(trace: &Path) -> anyhow::Result<Vec<Call>> {
    let ended = || async {
        let text = std::fs::read_to_string(trace)?;
        Ok(text.contains("+++ killed by SIGKILL +++").then_some(text))
    };
    let text = eventually("the end of the trace", Duration::from_secs(30), ended).await?;
    calls(&text.lines().filter(|line| !line.contains("+++")).collect::<Vec<_>>().join("\n"))
}
