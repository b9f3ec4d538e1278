//! Test failovers where something of the host is missing: room, QEMU, a volume that is let go. Each ends with its own code,
//! leaves nothing, and replication goes on.

use crate::faults::{SmallDisk, source_file};
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Machines, Options, VM_UUID, World, eventually, hash_file};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(90);
const CONFIGURATION: &str = "[vm.configuration]\ncpus = 1\nmemory = \"64MiB\"\n";

/// Refused with this code, and nothing is left of it.
async fn fails(world: &World, machines: &Machines, more: &[&str], with: &[&str]) -> anyhow::Result<()> {
    let arguments = [&["failover", "test", VM_UUID, "--skip-virtio-injection", "--wait"][..], more].concat();
    let (code, error) = world.refused(&arguments).await?;
    let said = with.iter().all(|part| error.contains(part));
    ensure!(code == 1 && said, "{code}: not all of {with:?} in {error}");
    let left = machines.left()?;
    ensure!(left.is_empty(), "{left:?} is left after {error}");
    Ok(())
}

async fn equal(world: &World) -> anyhow::Result<()> {
    let (verdict, mismatches) = world.verify(false).await?;
    ensure!(verdict.equal, "{mismatches:?}");
    Ok(())
}

/// Takes what is free of a file system, but for so much.
fn fill(disk: &Path, but: u64) -> anyhow::Result<PathBuf> {
    let of = rustix::fs::statvfs(disk)?;
    let free = (of.f_bavail * of.f_frsize).checked_sub(but).context("less is free")?;
    let file = disk.join("somebody-elses");
    std::fs::write(&file, vec![1; usize::try_from(free)?])?;
    Ok(file)
}

/// The first disk's clone fits, the second one's does not. Asked before, it is known; not asked, it is found out on the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_target_fails_a_test_and_nothing_else() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let [root, data] = ["root.raw", "data.raw"].map(|name| temp.path().join(name));
    source_file(&root, 9 * MIB, 2)?;
    source_file(&data, 9 * MIB, 3)?;
    let Some(disk) = SmallDisk::mount(&temp.path().join("replicas"), "80m")? else {
        eprintln!("skipped: mounting a file system needs root");
        return Ok(());
    };
    let options = Options::files(&[("root", &root), ("data", &data)]);
    let replicas = Some(disk.0.clone());
    let world =
        World::start(&Options { replicas, configuration: CONFIGURATION.to_owned(), ..options }).await?;
    // Where the harness looks for what is left.
    std::os::unix::fs::symlink(&disk.0, world.dir.join("replicas"))?;
    let machines = Machines::of(&world);
    world.begin().await?;
    world.sync().await?;
    let others = fill(&disk.0, 8 * MIB)?;
    fails(&world, &machines, &[], &["VALIDATION_FAILED", "free space"]).await?;
    fails(&world, &machines, &["--skip-validation"], &["SNAPSHOT_FAILED", "No space left"]).await?;
    equal(&world).await?;
    std::fs::remove_file(others)?;
    let m = world.sync().await?;
    ensure!(hash_file(&world.replica(&m, "root")?)? == hash_file(&root)?, "the replica is not the source");
    equal(&world).await?;
    // And the same test, with room for it.
    let made = ["failover", "test", VM_UUID, "--skip-virtio-injection", "--wait"];
    let made = world.said_json(&made).await?;
    let id = made["job_id"].as_str().with_context(|| format!("no job in {made}"))?.to_owned();
    ensure!(machines.processes().len() == 1, "{:?}", machines.processes());
    world.said(&["failover", "cleanup", &id, "--wait"]).await?;
    let left = machines.left()?;
    ensure!(left.is_empty(), "{left:?} is left");
    Ok(())
}

/// A control plane whose PATH has no QEMU says so before it makes anything, and what to install.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_qemu_is_told_what_to_install() -> anyhow::Result<()> {
    let disks = Options::live(&[("root", 4 * MIB)]);
    let mut world = World::start(&Options { configuration: CONFIGURATION.to_owned(), ..disks }).await?;
    let machines = Machines::of(&world);
    world.begin().await?;
    world.sync().await?;
    let empty = tempfile::tempdir()?;
    let path = format!("PATH={}", empty.path().display());
    world.oma_restart(&["env", &path])?;
    let said = ["VALIDATION_FAILED", "qemu-system-x86_64", "deploy/install-deps.sh runtime"];
    fails(&world, &machines, &[], &said).await?;
    // Nobody looked before: it is found out when the machine would start, and all is taken back.
    let late = ["qemu-system-x86_64", "deploy/install-deps.sh runtime"];
    fails(&world, &machines, &["--skip-validation"], &late).await?;
    // Replication needs none.
    let synced = eventually("a cycle", PATIENCE, || async { Ok(world.sync().await.ok()) });
    synced.await?;
    equal(&world).await
}

/// Somebody looks at a clone while it is to be removed: that waits for him, then for an operator's word, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_up_waits_for_a_volume_that_is_open() -> anyhow::Result<()> {
    let disks = Options::live(&[("root", 4 * MIB)]);
    let world = World::start(&Options { configuration: CONFIGURATION.to_owned(), ..disks }).await?;
    let machines = Machines::of(&world);
    world.begin().await?;
    world.sync().await?;
    let made = ["failover", "test", VM_UUID, "--skip-virtio-injection", "--wait"];
    let made = world.said_json(&made).await?;
    let id = made["job_id"].as_str().with_context(|| format!("no job in {made}"))?.to_owned();
    let clone = machines.left()?.into_iter().find(|name| name.starts_with("cs-")).context("no clone")?;
    let open = std::fs::File::open(world.dir.join("replicas/volumes").join(&clone))?;
    world.said(&["failover", "cleanup", &id]).await?;
    let last = std::cell::RefCell::new(Value::Null);
    let waits = eventually("the wait for a decision", PATIENCE, || async {
        let job = world.said_json(&["failover", "get", &id]).await?;
        let waits = job["cleanup"]["engine_state"] == "needs_attention";
        *last.borrow_mut() = job.clone();
        Ok(waits.then_some(job))
    });
    let waits = waits.await.with_context(|| format!("last seen: {}", last.borrow()))?;
    let cleanup = &waits["cleanup"];
    let why = cleanup["error_message"].as_str().unwrap_or_default();
    ensure!(cleanup["error_code"] == "VOLUME_IN_USE" && why.contains("retry"), "{waits}");
    ensure!(world.dir.join("replicas/volumes").join(&clone).exists(), "it was removed under its reader");
    world.sync().await?;
    drop(open);
    world.said(&["failover", "retry", &id]).await?;
    eventually("the end of the clean-up", PATIENCE, || async {
        Ok((world.said_json(&["failover", "get", &id]).await?["is_there"] == false).then_some(()))
    })
    .await?;
    let left = machines.left()?;
    ensure!(left.is_empty(), "{left:?} is left");
    equal(&world).await
}
