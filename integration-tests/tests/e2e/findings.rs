//! What a silent delta would hide (DESIGN §6 rule 5): disks that come, go and grow, change ids and snapshots that are
//! lost. Each is healed by comparing, or stops with its reason; nothing is copied on a guess.

use crate::verify::flip;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, World, eventually, hash_file, write_agent_config};
use integration_tests::live_vm::LiveVm;
use proto::v1;
use serde_json::{Value, json};
use shared::tls::Role;
use std::time::Duration;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The guest fills a range with noise.
pub(crate) fn guest_writes(vm: &LiveVm, key: &str, start: u64, length: u64, seed: u64) -> anyhow::Result<()> {
    let mut guest = vm.guest(key)?;
    let mut noise = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut bytes = vec![0; usize::try_from(MIB)?];
    let mut at = start;
    while at < start + length {
        let part = usize::try_from((start + length - at).min(MIB))?;
        noise.fill(&mut bytes[..part]);
        guest.write(at, &bytes[..part])?;
        at += part as u64;
    }
    guest.flush()
}

/// Every replica is its live disk, and both arms of verification say so.
pub(crate) async fn equal(world: &World, m: &v1::Migration) -> anyhow::Result<()> {
    for disk in &m.disks {
        let same = hash_file(&world.replica(m, &disk.key)?)? == world.live()?.hash_disk(&disk.key)?;
        ensure!(same, "the replica of {} is not its disk", disk.key);
    }
    for source in [false, true] {
        let (verdict, mismatches) = world.verify(source).await?;
        ensure!(verdict.equal, "{mismatches:?}");
    }
    Ok(())
}

/// The operator tells the agent which disks the VM has now.
pub(crate) fn configure(world: &World, options: &Options) -> anyhow::Result<()> {
    let files = world.ca.files(Role::Agent, "vma-01");
    write_agent_config(&world.dir, &files, &world.address, options, world.vm.as_ref(), "vma.toml")
}

/// A sync that must stop with this finding; the replicas are as they were, and so are the restore points.
pub(crate) async fn stops(world: &World, kind: v1::FindingKind, key: &str) -> anyhow::Result<()> {
    let before = world.get().await?;
    let replicas = |m: &v1::Migration| {
        m.disks.iter().map(|d| hash_file(&world.replica(m, &d.key)?)).collect::<anyhow::Result<Vec<_>>>()
    };
    let content = replicas(&before)?;
    world.act(v1::Action::Sync).await?;
    let m = world.wait("the end of the sync", SOON, |m| m.state() != v1::State::Running).await?;
    let reason = kind.as_str_name().trim_start_matches("FINDING_KIND_");
    ensure!(m.phase() == v1::Phase::Sync && m.state() == v1::State::Failed, "{m:?}");
    ensure!(m.error_reason == reason && m.error_message.contains(key), "{m:?}");
    let finding = m.findings.iter().find(|f| f.kind() == kind && f.disk_key == key);
    ensure!(finding.is_some_and(|f| f.message.contains(key)), "{m:?}");
    ensure!(m.restore_points == before.restore_points, "a cycle with a finding was committed");
    ensure!(replicas(&m)? == content, "something was copied before the finding");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_that_come_and_go_and_grow_stop_the_sync() -> anyhow::Result<()> {
    let options = Options::live(&[("root", 4 * MIB), ("data", 2 * MIB)]);
    let mut world = World::start(&options).await?;
    guest_writes(world.live()?, "root", 0, MIB, 1)?;
    guest_writes(world.live()?, "data", 0, MIB, 2)?;
    world.begin().await?;
    world.sync().await?;

    world.vm.as_mut().context("live")?.add_disk("extra", MIB)?;
    configure(&world, &options)?;
    world.agent_restart()?;
    stops(&world, v1::FindingKind::DiskAdded, "extra").await?;
    world.vm.as_mut().context("live")?.remove_disk("extra")?;
    configure(&world, &options)?;
    world.agent_restart()?;
    guest_writes(world.live()?, "root", 2 * MIB, MIB, 3)?;
    let m = world.sync().await?;
    ensure!(m.findings.is_empty(), "the finding of the failed sync is over: {m:?}");
    equal(&world, &m).await?;

    // Resized behind the agent's back: its configuration has no sizes.
    quiet(&world).await?;
    world.vm.as_mut().context("live")?.resize_disk("data", 3 * MIB)?;
    guest_writes(world.live()?, "root", 3 * MIB, MIB, 4)?;
    stops(&world, v1::FindingKind::DiskResized, "data").await?;

    // Removed: from the VM only, then from the configuration as well.
    quiet(&world).await?;
    world.vm.as_mut().context("live")?.remove_disk("data")?;
    stops(&world, v1::FindingKind::DiskRemoved, "data").await?;
    configure(&world, &options)?;
    world.agent_restart()?;
    stops(&world, v1::FindingKind::DiskRemoved, "data").await
}

/// A migration that is begun anew has the new size; and what was found stays to be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_resized_disk_is_begun_anew_at_its_new_size() -> anyhow::Result<()> {
    let mut world = World::start(&Options::live(&[("root", 2 * MIB)])).await?;
    world.begin().await?;
    world.sync().await?;
    quiet(&world).await?;
    world.vm.as_mut().context("live")?.resize_disk("root", 3 * MIB)?;
    stops(&world, v1::FindingKind::DiskResized, "root").await?;
    let find = ["-readonly", "-cmd", ".timeout 5000", "SELECT body FROM events WHERE kind = 'finding'"];
    let mut sqlite = std::process::Command::new("sqlite3");
    let output = sqlite.args(&find[..3]).arg(world.dir.join("oma.db")).arg(find[3]).output()?;
    let events = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(events.contains("DISK_RESIZED"), "{events} {}", String::from_utf8_lossy(&output.stderr));
    world.act(v1::Action::Abort).await?;
    world.wait("the end of the abort", SOON, |m| !m.finished_at.is_empty()).await?;
    world.begin().await?;
    let m = world.sync().await?;
    ensure!(m.disks[0].size_bytes == 3 * MIB, "{m:?}");
    equal(&world, &m).await
}

/// Everything that the source has of ours, bitmaps and nodes and exports, by name.
pub(crate) fn ours_at_the_source(vm: &LiveVm) -> anyhow::Result<Vec<String>> {
    let nodes = vm.execute("query-named-block-nodes", json!({ "flat": true }))?;
    let exports = vm.execute("query-block-exports", json!({}))?;
    let mut names = Vec::new();
    let mut take = |value: &Value| {
        let name = value.as_str().unwrap_or_default();
        if name.starts_with("mk-") || name.starts_with("frozen:") {
            names.push(name.to_owned());
        }
    };
    for node in nodes.as_array().context("nodes")? {
        take(&node["node-name"]);
        for bitmap in node["dirty-bitmaps"].as_array().into_iter().flatten() {
            take(&bitmap["name"]);
        }
    }
    exports.as_array().context("exports")?.iter().for_each(|export| take(&export["id"]));
    Ok(names)
}

/// Waits until the agent has taken its last snapshot away; change ids stay.
pub(crate) async fn quiet(world: &World) -> anyhow::Result<()> {
    eventually("the source without a snapshot", SOON, || async {
        let names = ours_at_the_source(world.live()?)?;
        let change_ids_only = names.iter().all(|name| name.starts_with("mk-job-"));
        Ok(change_ids_only.then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_change_id_is_healed_by_comparing() -> anyhow::Result<()> {
    let mut world = World::start(&Options::live(&[("root", 24 * MIB), ("data", 2 * MIB)])).await?;
    guest_writes(world.live()?, "root", 0, 20 * MIB, 1)?;
    world.begin().await?;
    let m = world.sync().await?;
    quiet(&world).await?;
    // Somebody removes the bitmap; then the guest writes.
    let change_id = &m.disks.iter().find(|d| d.key == "root").context("root")?.change_id;
    let node = world.live()?.disks()[0].node.clone();
    world.live()?.execute("block-dirty-bitmap-remove", json!({ "node": node, "name": change_id }))?;
    guest_writes(world.live()?, "root", 7 * MIB + 512, MIB, 2)?;
    let m = world.sync().await?;
    compared(&m, "root", 3 * MIB)?;
    equal(&world, &m).await?;
    // The power fails: what QEMU had not stored is inconsistent, on all disks. And the storage has lost a byte that
    // nobody looked at: it is the replica that is compared, not what it should hold.
    quiet(&world).await?;
    flip(&world.replica(&m, "root")?, 15 * MIB + 4711)?;
    guest_writes(world.live()?, "root", 3 * MIB, MIB, 3)?;
    guest_writes(world.live()?, "data", 0, MIB, 4)?;
    world.vm.as_mut().context("live")?.kill9();
    world.vm.as_mut().context("live")?.restart()?;
    let m = world.sync().await?;
    compared(&m, "root", 3 * MIB)?;
    compared(&m, "data", 2 * MIB)?;
    equal(&world, &m).await?;
    // From here on increments are small again.
    guest_writes(world.live()?, "root", 0, 1024, 5)?;
    let m = world.sync().await?;
    let disk = m.cycle.iter().flat_map(|c| &c.disks).find(|d| d.key == "root").context("root")?;
    ensure!(disk.strategy() == v1::SyncStrategy::Changed && disk.read_bytes <= MIB, "{disk:?}");
    equal(&world, &m).await
}

/// What is found about one disk is known at once, however long the other takes; and that one goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_finding_does_not_wait_for_the_other_disks() -> anyhow::Result<()> {
    const BUSY: u64 = 384 * MIB;
    let world = World::start(&Options::live(&[("root", BUSY), ("data", 2 * MIB)])).await?;
    world.begin().await?;
    let m = world.sync().await?;
    quiet(&world).await?;
    let change_id = &m.disks.iter().find(|d| d.key == "data").context("data")?.change_id;
    let node = world.live()?.disks()[1].node.clone();
    world.live()?.execute("block-dirty-bitmap-remove", json!({ "node": node, "name": change_id }))?;
    guest_writes(world.live()?, "root", 0, BUSY, 1)?;
    world.act(v1::Action::Sync).await?;
    let disk =
        |m: &v1::Migration, key: &str| m.cycle.iter().flat_map(|c| &c.disks).find(|d| d.key == key).cloned();
    let healed =
        |m: &v1::Migration| disk(m, "data").is_some_and(|data| data.strategy() == v1::SyncStrategy::HashDiff);
    let m = world.wait("the finding about data", SOON, healed).await?;
    let root = disk(&m, "root").context("root")?;
    ensure!(root.done_bytes < BUSY, "the finding came after all of the other disk: {root:?}");
    let m = world.wait("the end of the sync", SOON, |m| m.state() != v1::State::Running).await?;
    equal(&world, &m).await?;
    let root = disk(&m, "root").context("root")?;
    ensure!(root.read_bytes <= BUSY + 64 * MIB, "{root:?}");
    Ok(())
}

/// The disk was compared as a whole, and only what differs was sent.
fn compared(m: &v1::Migration, key: &str, most: u64) -> anyhow::Result<()> {
    let disk = m.cycle.iter().flat_map(|c| &c.disks).find(|d| d.key == key).context("no such disk")?;
    ensure!(disk.strategy() == v1::SyncStrategy::HashDiff, "{disk:?}");
    ensure!(disk.wire_bytes <= most, "a comparison is cheap: {disk:?}");
    Ok(())
}
