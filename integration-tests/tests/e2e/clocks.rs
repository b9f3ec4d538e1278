//! The wall clock jumps, a day ahead and a day back, in the middle of cycles: nothing fails, nothing is taken for
//! older or newer than it is.

use crate::seed::Seed;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Clock, Options, World, hash_file};
use proto::v1;
use rand::Rng as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 6 * MIB;
const DAY: i64 = 24 * 60 * 60;
const SOON: Duration = Duration::from_secs(60);

/// Other noise all over.
fn fill(path: &Path, seed: u8) -> anyhow::Result<()> {
    let mut noise = vec![0; usize::try_from(SIZE)?];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut noise);
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(path)?;
    Ok(file.write_all_at(&noise, 0)?)
}

/// What is in the database, as an operator would ask it.
fn ask(world: &World, query: &str) -> anyhow::Result<Vec<String>> {
    let mut sqlite = std::process::Command::new("sqlite3");
    let asked = sqlite.args(["-readonly", "-cmd", ".timeout 5000"]).arg(world.dir.join("oma.db")).arg(query);
    let output = asked.output().context("sqlite3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn jumps_of_a_day_in_the_middle_of_cycles() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("disk.raw");
    fill(&file, 0)?;
    let mut options = Options::files(&[("root", &file)]);
    // A cycle takes two seconds.
    options.transfer.push_str("rate = \"3MiB\"\n");
    let mut world = World::start(&options).await?;
    let Some(clock) = Clock::over(&mut world)? else {
        eprintln!("skipped: libfaketime is not installed");
        return Ok(());
    };
    let mut seed = Seed::new(61, "clocks::jumps_of_a_day_in_the_middle_of_cycles");
    world.begin().await?;
    let mut jobs = Vec::new();
    // In the middle of each cycle to about this offset; some of the jumps are lived through by a new process as well.
    for (round, offset) in (1u8..).zip([DAY, 0, -DAY, 0, -DAY]) {
        let offset = offset - offset.signum() * seed.random.random_range(0..DAY / 2);
        world.act(v1::Action::Sync).await?;
        let before = jobs.last().cloned();
        let under_way = |m: &v1::Migration| {
            m.cycle.as_ref().is_some_and(|c| {
                Some(&c.job_id) != before.as_ref() && c.disks.iter().any(|d| d.read_bytes > 0)
            })
        };
        world.wait("a cycle under way", SOON, |m| under_way(m) || m.state() != v1::State::Running).await?;
        clock.jump(offset)?;
        match seed.random.random_range(0..3) {
            0 => world.oma_restart(&[])?,
            1 => world.agent_restart()?,
            _ => {}
        }
        let m = world.synced().await?;
        let job = m.cycle.as_ref().map(|c| c.job_id.clone()).context("a cycle")?;
        ensure!(!jobs.contains(&job), "{job} again: {jobs:?}");
        // The commit comes first, then the end of what it made superfluous.
        let m = world.wait("two restore points", SOON, |m| m.restore_points.len() <= 2).await?;
        // A new one is the last one, whatever the clock says; what is older goes, and not what is newer.
        let points: Vec<_> = m.restore_points.iter().map(|point| point.job_id.clone()).collect();
        ensure!(points.last() == Some(&job), "{job} is not the newest of {points:?} after {jobs:?}");
        ensure!(points.iter().rev().skip(1).all(|point| jobs.last() == Some(point)), "{points:?}: {jobs:?}");
        let speed = m.cycle.as_ref().map_or(0, |c| c.transfer_speed_bps);
        ensure!(speed < 64 * MIB, "{speed} bytes a second, at a rate of 3 MiB");
        jobs.push(job);
        ensure!(m.error_reason.is_empty() && m.findings.is_empty(), "{m:?}");
        let hash = hash_file(&file)?;
        ensure!(hash_file(&world.replica(&m, "root")?)? == hash, "round {round}: the replica");
        ensure!(hash_file(&world.restore_point(&m, "root")?)? == hash, "round {round}: the restore point");
        ensure!(world.verify(false).await?.0.equal, "round {round}");
        fill(&file, round)?;
    }
    // The order of the names is the order in which it was.
    let ids = ask(&world, "SELECT id FROM replication_jobs WHERE kind != 'verify_source' ORDER BY id")?;
    ensure!(ids == jobs, "{ids:?} {jobs:?}");
    let logged = world.oma.logged()?;
    ensure!(!logged.contains("panicked"), "{logged}");
    seed.survived();
    Ok(())
}
