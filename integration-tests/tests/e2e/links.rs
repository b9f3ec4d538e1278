//! The connection ends at every message that the schema has, just before it and just after: closed, or reset.
//!
//! Which of them is met in which order, and which way it ends, comes of a seed; a failure says it. Every cycle ends by
//! itself, equal, committed once, and nothing is left behind (`links::proof`).

mod disorder;
mod events;
mod proof;
mod silence;

use crate::cycles::live_hashes;
use crate::findings::{MIB, guest_writes, ours_at_the_source};
use crate::seed::Seed;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, World};
use integration_tests::middle::{Fault, How, Kind, Middle, Moment, Rule};
use proof::Proof;
use rand::Rng as _;
use rand::rngs::SmallRng;
use serde_json::json;

/// What a cycle of changed areas says, in the order in which it does.
const DATA: &[&str] = &[
    "ConnectRequest.hello",
    "ConnectResponse.welcome",
    "ConnectRequest.heartbeat",
    "ConnectResponse.desired",
    "ConnectRequest.report.snapshot_taken",
    "PushRequest.open",
    "PushResponse.opened",
    "ConnectRequest.report.progress",
    "PushRequest.intent",
    "PushRequest.zero",
    "PushRequest.chunk",
    "PushRequest.compressed",
    "PushResponse.durable",
    "PushRequest.finish",
    "PushResponse.finished",
    "ConnectRequest.report.sent",
];

/// What else a cycle that compares says.
const HASHES: &[&str] = &["ConnectRequest.report.finding", "PushRequest.hashes", "PushResponse.different"];

/// What is said when something else happens (`links::events`).
const EVENTS: &[&str] = &[
    "PushResponse.page",
    "ConnectRequest.report.paused",
    "ConnectRequest.report.waiting",
    "ConnectRequest.report.failed",
    "ConnectRequest.inventory",
    "ConnectRequest.released",
    "ConnectRequest.power",
];

const MOMENTS: [Moment; 2] = [Moment::Before, Moment::After];

/// More than enough cycles to meet everything.
const MOST_CYCLES: usize = 16;

/// A live VM behind a middle.
struct Behind {
    world: World,
    middle: Middle,
    proof: Proof,
    seed: Seed,
    writes: u64,
}

impl Behind {
    /// `begin` is done.
    async fn start(seed: u64, name: &'static str) -> anyhow::Result<Self> {
        let seed = Seed::new(seed, name);
        let mut options = Options::live(&[("root", 12 * MIB + 512), ("data", 3 * MIB)]);
        options.transfer = "connections = 2\ncompression = \"fast\"\n".to_owned();
        let mut world = World::start(&options).await?;
        let middle = Middle::between(&mut world).await?;
        world.begin().await?;
        Ok(Self { world, middle, proof: Proof::default(), seed, writes: 0 })
    }

    /// Noise, text that shrinks, and zeros, here and there.
    fn guest_writes(&mut self) -> anyhow::Result<()> {
        self.writes += 1;
        let live = self.world.live()?;
        let at = |random: &mut SmallRng| random.random_range(0..8) * MIB;
        for part in 0..3 {
            guest_writes(live, "root", at(&mut self.seed.random), 2 * MIB, self.writes * 10 + part)?;
        }
        let text = format!("{:>63}\n", self.writes).repeat(1 << 15);
        let mut guest = live.guest("root")?;
        guest.write(at(&mut self.seed.random), text.as_bytes())?;
        guest.zero(at(&mut self.seed.random), 1 << 20)?;
        guest.zero(11 * MIB, 1 << 20)?;
        guest.write(10 * MIB, text.as_bytes())?;
        guest.flush()?;
        guest_writes(live, "data", 0, MIB, self.writes)
    }

    fn how(&mut self) -> How {
        if self.seed.coin() { How::Close } else { How::Reset }
    }

    fn cut(&mut self, kind: &str, moment: Moment) -> Rule {
        let how = self.how();
        Rule::at(kind, Fault::Cut(moment, how))
    }

    /// A sync to its end, with these faults in it as far as they come to pass, and the proof. Gives those that did not.
    async fn cycle(&mut self, rules: Vec<Rule>) -> anyhow::Result<Vec<Rule>> {
        let source = live_hashes(&self.world)?;
        self.middle.arm(rules.clone());
        // What is said at the beginning of a connection has to be said.
        let how = self.how();
        self.middle.cut(how);
        let told = || format!("{rules:#?}");
        let m = self.world.sync().await.with_context(told)?;
        self.proof.of(&self.world, &m, &source).await.with_context(told)?;
        Ok(self.middle.disarm())
    }

    /// Cycles until all of these were cut before and after.
    async fn cut_at_each(
        &mut self,
        kinds: &[&str],
        prepare: fn(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut rules = Vec::new();
        for kind in kinds {
            rules.extend(MOMENTS.map(|moment| self.cut(kind, moment)));
        }
        self.meet(rules, prepare).await
    }

    /// Cycles until all of these have come to pass.
    async fn meet(
        &mut self,
        mut left: Vec<Rule>,
        prepare: fn(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for cycle in 0.. {
            if left.is_empty() {
                break;
            }
            ensure!(cycle < MOST_CYCLES, "never met: {left:#?}");
            prepare(self)?;
            // One of each kind a cycle: what was cut may be done with after that.
            let first = |at: usize, rule: &Rule| !left[..at].iter().any(|other| other.kind == rule.kind);
            let (now, later): (Vec<_>, Vec<_>) =
                left.iter().cloned().enumerate().partition(|(at, rule)| first(*at, rule));
            let mut unmet = self.cycle(now.into_iter().map(|(_, rule)| rule).collect()).await?;
            // What did not come to pass keeps the others from their turn no more.
            if !unmet.is_empty() {
                unmet.rotate_left(1);
            }
            left = unmet.into_iter().chain(later.into_iter().map(|(_, rule)| rule)).collect();
        }
        Ok(())
    }
}

/// A message that is new in the schema has to be named in one of the tables, or nobody cuts it.
#[tokio::test]
async fn every_message_of_the_schema_has_its_test() -> anyhow::Result<()> {
    let mut named: Vec<_> = [DATA, HASHES, EVENTS].concat().into_iter().map(Kind::new).collect();
    named.sort();
    let all = integration_tests::middle::kinds()?;
    assert_eq!(named, all, "left: named here; right: in the schema");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_at_every_message_of_a_copy() -> anyhow::Result<()> {
    let mut behind = Behind::start(11, "links::cut_at_every_message_of_a_copy").await?;
    behind.cut_at_each(DATA, Behind::guest_writes).await?;
    behind.seed.survived();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_at_every_message_of_a_comparison() -> anyhow::Result<()> {
    let mut behind = Behind::start(12, "links::cut_at_every_message_of_a_comparison").await?;
    behind.guest_writes()?;
    behind.cycle(vec![]).await?;
    behind.cut_at_each(HASHES, Behind::lose_change_id).await?;
    behind.seed.survived();
    Ok(())
}

impl Behind {
    /// The change id is lost: all is compared, and differs in places.
    fn lose_change_id(&mut self) -> anyhow::Result<()> {
        let live = self.world.live()?;
        for name in ours_at_the_source(live)? {
            let node = live.disks()[0].node.clone();
            // The other disk's is not on this node.
            let _ = live.execute("block-dirty-bitmap-remove", json!({ "node": node, "name": name }));
        }
        self.guest_writes()
    }
}
