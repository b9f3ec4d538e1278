//! Peak memory of both daemons over a full cycle, an incremental one and a verification.

use super::outcome::{Mark, Outcome};
use super::place::Reflink;
use super::{Options, report, world};
use crate::harness::{self, World};
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};
use shared::leaf::LEAF;

/// Peaks for one and two disks of each size.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) rows: Vec<Peak>,
}

/// Of one pair of daemons.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peak {
    pub(super) disk: u64,
    pub(super) disks: u64,
    /// Bytes.
    pub(super) agent: u64,
    pub(super) oma: u64,
}

/// Most for each further disk.
const FURTHER: u64 = 16 << 20;

pub(super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let measured = measure(options).await?;
    let mib = |bytes: u64| report::float(bytes) / report::float(1 << 20);
    Ok(Outcome {
        case: "memory",
        text: measured.table(),
        marks: vec![
            Mark::at_most("MiB, the most but for 16 MiB a further disk", mib(measured.most()), 96.0),
            Mark::at_most("MiB for a further disk", mib(measured.further_disk()), 16.0),
            Mark::at_most("MiB for size (none; 8 are noise)", mib(measured.with_size()), 8.0),
        ],
        runs: measured.json(),
    })
}

async fn measure(options: &Options) -> anyhow::Result<Memory> {
    let sizes = options.sizes;
    let mut rows = Vec::new();
    for disk in [sizes.small, sizes.huge] {
        for disks in [1, 2] {
            let reflink = Reflink::mount(options)?;
            let (agent, oma) = peaks(options, disk, disks, &reflink).await?;
            rows.push(Peak { disk, disks, agent, oma });
        }
    }
    Ok(Memory { rows })
}

async fn peaks(options: &Options, disk: u64, disks: u64, reflink: &Reflink) -> anyhow::Result<(u64, u64)> {
    let keys: Vec<String> = (0..disks).map(|number| format!("disk-{number}")).collect();
    let list: Vec<_> = keys.iter().map(|key| (key.as_str(), disk)).collect();
    let replicas = Some(reflink.folder.clone());
    let how =
        harness::Options { transfer: options.transfer.clone(), replicas, ..harness::Options::live(&list) };
    let world = World::start(&how).await?;
    // As many bytes on each: only where they lie differs. Spread out, so that sets of ranges grow as they may.
    let pieces = options.sizes.small >> 20;
    let write = |seed: u64, share: u64| {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut block = vec![0; 1 << 20];
        for key in &keys {
            let mut guest = world.live()?.guest(key)?;
            for piece in 0..pieces / share {
                random.fill_bytes(&mut block);
                guest.write(disk / (pieces / share) * piece / LEAF * LEAF, &block)?;
            }
            guest.flush()?;
        }
        anyhow::Ok(())
    };
    write(1, 1)?;
    world.begin_forced("a benchmark: the disk stays as empty as it is").await?;
    world::sync(&world, &[]).await?;
    write(2, 64)?;
    world::sync(&world, &[]).await?;
    for source in [false, true] {
        let (result, mismatches) = world.verify(source).await?;
        anyhow::ensure!(result.equal, "verification found {mismatches:?}");
    }
    Ok((world::peak(world.agent.pid())?, world::peak(world.oma.pid())?))
}

impl Memory {
    /// Of one daemon, what further disks may cost left out, in bytes.
    fn most(&self) -> u64 {
        let one = |row: &Peak| row.agent.max(row.oma).saturating_sub((row.disks - 1) * FURTHER);
        self.rows.iter().map(one).max().unwrap_or(0)
    }

    /// Growth per further disk, the worst, in bytes.
    pub(super) fn further_disk(&self) -> u64 {
        let growth =
            |one: &Peak, two: &Peak| two.agent.saturating_sub(one.agent).max(two.oma.saturating_sub(one.oma));
        let pairs = self.rows.chunks(2);
        pairs.filter_map(|pair| Some(growth(pair.first()?, pair.get(1)?))).max().unwrap_or(0)
    }

    /// Growth from the small to the huge disk, the worst, in bytes.
    pub(super) fn with_size(&self) -> u64 {
        let (small, huge) = self.rows.split_at(self.rows.len() / 2);
        let growth = |(small, huge): (&Peak, &Peak)| {
            huge.agent.saturating_sub(small.agent).max(huge.oma.saturating_sub(small.oma))
        };
        small.iter().zip(huge).map(growth).max().unwrap_or(0)
    }

    pub(super) fn table(&self) -> String {
        let mut rows = vec![["disks", "vma-agent MiB", "oma-api MiB"].map(String::from)];
        for row in &self.rows {
            rows.push([
                format!("{} x {} GiB", row.disks, row.disk >> 30),
                format!("{}", row.agent >> 20),
                format!("{}", row.oma >> 20),
            ]);
        }
        format!(
            "memory, peak RSS over a full cycle, an incremental one and both verifications\n{}",
            report::table(&rows)
        )
    }

    fn json(&self) -> Value {
        let peak = |p: &Peak| json!({ "disk": p.disk, "disks": p.disks, "agent": p.agent, "oma": p.oma });
        json!({ "peaks": self.rows.iter().map(peak).collect::<Vec<_>>() })
    }
}
