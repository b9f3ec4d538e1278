//! Ends that were asked for: SIGTERM, as `systemctl stop` sends it, and `pause`.

use super::driver::scribble;
use super::{MIB, Plain};
use integration_tests::harness::eventually;
use proto::v1;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::time::{Duration, Instant};

/// `systemctl stop` is given this long.
const GRACE: Duration = Duration::from_secs(10);

/// A pause is done within this.
const PAUSE: Duration = Duration::from_secs(5);

/// A disk that has a part of its full copy behind it, and the source's answers held or slow.
async fn in_the_middle(jitter: Duration) -> anyhow::Result<Plain> {
    let plain = Plain::start(40, &[("root", 160 * MIB + 512)], jitter).await?;
    to_the_middle(&plain).await?;
    Ok(plain)
}

/// Starts a cycle and stops the source's answers in it.
async fn to_the_middle(plain: &Plain) -> anyhow::Result<()> {
    plain.tap.hold_after(48 * MIB);
    plain.world.act(v1::Action::Sync).await?;
    let held = || async { Ok(plain.tap.is_held().then_some(())) };
    eventually("the middle of the copy", Duration::from_secs(60), held).await
}

fn resumed(m: &v1::Migration) -> u64 {
    m.cycle.iter().flat_map(|cycle| &cycle.disks).map(|disk| disk.resumed_bytes).sum()
}

/// Both daemons end in time in mid-cycle, although the source owes answers, and go on later.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_daemon_ends_in_time_and_goes_on_later() -> anyhow::Result<()> {
    let mut plain = in_the_middle(Duration::ZERO).await?;
    let ended = plain.world.agent.stop(GRACE)?;
    assert!(ended.success(), "the agent ended with {ended}");
    plain.tap.next_attempt();
    plain.tap.hold_after(24 * MIB);
    plain.world.agent_restart()?;
    let held = || async { Ok(plain.tap.is_held().then_some(())) };
    eventually("the agent to go on", Duration::from_secs(60), held).await?;
    let ended = plain.world.oma.stop(GRACE)?;
    assert!(ended.success(), "the OMA ended with {ended}");
    plain.tap.release();
    plain.world.oma_restart(&[])?;
    let m = plain.world.synced().await?;
    assert!(resumed(&m) > 0, "{m:?}");
    plain.assert_replicated(&m)
}

/// Pauses, says how long that took, and waits until the source's side has let go.
async fn paused(plain: &Plain) -> anyhow::Result<Duration> {
    let began = Instant::now();
    plain.world.act(v1::Action::Pause).await?;
    plain
        .world
        .wait("the pause", Duration::from_secs(60), |m| {
            m.state() == v1::State::Paused && m.cycle.as_ref().is_some_and(|c| c.status == "paused")
        })
        .await?;
    Ok(began.elapsed())
}

/// A paused cycle goes on where it stopped: what was read is not read again. In full, and in an increment by hashes.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_at_a_durable_point() -> anyhow::Result<()> {
    let plain = in_the_middle(Duration::ZERO).await?;
    for round in ["full", "increment"] {
        // What was held comes at a pace at which the pause has to wait for some of it.
        plain.tap.set_rate(Some(12 * MIB));
        plain.tap.release();
        let took = paused(&plain).await?;
        assert!(took < PAUSE, "{round}: {took:?}");
        plain.tap.set_rate(None);
        plain.tap.next_attempt();
        let m = plain.world.sync().await?;
        plain.assert_replicated(&m)?;
        assert!(resumed(&m) >= 24 * MIB, "{round}: {m:?}");
        assert_eq!(plain.tap.redone()["root"], 0, "{round}: read again after a pause");
        if round == "full" {
            scribble(&plain.disks[0].1, &mut SmallRng::seed_from_u64(41), 64 * MIB)?;
            plain.tap.forget();
            to_the_middle(&plain).await?;
        }
    }
    Ok(())
}

/// A source that does not answer at all does not keep the pause; what it owes is asked again later.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_source_does_not_hold_a_pause_up() -> anyhow::Result<()> {
    let plain = in_the_middle(Duration::ZERO).await?;
    let took = paused(&plain).await?;
    assert!(took < PAUSE, "{took:?}");
    plain.tap.next_attempt();
    plain.tap.release();
    let m = plain.world.sync().await?;
    plain.assert_replicated(&m)?;
    assert!(resumed(&m) > 0, "{m:?}");
    assert!(plain.tap.redone()["root"] <= 16 * MIB, "{:?}", plain.tap.redone());
    Ok(())
}
