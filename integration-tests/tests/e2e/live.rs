//! Live failovers with real daemons and real machines: a VM moves with all that it wrote, and comes back; an agent that was
//! cut off writes nothing more; the control plane is killed anywhere.

use anyhow::{Context as _, ensure};
use integration_tests::guest::{Bus, Console, LiveGuest, Options as GuestOptions, Tools};
use integration_tests::harness::{Machines, Options, VM_UUID, World, eventually, hash_file};
use integration_tests::mariadb::Server;
use proto::v1;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

/// A running guest, replicated; its world.
pub(crate) struct Site {
    guest: LiveGuest,
    pub(crate) world: World,
    pub(crate) machines: Machines,
    dir: TempDir,
}

impl Site {
    /// `None`: this machine has no tools for guests.
    pub(crate) async fn start(database: Option<String>) -> anyhow::Result<Option<Self>> {
        if let Err(error) = Tools::find() {
            eprintln!("SKIPPED: {error:#}");
            return Ok(None);
        }
        let dir = tempfile::tempdir()?;
        let guest =
            LiveGuest::start(dir.path(), GuestOptions { bus: Bus::Pvscsi, ..GuestOptions::default() })?;
        guest.ready()?;
        let options = Options { database, ..Options::own(guest.source_toml()) };
        let world = World::start(&options).await?;
        let machines = Machines::of(&world);
        world.begin().await?;
        world.sync().await?;
        for source in [false, true] {
            let (verdict, mismatches) = world.verify(source).await?;
            ensure!(verdict.equal, "{mismatches:?}");
        }
        Ok(Some(Self { guest, world, machines, dir }))
    }

    pub(crate) fn is_on(&mut self) -> anyhow::Result<bool> {
        self.guest.machine().power().is_on()
    }

    async fn begin(&self, more: &[&str]) -> anyhow::Result<String> {
        let arguments = [&["failover", "live", VM_UUID, "--skip-virtio-injection"][..], more].concat();
        let begun = self.world.said_json(&arguments).await?;
        let id = begun["job_id"].as_str();
        Ok(id.with_context(|| format!("no job in {begun}"))?.to_owned())
    }

    async fn until(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let last = std::cell::RefCell::new(Value::Null);
        let found = eventually(what, PATIENCE, || async {
            let got = self.world.said_json(&["failover", "get", id]).await.ok();
            if let Some(got) = &got {
                *last.borrow_mut() = got.clone();
            }
            Ok(got.filter(&wanted))
        });
        found.await.with_context(|| format!("last seen: {}", last.borrow()))
    }

    /// What the copy says of what it found.
    async fn found(&self, id: &str) -> anyhow::Result<(u64, u64)> {
        eventually("the copy's word", PATIENCE, || async {
            let console = self.world.said(&["failover", "console", id]).await.unwrap_or_default();
            let said = console.lines().rfind(|line| line.contains("guest: boot")).map(str::to_owned);
            let Some(said) = said else { return Ok(None) };
            ensure!(said.contains("intact"), "{said}");
            let number = |after: &str| -> Option<u64> {
                let digits: String =
                    said.split(after).nth(1)?.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            };
            Ok(number("boot ").zip(number("last record ")))
        })
        .await
    }
}

fn moved_on(m: &v1::Migration) -> bool {
    (m.phase(), m.state()) == (v1::Phase::Switch, v1::State::Successful)
}

/// All that the guest had written when it was powered off is there on the target, and is there again at the source when
/// it comes back; what it wrote meanwhile is kept; and replication goes on with what has changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_machine_moves_and_comes_back() -> anyhow::Result<()> {
    let Some(mut site) = Site::start(None).await? else { return Ok(()) };
    let (code, error) = site.world.refused(&["failover", "live", VM_UUID, "--skip-virtio-injection"]).await?;
    ensure!(code == 1 && error.contains("no test failover"), "{code}: {error}");
    let test = ["failover", "test", VM_UUID, "--skip-virtio-injection", "--ready-console", "guest: ready"];
    let test = site.world.said_json(&[&test[..], &["--ready-required", "--wait"]].concat()).await?;
    let test = test["job_id"].as_str().context("no job")?.to_owned();
    site.world.said(&["failover", "cleanup", &test, "--wait"]).await?;

    site.guest.wait_for_records(2)?;
    let before = site.guest.status()?;
    let ready = ["--ready-console", "guest: ready", "--ready-required", "--ready-timeout", "2m"];
    let id = site.begin(&ready).await?;
    let moved = site.until(&id, "the end of the move", |j| j["status"] == "completed").await?;
    ensure!(!site.is_on()?, "the source is off: {moved}");
    let (boot, last) = site.found(&id).await?;
    ensure!(boot == 2 && last >= before.record, "{before:?}: {boot}, {last}");
    site.world.wait("switch/successful", PATIENCE, moved_on).await?;
    let (code, error) = site.world.refused(&["migration", "sync", VM_UUID]).await?;
    ensure!(code == 1 && error.contains("target"), "{code}: {error}");

    // What its source says from here on.
    let console = Console::new(site.dir.path())?;
    site.world.said(&["failover", "rollback", &id]).await?;
    let back = site.until(&id, "its way back", |j| j["standing"] == "kept").await?;
    ensure!(site.machines.processes().is_empty(), "the target is off: {back}");
    ensure!(site.is_on()?, "the source is on");
    let found = console.ready()?;
    ensure!((found.boot, found.last) == (2, last), "what the copy found, and no more: {found:?}, {last}");
    let m = site.world.wait("sync/paused", PATIENCE, |m| m.state() == v1::State::Paused).await?;
    ensure!(m.phase() == v1::Phase::Sync, "{m:?}");
    let m = site.world.sync().await?;
    let cycle = m.cycle.clone().unwrap_or_default();
    ensure!(cycle.kind() == v1::CycleKindName::Incremental, "{cycle:?}");
    ensure!(
        cycle.disks.iter().all(|d| d.planned_bytes < d.size_bytes / 2),
        "what has changed, and not all of it: {cycle:?}"
    );
    for source in [false, true] {
        let (verdict, mismatches) = site.world.verify(source).await?;
        ensure!(verdict.equal, "{mismatches:?}");
    }
    let left = site.machines.left()?;
    ensure!(left.iter().any(|name| name.ends_with("-kept")), "what it wrote on the target: {left:?}");
    site.world.said(&["failover", "cleanup", &id, "--wait"]).await?;
    let left = site.machines.left()?;
    ensure!(left.is_empty(), "{left:?} is left");
    Ok(())
}

/// DESIGN §6 rule 14: the agent is cut off at half of a cycle, the VM is failed over and writes, and the agent comes back.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_cut_off_writes_no_foreign_byte() -> anyhow::Result<()> {
    let Some(site) = Site::start(None).await? else { return Ok(()) };
    site.guest.wait_for_records(6)?;
    site.world.said(&["migration", "limit", VM_UUID, "--rate", "64KiB"]).await?;
    site.world.act(v1::Action::Sync).await?;
    site.world
        .wait("half of a cycle", PATIENCE, |m| {
            let disks = m.cycle.iter().flat_map(|cycle| &cycle.disks);
            let (planned, done) =
                disks.fold((0, 0), |(p, d), disk| (p + disk.planned_bytes, d + disk.done_bytes));
            planned > 0 && 2 * done >= planned
        })
        .await?;
    let agent = Pid::from_raw(site.world.agent.pid().cast_signed()).context("a process")?;
    kill_process(agent, Signal::STOP)?;
    site.world.wait("that the agent is away", PATIENCE, |m| !m.agent_connected).await?;
    site.world.act(v1::Action::Pause).await?;
    let m = site.world.wait("sync/paused", PATIENCE, |m| m.state() == v1::State::Paused).await?;
    let unplanned = ["--unplanned", "--accept-loss", "1h", "--override", "the site is cut off"];
    let id = site.begin(&unplanned).await?;
    site.until(&id, "the end of the move", |j| j["status"] == "completed").await?;
    let (boot, _) = site.found(&id).await?;
    ensure!(boot == 2, "it runs on the target, from before the cycle that was cut off");
    let replica = |key| hash_file(&site.world.replica(&m, key)?);
    let before = (replica("root")?, replica("data")?);

    kill_process(agent, Signal::CONT)?;
    site.world.wait("that the agent is back", PATIENCE, |m| m.agent_connected).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(before == (replica("root")?, replica("data")?), "the replica is the failover's: not one byte");
    site.world.wait("switch/successful", PATIENCE, moved_on).await?;
    let console = site.world.said(&["failover", "console", &id]).await?;
    ensure!(!console.contains("damaged"), "{console}");
    Ok(())
}

/// Killed after so long on its way, and after another while on its way back.
async fn killed(site: &mut Site, after: Duration) -> anyhow::Result<()> {
    // Its power is cut, and nobody waits for a boot: what the control plane does is all that takes time.
    let cut = ["--override", "drill", "--power-off-timeout", "0s", "--force-power-off"];
    let id = site.begin(&cut).await?;
    tokio::time::sleep(after).await;
    site.world.oma_restart(&[])?;
    let moved = site.until(&id, "the end of the move", |j| j["status"] == "completed").await;
    moved.with_context(|| format!("killed after {after:?}"))?;
    ensure!(!site.is_on()? && site.machines.processes().len() == 1, "one of it runs");
    // Nothing is taken back while its source cannot be switched on.
    site.world.wait("that the agent is back", PATIENCE, |m| m.agent_connected).await?;
    site.world.said(&["failover", "rollback", &id]).await?;
    tokio::time::sleep(after / 3).await;
    site.world.oma_restart(&[])?;
    let back = site.until(&id, "its way back", |j| j["standing"] == "kept").await;
    back.with_context(|| format!("killed after {:?} of a rollback", after / 3))?;
    ensure!(site.is_on()? && site.machines.processes().is_empty(), "one of it runs");
    site.world.wait("sync/paused", PATIENCE, |m| m.state() == v1::State::Paused).await?;
    site.world.said(&["failover", "cleanup", &id, "--wait"]).await?;
    let left = site.machines.left()?;
    ensure!(left.is_empty(), "killed after {after:?}: {left:?} is left");
    Ok(())
}

async fn sweep(site: Option<Site>, kills: u32) -> anyhow::Result<()> {
    let Some(mut site) = site else { return Ok(()) };
    for n in 0..kills {
        killed(&mut site, Duration::from_millis(u64::from(n) * 350)).await?;
    }
    site.world.sync().await?;
    for source in [false, true] {
        let (verdict, mismatches) = site.world.verify(source).await?;
        ensure!(verdict.equal, "{mismatches:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_killed_moves_its_vm_on() -> anyhow::Result<()> {
    sweep(Site::start(None).await?, 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn and_on_mariadb() -> anyhow::Result<()> {
    sweep(Site::start(Some(Server::shared().database()?)).await?, 2).await
}
