//! Rule 1 and its neighbours: what is lost, refused and waited for when something fails.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;

use super::world::*;
use crate::manifest::leaf_hash;
use crate::piece::Piece;
use crate::replica::*;
use crate::target::Op;
use crate::target::fault::{EIO, ENOSPC, Fault};
use shared::leaf::{LEAF, LeafHash};

fn cause(e: &Error) -> &Cause {
    match e {
        Error::Failed(cause) => cause,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[tokio::test]
async fn after_a_failed_flush_nothing_counts_though_the_next_one_would_succeed() {
    let world = World::zeroed(16);
    world.disk.next(Op::Flush, Fault::Errno(EIO));
    let session = world.open(quick());
    let (stream, mut acks) = session.stream();
    stream.write(data(0, 4, 7)).await.expect("accepted");
    let e = acks.next().await.expect_err("never acknowledged");
    assert!(matches!(cause(&e), Cause::Target(_)), "{e}");
    assert!(matches!(session.seal().await, Err(Error::Failed(_))), "never sealed");
    assert!(matches!(stream.write(data(4, 1, 7)).await, Err(Error::Failed(_))));
    assert!(matches!(session.intend(RangeSet::from_iter([leaves(5, 1)])).await, Err(Error::Failed(_))));
    assert!(matches!(stream.confirm(leaves(5, 1), vec![]).await, Err(Error::Failed(_))));
    session.fence("over").await;
    assert!(matches!(session.check(), Err(Error::Failed(_))), "the first reason stays");
    assert!(world.durable().is_empty());
    assert_eq!(
        world.disk.calls().iter().filter(|c| matches!(c, crate::target::fault::Call::Flush)).count(),
        1
    );
    let mut hashes = [leaf_hash(b"x"); 4];
    world.manifest.read(0, &mut hashes).expect("read");
    assert_eq!(hashes, [LeafHash::ZERO; 4], "nor does the manifest know it");
    // What the kernel forgot is gone; the next session owes it, and heals it by writing again.
    let again = world.open(quick());
    assert_eq!(again.owed(), RangeSet::from_iter([leaves(0, 4)]));
    assert!(matches!(again.seal().await, Err(Error::Incomplete { .. })));
    let (stream, _acks) = again.stream();
    stream.write(data(0, 4, 7)).await.expect("accepted");
    again.seal().await.expect("whole");
    assert_eq!(world.disk.stable()[..4 * LEAF_USIZE], vec![7; 4 * LEAF_USIZE]);
}

#[tokio::test]
async fn what_was_checkpointed_before_a_failure_stays_acknowledged() {
    let world = World::zeroed(16);
    world.disk.next(Op::Flush, Fault::Pass).next(Op::Flush, Fault::Errno(EIO));
    let session = world.open(quick());
    let (stream, mut acks) = session.stream();
    stream.write(data(0, 4, 7)).await.expect("accepted");
    until("the first checkpoint", || !session.durable().is_empty()).await;
    stream.write(data(8, 4, 8)).await.expect("accepted");
    until("the failure", || session.check().is_err()).await;
    assert_eq!(acks.next().await.expect("told first"), Some(RangeSet::from_iter([leaves(0, 4)])));
    assert!(acks.next().await.is_err());
    assert_eq!(session.durable(), RangeSet::from_iter([leaves(0, 4)]));
}

#[tokio::test]
async fn writes_that_fail_end_the_session() {
    for (op, fault) in [
        (Op::Write, Fault::Errno(EIO)),
        (Op::Write, Fault::Half(EIO)),
        (Op::Write, Fault::Errno(ENOSPC)),
        (Op::Zero, Fault::Errno(EIO)),
    ] {
        let world = World::holding(vec![1; 4 * LEAF_USIZE]);
        world.disk.next(op, fault);
        let session = world.open(quick());
        let (stream, mut acks) = session.stream();
        let piece = if op == Op::Zero { Piece::Zero(leaves(0, 1)) } else { data(0, 1, 7) };
        stream.write(piece).await.expect("accepted");
        let e = acks.next().await.expect_err("never acknowledged");
        let Cause::Target(target) = cause(&e) else { panic!("{e:?}") };
        let full = matches!(target, crate::target::Error::NoRoom { .. });
        assert_eq!(full, fault == Fault::Errno(ENOSPC), "{target}");
        assert!(session.seal().await.is_err());
        assert!(world.durable().is_empty());
    }
}

#[tokio::test]
async fn a_journal_that_fails_ends_the_session() {
    let world = World::zeroed(4);
    world.journal.fail_checkpoint.store(true, Ordering::Relaxed);
    let session = world.open(quick());
    let (stream, mut acks) = session.stream();
    stream.write(data(0, 1, 7)).await.expect("accepted");
    let e = acks.next().await.expect_err("never acknowledged");
    assert!(matches!(cause(&e), Cause::Checkpoint(_)));
    assert!(session.durable().is_empty() && session.seal().await.is_err());
}

#[tokio::test]
async fn who_waits_for_the_window_is_told_of_the_failure() {
    let world = World::zeroed(16);
    world.disk.next(Op::Write, Fault::Hang).next(Op::Write, Fault::Errno(EIO));
    let session = world.open(Options { window: 2 * LEAF, ..patient() });
    let (stream, _acks) = session.stream();
    stream.write(data(0, 1, 7)).await.expect("accepted");
    stream.write(data(1, 1, 7)).await.expect("accepted");
    let waiting = tokio::spawn(async move { stream.write(data(2, 1, 7)).await });
    until("a write", || world.disk.hanging() == 1).await;
    assert!(!waiting.is_finished());
    world.disk.release();
    assert!(matches!(waiting.await.expect("no panic"), Err(Error::Failed(_))));
}

#[tokio::test]
async fn a_fence_waits_for_the_write_under_way_and_nothing_follows_it() {
    let world = World::zeroed(16);
    world.disk.next(Op::Write, Fault::Hang);
    let session = world.open(patient());
    let (stream, mut acks) = session.stream();
    stream.write(data(0, 1, 7)).await.expect("accepted");
    stream.write(data(1, 1, 7)).await.expect("accepted, queued behind it");
    until("a write", || world.disk.hanging() == 1).await;
    let fence = tokio::spawn({
        let session = session.clone();
        async move { session.fence("epoch 8 has begun").await }
    });
    until("the refusal", || session.check().is_err()).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!fence.is_finished(), "a write of the old epoch is still under way");
    let e = stream.write(data(2, 1, 7)).await.expect_err("refused");
    assert!(matches!(&e, Error::Fenced { .. }) && e.to_string().contains("epoch 8 has begun"), "{e}");
    assert!(matches!(acks.next().await, Err(Error::Fenced { .. })));
    world.disk.release();
    fence.await.expect("no panic");
    assert_eq!(world.writes(), 1, "the queued one was dropped");
    assert!(matches!(session.seal().await, Err(Error::Fenced { .. })));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(world.disk.calls().len(), 1, "nothing follows");
    assert!(world.durable().is_empty());
}

/// A target may return from a write before it is done: whoever comes after the fence must be alone with the disk.
#[tokio::test]
async fn a_fence_waits_for_what_the_target_has_accepted_and_not_yet_written() {
    let world = World::zeroed(16);
    world.disk.next(Op::Write, Fault::Late);
    let session = world.open(patient());
    let (stream, _acks) = session.stream();
    stream.write(data(0, 1, 7)).await.expect("accepted");
    until("the write", || session.stats().written_bytes == LEAF).await;
    let fence = tokio::spawn(async move { session.fence("epoch 8 has begun").await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!fence.is_finished(), "a write of the old epoch could land on that of the new one");
    world.disk.release();
    fence.await.expect("no panic");
}

#[tokio::test]
async fn a_fence_waits_for_the_flush_under_way_which_is_not_recorded() {
    let world = World::zeroed(16);
    world.disk.next(Op::Flush, Fault::Hang);
    let session = world.open(quick());
    let (stream, _acks) = session.stream();
    stream.write(data(0, 4, 7)).await.expect("accepted");
    until("a flush", || world.disk.hanging() == 1).await;
    let fence = tokio::spawn({
        let session = session.clone();
        async move { session.fence("paused").await }
    });
    until("the refusal", || session.check().is_err()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!fence.is_finished(), "a flush of the old epoch is still under way");
    world.disk.release();
    fence.await.expect("no panic");
    assert!(world.durable().is_empty());
}

#[tokio::test]
async fn a_slow_disk_is_only_slow() {
    let world = World::zeroed(16);
    for op in [Op::Write, Op::Flush, Op::Write] {
        world.disk.next(op, Fault::Slow(Duration::from_millis(50)));
    }
    let session = world.open(quick());
    let (stream, _acks) = session.stream();
    for leaf in 0..16 {
        stream.write(data(leaf, 1, 7)).await.expect("accepted");
    }
    assert_eq!(session.seal().await.expect("sealed").durable.total(), 16 * LEAF);
    assert_eq!(world.disk.stable(), vec![7; 16 * LEAF_USIZE]);
}

#[tokio::test]
async fn a_session_that_nobody_holds_ends() {
    let world = World::zeroed(4);
    let session = world.open(patient());
    let (stream, mut acks) = session.stream();
    stream.write(data(0, 1, 7)).await.expect("accepted");
    drop((stream, session));
    assert!(matches!(acks.next().await, Err(Error::Fenced { .. })));
    assert!(world.durable().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The power fails at any point, with any part of the cache written back: whatever a checkpoint named is there,
    /// and what a second session sends (all that is owed) makes the disk whole.
    #[test]
    fn a_power_cut_loses_nothing_checkpointed(
        order in Just((0..24usize).collect::<Vec<_>>()).prop_shuffle(),
        cut in 0usize..24, wait in 0u64..8, back in any::<u64>(), bytes in prop::collection::vec(0u8..3, 24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let source: Vec<u8> = bytes.iter().flat_map(|b| vec![*b; LEAF_USIZE]).collect();
            let mut world = World::holding(vec![9; source.len()]);
            *world.journal.check.lock().expect("unpoisoned") = Some((world.disk.clone(), source.clone()));
            let session = world.open(Options { flush_interval: Duration::from_millis(1), ..quick() });
            let (stream, _acks) = session.stream();
            for leaf in &order[..cut] {
                stream.write(piece(&source, leaves(*leaf, 1))).await.expect("accepted");
            }
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let durable = world.durable();
            let mut n = 0;
            let disk = world.disk.crash(|_| { n += 1; back >> (n % 64) & 1 == 1 });
            let after = disk.stable();
            for r in durable.iter() {
                let at = usize::try_from(r.start).expect("small")..usize::try_from(r.end).expect("small");
                assert_eq!(&after[at.clone()], &source[at], "{r:?} was called durable");
            }
            session.fence("power").await;
            // The journal may have gone on until the fence; the disk is that of the cut.
            *world.journal.durable.lock().expect("unpoisoned") = durable.clone();
            world.disk = disk;
            *world.journal.check.lock().expect("unpoisoned") = Some((world.disk.clone(), source.clone()));
            let again = world.open(quick());
            let (stream, _acks) = again.stream();
            for leaf in (0..24).filter(|l| !durable.contains(leaves(*l, 1))) {
                stream.write(piece(&source, leaves(leaf, 1))).await.expect("accepted");
            }
            again.seal().await.expect("whole");
            assert_eq!(world.disk.stable(), source);
        });
    }
}
