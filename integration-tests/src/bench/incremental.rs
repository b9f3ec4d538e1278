//! The same changes on a small disk full of data, and on a huge one that holds the same data and nothing else.

use super::outcome::{Mark, Outcome};
use super::place::Reflink;
use super::{Options, report, world};
use crate::harness::{self, World};
use crate::live_vm::Nbd;
use rand::seq::SliceRandom as _;
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};
use shared::leaf::LEAF;
use std::time::Duration;

/// Both disks.
#[derive(Clone, Debug)]
pub(super) struct Incremental {
    pub(super) storage: &'static str,
    pub(super) changed: u64,
    pub(super) small: Side,
    pub(super) huge: Side,
}

/// One disk.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) size: u64,
    pub(super) cycles: Vec<Run>,
}

/// One incremental cycle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) durable: Duration,
    pub(super) commit: Duration,
    /// Bytes handed to the transport for what was changed.
    pub(super) wire: u64,
}

pub(super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let measured = measure(options).await?;
    // Neither disk may be the slower one.
    let ratio = measured.ratio().max(1.0 / measured.ratio());
    Ok(Outcome {
        case: "incremental",
        text: measured.table(),
        marks: vec![
            Mark::at_most("x between the disks", ratio, 1.5),
            Mark::at_most("x the changed leaves on the wire", measured.wire_ratio(), 1.1),
        ],
        runs: measured.json(),
    })
}

async fn measure(options: &Options) -> anyhow::Result<Incremental> {
    let sizes = options.sizes;
    let reflink = Reflink::mount(options)?;
    let world = |size: u64, name: &str| {
        let replicas = Some(reflink.folder.join(name));
        harness::Options {
            transfer: options.transfer.clone(),
            replicas,
            ..harness::Options::live(&[("root", size)])
        }
    };
    let small = World::start(&world(sizes.small, "small")).await?;
    let huge = World::start(&world(sizes.huge, "huge")).await?;
    for world in [&small, &huge] {
        let mut guest = world.live()?.guest("root")?;
        write_all(&mut guest, sizes.small)?;
        world.begin_forced("a benchmark: the disk stays as full as it is").await?;
        world::sync(world, &[]).await?;
    }
    let side = |size| Side { size, cycles: vec![] };
    let mut measured = Incremental {
        storage: reflink.kind(),
        changed: sizes.changed,
        small: side(sizes.small),
        huge: side(sizes.huge),
    };
    for round in 0..options.runs {
        for (world, side) in [(&small, &mut measured.small), (&huge, &mut measured.huge)] {
            let mut guest = world.live()?.guest("root")?;
            change(&mut guest, sizes.small, sizes.changed, round)?;
            let cycle = world::sync(world, &[]).await?;
            let wire = cycle.migration.cycle.iter().flat_map(|c| &c.disks).map(|d| d.wire_bytes).sum();
            side.cycles.push(Run { durable: cycle.durable, commit: cycle.commit, wire });
        }
    }
    for world in [&small, &huge] {
        let (result, mismatches) = world.verify(false).await?;
        anyhow::ensure!(result.equal, "the replica differs: {mismatches:?}");
    }
    Ok(measured)
}

fn write_all(guest: &mut Nbd, bytes: u64) -> anyhow::Result<()> {
    let mut random = SmallRng::seed_from_u64(1);
    let mut block = vec![0; 1 << 20];
    for at in 0..bytes >> 20 {
        random.fill_bytes(&mut block);
        guest.write(at << 20, &block)?;
    }
    guest.flush()
}

/// Whole leaves all over the small disk; the same ones on both.
fn change(guest: &mut Nbd, within: u64, bytes: u64, round: usize) -> anyhow::Result<()> {
    let mut random = SmallRng::seed_from_u64(round as u64 + 2);
    let mut leaves: Vec<u64> = (0..within / LEAF).collect();
    let (chosen, _) = leaves.partial_shuffle(&mut random, usize::try_from(bytes / LEAF)?);
    let mut leaf = vec![0; usize::try_from(LEAF)?];
    for at in chosen {
        random.fill_bytes(&mut leaf);
        guest.write(*at * LEAF, &leaf)?;
    }
    guest.flush()
}

impl Side {
    pub(super) fn seconds(&self, of: impl Fn(&Run) -> Duration) -> f64 {
        report::median(self.cycles.iter().map(|run| of(run).as_secs_f64()))
    }

    fn wire(&self) -> u64 {
        self.cycles.iter().map(|run| run.wire).max().unwrap_or(0)
    }
}

impl Incremental {
    /// Huge over small, of the whole cycle.
    pub(super) fn ratio(&self) -> f64 {
        let whole = |side: &Side| side.seconds(|run| run.durable + run.commit);
        whole(&self.huge) / whole(&self.small)
    }

    /// Wire over changed leaves, the worst.
    pub(super) fn wire_ratio(&self) -> f64 {
        report::float(self.small.wire().max(self.huge.wire())) / report::float(self.changed)
    }

    pub(super) fn table(&self) -> String {
        let mut rows = vec![["disk", "durable s", "commit s", "cycle s", "wire KiB"].map(String::from)];
        for (name, side) in [("full of data", &self.small), ("sparse", &self.huge)] {
            rows.push([
                format!("{} GiB {name}", side.size >> 30),
                format!("{:.3}", side.seconds(|r| r.durable)),
                format!("{:.3}", side.seconds(|r| r.commit)),
                format!("{:.3}", side.seconds(|r| r.durable + r.commit)),
                format!("{}", side.wire() >> 10),
            ]);
        }
        format!(
            "incremental, {} KiB of leaves changed, replicas on {}, {} cycles each\n{}",
            self.changed >> 10,
            self.storage,
            self.small.cycles.len(),
            report::table(&rows),
        )
    }

    fn json(&self) -> Value {
        let cycle = |run: &Run| {
            json!({
                "durable_seconds": run.durable.as_secs_f64(),
                "commit_seconds": run.commit.as_secs_f64(),
                "wire_bytes": run.wire,
            })
        };
        let side = |side: &Side| json!({ "bytes": side.size, "cycles": side.cycles.iter().map(cycle).collect::<Vec<_>>() });
        json!({
            "changed": self.changed,
            "replicas": self.storage,
            "small": side(&self.small),
            "huge": side(&self.huge),
        })
    }
}
