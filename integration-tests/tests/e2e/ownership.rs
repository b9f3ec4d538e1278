//! Two control planes on one MariaDB, and a failover job between them: the one that comes takes it over by its lease and
//! ends it; the one that was killed, or was only away, does nothing more.
//!
//! ```text
//!  host 1: oma.toml   ── oma/  replicas/  machines/ ─┐ locks of its own, the same folders behind them: storage that both
//!  host 2: twin.toml  ── twin/{oma,replicas,machines}┘ hosts reach, and whose locks are not shared (links within it)
//!                └─────────── one database ──────────┘
//! ```

use crate::findings::SOON;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Daemon, Machines, Options, VM_UUID, World, eventually};
use integration_tests::mariadb::Server;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A lease (15 s), a server that gives up on a silent connection (60 s), and a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// Long enough to be met in the middle; nothing on these disks boots, so it passes with a warning.
const HELD: [&str; 4] = ["--ready-console", "login:", "--ready-timeout", "10s"];

/// Which ports the second host's control plane listens on.
enum Ports {
    /// The first one's, which is dead.
    Same,
    /// Any: the first one still has its own.
    Others,
}

struct Hosts {
    world: World,
    machines: Machines,
    database: String,
}

impl Hosts {
    async fn start(ports: &Ports) -> anyhow::Result<Self> {
        let url = Server::shared().database()?;
        let database = url.rsplit('/').next().context("a name")?.to_owned();
        let configuration = "[vm.configuration]\ncpus = 1\nmemory = \"64MiB\"\n".to_owned();
        let disks = Options::live(&[("root", 8 << 20), ("data", 4 << 20)]);
        let world = World::start(&Options { configuration, database: Some(url), ..disks }).await?;
        let machines = Machines::of(&world);
        world.begin().await?;
        world.sync().await?;
        second_host(&world, ports)?;
        Ok(Self { world, machines, database })
    }

    fn sql(&self, statement: &str) -> anyhow::Result<String> {
        Ok(Server::shared().sql(&self.database, statement)?.trim().to_owned())
    }

    /// Epoch and instance of a job's owner.
    fn held(&self, id: &str) -> anyhow::Result<(u64, String)> {
        let row = self.sql(&format!(
            "SELECT lease_epoch, IFNULL(lease_owner, '') FROM workflow_jobs WHERE id = '{id}'"
        ))?;
        let (epoch, owner) = row.split_once('\t').with_context(|| format!("{row:?}"))?;
        Ok((epoch.parse()?, owner.split('/').next().unwrap_or_default().to_owned()))
    }

    async fn begin(&self) -> anyhow::Result<String> {
        let arguments = [&["failover", "test", VM_UUID, "--skip-virtio-injection"][..], &HELD].concat();
        let begun = self.world.said_json(&arguments).await?;
        Ok(begun["job_id"].as_str().with_context(|| format!("no job in {begun}"))?.to_owned())
    }

    /// A control plane that is away is asked again.
    async fn until(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let last = std::cell::RefCell::new(Value::Null);
        let found = eventually(what, PATIENCE, || async {
            let got = self.world.said_json(&["failover", "get", id]).await.ok();
            *last.borrow_mut() = got.clone().unwrap_or_default();
            Ok(got.filter(&wanted))
        });
        found.await.with_context(|| format!("last seen: {}", last.borrow()))
    }

    /// The machine is up, and its guest is waited for.
    async fn in_the_middle(&self, id: &str) -> anyhow::Result<()> {
        let steps = format!(
            "SELECT state FROM workflow_steps WHERE job_id = '{id}' AND name = 'ready' AND state = 'started'"
        );
        eventually("the wait for the guest", SOON, || async {
            Ok((self.sql(&steps)? == "started").then_some(()))
        })
        .await
    }

    /// It ended as if nothing had been, with one machine, which goes.
    async fn ends(&self, id: &str, before: u64, host: &str) -> anyhow::Result<()> {
        let ended = self.until(id, "the end of the test", |j| j["status"] == "completed").await?;
        let (epoch, owner) = self.held(id)?;
        ensure!(epoch > before, "adopted: {before}, {epoch}");
        let instance = std::fs::read_to_string(self.world.dir.join(host).join("instance"))?;
        ensure!(owner == instance.trim(), "{owner}, {instance}");
        let machines = self.machines.processes();
        ensure!(machines.len() == 1, "one machine: {machines:?}: {ended}");
        self.world.said(&["failover", "cleanup", id, "--wait"]).await?;
        let left = self.machines.left()?;
        ensure!(left.is_empty(), "{left:?} is left");
        Ok(())
    }

    /// The replica is what was committed, and cycles go on from it.
    async fn goes_on(&self) -> anyhow::Result<()> {
        let source = eventually("the agent", SOON, || async { Ok(self.world.verify(true).await.ok()) });
        for (verdict, mismatches) in [source.await?, self.world.verify(false).await?] {
            ensure!(verdict.equal, "{mismatches:?}");
        }
        self.world.sync().await?;
        let (verdict, mismatches) = self.world.verify(false).await?;
        ensure!(verdict.equal, "{mismatches:?}");
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.world.oma.pid())?).context("a process")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Starts the second host's control plane until it gets the database.
    async fn take_over(&mut self) -> anyhow::Result<Daemon> {
        let (config, log) = (self.world.dir.join("twin.toml"), self.world.dir.join("twin.log"));
        let end = Instant::now() + PATIENCE;
        let mut twin = loop {
            let mut twin = Daemon::start("oma-api", &config, &log, &[])?;
            match twin.wait_for("control plane ready", SOON) {
                Ok(_) => break twin,
                // As systemd would: the server still believes in the first one's connection.
                Err(refused) => {
                    let refused = format!("{refused:#}");
                    ensure!(refused.contains("is used by another oma-api"), "{refused}");
                    ensure!(Instant::now() < end, "the database is not given up: {refused}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        self.world.address = address(&twin.wait_for("control plane ready", SOON)?)?;
        Ok(twin)
    }

    /// The first one ends by itself, and says why.
    async fn ends_overtaken(&mut self) -> anyhow::Result<()> {
        let first = &mut self.world.oma;
        let begun = Instant::now();
        while first.is_running() {
            ensure!(begun.elapsed() < SOON, "it goes on: {}", first.logged()?);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said = first.logged()?;
        let why = "another oma-api";
        ensure!(said.lines().rev().take(20).any(|line| line.contains(why)), "why it ended: {said}");
        Ok(())
    }

    /// What all tables hold, and all files of storage and machines.
    fn everything(&self) -> anyhow::Result<Vec<String>> {
        let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() \
             AND table_type = 'BASE TABLE' ORDER BY table_name";
        let mut all = Vec::new();
        for table in self.sql(tables)?.lines() {
            all.push(self.sql(&format!("CHECKSUM TABLE {table} EXTENDED"))?);
        }
        for folder in ["replicas", "machines"] {
            files(&self.world.dir.join(folder), &mut all)?;
        }
        all.sort();
        Ok(all)
    }
}

/// Names, sizes and times of change.
fn files(folder: &Path, into: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is = std::fs::symlink_metadata(&path)?;
        into.push(format!("{} {} {:?}", path.display(), is.len(), is.modified()?));
        if is.is_dir() {
            files(&path, into)?;
        }
    }
    Ok(())
}

fn address(line: &str) -> anyhow::Result<String> {
    let port = line.split("listen=").nth(1).and_then(|at| at.split(' ').next()?.rsplit(':').next());
    Ok(format!("localhost:{}", port.with_context(|| line.to_owned())?))
}

/// Folders and a configuration of the second host.
fn second_host(world: &World, ports: &Ports) -> anyhow::Result<PathBuf> {
    let at = world.dir.join("twin");
    let shared: [(&str, &[&str]); 3] = [
        ("oma", &["manifests", "conversions"]),
        ("replicas", &["volumes", "snapshots", "labels"]),
        ("machines", &["machines"]),
    ];
    for (folder, within) in shared {
        std::fs::create_dir_all(at.join(folder))?;
        for name in within {
            let real = world.dir.join(folder).join(name);
            std::fs::create_dir_all(&real)?;
            std::os::unix::fs::symlink(real, at.join(folder).join(name))?;
        }
    }
    let mut config = std::fs::read_to_string(world.dir.join("oma.toml"))?;
    for folder in shared.map(|(folder, _)| folder) {
        let (from, to) = (format!("\"{}/{folder}\"", world.dir.display()), at.join(folder));
        ensure!(config.contains(&from), "{from} in {config}");
        config = config.replace(&from, &format!("{:?}", to.display().to_string()));
    }
    if let Ports::Others = ports {
        for port in [&world.address, &world.rest] {
            config = config.replace(&port.replace("localhost", "127.0.0.1"), "127.0.0.1:0");
        }
    }
    let file = world.dir.join("twin.toml");
    std::fs::write(&file, config)?;
    Ok(file)
}

/// kill -9 early, in the middle, and while the guest is waited for; the hosts take turns.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_control_plane_that_died_is_adopted_by_another() -> anyhow::Result<()> {
    let mut hosts = Hosts::start(&Ports::Same).await?;
    let places = [("oma.toml", "oma"), ("twin.toml", "twin/oma")];
    for (n, after) in [Some(30), Some(250), None].into_iter().enumerate() {
        let id = hosts.begin().await?;
        match after {
            Some(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            None => hosts.in_the_middle(&id).await?,
        }
        hosts.world.oma.kill();
        let ((epoch, _), running) = (hosts.held(&id)?, hosts.machines.processes());
        let (config, host) = places[(n + 1) % 2];
        let (config, log) = (hosts.world.dir.join(config), hosts.world.dir.join(format!("host-{n}.log")));
        hosts.world.oma = Daemon::start("oma-api", &config, &log, &[])?;
        hosts.world.oma.wait_for("control plane ready", SOON)?;
        if after.is_none() {
            ensure!(running.len() == 1, "{running:?}");
            hosts.until(&id, "the end of the test", |j| j["status"] == "completed").await?;
            ensure!(hosts.machines.processes() == running, "another machine than {running:?}");
        }
        let ended = hosts.ends(&id, epoch, host).await;
        ended.with_context(|| format!("killed after {after:?}: {}", hosts.world.dir.display()))?;
    }
    hosts.goes_on().await
}

/// Asleep while its guest is waited for: the other one gets the database when the server gives the sleeper up, and the job
/// when its lease is over. What wakes up then changes nothing, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_was_asleep_does_nothing_more() -> anyhow::Result<()> {
    let mut hosts = Hosts::start(&Ports::Others).await?;
    let id = hosts.begin().await?;
    hosts.in_the_middle(&id).await?;
    hosts.signal(Signal::STOP)?;
    let ((epoch, _), running) = (hosts.held(&id)?, hosts.machines.processes());
    let _twin = hosts.take_over().await?;
    hosts.until(&id, "the end of the test", |j| j["status"] == "completed").await?;
    ensure!(hosts.machines.processes() == running, "another machine than {running:?}");
    hosts.ends(&id, epoch, "twin/oma").await?;

    let before = hosts.everything()?;
    hosts.signal(Signal::CONT)?;
    hosts.ends_overtaken().await?;
    let after = hosts.everything()?;
    let differ: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    ensure!(differ.is_empty() && after.len() == before.len(), "it changed {differ:?}");
    let left = hosts.machines.left()?;
    ensure!(left.is_empty(), "{left:?} is left");
    with_the_agent(&mut hosts)?;
    hosts.goes_on().await
}

/// Asleep at some moment of its work, and awake again in the middle of the other one's: there is one machine all the same,
/// and all goes. Somebody has ended the sleeper's connections, so that nobody has to wait for the server to do it.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_wakes_up_in_the_middle_is_in_nobodys_way() -> anyhow::Result<()> {
    let mut hosts = Hosts::start(&Ports::Others).await?;
    for after in [20, 120, 350] {
        let id = hosts.begin().await?;
        tokio::time::sleep(Duration::from_millis(after)).await;
        hosts.signal(Signal::STOP)?;
        let theirs = format!(
            "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist WHERE db = '{}' AND user = 'oma'",
            hosts.database
        );
        let kills = hosts.sql(&theirs)?;
        ensure!(!kills.is_empty(), "it has no connections");
        hosts.sql(&kills)?;
        let (epoch, _) = hosts.held(&id)?;
        let twin = hosts.take_over().await?;
        eventually("its adoption", PATIENCE, || async { Ok((hosts.held(&id)?.0 > epoch).then_some(())) })
            .await?;
        hosts.signal(Signal::CONT)?;
        hosts.ends_overtaken().await.with_context(|| format!("asleep after {after} ms"))?;
        hosts.ends(&id, epoch, "twin/oma").await.with_context(|| format!("asleep after {after} ms"))?;
        // Back to the first host.
        drop(twin);
        let first = hosts.world.dir.join("oma.toml");
        hosts.world.oma = Daemon::start("oma-api", &first, &hosts.world.dir.join("oma.log"), &[])?;
        hosts.world.address = address(&hosts.world.oma.wait_for("control plane ready", SOON)?)?;
    }
    hosts.goes_on().await
}

/// The agent is told where the control plane is now.
fn with_the_agent(hosts: &mut Hosts) -> anyhow::Result<()> {
    let file = hosts.world.dir.join("vma.toml");
    let config = std::fs::read_to_string(&file)?;
    let line = config.lines().find(|line| line.starts_with("oma = ")).context("where its OMA is")?;
    std::fs::write(&file, config.replace(line, &format!("oma = \"{}\"", hosts.world.address)))?;
    hosts.world.agent_restart()
}
