//! Who may write a replica: nobody but the holder of the newest epoch, while its job runs (DESIGN §6 rule 14).

use crate::hand::{Hand, HandAgent, LEAF, hello, open_of, reason};
use integration_tests::harness::{Options, World, eventually};
use proto::v1::{self, cycle_report::Event};
use shared::tls::Role;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const LEAVES: u64 = 32;
const SIZE: u64 = LEAVES * LEAF;
pub(crate) const DISKS: &[(&str, u64)] = &[("root", SIZE)];

/// A world whose agent is the test itself, with a cycle that runs.
pub(crate) async fn by_hand() -> anyhow::Result<(World, HandAgent, v1::DesiredCycle)> {
    // Any file will do: the agent that would serve it makes room for the test.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let mut world = World::start(&Options::files(&[("root", &file)])).await?;
    world.agent.kill();
    let mut agent = HandAgent::connect(&world, DISKS).await?;
    world.begin().await?;
    world.act(v1::Action::Sync).await?;
    let cycle = agent.cycle(DISKS).await?;
    Ok((world, agent, cycle))
}

fn refused<T>(opened: Result<T, tonic::Status>) -> anyhow::Result<(String, String)> {
    match opened {
        Ok(_) => anyhow::bail!("was not refused"),
        Err(status) => Ok((reason(&status), status.message().to_owned())),
    }
}

/// The old stream goes on sending as fast as it can while the new epoch opens. What it sent before may be there or
/// not; nothing of it arrives after.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_ends_the_writes_of_the_old_one() -> anyhow::Result<()> {
    let (world, old_agent, cycle) = by_hand().await?;
    let old = Hand::open(&old_agent.channel, open_of(&cycle, SIZE)).await?;
    let spam = tokio::spawn(async move {
        let mut sent = 0u64;
        while old.leaf(sent % LEAVES, 0xaa).await {
            sent += 1;
        }
        let mut old = old;
        (sent, old.refusal().await)
    });
    let mut agent = HandAgent::connect(&world, DISKS).await?;
    let newer = agent.cycle(DISKS).await?;
    assert_eq!(newer.job_id, cycle.job_id, "the same cycle goes on");
    assert!(newer.disks[0].epoch > cycle.disks[0].epoch, "under a new epoch");
    let mut new = Hand::open(&agent.channel, open_of(&newer, SIZE)).await?;
    for leaf in 0..LEAVES {
        assert!(new.leaf(leaf, 0xbb).await);
    }
    new.wait_durable(SIZE).await?;
    let (sent, why) = spam.await?;
    assert!(sent > 0, "the old stream never wrote: nothing was tested");
    assert_eq!(reason(&why), "STALE_EPOCH", "{why:?}");
    // Whoever opens with the old epoch hears who has it now.
    let (reason, message) = refused(Hand::open(&old_agent.channel, open_of(&cycle, SIZE)).await)?;
    assert_eq!(reason, "STALE_EPOCH");
    let by = format!("overtaken by epoch {}, given to {}", newer.disks[0].epoch, newer.job_id);
    assert!(message.contains(&by), "{message}");
    new.finish().await?;
    let m = world.synced().await?;
    let replica = std::fs::read(world.replica(&m, "root")?)?;
    assert!(
        replica.iter().all(|byte| *byte == 0xbb),
        "a write of the old epoch arrived after the new one opened"
    );
    let (verdict, mismatches) = world.verify(false).await?;
    assert!(verdict.equal, "{mismatches:?}");
    Ok(())
}

/// An old stream that was quiet when the new epoch opened, and whose ranges were announced long ago: the database is
/// not asked about its writes, and yet none of them arrives.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_stream_that_wakes_up_writes_nothing() -> anyhow::Result<()> {
    let (world, old_agent, cycle) = by_hand().await?;
    let mut old = Hand::open(&old_agent.channel, open_of(&cycle, SIZE)).await?;
    assert!(old.intent(0, SIZE).await && old.leaf(0, 0xaa).await);
    old.wait_durable(LEAF).await?;
    let mut agent = HandAgent::connect(&world, DISKS).await?;
    let newer = agent.cycle(DISKS).await?;
    let mut new = Hand::open(&agent.channel, open_of(&newer, SIZE)).await?;
    for leaf in 0..LEAVES {
        assert!(new.leaf(leaf, 0xbb).await);
    }
    new.wait_durable(SIZE).await?;
    let mut leaf = 0;
    while old.leaf(leaf % LEAVES, 0xaa).await {
        leaf += 1;
    }
    assert_eq!(reason(&old.refusal().await), "STALE_EPOCH");
    new.finish().await?;
    let m = world.synced().await?;
    let replica = std::fs::read(world.replica(&m, "root")?)?;
    assert!(
        replica.iter().all(|byte| *byte == 0xbb),
        "a write of the old epoch arrived after the new one opened"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_open_is_refused_with_its_reason() -> anyhow::Result<()> {
    let (world, mut agent, cycle) = by_hand().await?;
    let good = open_of(&cycle, SIZE);
    let with = |change: fn(&mut v1::Open)| {
        let mut open = good.clone();
        change(&mut open);
        Hand::open(&agent.channel, open)
    };
    let (why, message) = refused(with(|open| open.epoch += 1).await)?;
    assert_eq!(why, "UNKNOWN_EPOCH");
    assert!(message.contains("was never given out"), "{message}");
    assert_eq!(refused(with(|open| open.epoch -= 1).await)?.0, "STALE_EPOCH");
    assert_eq!(refused(with(|open| open.size_bytes += LEAF).await)?.0, "WRONG_SIZE");
    assert_eq!(refused(with(|open| open.mode = v1::PushMode::Verify.into()).await)?.0, "WRONG_MODE");
    assert_eq!(refused(with(|open| open.mode = 0).await)?.0, "INVALID_ARGUMENT");
    assert_eq!(refused(with(|open| open.job_id = "job-20000101-000000".to_owned()).await)?.0, "NOT_FOUND");

    // Sealing takes everything that was announced, and of a first copy the whole disk.
    let mut push = Hand::open(&agent.channel, good.clone()).await?;
    assert!(push.intent(0, SIZE).await && push.leaf(0, 1).await);
    let (why, message) = refused(push.finish().await)?;
    assert_eq!(why, "INCOMPLETE", "{message}");

    // Paused: what is durable stays, nothing more comes in.
    let mut push = Hand::open(&agent.channel, good.clone()).await?;
    assert!(push.leaf(1, 1).await);
    push.wait_durable(LEAF).await?;
    world.act(v1::Action::Pause).await?;
    let paused = |vm: &v1::DesiredVm| vm.cycle.as_ref().is_some_and(|c| c.run() == v1::CycleRun::Pause);
    agent.desired(paused).await?;
    agent.report(&cycle.job_id, Event::Paused(v1::CyclePaused {})).await?;
    world.wait("sync/paused", Duration::from_secs(60), |m| m.state() == v1::State::Paused).await?;
    let (why, message) = refused(Hand::open(&agent.channel, good.clone()).await)?;
    assert_eq!((why.as_str(), message.contains("is paused")), ("JOB_NOT_RUNNING", true), "{message}");
    // The stream that was open ends, and what it still sends is not written.
    while push.leaf(2, 0xee).await {}
    assert_eq!(reason(&push.refusal().await), "STALE_EPOCH");
    world.act(v1::Action::Sync).await?;
    let resumed = agent.cycle(DISKS).await?;
    let mut push = Hand::open(&agent.channel, open_of(&resumed, SIZE)).await?;
    assert_eq!(push.prior.0, 2 * LEAF, "leaves 0 and 1 were durable before the pause, leaf 2 was refused");

    // Sealed.
    assert!(push.zero(2 * LEAF, SIZE - 2 * LEAF).await);
    push.finish().await?;
    let (why, _) = refused(Hand::open(&agent.channel, open_of(&resumed, SIZE)).await)?;
    // Sealing the only disk ends the job a moment later.
    assert!(["DISK_FINISHED", "JOB_NOT_RUNNING"].contains(&why.as_str()), "{why}");
    let m = world.synced().await?;
    let replica = std::fs::read(world.replica(&m, "root")?)?;
    let fills: Vec<u8> = replica.iter().step_by(usize::try_from(LEAF)?).copied().collect();
    assert_eq!(fills[..3], [1, 1, 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_closes_the_streams_and_keeps_them_closed() -> anyhow::Result<()> {
    let (world, agent, cycle) = by_hand().await?;
    let mut push = Hand::open(&agent.channel, open_of(&cycle, SIZE)).await?;
    assert!(push.leaf(0, 1).await);
    push.wait_durable(LEAF).await?;
    world.act(v1::Action::Abort).await?;
    world.wait("abort/aborted", Duration::from_secs(60), |m| m.state() == v1::State::Aborted).await?;
    assert_eq!(reason(&push.refusal().await), "STALE_EPOCH");
    let (why, message) = refused(Hand::open(&agent.channel, open_of(&cycle, SIZE)).await)?;
    assert!(["JOB_NOT_RUNNING", "STALE_EPOCH"].contains(&why.as_str()), "{why}: {message}");
    Ok(())
}

/// Another agent has its own certificate of the same CA, and may neither take the name nor write the disks.
#[tokio::test(flavor = "multi_thread")]
async fn another_agent_touches_nothing() -> anyhow::Result<()> {
    let (world, agent, cycle) = by_hand().await?;
    let foreign = world.channel_as(&world.ca.files(Role::Agent, "vma-02")).await?;
    let (why, message) = refused(Hand::open(&foreign, open_of(&cycle, SIZE)).await)?;
    assert_eq!(why, "WRONG_AGENT", "{message}");
    let (up, requests) = mpsc::channel(4);
    up.send(hello("vma-01", DISKS)).await?;
    let mut client = v1::agent_service_client::AgentServiceClient::new(foreign);
    let (why, message) = refused(client.connect(ReceiverStream::new(requests)).await)?;
    assert_eq!(why, "WRONG_AGENT");
    assert!(message.contains("the certificate is agent vma-02's, the message says vma-01"), "{message}");
    for said in ["another agent's migration", "agent refused"] {
        let logged = || async { Ok(world.oma.logged()?.contains(said).then_some(())) };
        eventually(said, Duration::from_secs(30), logged).await?;
    }
    // The owner is not disturbed.
    let mut push = Hand::open(&agent.channel, open_of(&cycle, SIZE)).await?;
    assert!(push.zero(0, SIZE).await);
    push.finish().await?;
    world.synced().await?;
    Ok(())
}
