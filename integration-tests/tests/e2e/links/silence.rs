//! Half-open: TCP stays, and nothing goes through it any more, either way.

use super::Behind;
use crate::cycles::live_hashes;
use crate::findings::SOON;
use anyhow::ensure;
use integration_tests::harness::{Daemon, eventually};
use integration_tests::middle::{Fault, Moment, Rule};
use proto::v1;
use rand::seq::IndexedRandom as _;
use std::time::{Duration, Instant};

/// HTTP/2's pings: after 10 s without a word, 10 s for the answer; and the first pause before another connection.
const FOUND_BY: Duration = Duration::from_secs(10 + 10 + 4);

/// Where the cycle cannot end without another word: once all disks are sealed, the OMA commits it by itself.
const POINTS: &[(&str, Moment)] = &[
    ("PushRequest.open", Moment::Before),
    ("PushRequest.open", Moment::After),
    ("PushResponse.opened", Moment::Before),
    ("PushRequest.intent", Moment::After),
    ("PushRequest.chunk", Moment::Before),
    ("PushRequest.chunk", Moment::After),
    ("PushRequest.finish", Moment::Before),
];

fn count(daemon: &Daemon, what: &str) -> anyhow::Result<usize> {
    Ok(daemon.logged()?.lines().filter(|line| line.contains(what)).count())
}

impl Behind {
    /// A copy that falls silent.
    async fn silent(&mut self) -> anyhow::Result<(Rule, Instant)> {
        let (kind, moment) = *POINTS.choose(&mut self.seed.random).unwrap_or(&POINTS[0]);
        let rule = Rule::at(kind, Fault::Stall(moment));
        self.middle.arm([rule.clone()]);
        self.world.act(v1::Action::Sync).await?;
        self.middle.all_fired(SOON).await?;
        Ok((rule, Instant::now()))
    }
}

/// Both sides find it out by themselves, in time, and go on over another connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_is_found_by_both_sides() -> anyhow::Result<()> {
    let name = "links::silence::a_half_open_connection_is_found_by_both_sides";
    let mut behind = Behind::start(31, name).await?;
    behind.guest_writes()?;
    let source = live_hashes(&behind.world)?;
    let (connected, broke) =
        (count(&behind.world.agent, "connected to the OMA")?, count(&behind.world.oma, "connection broke")?);
    let (rule, since) = behind.silent().await?;
    eventually("the agent to connect anew", FOUND_BY, || async {
        Ok((count(&behind.world.agent, "connected to the OMA")? > connected).then_some(()))
    })
    .await?;
    let took = since.elapsed();
    ensure!(took < FOUND_BY, "{took:?} after {rule:?}");
    ensure!(took > Duration::from_secs(9), "{took:?} after {rule:?}: it was not silent");
    let m = behind.world.synced().await?;
    eventually("the OMA to let go", FOUND_BY, || async {
        Ok((count(&behind.world.oma, "connection broke")? > broke).then_some(()))
    })
    .await?;
    behind.proof.of(&behind.world, &m, &source).await?;
    behind.seed.survived();
    Ok(())
}

/// An agent that comes back does not wait for the OMA to find out about its old connection.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_comes_back_while_its_old_connection_is_half_open() -> anyhow::Result<()> {
    let name = "links::silence::an_agent_comes_back_while_its_old_connection_is_half_open";
    let mut behind = Behind::start(32, name).await?;
    for _ in 0..3 {
        behind.guest_writes()?;
        let source = live_hashes(&behind.world)?;
        let (rule, since) = behind.silent().await?;
        // The middle keeps its side towards the OMA open.
        behind.world.agent.kill();
        behind.world.agent_restart()?;
        let m = behind.world.synced().await?;
        ensure!(since.elapsed() < Duration::from_secs(9), "{:?} after {rule:?}", since.elapsed());
        behind.proof.of(&behind.world, &m, &source).await?;
    }
    behind.seed.survived();
    Ok(())
}
