//! Schedules with both daemons, a terminal and a clock that jumps.

use anyhow::{Context as _, ensure};
use integration_tests::harness::{Clock, Options, World, hash_file};
use proto::v1;
use serde_json::Value;
use std::process::Output;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

async fn migratekit(world: &World, arguments: &[&str]) -> anyhow::Result<Output> {
    world.migratekit(&[&["migration"], arguments].concat()).await
}

async fn said(world: &World, arguments: &[&str]) -> anyhow::Result<String> {
    world.said(&[&["migration"], arguments].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_set_on_a_terminal_runs_cycles_and_says_breach_and_recovery() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("disk.raw");
    std::fs::write(&file, vec![7; 3 << 20])?;
    let mut world = World::start(&Options::files(&[("root", &file)])).await?;
    let Some(clock) = Clock::over(&mut world)? else {
        eprintln!("skipped: libfaketime is not installed");
        return Ok(());
    };
    world.begin().await?;
    let wrong = migratekit(&world, &["schedule", "set", "web", "--cron", "61 * * * *"]).await?;
    let error = String::from_utf8_lossy(&wrong.stderr).into_owned();
    ensure!(!wrong.status.success() && error.contains("[CRON_INVALID]"), "{error}");
    let schedule = ["--every", "15m", "--rpo", "30m", "--bandwidth", "daily 00:00-24:00 50MiB"];
    let dry: Vec<_> = ["schedule", "set", "web", "--dry-run"].into_iter().chain(schedule).collect();
    ensure!(said(&world, &dry).await?.lines().count() == 10);
    let shown = migratekit(&world, &["schedule", "show", "web"]).await?;
    ensure!(String::from_utf8_lossy(&shown.stderr).contains("[NO_SCHEDULE]"), "a dry run sets nothing");
    let set: Vec<_> = ["schedule", "set", "web"].into_iter().chain(schedule).collect();
    ensure!(said(&world, &set).await?.contains("every 15m; RPO 30m"));
    ensure!(world.get().await?.state() == v1::State::Paused, "not at once");

    clock.jump(16 * 60)?;
    let m = world.wait("a cycle by itself", SOON, |m| m.restore_points.len() == 1).await?;
    ensure!(hash_file(&world.replica(&m, "root")?)? == hash_file(&file)?, "the replica is the source");
    ensure!(!m.next_cycle_at.is_empty() && !m.rpo_breached && m.rpo_target_seconds == 1800, "{m:?}");

    said(&world, &["hold", "web"]).await?;
    clock.jump(60 * 60)?;
    let m = world.wait("the breach", SOON, |m| m.rpo_breached).await?;
    ensure!(m.restore_points.len() == 1 && m.next_cycle_at.is_empty(), "held: {m:?}");
    ensure!(said(&world, &["get", "web"]).await?.contains("BREACHED"));
    // It was said, and is not said again.
    world.oma.wait_for("older than it may be", SOON)?;
    world.oma_restart(&[])?;
    said(&world, &["release", "web"]).await?;
    let m = world.wait("the recovery", SOON, |m| m.restore_points.len() == 2 && !m.rpo_breached).await?;
    ensure!(m.rpo_seconds.is_some_and(|age| age < 600), "{m:?}");
    world.oma.wait_for("kept again", SOON)?;
    ensure!(!world.oma.logged()?.contains("older than it may be"), "it was said already");

    let shown: Value =
        serde_json::from_str(&said(&world, &["schedule", "show", "web", "-o", "json"]).await?)?;
    ensure!(shown["schedule"]["every_seconds"] == 900 && shown["next_cycle_at"].is_string(), "{shown}");
    said(&world, &["schedule", "clear", "web"]).await?;
    let m = world.get().await?;
    ensure!(m.schedule.is_empty() && m.next_cycle_at.is_empty(), "{m:?}");
    m.cycle.context("the last cycle")?;
    Ok(())
}
