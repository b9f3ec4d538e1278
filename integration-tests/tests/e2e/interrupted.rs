//! Cycles that end in the middle: their snapshot is lost, or the operator aborts. Nothing of ours stays behind, and
//! the replica is never taken for more than it is.

use crate::findings::{MIB, SOON, equal, guest_writes, ours_at_the_source};
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, World, eventually};
use proto::v1;
use std::path::Path;

const SIZE: u64 = 48 * MIB;

/// Little at a time.
pub(crate) fn small_window() -> Options {
    Options { transfer: "connections = 2\nwindow = \"8MiB\"".to_owned(), ..Options::live(&[("root", SIZE)]) }
}

/// Makes every flush of the replica take half a second, so that a cycle lasts for seconds on any machine.
fn slow_replica(world: &mut World, m: &v1::Migration) -> anyhow::Result<()> {
    let path = world.replica(m, "root")?.display().to_string();
    // The tracer is a grandchild (-D): killing the daemon kills the daemon.
    let tracer =
        "strace -D -f --seccomp-bpf -q -o /dev/null -e trace=fdatasync -e inject=fdatasync:delay_enter=500ms";
    let wrapper: Vec<_> = tracer.split_whitespace().chain(["-P", &path]).collect();
    world.oma_restart(&wrapper)
}

/// A cycle that has some of its data durable, and much not yet.
pub(crate) async fn in_the_middle(world: &mut World) -> anyhow::Result<v1::Migration> {
    guest_writes(world.live()?, "root", 0, SIZE, 1)?;
    let m = world.get().await?;
    slow_replica(world, &m)?;
    let before = job(&m);
    world.act(v1::Action::Sync).await?;
    let begun = |m: &v1::Migration| job(m) != before && durable(m) > 0;
    let m = world.wait("a durable part", SOON, |m| begun(m) || m.state() != v1::State::Running).await?;
    ensure!(
        m.state() == v1::State::Running && durable(&m) < SIZE,
        "the cycle was too quick: nothing is tested"
    );
    Ok(m)
}

pub(crate) fn durable(m: &v1::Migration) -> u64 {
    m.cycle.iter().flat_map(|c| &c.disks).map(|d| d.done_bytes).sum()
}

pub(crate) fn job(m: &v1::Migration) -> String {
    m.cycle.as_ref().map(|c| c.job_id.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_lost_in_the_middle_means_another_cycle() -> anyhow::Result<()> {
    let mut world = World::start(&small_window()).await?;
    world.begin().await?;
    let first = in_the_middle(&mut world).await?;
    // The VM's process dies, and the snapshot with it; what the first cycle copied is older than what comes.
    world.vm.as_mut().context("live")?.kill9();
    world.vm.as_mut().context("live")?.restart()?;
    guest_writes(world.live()?, "root", 0, 2 * MIB, 2)?;
    let m = world.synced().await?;
    ensure!(job(&m) != job(&first), "one job mixed two points in time");
    equal(&world, &m).await?;
    // The same to a paused cycle, of which nothing runs when it happens.
    guest_writes(world.live()?, "root", 0, SIZE, 3)?;
    world.act(v1::Action::Sync).await?;
    let taken = |m: &v1::Migration| {
        m.cycle.as_ref().is_some_and(|c| !c.snapshot_taken_at.is_empty() && job(m) != job(&first))
    };
    world.wait("the snapshot", SOON, taken).await?;
    world.act(v1::Action::Pause).await?;
    let m = world.wait("sync/paused", SOON, |m| m.state() != v1::State::Running).await?;
    let paused = job(&m);
    ensure!(m.cycle.as_ref().is_some_and(|c| c.status == "paused"), "the cycle was too quick: {m:?}");
    world.vm.as_mut().context("live")?.kill9();
    world.vm.as_mut().context("live")?.restart()?;
    guest_writes(world.live()?, "root", 5 * MIB, MIB, 4)?;
    let m = world.sync().await?;
    ensure!(job(&m) != paused, "one job mixed two points in time");
    equal(&world, &m).await
}

/// Names of all files below the folder.
fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        }
        found.push(path.display().to_string());
    }
    Ok(found)
}

/// Nothing is left on the OMA's side; the folders themselves stay.
pub(crate) fn nothing_kept(world: &World) -> anyhow::Result<()> {
    for folder in ["replicas/volumes", "replicas/snapshots", "oma/manifests"] {
        let left = files(&world.dir.join(folder))?;
        ensure!(left.is_empty(), "left in {folder}: {left:?}");
    }
    Ok(())
}

async fn released(world: &World) -> anyhow::Result<()> {
    eventually("the source without anything of ours", SOON, || async {
        Ok(ours_at_the_source(world.live()?)?.is_empty().then_some(()))
    })
    .await
    .with_context(|| format!("{:?}", world.live().and_then(ours_at_the_source)))
}

async fn aborted(world: &World) -> anyhow::Result<()> {
    world.act(v1::Action::Abort).await?;
    let m = world.wait("the end of the abort", SOON, |m| m.state() != v1::State::Running).await?;
    ensure!(m.phase() == v1::Phase::Abort && m.state() == v1::State::Aborted, "{m:?}");
    ensure!(m.restore_points.is_empty() && !m.finished_at.is_empty(), "{m:?}");
    nothing_kept(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_in_the_middle_leaves_nothing() -> anyhow::Result<()> {
    let mut world = World::start(&small_window()).await?;
    world.begin().await?;
    // With a restore point and a manifest from before.
    world.sync().await?;
    let first = in_the_middle(&mut world).await?;
    ensure!(!ours_at_the_source(world.live()?)?.is_empty(), "a running cycle has a snapshot");
    aborted(&world).await?;
    released(&world).await?;

    // While the agent is away the source cannot be released; it is when the agent returns.
    world.begin().await?;
    in_the_middle(&mut world).await?;
    world.agent.kill();
    aborted(&world).await?;
    ensure!(!ours_at_the_source(world.live()?)?.is_empty(), "who released it?");
    world.agent_restart()?;
    released(&world).await?;

    // And the VM can be protected again.
    world.begin().await?;
    let m = world.sync().await?;
    ensure!(m.migration_id != first.migration_id);
    equal(&world, &m).await
}

/// An ended migration of the same VM takes nothing away from the new one, whichever the agent hears of first.
#[tokio::test(flavor = "multi_thread")]
async fn begun_again_before_the_source_was_released() -> anyhow::Result<()> {
    let mut world = World::start(&Options::live(&[("root", 4 * MIB)])).await?;
    guest_writes(world.live()?, "root", 0, MIB, 1)?;
    world.begin().await?;
    let old = world.sync().await?.disks[0].change_id.clone();
    world.agent.kill();
    aborted(&world).await?;
    // Back, and begun again in the same breath.
    world.agent_restart()?;
    world.begin().await?;
    let m = world.sync().await?;
    equal(&world, &m).await?;
    guest_writes(world.live()?, "root", 2 * MIB, MIB, 2)?;
    let m = world.sync().await?;
    equal(&world, &m).await?;
    let change_id = m.disks[0].change_id.clone();
    eventually("the change id of the new migration alone", SOON, || async {
        let names = ours_at_the_source(world.live()?)?;
        Ok((names == [change_id.clone()]).then_some(()))
    })
    .await
    .with_context(|| format!("old {old}, now {:?}", world.live().and_then(ours_at_the_source)))
}
