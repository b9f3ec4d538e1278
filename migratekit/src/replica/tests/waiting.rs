//! What waits for what, and what does not.

use std::sync::Arc;

use futures::FutureExt as _;
use shared::leaf::LEAF;
use shared::range::RangeSet;
use tokio::sync::Semaphore;

use super::world::*;
use crate::piece::Piece;
use crate::replica::*;
use crate::target::Op;
use crate::target::fault::Fault;

#[tokio::test]
async fn data_in_memory_is_bounded_until_it_is_written() {
    let world = World::zeroed(16);
    world.disk.next(Op::Write, Fault::Hang);
    let session = world.open(Options { memory: 2 * LEAF, ..patient() });
    session.intend(RangeSet::from_iter([leaves(0, 7), leaves(8, 4)])).await.expect("logged");
    let (stream, _acks) = session.stream();
    stream.write(data(0, 1, 7)).await.expect("accepted");
    stream.write(data(1, 1, 7)).await.expect("accepted");
    until("a write", || world.disk.hanging() == 1).await;
    assert!(stream.write(data(2, 1, 7)).now_or_never().is_none(), "a third leaf has to wait for the writer");
    stream.write(Piece::Zero(leaves(8, 4))).await.expect("zeros hold no memory");
    world.disk.release();
    // Nothing is flushed yet: being written is enough.
    stream.write(data(2, 1, 7)).await.expect("room again");
    // Larger than the bound: alone, it passes.
    stream.write(data(3, 4, 7)).await.expect("accepted");
    session.seal().await.expect("sealed");
    assert_eq!(world.disk.stable()[..7 * LEAF_USIZE], vec![7; 7 * LEAF_USIZE]);
}

/// Logs one intent at once, and each further one when it is told to.
struct SlowJournal(Semaphore);

#[async_trait::async_trait]
impl Journal for SlowJournal {
    async fn intend(&self, _: &RangeSet) -> Result<(), JournalError> {
        self.0.acquire().await?.forget();
        Ok(())
    }

    async fn checkpoint(&self, _: &RangeSet) -> Result<(), JournalError> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_logged_does_not_wait_for_what_is_being_logged() {
    let world = World::zeroed(16);
    let journal = Arc::new(SlowJournal(Semaphore::new(1)));
    let prior = Prior { intended: RangeSet::new(), durable: RangeSet::new(), reads_zero: ReadsZero::Unknown };
    let target = Arc::new(world.disk.clone());
    let session = ReplicaSession::open(target, world.manifest.clone(), journal.clone(), prior, patient());
    let session = session.expect("open");
    session.intend(RangeSet::from_iter([leaves(0, 4)])).await.expect("logged");
    let ahead = tokio::spawn({
        let session = session.clone();
        async move { session.intend(RangeSet::from_iter([leaves(4, 4)])).await }
    });
    until("the second intent", || session.owed().contains(leaves(4, 4))).await;
    let (stream, _acks) = session.stream();
    let logged = tokio::time::timeout(std::time::Duration::from_secs(10), stream.write(data(0, 1, 7))).await;
    logged.expect("does not wait for the second intent").expect("accepted");
    assert!(stream.write(data(4, 1, 7)).now_or_never().is_none(), "nothing is written before its intent");
    assert!(!ahead.is_finished());
    journal.0.add_permits(1);
    ahead.await.expect("no panic").expect("logged");
    stream.write(data(4, 1, 7)).await.expect("accepted");
}
