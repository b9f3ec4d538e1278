//! Cycles while the guest writes.

use integration_tests::harness::{Options, World, eventually, hash_file};
use integration_tests::live_vm::{Counters, Writer, WriterDisk, WriterOptions};
use proto::v1;
use shared::range::ByteRange;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// BLAKE3 of each live disk, by key.
pub(crate) type Hashes = BTreeMap<String, [u8; 32]>;

/// Asks for a sync and hashes the live disks at its snapshot: the guest stands still for that moment, and writes on
/// while the cycle copies. Gives the job and the hashes.
pub(crate) async fn sync_begun(world: &World, writers: &[Writer]) -> anyhow::Result<(String, Hashes)> {
    let before = world.get().await?.cycle.map(|cycle| cycle.job_id);
    let still: Vec<_> = writers.iter().map(Writer::pause).collect();
    world.act(v1::Action::Sync).await?;
    let job = snapshot_of_next(world, before.as_deref()).await?;
    let hashes = live_hashes(world)?;
    drop(still);
    Ok((job, hashes))
}

/// Waits until a cycle other than `before` has its source snapshot.
pub(crate) async fn snapshot_of_next(world: &World, before: Option<&str>) -> anyhow::Result<String> {
    eventually("a source snapshot", Duration::from_secs(60), || async {
        // A control plane that is away is asked again.
        let Ok(m) = world.get().await else { return Ok(None) };
        let taken = m.cycle.filter(|c| Some(c.job_id.as_str()) != before && !c.snapshot_taken_at.is_empty());
        Ok(taken.map(|cycle| cycle.job_id))
    })
    .await
}

/// Of one point in time only while the guest stands still.
pub(crate) fn live_hashes(world: &World) -> anyhow::Result<Hashes> {
    let live = world.live()?;
    live.disks().iter().map(|disk| Ok((disk.key.clone(), live.hash_disk(&disk.key)?))).collect()
}

/// The replica and its newest restore point are what the source was.
pub(crate) fn assert_replicated(world: &World, m: &v1::Migration, source: &Hashes) -> anyhow::Result<()> {
    for (key, hash) in source {
        assert_eq!(hash_file(&world.replica(m, key)?)?, *hash, "replica of {key}");
        assert_eq!(hash_file(&world.restore_point(m, key)?)?, *hash, "restore point of {key}");
    }
    Ok(())
}

/// The replica at each commit is the source at its snapshot, and both arms of verification say so.
#[tokio::test(flavor = "multi_thread")]
async fn full_and_incremental() -> anyhow::Result<()> {
    let world = World::start(&Options::live(&[("root", 64 * MIB), ("data", 24 * MIB + 512)])).await?;
    let writer = world.live()?.writer(&WriterOptions::default())?;
    writer.wait_for_bytes(8 * MIB)?;
    world.begin().await?;
    for _ in 0..2 {
        let m = world.sync().await?;
        let (replica, mismatches) = world.verify(false).await?;
        assert!(replica.equal, "{mismatches:?}");
        for key in ["root", "data"] {
            assert_eq!(hash_file(&world.replica(&m, key)?)?, hash_file(&world.restore_point(&m, key)?)?);
        }
    }
    let (source, mismatches) = world.verify(true).await?;
    assert!(source.equal, "{mismatches:?}");
    // A last sync of a quiet VM: byte for byte the live disks.
    let quiet = writer.pause();
    let m = world.sync().await?;
    for key in ["root", "data"] {
        assert_eq!(hash_file(&world.replica(&m, key)?)?, world.live()?.hash_disk(key)?, "disk {key}");
    }
    drop(quiet);
    Ok(())
}

/// What the guest must have done between two snapshots for the cycle to mean something.
struct Done {
    discards: u64,
    zeroes: u64,
    at_end: u64,
}

impl Done {
    fn so_far(counters: &Counters) -> Self {
        Self {
            discards: counters.discards.load(Relaxed),
            zeroes: counters.zeroes.load(Relaxed),
            at_end: counters.at_end.load(Relaxed),
        }
    }

    fn all_since(&self, before: &Self) -> bool {
        self.discards > before.discards && self.zeroes > before.zeroes && self.at_end > before.at_end
    }
}

/// Ten deltas of disks of odd sizes, each with writes, discards, zeroes and writes to the very end of a disk in it,
/// and with the guest writing on during every copy.
#[tokio::test(flavor = "multi_thread")]
async fn ten_increments_of_a_vm_that_never_rests() -> anyhow::Result<()> {
    let sizes = [("root", 40 * MIB + 3 * 512), ("data", 7 * MIB + 77 * 512), ("tiny", 512)];
    let world = World::start(&Options::live(&sizes)).await?;
    let whole =
        |&(key, size): &(&str, u64)| WriterDisk { key: key.to_owned(), range: ByteRange::new(0, size) };
    let options = WriterOptions { seed: 10, rate: Some(6 * MIB), largest: 128 << 10 };
    // The tiny disk's guest is one of its own: each of its writes is at the end.
    let slow = WriterOptions { rate: Some(16 << 10), ..options.clone() };
    let (large, tiny) = sizes.split_at(2);
    let large = world.live()?.writer_on(large.iter().map(whole).collect(), &options);
    let writers = [large, world.live()?.writer_on(tiny.iter().map(whole).collect(), &slow)];
    let counters = writers[0].counters();
    world.begin().await?;
    let mut copied_while_written = 0;
    let mut planned_in_part = 0;
    for cycle in 0..=10 {
        let before = Done::so_far(counters);
        eventually("writes of every kind", Duration::from_secs(60), || async {
            Ok(Done::so_far(counters).all_since(&before).then_some(()))
        })
        .await?;
        if cycle % 3 == 1 {
            // Its snapshot is taken among writes: one that is neither in it nor in the changes since would be missing
            // from all that follow.
            world.sync().await?;
        }
        let (job, source) = sync_begun(&world, &writers).await?;
        let requests = counters.requests.load(Relaxed);
        let m = world.synced().await?;
        copied_while_written += u32::from(counters.requests.load(Relaxed) > requests);
        let last = m.cycle.clone().unwrap_or_default();
        assert_eq!(
            (last.job_id.as_str(), last.status.as_str()),
            (job.as_str(), "completed"),
            "cycle {cycle}"
        );
        assert_replicated(&world, &m, &source)?;
        let kind = if cycle == 0 { v1::CycleKindName::Full } else { v1::CycleKindName::Incremental };
        assert_eq!(last.kind(), kind, "cycle {cycle}");
        let root = last.disks.iter().find(|d| d.key == "root").cloned().unwrap_or_default();
        planned_in_part += u32::from(root.planned_bytes < root.size_bytes);
    }
    assert!(copied_while_written >= 8, "the guest wrote during {copied_while_written} of 11 copies");
    assert!(planned_in_part >= 8, "{planned_in_part} of 10 increments were smaller than the disk");
    // The commit comes first, then the end of what it made superfluous.
    world
        .wait("the last two restore points", Duration::from_secs(30), |m| m.restore_points.len() == 2)
        .await?;
    for arm in [false, true] {
        let (verdict, mismatches) = world.verify(arm).await?;
        assert!(verdict.equal && verdict.compared_bytes > 0, "source arm {arm}: {mismatches:?}");
    }
    Ok(())
}
