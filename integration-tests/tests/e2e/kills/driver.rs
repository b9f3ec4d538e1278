//! Where and whom a test kills, and what it holds afterwards.

use integration_tests::harness::{Daemon, World};
use integration_tests::nbd_tap::Tap;
use proto::v1;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// What a kill may make the agent read again, a disk.
const MOST_REDONE: u64 = 64 * MIB;

/// Kills of all tests together, on every day.
const USUAL: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Agent,
    Oma,
}

/// When to kill, seen from the last restart or the cycle's beginning.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// So many bytes have been handed to the agent; the source is silent from then on.
    Read(u64),
    /// Another disk is sealed: just before the commit, in it, or just after.
    Sealed,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) who: Who,
    pub(super) when: When,
    pub(super) then: Duration,
}

/// The seed and what comes of it.
pub(super) struct Attack {
    pub(super) seed: u64,
    pub(super) random: SmallRng,
    name: &'static str,
    /// Kills of all tests together.
    kills: usize,
    begun: Instant,
    redone: u64,
    done: Vec<String>,
    /// Of these, no kills.
    notes: usize,
    survived: bool,
}

impl Attack {
    /// With `MIGRATEKIT_SEED`, or this seed; `MIGRATEKIT_KILLS` says how many kills there are in all.
    pub(super) fn seeded(seed: u64, name: &'static str) -> Self {
        let given = |name| std::env::var(name).ok().and_then(|s| s.parse().ok());
        let seed = given("MIGRATEKIT_SEED").unwrap_or(seed);
        let kills = given("MIGRATEKIT_KILLS").and_then(|n| usize::try_from(n).ok()).unwrap_or(USUAL);
        Self {
            kills,
            begun: Instant::now(),
            seed,
            random: SmallRng::seed_from_u64(seed),
            name,
            redone: 0,
            done: Vec::new(),
            notes: 0,
            survived: false,
        }
    }

    /// More than on every day.
    pub(super) fn is_soak(&self) -> bool {
        self.kills > USUAL
    }

    /// As many as there would be of `usual` on every day.
    pub(super) fn scaled(&self, usual: usize) -> usize {
        (usual * self.kills).div_ceil(USUAL)
    }

    /// What happened beside the kills.
    pub(super) fn note(&mut self, said: String) {
        self.notes += 1;
        self.done.push(said);
    }

    /// So many points of each on every day, in random order.
    pub(super) fn points(&mut self, agents: usize, omas: usize) -> Vec<Point> {
        let (agents, omas) = (self.scaled(agents), self.scaled(omas));
        let random = &mut self.random;
        let mut whom = [vec![Who::Agent; agents], vec![Who::Oma; omas]].concat();
        whom.shuffle(random);
        let one = |who| Point {
            who,
            when: match random.random_range(0..6) {
                0 => When::Sealed,
                _ => When::Read(random.random_range(MIB / 2..36 * MIB)),
            },
            then: Duration::from_millis(random.random_range(0..80)),
        };
        whom.into_iter().map(one).collect()
    }

    /// Kills at the point; `false` when the cycle ended before it came.
    pub(super) async fn strike(
        &mut self,
        world: &mut World,
        tap: &Tap,
        point: Point,
    ) -> anyhow::Result<bool> {
        let sealed = |world: &World| anyhow::Ok(world.oma.logged()?.matches("disk sealed").count());
        let before = sealed(world)?;
        match point.when {
            When::Read(bytes) => tap.hold_after(bytes),
            When::Sealed => tap.release(),
        }
        let (deadline, mut asked) = (Instant::now() + Duration::from_secs(60), Instant::now());
        loop {
            let there = match point.when {
                When::Read(_) => tap.is_held(),
                When::Sealed => sealed(world)? > before,
            };
            if there {
                break;
            }
            if asked.elapsed() > Duration::from_millis(200) {
                if world.get().await?.state() != v1::State::Running {
                    tap.release();
                    return Ok(false);
                }
                asked = Instant::now();
            }
            anyhow::ensure!(Instant::now() < deadline, "{point:?} does not come");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // Not a wait for something: the point itself.
        tokio::time::sleep(point.then).await;
        match point.who {
            Who::Agent => self.kill_agent(world)?,
            Who::Oma => {
                world.oma.kill();
                self.done.push("OMA".to_owned());
            }
        }
        if let Some(done) = self.done.last_mut() {
            *done = format!("{point:?}");
        }
        Ok(true)
    }

    /// kill −9; nothing that it started outlives it.
    pub(super) fn kill_agent(&mut self, world: &mut World) -> anyhow::Result<()> {
        world.agent.kill();
        self.done.push("agent".to_owned());
        hold_processes_of(&world.dir.join("vma.toml.state").display().to_string())
    }

    /// Starts what was killed again; a new attempt begins.
    pub(super) fn revive(&mut self, world: &mut World, tap: &Tap, who: Who) -> anyhow::Result<()> {
        self.committed(tap)?;
        tap.next_attempt();
        // Until the next point, or the end of them, is known.
        tap.hold_after(0);
        match who {
            Who::Agent => world.agent_restart(),
            Who::Oma => world.oma_restart(&[]),
        }
    }

    /// The latest attempt is over: it may not have read much again.
    pub(super) fn committed(&mut self, tap: &Tap) -> anyhow::Result<()> {
        for (export, redone) in tap.redone() {
            anyhow::ensure!(redone <= MOST_REDONE, "{redone} bytes of {export} were read again after a kill");
            self.redone += redone;
        }
        Ok(())
    }

    /// All is well. Where reads were counted, some kill has cost some: else they landed nowhere.
    pub(super) fn survived(&mut self, counted: bool) {
        assert!(!counted || self.redone > 0, "no kill made the agent read anything again");
        self.survived = true;
        let (kills, took) = (self.done.len() - self.notes, self.begun.elapsed().as_secs());
        eprintln!(
            "MIGRATEKIT_SEED={} {}: {kills} kills, {} other faults, {} MiB read again, {took} s",
            self.seed,
            self.name,
            self.notes,
            self.redone / MIB
        );
        if self.is_soak() {
            self.done.iter().for_each(|done| eprintln!("    {done}"));
        }
    }
}

impl std::fmt::Display for Attack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MIGRATEKIT_SEED={} {} after {:#?}", self.seed, self.name, self.done)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        if !self.survived {
            eprintln!("failed: {self}");
        }
    }
}

/// Waits for a line of the daemon with `what` in it, beyond the `before` there were.
pub(super) fn wait_for_another(daemon: &Daemon, what: &str, before: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while daemon.logged()?.matches(what).count() <= before {
        anyhow::ensure!(Instant::now() < deadline, "no new line with {what:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Command lines of processes that name `what`, this one left out.
pub(super) fn processes_of(what: &str) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Gone meanwhile, or a zombie whose parent has not looked yet: both run no more.
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if pid != std::process::id() && line.contains(what) {
            found.push(format!("{pid}: {line}"));
        }
    }
    Ok(found)
}

/// Nothing is left that names `what`; the kernel gets a moment to end it.
pub(super) fn hold_processes_of(what: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let left = processes_of(what)?;
        if left.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "left behind: {left:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A sparse file: stretches of data, of holes, and of zeros that are written out.
pub(super) fn random_disk(path: &Path, size: u64, seed: u64) -> anyhow::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.set_len(size)?;
    let mut random = SmallRng::seed_from_u64(seed);
    let mut at = 0;
    while at < size {
        let length = random.random_range(512..6 * MIB).min(size - at);
        match random.random_range(0..10) {
            0 => {}
            1 => write_at(&mut file, at, &vec![0; usize::try_from(length)?])?,
            _ => write_at(&mut file, at, &noise(random.random(), length)?)?,
        }
        at += length;
    }
    Ok(())
}

/// Overwrites some `bytes` of the file, in pieces, the very end among them.
pub(super) fn scribble(path: &Path, random: &mut SmallRng, bytes: u64) -> anyhow::Result<()> {
    let mut file = std::fs::File::options().write(true).open(path)?;
    let size = file.metadata()?.len();
    write_at(&mut file, size - 512, &noise(random.random(), 512)?)?;
    let mut done = 0;
    while done < bytes {
        let length = random.random_range(1..3 * MIB).min(size);
        let at = random.random_range(0..=size - length);
        match random.random_range(0..8) {
            0 => write_at(&mut file, at, &vec![0; usize::try_from(length)?])?,
            _ => write_at(&mut file, at, &noise(random.random(), length)?)?,
        }
        done += length;
    }
    Ok(())
}

fn write_at(file: &mut std::fs::File, offset: u64, data: &[u8]) -> anyhow::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    Ok(file.write_all(data)?)
}

/// As fast as hashing goes.
fn noise(seed: u64, length: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length)?];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    Ok(bytes)
}

/// Waits until the file takes so many bytes of disk.
pub(super) fn wait_for_allocated(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(path)?.blocks() * 512 < bytes {
        anyhow::ensure!(
            Instant::now() < deadline,
            "{} has less than {bytes} bytes after a minute",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
