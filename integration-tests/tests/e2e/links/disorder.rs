//! Messages that come twice, and messages that are overtaken by the one behind them.
//!
//! Within a stream gRPC does neither; what is repeated and late over a lost connection, it does not see. Here it is
//! done to every message but the hello, which is refused a second time and said so: the cycle ends by itself.

use super::{Behind, DATA, HASHES};
use bytes::Bytes;
use integration_tests::middle::{Fault, Kind, Rule};
use rand::seq::SliceRandom as _;
use std::sync::{Arc, Mutex, PoisonError};

/// Twice and late, each of these; what comes first is the seed's.
fn rules(behind: &mut Behind, kinds: &[&str]) -> Vec<Rule> {
    let mut faults = [Fault::Twice, Fault::Late];
    faults.shuffle(&mut behind.seed.random);
    let kinds = kinds.iter().filter(|kind| **kind != "ConnectRequest.hello");
    kinds.flat_map(|kind| faults.map(|fault| Rule::at(kind, fault))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_bears_every_message_twice_and_late() -> anyhow::Result<()> {
    let mut behind = Behind::start(21, "links::disorder::a_copy_bears_every_message_twice_and_late").await?;
    let rules = rules(&mut behind, DATA);
    behind.meet(rules, Behind::guest_writes).await?;
    behind.seed.survived();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_bears_every_message_twice_and_late() -> anyhow::Result<()> {
    let name = "links::disorder::a_comparison_bears_every_message_twice_and_late";
    let mut behind = Behind::start(22, name).await?;
    behind.guest_writes()?;
    behind.cycle(vec![]).await?;
    let rules = rules(&mut behind, HASHES);
    behind.meet(rules, Behind::lose_change_id).await?;
    behind.seed.survived();
    Ok(())
}

/// An older state that comes after a newer one counts for nothing: whoever took it for the last word would wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_desired_state_that_was_overtaken_does_not_count() -> anyhow::Result<()> {
    let name = "links::disorder::a_desired_state_that_was_overtaken_does_not_count";
    let mut behind = Behind::start(23, name).await?;
    let older = Mutex::new(None::<Bytes>);
    behind.middle.rewrite(Arc::new(move |kind: Option<&Kind>, bytes: Bytes| match kind.map(Kind::as_str) {
        Some("ConnectResponse.desired") => {
            let mut older = older.lock().unwrap_or_else(PoisonError::into_inner);
            let before = older.replace(bytes.clone());
            [Some(bytes), before].into_iter().flatten().collect()
        }
        // Another connection has a count of its own.
        Some("ConnectResponse.welcome") => {
            *older.lock().unwrap_or_else(PoisonError::into_inner) = None;
            vec![bytes]
        }
        _ => vec![bytes],
    }));
    for _ in 0..2 {
        behind.guest_writes()?;
        behind.cycle(vec![]).await?;
    }
    behind.seed.survived();
    Ok(())
}
