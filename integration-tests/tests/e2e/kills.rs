//! kill −9 of either daemon at seeded points, of full and incremental cycles: equal after resume, little read again
//! (counted at the source), no process left.
//!
//! Forty points in all: twenty of plain disks, sixteen of a live VM whose guest writes on, four of files that the
//! agent serves to itself; `MIGRATEKIT_KILLS=200` makes it two hundred (`make soak`). Between them other things go wrong
//! as well (`kills::weather`). A failure says its seed; `MIGRATEKIT_SEED=… cargo test … kills::` runs it again.

mod driver;
mod stop;
mod weather;

use crate::cycles::{assert_replicated, live_hashes, snapshot_of_next};
use driver::{Attack, Who, hold_processes_of, random_disk, scribble, wait_for_another};
use integration_tests::harness::{Options, SourceKind, World, hash_file};
use integration_tests::live_vm::WriterOptions;
use integration_tests::nbd_tap::{Extents, FolderServer, Tap, TapOptions};
use proto::v1;
use rand::Rng as _;
use std::path::PathBuf;
use std::time::Duration;
use weather::Weather;

const MIB: u64 = 1 << 20;

/// What an agent logs when it has a snapshot, before it reports it.
const TAKEN: &str = "source snapshot taken";

/// Long enough for answers to overtake each other, short enough for forty points.
const JITTER: Duration = Duration::from_millis(8);

/// Most points of one cycle.
const POINTS_A_CYCLE: usize = 6;

/// Disks of a plain NBD server in files of the test, witnessed by a tap.
pub(crate) struct Plain {
    pub(crate) world: World,
    pub(crate) tap: Tap,
    pub(crate) server: FolderServer,
    pub(crate) disks: Vec<(String, PathBuf)>,
    _dir: tempfile::TempDir,
}

impl Plain {
    /// `begin` is done.
    pub(crate) async fn start(seed: u64, sizes: &[(&str, u64)], jitter: Duration) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("mk-plain-").tempdir()?;
        let folder = dir.path().join("disks");
        std::fs::create_dir(&folder)?;
        let mut disks = Vec::new();
        for &(key, size) in sizes {
            let path = folder.join(key);
            random_disk(&path, size, seed ^ size)?;
            disks.push((key.to_owned(), path));
        }
        let socket = dir.path().join("server");
        let server = FolderServer::start(&folder, &socket, Extents::Told)?;
        let tap = Tap::start(&dir.path().join("tap"), &socket, TapOptions { seed, jitter })?;
        let uri = |key: &str| format!("nbd+unix:///{key}?socket={}", tap.socket().display());
        let uris = sizes.iter().map(|&(key, _)| (key.to_owned(), uri(key))).collect();
        let world = World::start(&Options { source: SourceKind::Uris(uris), ..Options::live(&[]) }).await?;
        world.begin().await?;
        Ok(Self { world, tap, server, disks, _dir: dir })
    }

    pub(crate) fn assert_replicated(&self, m: &v1::Migration) -> anyhow::Result<()> {
        for (key, path) in &self.disks {
            let hash = hash_file(path)?;
            assert_eq!(hash_file(&self.world.replica(m, key)?)?, hash, "replica of {key}");
            assert_eq!(hash_file(&self.world.restore_point(m, key)?)?, hash, "restore point of {key}");
        }
        Ok(())
    }
}

/// Twelve times the agent, eight times the OMA; the NBD server is killed with them now and then, and has lost its
/// extents when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn plain_disks() -> anyhow::Result<()> {
    let mut attack = Attack::seeded(1, "kills::plain_disks");
    let sizes = [("root", 160 * MIB + 5 * 512), ("data", 72 * MIB + 512)];
    let mut plain = Plain::start(attack.seed, &sizes, JITTER).await?;
    let weather = Weather::over(&mut plain.world).await?;
    let mut points = attack.points(12, 8);
    let (mut disordered, mut cycles) = (0, 0);
    while !points.is_empty() {
        anyhow::ensure!(cycles < attack.scaled(20), "cycles end before their points");
        if cycles > 0 {
            for (_, path) in &plain.disks {
                scribble(path, &mut attack.random, 96 * MIB)?;
            }
        }
        plain.tap.forget();
        plain.tap.hold_after(0);
        plain.world.act(v1::Action::Sync).await?;
        for _ in 0..POINTS_A_CYCLE {
            let Some(point) = points.pop() else { break };
            weather.change(&mut attack, &plain.tap)?;
            if !attack.strike(&mut plain.world, &plain.tap, point).await? {
                points.push(point);
                break;
            }
            match attack.random.random_range(0..3) {
                0 => plain.server.restart(Extents::Lost)?,
                1 => plain.server.restart(Extents::Told)?,
                _ => {}
            }
            attack.revive(&mut plain.world, &plain.tap, point.who)?;
        }
        plain.tap.set_rate(None);
        plain.tap.release();
        let m = plain.world.synced().await?;
        attack.committed(&plain.tap)?;
        plain.assert_replicated(&m)?;
        disordered += plain.tap.disordered();
        cycles += 1;
    }
    assert!(disordered > 100, "only {disordered} answers were overtaken");
    assert!(weather.fired() > 0, "no fault at any message: nothing but kills was tested");
    let (verdict, mismatches) = plain.world.verify(false).await?;
    assert!(verdict.equal, "{mismatches:?}");
    let dir = plain.world.dir.clone();
    drop(plain);
    hold_processes_of(&dir.display().to_string())?;
    attack.survived(true);
    Ok(())
}

/// Eight times the agent, eight times the OMA, of cycles over changes that the guest goes on making; two of the
/// agent's between a snapshot and its report.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_vm() -> anyhow::Result<()> {
    let mut attack = Attack::seeded(2, "kills::a_live_vm");
    let mut world =
        World::start(&Options::live(&[("root", 128 * MIB + 3 * 512), ("data", 80 * MIB + 512)])).await?;
    let tap = behind_a_tap(&mut world, attack.seed)?;
    let weather = Weather::over(&mut world).await?;
    let options = WriterOptions { seed: attack.seed, rate: Some(96 * MIB), largest: 1 << 20 };
    let writers = [world.live()?.writer(&options)?];
    writers[0].wait_for_bytes(200 * MIB)?;
    drop(writers);
    let writers = [world.live()?.writer(&WriterOptions { rate: Some(12 * MIB), ..options })?];
    world.begin().await?;
    let (mut points, mut cycles, mut at_snapshot) = (attack.points(6, 8), 0, attack.scaled(2));
    while !points.is_empty() || at_snapshot > 0 {
        anyhow::ensure!(cycles < attack.scaled(20), "cycles end before their points");
        writers[0].wait_for_bytes(48 * MIB)?;
        tap.forget();
        tap.release();
        let before = world.get().await?.cycle.map(|cycle| cycle.job_id);
        let taken = world.agent.logged()?.matches(TAKEN).count();
        let still = writers[0].pause();
        world.act(v1::Action::Sync).await?;
        if at_snapshot > 0 {
            at_snapshot -= 1;
            wait_for_another(&world.agent, TAKEN, taken)?;
            attack.kill_agent(&mut world)?;
            attack.revive(&mut world, &tap, Who::Agent)?;
            // The agent looks whether the snapshot is still one.
            tap.release();
        }
        let job = snapshot_of_next(&world, before.as_deref()).await?;
        // The copy waits for the points while the disks are hashed.
        tap.hold_after(0);
        let source = live_hashes(&world)?;
        drop(still);
        for _ in 0..POINTS_A_CYCLE {
            let Some(point) = points.pop() else { break };
            weather.change(&mut attack, &tap)?;
            if !attack.strike(&mut world, &tap, point).await? {
                points.push(point);
                break;
            }
            attack.revive(&mut world, &tap, point.who)?;
        }
        tap.set_rate(None);
        tap.release();
        let m = world.synced().await?;
        attack.committed(&tap)?;
        assert_eq!(
            m.cycle.as_ref().map(|c| c.job_id.as_str()),
            Some(job.as_str()),
            "the cycle went on, no new one came"
        );
        assert_replicated(&world, &m, &source)?;
        cycles += 1;
    }
    assert!(tap.disordered() > 0);
    let (verdict, mismatches) = world.verify(true).await?;
    assert!(verdict.equal, "{mismatches:?}");
    world
        .wait("the end of all snapshots", Duration::from_secs(30), |_| snapshots_of(&world) == Some(0))
        .await?;
    let dir = world.dir.clone();
    drop((writers, tap, world));
    hold_processes_of(&dir.display().to_string())?;
    attack.survived(true);
    Ok(())
}

/// Puts a tap between the agent and the VM's NBD server.
fn behind_a_tap(world: &mut World, seed: u64) -> anyhow::Result<Tap> {
    let (server, listen) = (world.live()?.nbd_socket(), world.dir.join("tap"));
    let tap = Tap::start(&listen, &server, TapOptions { seed, jitter: JITTER })?;
    let config = world.dir.join("vma.toml");
    let text = std::fs::read_to_string(&config)?;
    let (was, now) = (format!("unix:{}\"", server.display()), format!("unix:{}\"", listen.display()));
    anyhow::ensure!(text.contains(&was), "the agent's configuration names no NBD server");
    std::fs::write(config, text.replace(&was, &now))?;
    world.agent_restart()?;
    Ok(tap)
}

/// Nodes of snapshots of ours at the VM.
fn snapshots_of(world: &World) -> Option<usize> {
    let nodes =
        world.live().ok()?.execute("query-named-block-nodes", serde_json::json!({ "flat": true })).ok()?;
    let ours =
        |node: &&serde_json::Value| node["node-name"].as_str().is_some_and(|name| name.starts_with("mk-"));
    Some(nodes.as_array()?.iter().filter(ours).count())
}

/// Four times the agent, while it serves files to itself: its servers go with it.
#[tokio::test(flavor = "multi_thread")]
async fn files_and_their_servers() -> anyhow::Result<()> {
    let mut attack = Attack::seeded(3, "kills::files_and_their_servers");
    // As many as fit into one copy, and copy after copy.
    for _ in 0..attack.scaled(4) / 4 {
        one_copy_of_files(&mut attack).await?;
    }
    attack.survived(false);
    Ok(())
}

async fn one_copy_of_files(attack: &mut Attack) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (root, data) = (dir.path().join("root.img"), dir.path().join("data.img"));
    random_disk(&root, 160 * MIB + 512, attack.seed)?;
    random_disk(&data, 32 * MIB, attack.seed + 1)?;
    let mut world = World::start(&Options::files(&[("root", &root), ("data", &data)])).await?;
    let m = world.begin().await?;
    let servers = world.dir.join("vma.toml.state").display().to_string();
    let replica = world.replica(&m, "root")?;
    world.act(v1::Action::Sync).await?;
    let (mut strikes, mut least) = (0, 0);
    while strikes < 4 {
        least += attack.random.random_range(4 * MIB..24 * MIB);
        driver::wait_for_allocated(&replica, least)?;
        assert_eq!(driver::processes_of(&servers)?.len(), 2, "one server a disk");
        attack.kill_agent(&mut world)?;
        hold_processes_of(&servers)?;
        anyhow::ensure!(
            world.get().await?.state() == v1::State::Running,
            "the cycle ended before its points"
        );
        world.agent_restart()?;
        strikes += 1;
    }
    let m = world.synced().await?;
    for (key, path) in [("root", &root), ("data", &data)] {
        assert_eq!(hash_file(&world.replica(&m, key)?)?, hash_file(path)?, "replica of {key}");
    }
    let dir = world.dir.clone();
    drop(world);
    hold_processes_of(&dir.display().to_string())
}
