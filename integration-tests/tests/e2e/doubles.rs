//! What is there twice, or not at all: a second control plane, a second agent of one identity, a source that is away.
//! Nobody works against anybody, and nobody asks without a pause.

use crate::findings::{MIB, SOON, equal, guest_writes};
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Daemon, Options, World};
use proto::v1;
use std::time::Duration;

/// Lines of the log that say so.
fn count(daemon: &Daemon, what: &str) -> anyhow::Result<usize> {
    Ok(daemon.logged()?.lines().filter(|line| line.contains(what)).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_is_asked_with_pauses_and_said() -> anyhow::Result<()> {
    const TRIED: &str = "it is tried again";
    let mut world = World::start(&Options::live(&[("root", 8 * MIB)])).await?;
    world.begin().await?;
    world.sync().await?;
    guest_writes(world.live()?, "root", 0, MIB, 1)?;
    world.vm.as_mut().context("live")?.stop();
    world.act(v1::Action::Sync).await?;
    world.wait("the reason", SOON, |m| m.error_reason == "SOURCE_UNAVAILABLE").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let tries = count(&world.agent, TRIED)?;
    ensure!((1..=5).contains(&tries), "{tries} tries in five seconds");
    let m = world.get().await?;
    ensure!(m.error_reason == "SOURCE_UNAVAILABLE", "still said: {m:?}");
    world.vm.as_mut().context("live")?.restart()?;
    let m = world.wait("the end of the sync", SOON, |m| m.state() != v1::State::Running).await?;
    equal(&world, &m).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_control_plane_on_the_same_data_does_not_start() -> anyhow::Result<()> {
    let mut world = World::start(&Options::live(&[("root", MIB)])).await?;
    let config = world.dir.join("second.toml");
    let text = std::fs::read_to_string(world.dir.join("oma.toml"))?;
    let port = world.address.rsplit(':').next().context("a port")?;
    let text = text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0");
    // Any one of the three is enough.
    let elsewhere = world.dir.join("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    let line =
        |key: &str| text.lines().find(|line| line.starts_with(key)).map(str::to_owned).context("a line");
    for kept in ["state_dir", "database_url", "path"] {
        let mut other = text.clone();
        for (key, value) in [
            ("state_dir", elsewhere.join("state").display().to_string()),
            ("database_url", format!("sqlite://{}", elsewhere.join("oma.db").display())),
            ("path", elsewhere.join("replicas").display().to_string()),
        ] {
            if key != kept {
                other = other.replace(&line(key)?, &format!("{key} = \"{value}\""));
            }
        }
        std::fs::write(&config, other)?;
        let mut second = Daemon::start("oma-api", &config, &world.dir.join("second.log"), &[])?;
        second.wait_for("another oma-api", SOON).with_context(|| format!("same {kept}"))?;
        let status = second.stop(SOON)?;
        ensure!(!status.success(), "{kept}: {status}");
    }
    ensure!(world.oma.is_running(), "the first goes on");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_of_one_identity_do_not_take_turns_all_the_time() -> anyhow::Result<()> {
    let world = World::start(&Options::live(&[("root", MIB)])).await?;
    let second = world.dir.join("second.toml");
    let text = std::fs::read_to_string(world.dir.join("vma.toml"))?;
    std::fs::write(&second, text.replace("vma.toml.state", "second.state"))?;
    let mut second = Daemon::start("vma-agent", &second, &world.dir.join("second.log"), &[])?;
    second.wait_for("connected to the OMA", SOON)?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let said = count(&world.agent, "a second vma-agent")? + count(&second, "a second vma-agent")?;
    ensure!((1..=2).contains(&said), "{said} changes of hands in five seconds");
    Ok(())
}
