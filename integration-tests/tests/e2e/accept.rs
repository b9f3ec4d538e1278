//! A source whose disks change while it is protected: each finding ends where the operator can go on. What is accepted is
//! copied or compared whole, the other disks go on by their changed blocks, and what was a restore point stays one.

use crate::findings::{MIB, SOON, configure, equal, guest_writes, quiet, stops};
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, VM_UUID, World, eventually, hash_file};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use std::collections::BTreeSet;

async fn accept(world: &World, keys: &[&str]) -> anyhow::Result<v1::Migration> {
    let disk_keys = keys.iter().map(ToString::to_string).collect();
    let request = v1::AcceptRequest { vm: VM_UUID.to_owned(), disk_keys };
    let answer = MigrationServiceClient::new(world.channel().await?).accept(request).await?;
    answer.into_inner().migration.context("no migration in the answer")
}

/// Names and hashes of a restore point's volumes.
fn restore_point(world: &World, point: &v1::RestorePoint) -> anyhow::Result<BTreeSet<(String, [u8; 32])>> {
    let folder = world.dir.join("replicas/snapshots").join(format!("rp-{}", point.job_id));
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(&folder)? {
        let entry = entry?;
        found.insert((entry.file_name().to_string_lossy().into_owned(), hash_file(&entry.path())?));
    }
    Ok(found)
}

/// The newest restore point is the live disks, no more and no less; and so is the replica, by both arms.
async fn whole(world: &World, m: &v1::Migration) -> anyhow::Result<()> {
    let keys: Vec<_> = m.disks.iter().map(|d| d.key.as_str()).collect();
    let live: Vec<_> = world.live()?.disks().iter().map(|d| d.key.as_str()).collect();
    ensure!(keys == live, "protected are {keys:?}, the VM has {live:?}");
    let point = restore_point(world, m.restore_points.last().context("no restore point")?)?;
    ensure!(point.len() == keys.len(), "{point:?}");
    for key in keys {
        let same = hash_file(&world.restore_point(m, key)?)? == world.live()?.hash_disk(key)?;
        ensure!(same, "the restore point of {key} is not its disk");
    }
    equal(world, m).await
}

/// Every volume is somebody's, and everybody has one.
fn volumes_are_owned(world: &World, m: &v1::Migration) -> anyhow::Result<()> {
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(world.dir.join("replicas/volumes"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Beside each lies what it says of itself.
        if name.ends_with(".img") {
            there.insert(name);
        }
    }
    let ids = m.disks.iter().map(|d| &d.disk_id).chain(m.retired_disks.iter().map(|d| &d.disk_id));
    let owned: BTreeSet<_> = ids.map(|id| format!("mk-{id}.img")).collect();
    ensure!(there == owned, "volumes {there:?}, owned are {owned:?}");
    Ok(())
}

fn strategy(m: &v1::Migration, key: &str) -> Option<v1::SyncStrategy> {
    m.cycle.iter().flat_map(|c| &c.disks).find(|d| d.key == key).map(v1::CycleDisk::strategy)
}

/// The agent has told what the VM has now: so many disks, of so many bytes.
async fn seen(world: &World, disks: usize, bytes: u64) -> anyhow::Result<()> {
    use proto::v1::inventory_service_client::InventoryServiceClient;
    eventually("the changed disks in the inventory", SOON, || async {
        let channel = world.channel().await?;
        let answer = InventoryServiceClient::new(channel).list_vms(v1::ListVmsRequest::default()).await?;
        let vms = answer.into_inner().vms;
        let vm = vms.first().and_then(|vm| vm.vm.as_ref()).context("a VM")?;
        let total: u64 = vm.disks.iter().map(|d| d.size_bytes).sum();
        Ok((vm.disks.len() == disks && total == bytes).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_disk_is_accepted_and_copied_whole() -> anyhow::Result<()> {
    let options = Options::live(&[("root", 4 * MIB), ("data", 2 * MIB)]);
    let mut world = World::start(&options).await?;
    guest_writes(world.live()?, "root", 0, 3 * MIB, 1)?;
    world.begin().await?;
    let before = world.sync().await?;
    let point = restore_point(&world, &before.restore_points[0])?;
    world.vm.as_mut().context("live")?.add_disk("extra", MIB)?;
    configure(&world, &options)?;
    world.agent_restart()?;
    guest_writes(world.live()?, "extra", 4096, MIB / 2, 2)?;
    guest_writes(world.live()?, "root", 3 * MIB, 65536, 3)?;
    stops(&world, v1::FindingKind::DiskAdded, "extra").await?;
    let stopped = world.get().await?;
    for way in ["accept", "hold"] {
        let command = format!("`migratekit migration {way} {}", stopped.vm_name);
        ensure!(stopped.findings[0].message.contains(&command), "{stopped:?}");
    }
    let wrong = accept(&world, &["other"]).await.expect_err("no such disk");
    ensure!(format!("{wrong:#}").contains("vm list"), "{wrong:#}");

    // Exactly as the finding says.
    let (_, command) = stopped.error_message.split_once("`migratekit ").context("a command")?;
    let command = command.split_once('`').context("its end")?.0;
    let said = world.said(&command.split(' ').collect::<Vec<_>>()).await?;
    ensure!(said.contains("extra"), "{said}");
    let accepted = accept(&world, &[]).await.context("again: the same")?;
    ensure!(accepted.findings.is_empty() && accepted.error_reason.is_empty(), "{accepted:?}");
    ensure!(accepted.restore_points.len() == 1 && accepted.disks.len() == 3, "{accepted:?}");
    // Nothing of it is copied yet: nothing can be verified.
    for source in [false, true] {
        let refused = world.verify(source).await.expect_err("not synced");
        ensure!(format!("{refused:#}").contains("extra"), "{refused:#}");
    }
    let m = world.sync().await?;
    ensure!(strategy(&m, "extra") == Some(v1::SyncStrategy::Full), "{m:?}");
    ensure!(strategy(&m, "root") == Some(v1::SyncStrategy::Changed), "{m:?}");
    let root = m.cycle.iter().flat_map(|c| &c.disks).find(|d| d.key == "root").context("root")?;
    ensure!(root.read_bytes <= MIB, "of the others only what changed is read: {root:?}");
    whole(&world, &m).await?;
    ensure!(restore_point(&world, &before.restore_points[0])? == point, "the old restore point has changed");
    volumes_are_owned(&world, &m)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_disk_leaves_with_its_last_restore_point() -> anyhow::Result<()> {
    let options = Options::live(&[("root", 2 * MIB), ("data", 2 * MIB)]);
    let mut world = World::start(&options).await?;
    guest_writes(world.live()?, "data", 0, MIB, 1)?;
    world.begin().await?;
    let before = world.sync().await?;
    let point = restore_point(&world, &before.restore_points[0])?;
    quiet(&world).await?;
    world.vm.as_mut().context("live")?.remove_disk("data")?;
    configure(&world, &options)?;
    world.agent_restart()?;
    stops(&world, v1::FindingKind::DiskRemoved, "data").await?;
    let m = accept(&world, &["data"]).await?;
    let again = accept(&world, &["data"]).await?;
    ensure!(m.retired_disks == again.retired_disks && m.retired_disks.len() == 1, "{again:?}");
    let said = world.said(&["migration", "get", VM_UUID]).await?;
    ensure!(said.contains("retired     data"), "{said}");
    ensure!((m.retired_disks[0].key.as_str(), m.retired_disks[0].restore_points) == ("data", 1), "{m:?}");
    ensure!(m.retired_disks[0].retired_by.contains("admin"), "{m:?}");
    for round in [1, 2] {
        guest_writes(world.live()?, "root", 0, 65536, round)?;
        let m = world.sync().await?;
        whole(&world, &m).await?;
        // The third commit takes the old one away.
        if round == 1 {
            ensure!(
                restore_point(&world, &before.restore_points[0])? == point,
                "the old restore point changed"
            );
            ensure!(m.retired_disks.len() == 1, "{m:?}");
            volumes_are_owned(&world, &m)?;
        }
    }
    let gone = |m: &v1::Migration| m.retired_disks.is_empty() && m.restore_points.len() == 2;
    let m = world.wait("the end of the retired disk", SOON, gone).await?;
    volumes_are_owned(&world, &m)?;
    let id = &before.disks.iter().find(|d| d.key == "data").context("data")?.disk_id;
    for entry in std::fs::read_dir(world.dir.join("oma/manifests"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(!name.starts_with(id.as_str()), "a manifest of the retired disk is left: {name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resized_disk_is_accepted_at_its_new_size() -> anyhow::Result<()> {
    let mut world = World::start(&Options::live(&[("root", 2 * MIB), ("data", 2 * MIB)])).await?;
    guest_writes(world.live()?, "root", 0, 2 * MIB, 1)?;
    guest_writes(world.live()?, "data", 0, 2 * MIB, 2)?;
    world.begin().await?;
    let before = world.sync().await?;
    let point = restore_point(&world, &before.restore_points[0])?;
    quiet(&world).await?;
    world.vm.as_mut().context("live")?.resize_disk("root", 3 * MIB + 512)?;
    guest_writes(world.live()?, "data", MIB, 65536, 3)?;
    stops(&world, v1::FindingKind::DiskResized, "root").await?;
    seen(&world, 2, 5 * MIB + 512).await?;
    quiet(&world).await?;
    let m = accept(&world, &[]).await?;
    ensure!(m.disks[0].disk_id == before.disks[0].disk_id && m.disks[0].size_bytes == 3 * MIB + 512, "{m:?}");
    let m = world.sync().await?;
    ensure!(strategy(&m, "root") == Some(v1::SyncStrategy::HashDiff), "{m:?}");
    ensure!(strategy(&m, "data") == Some(v1::SyncStrategy::Changed), "{m:?}");
    whole(&world, &m).await?;
    ensure!(restore_point(&world, &before.restore_points[0])? == point, "the old restore point has changed");

    // Shrunk: a volume of its own; the old one stays for the restore points.
    quiet(&world).await?;
    world.vm.as_mut().context("live")?.resize_disk("root", MIB)?;
    stops(&world, v1::FindingKind::DiskResized, "root").await?;
    seen(&world, 2, 3 * MIB).await?;
    let m = accept(&world, &[]).await?;
    ensure!(m.disks[0].disk_id != before.disks[0].disk_id && m.disks[0].key == "root", "{m:?}");
    ensure!(m.retired_disks.len() == 1 && m.retired_disks[0].restore_points == 2, "{m:?}");
    let m = world.sync().await?;
    ensure!(strategy(&m, "root") == Some(v1::SyncStrategy::Full), "{m:?}");
    whole(&world, &m).await?;
    volumes_are_owned(&world, &m)
}

/// kill −9 of the control plane by the kernel at the calls that make and enlarge volumes, and right after the answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_accept_that_is_cut_short_is_taken_up() -> anyhow::Result<()> {
    let options = Options::live(&[("root", 2 * MIB), ("data", MIB)]);
    let mut world = World::start(&options).await?;
    guest_writes(world.live()?, "root", 0, 2 * MIB, 1)?;
    world.begin().await?;
    let mut m = world.sync().await?;
    let volumes = world.dir.join("replicas/volumes").display().to_string();
    let mut root = 2 * MIB;
    // A volume half made; one that is there and not recorded; one about to grow; one grown and not recorded; the answer.
    for (round, call) in (0u64..).zip(["rename", "fsync-folder", "ftruncate", "fsync", "answer"]) {
        quiet(&world).await?;
        root += MIB;
        world.vm.as_mut().context("live")?.resize_disk("root", root)?;
        let extra = format!("extra-{round}");
        world.vm.as_mut().context("live")?.add_disk(&extra, MIB)?;
        configure(&world, &options)?;
        world.agent_restart()?;
        guest_writes(world.live()?, &extra, 0, MIB, round)?;
        stops(&world, v1::FindingKind::DiskResized, "root").await?;
        let replica = world.replica(&m, "root")?.display().to_string();
        let (call, path) = match call {
            "fsync-folder" => ("fsync", Some(&volumes)),
            "ftruncate" | "fsync" => (call, Some(&replica)),
            other => (other, None),
        };
        let inject = format!("inject={call}:signal=SIGKILL");
        let trace = format!("trace={call}");
        let mut tracer: Vec<&str> = "strace -D -f -q -o /dev/null".split(' ').collect();
        tracer.extend(["-e", &trace, "-e", &inject]);
        tracer.extend(path.into_iter().flat_map(|path| ["-P", path.as_str()]));
        world.oma_restart(if call == "answer" { &[] } else { &tracer })?;
        world.wait("the agent", SOON, |m| m.agent_connected).await?;
        match (accept(&world, &[]).await, call) {
            // Where the volume is made while it is answered, the answer is lost.
            (Ok(_), _) | (Err(_), "rename" | "fsync" | "ftruncate") => {}
            (Err(error), _) => return Err(error),
        }
        if call != "answer" {
            let stat = format!("/proc/{}/stat", world.oma.pid());
            eventually("the end of the control plane", SOON, || async {
                Ok(std::fs::read_to_string(&stat).map_or(true, |s| s.contains(") Z ")).then_some(()))
            })
            .await
            .with_context(|| format!("round {round}: it was not killed at {call}"))?;
        }
        world.oma_restart(&[])?;
        world.wait("the agent", SOON, |m| m.agent_connected).await?;
        accept(&world, &[]).await.context("again")?;
        m = world.sync().await?;
        whole(&world, &m).await.with_context(|| format!("round {round}"))?;
        volumes_are_owned(&world, &m)?;
    }
    Ok(())
}
