//! Test failovers with real daemons and real machines: killed anywhere, adopted by the next run, and gone when they are
//! cleaned up, by what lies in the folders and what runs.

use anyhow::{Context as _, ensure};
use integration_tests::guest::{Bus, LiveGuest, Options as GuestOptions, Tools};
use integration_tests::harness::{Machines, Options, VM_UUID, World, eventually};
use integration_tests::mariadb::Server;
use serde_json::Value;
use std::time::Duration;

async fn job(world: &World, id: &str) -> anyhow::Result<Value> {
    world.said_json(&["failover", "get", id]).await
}

/// Waits until it is as `wanted` says; a control plane that is away is asked again.
async fn until(
    world: &World,
    id: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    eventually(what, Duration::from_secs(90), || async { Ok(job(world, id).await.ok().filter(&wanted)) })
        .await
}

async fn begin_test(world: &World, more: &[&str]) -> anyhow::Result<String> {
    let arguments = [&["failover", "test", VM_UUID, "--skip-virtio-injection"][..], more].concat();
    let begun = world.said_json(&arguments).await?;
    let id = begun["job_id"].as_str();
    Ok(id.with_context(|| format!("no job in {begun}"))?.to_owned())
}

fn is_clean(job: &Value) -> bool {
    job["is_there"] == false
}

/// The program is killed after so long, in a test and then in its clean-up, and started again.
async fn killed(world: &mut World, after: Duration) -> anyhow::Result<()> {
    let machines = Machines::of(world);
    let id = begin_test(world, &[]).await?;
    tokio::time::sleep(after).await;
    world.oma_restart(&[])?;
    let ended = until(world, &id, "the end of the test", |j| j["status"] == "completed").await;
    let ended = ended.with_context(|| format!("killed after {after:?}"))?;
    ensure!(machines.processes().len() == 1, "one machine: {:?}", machines.processes());
    let process = machines.processes();
    world.oma_restart(&[])?;
    ensure!(job(world, &id).await?["status"] == "completed", "it stays: {ended}");
    ensure!(machines.processes() == process, "the machine outlives the control plane");
    world.said(&["failover", "cleanup", &id]).await?;
    tokio::time::sleep(after / 4).await;
    world.oma_restart(&[])?;
    let clean = until(world, &id, "the end of the clean-up", is_clean).await;
    clean.with_context(|| format!("killed after {:?} of a clean-up", after / 4))?;
    let left = machines.left()?;
    ensure!(left.is_empty(), "killed after {after:?}: {left:?} is left");
    Ok(())
}

async fn sweep(mut world: World, kills: u32) -> anyhow::Result<()> {
    let _machines = Machines::of(&world);
    world.begin().await?;
    world.sync().await?;
    for n in 0..kills {
        killed(&mut world, Duration::from_millis(u64::from(n) * 45)).await?;
    }
    let (replica, mismatches) = world.verify(false).await?;
    ensure!(replica.equal, "{mismatches:?}");
    world.sync().await?;
    Ok(())
}

fn disks() -> Options {
    let configuration = "[vm.configuration]\ncpus = 1\nmemory = \"64MiB\"\n".to_owned();
    Options { configuration, ..Options::live(&[("root", 8 << 20), ("data", 4 << 20)]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_killed_goes_on_with_its_tests() -> anyhow::Result<()> {
    sweep(World::start(&disks()).await?, 6).await
}

#[tokio::test(flavor = "multi_thread")]
async fn and_on_mariadb() -> anyhow::Result<()> {
    let options = Options { database: Some(Server::shared().database()?), ..disks() };
    sweep(World::start(&options).await?, 3).await
}

/// A machine that runs is replicated while it writes; its copy boots on other disks, says that all it had written is
/// there, and is cleaned up by itself, while cycles go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_machine_is_tested_on_the_target() -> anyhow::Result<()> {
    if let Err(error) = Tools::find() {
        eprintln!("SKIPPED: {error:#}");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let guest = LiveGuest::start(dir.path(), GuestOptions { bus: Bus::Pvscsi, ..GuestOptions::default() })?;
    guest.ready()?;
    let world = World::start(&Options::own(guest.source_toml())).await?;
    let machines = Machines::of(&world);
    world.begin().await?;
    guest.wait_for_records(3)?;
    let before = guest.status()?;
    world.sync().await?;
    let more = [
        "--ready-console",
        "guest: ready",
        "--ready-required",
        "--ready-timeout",
        "2m",
        "--auto-cleanup",
        "--duration",
        "1s",
    ];
    let id = begin_test(&world, &more).await?;
    let found = eventually("the copy's word", Duration::from_secs(120), || async {
        let console = world.said(&["failover", "console", &id]).await.unwrap_or_default();
        let said = console.lines().find(|line| line.contains("guest: boot 2")).map(str::to_owned);
        Ok(said)
    });
    let said = found.await?;
    let last: u64 = said
        .split("last record ")
        .nth(1)
        .and_then(|rest| rest.split(',').next()?.parse().ok())
        .with_context(|| said.clone())?;
    ensure!(said.contains("intact") && last >= before.record, "{before:?}: {said}");
    world.sync().await?;
    let ended = until(&world, &id, "its own clean-up", is_clean).await?;
    ensure!(ended["status"] == "completed" && ended["rto_seconds"].as_f64() > Some(0.0), "{ended}");
    let left = machines.left()?;
    ensure!(left.is_empty(), "{left:?} is left");
    let (replica, mismatches) = world.verify(false).await?;
    ensure!(replica.equal, "{mismatches:?}");
    let (source, mismatches) = world.verify(true).await?;
    ensure!(source.equal, "{mismatches:?}");
    Ok(())
}

/// By its network, which leads nowhere else, and by the agent in it: a guest that answers is ready, and what does not answer
/// is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_reached_in_its_isolated_network() -> anyhow::Result<()> {
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(error) => {
            eprintln!("SKIPPED: {error:#}");
            return Ok(());
        }
    };
    let dir = tempfile::tempdir()?;
    let mut guest =
        LiveGuest::start(dir.path(), GuestOptions { bus: Bus::Pvscsi, ..GuestOptions::default() })?;
    guest.ready()?;
    let world = World::start(&Options::own(guest.source_toml())).await?;
    let machines = Machines::of(&world);
    world.begin().await?;
    guest.wait_for_records(1)?;
    world.sync().await?;
    guest.power_off()?;
    let mut checks = vec![
        (&["--ready-tcp", "80"][..], "an open TCP port 80"),
        (
            &["--ready-http", "80/health", "--ready-http-status", "200", "--ready-http-text", "is well"],
            "HTTP status 200",
        ),
    ];
    checks.push((&["--ready-http", "80/nothing", "--ready-http-status", "404"], "HTTP status 404"));
    match tools.has_agent() {
        true => checks.push((&["--ready-guest-agent"], "an answer of its QEMU guest agent")),
        false => eprintln!("SKIPPED: there is no agent for the guest"),
    }
    for (check, says) in checks {
        let more = [check, &["--ready-required", "--ready-timeout", "2m"]].concat();
        let id = begin_test(&world, &more).await?;
        let done =
            until(&world, &id, "its end", |j| j["status"] == "completed" || j["status"] == "failed").await?;
        ensure!(done["status"] == "completed" && done["warnings"] == serde_json::json!([]), "{done}");
        ensure!(done["waits_for"].as_str().is_some_and(|text| text.contains(says)), "{says}: {done}");
        let console = world.said(&["failover", "console", &id]).await?;
        ensure!(console.contains("boot 2, last record"), "not before it was up: {console}");
        let report = world.said(&["failover", "report", &id]).await?;
        ensure!(report.contains(says) && report.contains("ready"), "{report}");
        eprintln!("{check:?}: ready {} s after it was asked for", done["rto_seconds"]);
        world.said(&["failover", "cleanup", &id, "--wait"]).await?;
    }
    let id = begin_test(&world, &["--ready-tcp", "22", "--ready-timeout", "3s"]).await?;
    let done = until(&world, &id, "its end", |j| j["status"] == "completed").await?;
    let warning = done["warnings"][0].as_str().unwrap_or_default();
    ensure!(warning.contains("did not show an open TCP port 22 within 3s"), "{done}");
    world.said(&["failover", "cleanup", &id, "--wait"]).await?;
    let left = machines.left()?;
    ensure!(left.is_empty(), "{left:?} is left");
    let arguments = ["failover", "test", VM_UUID, "--ready-tcp", "22", "--ready-guest-agent"];
    let (code, error) = world.refused(&arguments).await?;
    ensure!(code == 64 && error.contains("--ready-guest-agent"), "{code}: {error}");
    Ok(())
}

/// A guest that never answers fails a test that needs it, and one whose program is missing is told before anything is made;
/// nothing is left of either.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_fails_says_why_and_leaves_nothing() -> anyhow::Result<()> {
    let world = World::start(&disks()).await?;
    let machines = Machines::of(&world);
    world.begin().await?;
    world.sync().await?;
    let silent = ["--ready-console", "login:", "--ready-required", "--ready-timeout", "2s", "--wait"];
    let arguments = [&["failover", "test", VM_UUID, "--skip-virtio-injection"][..], &silent].concat();
    let (code, error) = world.refused(&arguments).await?;
    ensure!(code == 1 && error.contains("VM_NOT_READY"), "{code}: {error}");
    let left = machines.left()?;
    ensure!(left.is_empty(), "{left:?} is left");
    let (code, error) = world.refused(&["failover", "cleanup", "enhanced-test-failover-nobody"]).await?;
    ensure!(code == 1 && error.contains("there is no failover job"), "{code}: {error}");
    let statement = "SELECT status, error_message FROM failover_jobs";
    let rows = std::process::Command::new("sqlite3").arg(world.dir.join("oma.db")).arg(statement).output()?;
    let rows = String::from_utf8(rows.stdout)?;
    ensure!(rows.starts_with("failed|") && rows.contains("login:"), "{rows}");
    Ok(())
}
