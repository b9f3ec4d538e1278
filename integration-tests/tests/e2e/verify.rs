//! Both arms of verification find what they are for (DESIGN §6 rule 10): the replica's arm what storage lost, the
//! source's what change tracking left out.

use crate::fencing::{DISKS, by_hand};
use crate::hand::{Hand, HandAgent, LEAF, open_of, reason};
use anyhow::Context as _;
use integration_tests::harness::{Options, World, hash_file};
use proto::v1::{self, cycle_report::Event};
use rustix::fs::{Mode, OFlags};
use serde_json::json;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

/// Changes one byte around the page cache.
pub(crate) fn flip(path: &Path, offset: u64) -> anyhow::Result<()> {
    const BLOCK: usize = 4096;
    let fd: OwnedFd = rustix::fs::open(path, OFlags::RDWR | OFlags::DIRECT, Mode::empty())?;
    let mut memory = vec![0u8; 2 * BLOCK];
    let skip = memory.as_ptr().align_offset(BLOCK);
    let block = &mut memory[skip..skip + BLOCK];
    let start = offset / BLOCK as u64 * BLOCK as u64;
    anyhow::ensure!(rustix::io::pread(&fd, &mut *block, start)? == BLOCK, "a short read");
    block[usize::try_from(offset - start)?] ^= 0x01;
    anyhow::ensure!(rustix::io::pwrite(&fd, block, start)? == BLOCK, "a short write");
    Ok(())
}

/// A file system in a file, so that there is a place below its page cache. `None` without the rights.
struct Below {
    image: PathBuf,
    at: PathBuf,
}

impl Below {
    fn mount(dir: &Path, size: u64) -> anyhow::Result<Option<Self>> {
        let this = Self { image: dir.join("image"), at: dir.join("mounted") };
        std::fs::File::create(&this.image)?.set_len(size)?;
        std::fs::create_dir(&this.at)?;
        let made = Command::new("mkfs.ext4").args(["-q", "-b", "4096"]).arg(&this.image).status()?.success();
        let mounted = made
            && Command::new("mount").args(["-o", "loop"]).args([&this.image, &this.at]).status()?.success();
        Ok(mounted.then_some(this))
    }

    /// Changes the first of these bytes wherever the image holds them (the replica, its restore point).
    fn damage(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let image = std::fs::read(&self.image)?;
        let file = std::fs::OpenOptions::new().write(true).open(&self.image)?;
        let mut found = 0;
        for (block, at) in image.chunks(4096).zip((0u64..).step_by(4096)) {
            if block.starts_with(bytes) {
                file.write_all_at(&[bytes[0] ^ 1], at)?;
                found += 1;
            }
        }
        anyhow::ensure!(found > 0, "the image does not hold these bytes");
        Ok(file.sync_all()?)
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// The storage lost a byte, and the page cache does not know: every program that reads the file gets what was written.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_cache_hides_is_found() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let Some(below) = Below::mount(temp.path(), 64 * MIB)? else {
        eprintln!("skipped: mounting a file system needs root");
        return Ok(());
    };
    let options = Options { replicas: Some(below.at.clone()), ..Options::live(&[("root", 4 * MIB)]) };
    let world = World::start(&options).await?;
    guest_writes(&world, "root", 0..8, 1)?;
    world.begin().await?;
    let m = world.sync().await?;
    let replica = world.replica(&m, "root")?;
    let leaf = usize::try_from(5 * LEAF)?;
    let cached = std::fs::read(&replica)?;
    below.damage(&cached[leaf..leaf + 512])?;
    assert_eq!(std::fs::read(&replica)?, cached, "the page cache does not hide it: nothing is tested");
    let (verdict, mismatches) = world.verify(false).await?;
    assert!(!verdict.equal);
    let [found] = &mismatches[..] else { anyhow::bail!("{mismatches:?}") };
    assert_eq!((found.offset, found.length), (5 * LEAF, LEAF));
    Ok(())
}

/// Fills leaves of the live disk with noise.
fn guest_writes(world: &World, key: &str, leaves: std::ops::Range<u64>, seed: u64) -> anyhow::Result<()> {
    let mut guest = world.live()?.guest(key)?;
    for leaf in leaves {
        let mut noise = blake3::Hasher::new();
        noise.update(&seed.to_le_bytes()).update(&leaf.to_le_bytes());
        let mut bytes = vec![0; usize::try_from(LEAF)?];
        noise.finalize_xof().fill(&mut bytes);
        guest.write(leaf * LEAF, &bytes)?;
    }
    guest.flush()
}

fn is_source(world: &World, m: &v1::Migration, key: &str) -> anyhow::Result<bool> {
    Ok(hash_file(&world.replica(m, key)?)? == world.live()?.hash_disk(key)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_storage_lost_is_named_and_healed() -> anyhow::Result<()> {
    let world = World::start(&Options::live(&[("root", 8 * MIB), ("data", 4 * MIB + 512)])).await?;
    for key in ["root", "data"] {
        guest_writes(&world, key, 0..64, 1)?;
    }
    world.begin().await?;
    let m = world.sync().await?;
    assert!(world.verify(false).await?.0.equal);
    // Leaf 17 of the second disk.
    let at = 17 * LEAF + 4711;
    flip(&world.replica(&m, "data")?, at)?;
    // A sync that changes the neighbours neither hides it nor takes it for good.
    guest_writes(&world, "data", 16..17, 2)?;
    guest_writes(&world, "data", 18..19, 2)?;
    let m = world.sync().await?;
    assert!(!is_source(&world, &m, "data")?, "the flip is not there: nothing is tested");
    for _ in 0..2 {
        let (verdict, mismatches) = world.verify(false).await?;
        assert!(!verdict.equal);
        assert_eq!(verdict.different_bytes, LEAF);
        let [found] = &mismatches[..] else { anyhow::bail!("{mismatches:?}") };
        assert_eq!((found.disk_key.as_str(), found.offset, found.length), ("data", 17 * LEAF, LEAF));
    }
    // The other arm sees nothing: source and manifest agree.
    let (verdict, mismatches) = world.verify(true).await?;
    assert!(verdict.equal, "{mismatches:?}");
    // What was found is sent with the next sync, although nothing changed there.
    let m = world.sync().await?;
    let read: u64 = m.cycle.iter().flat_map(|c| &c.disks).map(|d| d.read_bytes).sum();
    assert!(read <= 4 * LEAF, "the heal read {read} bytes");
    assert!(is_source(&world, &m, "data")? && is_source(&world, &m, "root")?);
    let (verdict, mismatches) = world.verify(false).await?;
    assert!(verdict.equal, "{mismatches:?}");
    Ok(())
}

/// The control plane's folder was lost, or is another host's: the agent hears at once that all is to be compared.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_manifest_costs_a_comparison() -> anyhow::Result<()> {
    let world = World::start(&Options::live(&[("root", 8 * MIB), ("data", 4 * MIB)])).await?;
    guest_writes(&world, "root", 0..32, 1)?;
    world.begin().await?;
    world.sync().await?;
    for entry in std::fs::read_dir(world.dir.join("oma/manifests"))? {
        std::fs::remove_file(entry?.path())?;
    }
    guest_writes(&world, "root", 40..42, 2)?;
    let m = world.sync().await?;
    assert!(is_source(&world, &m, "root")? && is_source(&world, &m, "data")?);
    for source in [false, true] {
        let (verdict, mismatches) = world.verify(source).await?;
        assert!(verdict.equal, "{mismatches:?}");
    }
    Ok(())
}

/// A bitmap with a hole: the guest wrote, and change tracking forgot.
#[tokio::test(flavor = "multi_thread")]
async fn what_change_tracking_left_out_is_named_and_healed() -> anyhow::Result<()> {
    let world = World::start(&Options::live(&[("root", 8 * MIB), ("data", 4 * MIB)])).await?;
    guest_writes(&world, "root", 0..32, 1)?;
    world.begin().await?;
    let m = world.sync().await?;
    let change_id = m.disks.iter().find(|d| d.key == "root").context("root")?.change_id.clone();
    guest_writes(&world, "root", 40..42, 2)?;
    let node = world.live()?.disks()[0].node.clone();
    world.live()?.execute("block-dirty-bitmap-clear", json!({ "node": node, "name": change_id }))?;
    guest_writes(&world, "root", 3..4, 3)?;
    let m = world.sync().await?;
    assert!(!is_source(&world, &m, "root")?, "the hole is not there: nothing is tested");
    // The replica is what it should be; what it should be is wrong.
    assert!(world.verify(false).await?.0.equal);
    let (verdict, mismatches) = world.verify(true).await?;
    assert!(!verdict.equal);
    assert_eq!(verdict.different_bytes, 2 * LEAF);
    let [found] = &mismatches[..] else { anyhow::bail!("{mismatches:?}") };
    assert_eq!((found.disk_key.as_str(), found.offset, found.length), ("root", 40 * LEAF, 2 * LEAF));
    let m = world.sync().await?;
    assert!(is_source(&world, &m, "root")?);
    for source in [false, true] {
        let (verdict, mismatches) = world.verify(source).await?;
        assert!(verdict.equal, "{mismatches:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_cycle_refuses_and_a_paused_one_is_left_out() -> anyhow::Result<()> {
    let (world, mut agent, cycle) = by_hand().await?;
    let size = DISKS[0].1;
    let refused = world.verify(false).await.err().context("nothing is committed")?;
    assert_eq!(said(&refused), "NOTHING_COMMITTED");
    let mut push = Hand::open(&agent.channel, open_of(&cycle, size)).await?;
    assert!(
        push.leaf(5, 5).await && push.zero(0, 5 * LEAF).await && push.zero(6 * LEAF, size - 6 * LEAF).await
    );
    push.finish().await?;
    world.synced().await?;

    world.act(v1::Action::Sync).await?;
    let cycle = agent.cycle(DISKS).await?;
    for source in [false, true] {
        let refused = world.verify(source).await.err().context("a cycle runs")?;
        assert_eq!(said(&refused), "CYCLE_RUNNING");
        assert!(refused.to_string().contains(&cycle.job_id), "{refused}");
    }
    let mut push = Hand::open(&agent.channel, open_of(&cycle, size)).await?;
    // One leaf arrives, one is only announced: neither is known any more.
    assert!(push.intent(5 * LEAF, 2 * LEAF).await && push.leaf(5, 6).await);
    push.wait_durable(LEAF).await?;
    pause(&world, &mut agent, &cycle).await?;
    let (verdict, mismatches) = world.verify(false).await?;
    assert!(verdict.equal, "{mismatches:?}");
    assert_eq!((verdict.unknown_bytes, verdict.compared_bytes), (2 * LEAF, size - 2 * LEAF));
    Ok(())
}

async fn pause(world: &World, agent: &mut HandAgent, cycle: &v1::DesiredCycle) -> anyhow::Result<()> {
    world.act(v1::Action::Pause).await?;
    agent.desired(|vm| vm.cycle.as_ref().is_some_and(|c| c.run() == v1::CycleRun::Pause)).await?;
    agent.report(&cycle.job_id, Event::Paused(v1::CyclePaused {})).await?;
    world.wait("sync/paused", SOON, |m| m.state() == v1::State::Paused).await?;
    Ok(())
}

fn said(error: &anyhow::Error) -> String {
    error.downcast_ref().map(reason).unwrap_or_default()
}
