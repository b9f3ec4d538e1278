//! What is predicted beside what happens: a guest that writes evenly, over a slow link.
//!
//! ```text
//!  20 MB/s over 50: cycles on end ── estimate, the guest stops ── the final cycle, from its action to its commit
//!  60 MB/s over 50: `automatic`, until it gives up
//! ```

use super::outcome::{Mark, Outcome};
use super::place::Reflink;
use super::{Options, report, world};
use crate::harness::{self, VM_UUID, World};
use crate::link::Shape;
use crate::live_vm::Nbd;
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use serde_json::json;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Of the link, bytes a second in each direction.
const LINK: u64 = 50_000_000;

/// What the guest writes, bytes a second: first less than the link takes, then more.
const SLOW: u64 = 20_000_000;
const FAST: u64 = 60_000_000;

const DISK: u64 = 2 << 30;

/// There before the first cycle.
const FILLED: u64 = 128 << 20;

/// Cycles until they are alike.
const SETTLE: usize = 4;

/// Cycles that `automatic` may make.
const MOST: u32 = 3;

/// What the guest that is too fast has written before `automatic` begins, as time.
const AHEAD: Duration = Duration::from_secs(5);

const PATIENCE: Duration = Duration::from_secs(120);

/// A prediction and what came of it, in seconds.
struct Round {
    predicted: f64,
    real: f64,
    said: v1::EstimateResponse,
    /// Bytes of data that the final cycle brought.
    data: u64,
}

impl Round {
    /// Of what it really took.
    fn error(&self) -> f64 {
        (self.predicted - self.real).abs() / self.real * 100.0
    }
}

pub(super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let reflink = Reflink::mount(options)?;
    let link = Some(Shape { rate: LINK, delay: Duration::ZERO });
    let how = harness::Options {
        link,
        replicas: Some(reflink.folder.clone()),
        ..harness::Options::live(&[("root", DISK)])
    };
    let world = World::start(&how).await?;
    fill(&mut world.live()?.guest("root")?)?;
    world.begin().await?;
    let first = world::sync(&world, &[]).await?;
    let mut client = MigrationServiceClient::new(world.channel().await?);
    let (mut rounds, mut cycles) = (Vec::new(), Vec::new());
    for round in 0..options.few() {
        let guest = Guest::start(world.live()?.guest("root")?, SLOW);
        for _ in 0..SETTLE {
            let cycle = world::sync(&world, &[]).await?;
            cycles.push((cycle.durable + cycle.commit).as_secs_f64());
        }
        // Not the moment behind a commit: nobody hits that.
        tokio::time::sleep(Duration::from_secs(1 + round as u64)).await;
        let request = v1::EstimateRequest { vm: VM_UUID.to_owned() };
        let said = client.estimate(request).await?.into_inner();
        guest.stop()?;
        let predicted =
            said.predicted_downtime_ms.map_or(f64::NAN, |ms| Duration::from_millis(ms).as_secs_f64());
        let last = world::sync(&world, &[]).await?;
        let data = last.migration.cycle.iter().flat_map(|c| &c.disks).map(|d| d.data_bytes).sum();
        rounds.push(Round { predicted, real: (last.durable + last.commit).as_secs_f64(), said, data });
    }
    let guest = Guest::start(world.live()?.guest("root")?, FAST);
    let begun = Instant::now();
    // So much that the first cycle is not over at once: one of a moment would be answered by a downtime of a moment, rightly.
    tokio::time::sleep(AHEAD).await;
    let automatic = v1::ActRequest {
        vm: VM_UUID.to_owned(),
        action: v1::Action::Automatic.into(),
        max_cycles: MOST,
        max_downtime_ms: 1000,
        ..v1::ActRequest::default()
    };
    client.act(automatic).await?;
    let end = world.wait("the end of automatic", PATIENCE, |m| !m.error_reason.is_empty()).await?;
    let gave_up = end.error_reason == "NON_CONVERGING";
    let fast = report::float(guest.written()) / begun.elapsed().as_secs_f64() / 1e6;
    guest.stop()?;
    let worst = rounds.iter().map(Round::error).fold(0.0, f64::max);
    let mut text = format!(
        "estimate, a guest that writes {} MB/s over a link of {} MB/s\n",
        SLOW / 1_000_000,
        LINK / 1_000_000
    );
    let first = (first.durable + first.commit).as_secs_f64();
    writeln!(text, "  the first cycle, {} MB in {first:.2} s", FILLED / 1_000_000)?;
    for Round { predicted, real, said, data } in &rounds {
        let mb = |bytes: u64| report::float(bytes) / 1e6;
        writeln!(
            text,
            "  predicted downtime {predicted:.2} s, real {real:.2} s; of {:.1} MB, {:.1} came; {:.1} MB/s written, {:.1} copied",
            mb(said.next_bytes.unwrap_or(0)),
            mb(*data),
            mb(said.dirty_bytes_second.unwrap_or(0)),
            mb(said.transfer_bytes_second)
        )?;
    }
    writeln!(
        text,
        "  cycles on end: {}\n  then {fast:.0} MB/s: automatic ended with {} ({})",
        cycles.iter().map(|s| format!("{s:.2}")).collect::<Vec<_>>().join(" "),
        end.error_reason,
        end.error_message
    )?;
    Ok(Outcome {
        case: "estimate",
        text,
        marks: vec![
            Mark::at_most(
                "% that a prediction was off, at worst",
                if worst.is_nan() { f64::INFINITY } else { worst },
                20.0,
            ),
            Mark::at_least(
                "of 1: a guest that is too fast is said to be",
                f64::from(u8::from(gave_up)),
                1.0,
                None,
            ),
        ],
        runs: json!({
            "rounds": rounds.iter().map(|r| json!({ "predicted_s": r.predicted, "real_s": r.real })).collect::<Vec<_>>(),
            "first_s": first,
            "cycles_s": cycles,
            "fast_mb_s": fast,
            "reason": end.error_reason,
            "file_system": reflink.kind(),
        }),
    })
}

fn fill(nbd: &mut Nbd) -> anyhow::Result<()> {
    let (mut random, mut block) = (SmallRng::seed_from_u64(1), vec![0; 1 << 20]);
    for offset in (0..FILLED).step_by(1 << 20) {
        random.fill_bytes(&mut block);
        nbd.write(offset, &block)?;
    }
    nbd.flush()
}

/// Writes one block after the other, each new, at an even rate.
struct Guest {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Guest {
    fn start(mut nbd: Nbd, rate: u64) -> Self {
        let (stop, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ends, counts) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            let (mut random, mut block) = (SmallRng::seed_from_u64(rate), vec![0; 1 << 20]);
            let begun = Instant::now();
            while !ends.load(Ordering::Relaxed) {
                let at = counts.load(Ordering::Relaxed);
                random.fill_bytes(&mut block);
                nbd.write((FILLED + at) % DISK, &block)?;
                counts.store(at + (1 << 20), Ordering::Relaxed);
                let due = Duration::from_micros((at + (1 << 20)) * 1_000_000 / rate);
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            Ok(())
        });
        Self { stop, written, thread }
    }

    /// Bytes.
    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the guest panicked"))?
    }
}
