//! The database is lost, the volumes are there: they are compared and taken back, not copied anew; nobody else's are.

use crate::findings::{MIB, SOON, guest_writes, ours_at_the_source, quiet};
use crate::hand::reason;
use crate::verify::flip;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, VM_UUID, World, eventually, hash_file};
use proto::v1;
use proto::v1::inventory_service_client::InventoryServiceClient;
use proto::v1::migration_service_client::MigrationServiceClient;
use serde_json::Value;
use std::path::PathBuf;
use tonic::Status;

const ROOT: u64 = 48 * MIB;
const DATA: u64 = 8 * MIB;

/// Kills the control plane; database and manifests are gone when it starts again.
fn lose_the_database(world: &mut World) -> anyhow::Result<()> {
    world.oma.kill();
    for entry in std::fs::read_dir(&world.dir)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("oma.db")) {
            // SQLite may be at it.
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
    }
    std::fs::remove_dir_all(world.dir.join("oma"))?;
    world.oma_restart(&[])
}

/// Waits until the agent is connected again.
pub(crate) async fn offered(world: &World) -> anyhow::Result<()> {
    eventually("the VM in the inventory", SOON, || async {
        let mut client = InventoryServiceClient::new(world.channel().await?);
        let answer = client.list_vms(v1::ListVmsRequest::default()).await?;
        Ok(answer.into_inner().vms.iter().any(|vm| vm.agent_connected).then_some(()))
    })
    .await
}

async fn adopt(world: &World, named: &[(&str, &str)]) -> anyhow::Result<Result<v1::AdoptResponse, Status>> {
    let volumes = named
        .iter()
        .map(|&(key, volume)| v1::AdoptedVolume { disk_key: key.to_owned(), volume: volume.to_owned() });
    let request = v1::AdoptRequest { vm: VM_UUID.to_owned(), volumes: volumes.collect() };
    let mut client = MigrationServiceClient::new(world.channel().await?);
    Ok(client.adopt(request).await.map(tonic::Response::into_inner))
}

/// As the operator does it; without the migration.
async fn by_terminal(world: &World) -> anyhow::Result<v1::AdoptResponse> {
    let said = world.said_json(&["migration", "adopt", "web"]).await?;
    let volumes = said["volumes"].as_array().context("volumes")?.iter();
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    let pair = |v: &Value| {
        anyhow::Ok(v1::AdoptedVolume { disk_key: text(&v["disk_key"])?, volume: text(&v["volume"])? })
    };
    let snapshots = said["old_snapshots"].as_array().context("snapshots")?.iter();
    Ok(v1::AdoptResponse {
        migration: None,
        volumes: volumes.map(pair).collect::<anyhow::Result<_>>()?,
        old_snapshots: snapshots.map(text).collect::<anyhow::Result<_>>()?,
    })
}

/// What REST refuses, as its status and reason; an empty reason where it does not.
async fn by_rest(world: &World, body: &str) -> anyhow::Result<(String, String)> {
    let at = format!("http://{}/api/v1/migrations/{VM_UUID}/adopt", world.rest);
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-s", "--max-time", "20", "-w", "\n%{http_code}", "-H", "content-type: application/json"]);
    let text = String::from_utf8(curl.args(["-d", body]).arg(at).output().await?.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("a status")?;
    let body: Value = serde_json::from_str(body)?;
    Ok((status.to_owned(), body["error_code"].as_str().unwrap_or_default().to_owned()))
}

fn image(world: &World, volume: &str) -> PathBuf {
    world.dir.join("replicas/volumes").join(format!("{volume}.img"))
}

/// Each volume is its live disk, and both arms of verification say so.
async fn equal(world: &World, volumes: &[v1::AdoptedVolume]) -> anyhow::Result<()> {
    for of in volumes {
        let same = hash_file(&image(world, &of.volume))? == world.live()?.hash_disk(&of.disk_key)?;
        ensure!(same, "the volume of {} is not its disk", of.disk_key);
    }
    for source in [false, true] {
        let (verdict, mismatches) = world.verify(source).await?;
        ensure!(verdict.equal, "{mismatches:?}");
    }
    Ok(())
}

fn wire(m: &v1::Migration) -> u64 {
    m.cycle.iter().flat_map(|c| &c.disks).map(|d| d.wire_bytes).sum()
}

async fn replicated() -> anyhow::Result<(World, v1::Migration)> {
    let world = World::start(&Options::live(&[("root", ROOT), ("data", DATA)])).await?;
    guest_writes(world.live()?, "root", 0, ROOT, 1)?;
    guest_writes(world.live()?, "data", 0, DATA / 2, 2)?;
    world.begin().await?;
    let m = world.sync().await?;
    Ok((world, m))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_loss_of_the_database_only_what_differs_is_copied() -> anyhow::Result<()> {
    let (mut world, _) = replicated().await?;
    guest_writes(world.live()?, "root", 4 * MIB, MIB, 3)?;
    let before = world.sync().await?;
    quiet(&world).await?;
    let lost = ours_at_the_source(world.live()?)?;
    guest_writes(world.live()?, "root", 9 * MIB, MIB, 4)?;
    lose_the_database(&mut world)?;
    // What the storage lost meanwhile; no change tracking knows of it.
    flip(&world.replica(&before, "root")?, 20 * MIB + 5)?;
    offered(&world).await?;

    let answer = by_terminal(&world).await?;
    ensure!(answer.volumes.len() == 2 && answer.old_snapshots.len() == 2, "{answer:?}");
    // Killed in the middle: it goes on by itself.
    world.oma_restart(&[])?;
    let m = world.wait("begin/paused", SOON, |m| m.state() != v1::State::Running).await?;
    ensure!(m.phase() == v1::Phase::Begin && m.state() == v1::State::Paused, "{m:?}");
    ensure!(m.restore_points.is_empty(), "a restore point before anything was compared: {m:?}");
    offered(&world).await?;
    let m = world.sync().await?;
    // Two MiB of noise were written, and one leaf was damaged; the rest is hashes.
    let sent = wire(&m);
    ensure!((MIB..4 * MIB).contains(&sent), "{sent} bytes were sent");
    equal(&world, &answer.volumes).await?;
    ensure!(m.restore_points.len() == 1, "{m:?}");

    // What is left of the lost migration at the source is gone; what it committed is not.
    quiet(&world).await?;
    let now = ours_at_the_source(world.live()?)?;
    ensure!(!now.iter().any(|name| lost.contains(name)), "{now:?} still has some of {lost:?}");
    for snapshot in &answer.old_snapshots {
        ensure!(world.dir.join("replicas/snapshots").join(snapshot).is_dir(), "{snapshot} was removed");
    }
    // From here on it is like any other.
    guest_writes(world.live()?, "data", MIB, MIB, 5)?;
    let m = world.sync().await?;
    ensure!(wire(&m) < 2 * MIB, "{m:?}");
    equal(&world, &answer.volumes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_elses_volume_is_adopted_and_none_twice() -> anyhow::Result<()> {
    let (mut world, before) = replicated().await?;
    let root = format!("mk-{}", before.disks.iter().find(|d| d.key == "root").context("root")?.disk_id);
    lose_the_database(&mut world)?;
    offered(&world).await?;
    let label = world.dir.join("replicas/labels").join(format!("{root}.json"));
    let ours = std::fs::read_to_string(&label)?;
    std::fs::write(&label, ours.replace(VM_UUID, "564d1d3a-0000-4000-8000-0000000000ff"))?;
    for named in [&[][..], &[("root", root.as_str())]] {
        let refused = adopt(&world, named).await?.err().context("another VM's volume was taken")?;
        ensure!(reason(&refused) == "REPLICA_UNFIT", "{refused:?}");
    }
    let named = format!(r#"{{"volumes": {{"root": "{root}"}}}}"#);
    let (status, why) = by_rest(&world, &named).await?;
    ensure!((status.as_str(), why.as_str()) == ("409", "REPLICA_UNFIT"), "{status} {why}");
    // Of before labels: the operator says whose it is.
    std::fs::remove_file(&label)?;
    let refused = adopt(&world, &[]).await?.err().context("a volume was guessed")?;
    ensure!(refused.message().contains(&root), "{refused:?}");
    let named = [("root", root.as_str())];
    let (one, other) = tokio::join!(adopt(&world, &named), adopt(&world, &named));
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    for answer in [one?, other?] {
        match answer {
            Ok(answer) => done.push(answer),
            Err(status) => refused.push(status),
        }
    }
    ensure!(done.len() == 1 && refused.len() == 1, "{done:?} {refused:?}");
    ensure!(["ALREADY_PROTECTED", "VOLUME_TAKEN"].contains(&reason(&refused[0]).as_str()), "{refused:?}");
    world.wait("begin/paused", SOON, |m| m.state() == v1::State::Paused).await?;
    ensure!(std::fs::read_to_string(&label)?.contains(VM_UUID), "it does not say whose it is now");
    // A cycle that is killed in the middle of comparing.
    world.act(v1::Action::Sync).await?;
    world.oma_restart(&[])?;
    world.synced().await?;
    equal(&world, &done.remove(0).volumes).await
}
