//! Backups under load, and what a control plane does that was restored from one.

use crate::adopt::offered;
use crate::findings::{MIB, SOON, equal, guest_writes, quiet};
use crate::interrupted::{in_the_middle, job, small_window};
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, World, binary, eventually};
use integration_tests::mariadb::Server;
use proto::v1;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn oma(world: &World, verb: &str, file: &Path, more: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(binary("oma-api")?);
    command.arg(verb).arg(file).arg("--config").arg(world.dir.join("oma.toml")).args(more);
    Ok(command.output()?)
}

fn done(output: &Output) -> anyhow::Result<String> {
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn refused(output: &Output, why: &str) -> anyhow::Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains(why), "no {why:?} in {output:?}");
    Ok(())
}

/// What is in the folder, by name.
fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// After a restore: on hold, compared as a whole, and then like any other.
async fn goes_on(world: &World) -> anyhow::Result<()> {
    offered(world).await?;
    let m = world.get().await?;
    ensure!(m.held && m.state() == v1::State::Paused, "{m:?}");
    let m = world.sync().await?;
    let cycle = m.cycle.clone().context("a cycle")?;
    let compared = cycle.disks.iter().all(|d| d.strategy() == v1::SyncStrategy::HashDiff);
    ensure!(compared, "{cycle:?}");
    equal(world, &m).await?;
    guest_writes(world.live()?, "root", 3 * MIB, MIB, 9)?;
    let m = world.sync().await?;
    let cycle = m.cycle.clone().context("a cycle")?;
    ensure!(cycle.disks.iter().all(|d| d.strategy() == v1::SyncStrategy::Changed), "{cycle:?}");
    equal(world, &m).await?;
    quiet(world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_in_the_middle_of_a_cycle_is_restored() -> anyhow::Result<()> {
    let mut world = World::start(&small_window()).await?;
    let file = world.dir.join("backup.mk");
    world.begin().await?;
    world.sync().await?;
    let running = in_the_middle(&mut world).await?;
    // One that is killed leaves nothing under the file's name, and harms nobody.
    let mut killed = Command::new(binary("oma-api")?)
        .arg("backup")
        .arg(&file)
        .arg("--config")
        .arg(world.dir.join("oma.toml"))
        .spawn()?;
    std::thread::sleep(std::time::Duration::from_millis(5));
    killed.kill()?;
    killed.wait()?;
    if file.exists() {
        std::fs::remove_file(&file)?;
    }
    let said = done(&oma(&world, "backup", &file, &[])?)?;
    ensure!(said.contains(" 1 manifests") && !said.contains("missing"), "{said}");
    ensure!(std::fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600, "others can read it");
    refused(&oma(&world, "backup", &file, &[])?, "--force")?;
    done(&oma(&world, "backup", &file, &["--force"])?)?;

    // Since then: the cycle was committed, and another one.
    world.oma_restart(&[])?;
    world.synced().await?;
    guest_writes(world.live()?, "root", 0, 2 * MIB, 7)?;
    let newest = world.sync().await?;
    // Retention follows the commit, and keeps the newest two.
    eventually("the restore point of before gone", SOON, || async {
        Ok((names(&world.dir.join("replicas/snapshots"))?.len() == 2).then_some(()))
    })
    .await?;
    refused(&oma(&world, "restore", &file, &["--replace"])?, "another oma-api that still runs")?;
    world.oma.kill();
    refused(&oma(&world, "restore", &file, &[])?, "--replace")?;
    let damaged = world.dir.join("damaged.mk");
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes)?;
    refused(&oma(&world, "restore", &damaged, &["--replace"])?, "checksum")?;

    let snapshots = names(&world.dir.join("replicas/snapshots"))?;
    let said = done(&oma(&world, "restore", &file, &["--replace"])?)?;
    ensure!(said.contains(&format!("cycle {}: was not finished", job(&running))), "{said}");
    // The one of before is gone from the storage; those since are nobody's.
    ensure!(said.contains("restore point dropped"), "{said}");
    for name in &snapshots {
        ensure!(said.contains(&format!("snapshot {name} is no restore point, and stays")), "{name}: {said}");
    }
    world.oma_restart(&[])?;
    let m = world.get().await?;
    ensure!(m.restore_points.is_empty() && m.migration_id == newest.migration_id, "{m:?}");
    goes_on(&world).await?;
    let now = names(&world.dir.join("replicas/snapshots"))?;
    ensure!(snapshots.iter().all(|name| now.contains(name)), "{snapshots:?} are not all in {now:?}");
    let kept = names(&world.dir)?.into_iter().filter(|n| n.starts_with("oma.db.before-restore-")).count();
    ensure!(kept == 1, "the database before the restore was not kept");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_mariadb_is_restored_there_and_into_a_file() -> anyhow::Result<()> {
    let database = Some(Server::shared().database()?);
    let mut world = World::start(&Options { database, ..Options::live(&[("root", 16 * MIB)]) }).await?;
    let file = world.dir.join("backup.mk");
    guest_writes(world.live()?, "root", 0, 8 * MIB, 1)?;
    world.begin().await?;
    let before = world.sync().await?;
    done(&oma(&world, "backup", &file, &[])?)?;
    refused(&oma(&world, "restore", &file, &["--replace"])?, "another oma-api that still runs")?;
    world.oma.stop(SOON)?;
    refused(&oma(&world, "restore", &file, &[])?, "--replace")?;
    done(&oma(&world, "restore", &file, &["--replace"])?)?;
    world.oma_restart(&[])?;
    ensure!(world.get().await?.restore_points == before.restore_points, "a restore point is not as it was");
    goes_on(&world).await?;

    // The same file, and the same replicas, with a database of another kind.
    world.oma.stop(SOON)?;
    let config = std::fs::read_to_string(world.dir.join("oma.toml"))?;
    let url = config.lines().find(|line| line.starts_with("database_url")).context("a database")?;
    let other = format!("database_url = \"sqlite://{}/other.db\"", world.dir.display());
    std::fs::write(world.dir.join("oma.toml"), config.replace(url, &other))?;
    done(&oma(&world, "restore", &file, &[])?)?;
    world.oma_restart(&[])?;
    goes_on(&world).await
}
