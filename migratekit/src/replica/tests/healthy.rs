//! What a session does when nothing fails.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::world::*;
use crate::manifest::{leaf_hash, leaf_hashes};
use crate::piece::{MAX_DATA, Piece};
use crate::replica::*;
use crate::target::fault::{Call, Fault};
use crate::target::{Op, fault};
use crate::verify::verify_replica;
use bytes::Bytes;
use shared::leaf::{LEAF, LeafHash};
use shared::range::ByteRange;
use std::time::Duration;

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_flushed_and_recorded() {
    let world = World::zeroed(8);
    world.disk.next(Op::Flush, Fault::Hang);
    let session = world.open(quick());
    let (stream, mut acks) = session.stream();
    stream.write(data(0, 4, 7)).await.expect("accepted");
    until("a flush", || world.disk.hanging() == 1).await;
    let early = tokio::time::timeout(Duration::from_millis(30), acks.next()).await;
    assert!(early.is_err(), "acknowledged before the flush returned");
    assert!(world.durable().is_empty() && session.durable().is_empty());
    let mut hashes = [LeafHash::ZERO; 4];
    world.manifest.read(0, &mut hashes).expect("read");
    assert_eq!(hashes, [LeafHash::ZERO; 4], "the manifest comes after the data");
    // Flushing does not hold up receiving.
    stream.write(data(4, 1, 8)).await.expect("accepted");
    until("a write during the flush", || world.writes() == 2).await;
    world.disk.release();
    let told = acks.next().await.expect("healthy").expect("not sealed");
    assert_eq!(
        told,
        RangeSet::from_iter([leaves(0, 4)]),
        "what was written after the flush began is not in it"
    );
    assert!(world.durable().contains(leaves(0, 4)));
    world.manifest.read(0, &mut hashes).expect("read");
    assert_eq!(hashes, [leaf_hash(&[7; LEAF_USIZE]); 4]);
    let sealed = session.seal().await.expect("sealed");
    assert_eq!(sealed.durable, RangeSet::from_iter([leaves(0, 5)]));
    assert_eq!(acks.next().await.expect("healthy"), Some(RangeSet::from_iter([leaves(4, 1)])));
    assert_eq!(acks.next().await.expect("healthy"), None, "the end comes after the last acknowledgement");
    assert!(matches!(stream.write(data(0, 1, 7)).await, Err(Error::Sealed)));
    assert_eq!(session.seal().await.expect("the same again").durable, sealed.durable);
}

#[tokio::test]
async fn the_intent_is_durable_before_the_first_byte() {
    let world = World::zeroed(8);
    world.journal.fail_intent.store(true, std::sync::atomic::Ordering::Relaxed);
    let session = world.open(quick());
    let (stream, mut acks) = session.stream();
    let e = stream.write(data(0, 1, 7)).await.expect_err("no intent, no write");
    assert!(matches!(&e, Error::Failed(cause) if matches!(**cause, Cause::Intent(_))), "{e}");
    assert!(acks.next().await.is_err());
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn announced_ranges_are_logged_once() {
    let world = World::zeroed(8);
    let session = world.open(quick());
    session.intend(RangeSet::from_iter([leaves(0, 4)])).await.expect("logged");
    let (stream, _acks) = session.stream();
    // A second call of the journal would fail.
    world.journal.fail_intent.store(true, std::sync::atomic::Ordering::Relaxed);
    for leaf in 0..4 {
        stream.write(data(leaf, 1, 7)).await.expect("announced");
    }
    session.intend(RangeSet::from_iter([leaves(1, 2)])).await.expect("nothing to log");
    session.seal().await.expect("sealed");
}

#[tokio::test]
async fn what_was_announced_and_not_sent_keeps_the_disk_open() {
    let world = World::zeroed(8);
    // An older job's, that never committed.
    world.journal.intended.lock().expect("unpoisoned").insert(leaves(6, 1));
    let session = world.open(quick());
    let (stream, _acks) = session.stream();
    session.intend(RangeSet::from_iter([leaves(0, 2)])).await.expect("logged");
    stream.write(data(0, 1, 7)).await.expect("accepted");
    let e = session.seal().await.expect_err("two leaves are missing");
    assert!(
        matches!(e, Error::Incomplete { bytes, ranges: 2, first } if bytes == 2 * LEAF && first == leaves(1, 1))
    );
    stream.write(data(1, 1, 7)).await.expect("the session goes on");
    stream.write(Piece::Zero(leaves(6, 1))).await.expect("accepted");
    assert_eq!(session.seal().await.expect("whole").durable.total(), 3 * LEAF);
}

#[tokio::test]
async fn any_order_duplicates_and_several_streams() {
    for seed in 0..4u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let size = 40 * LEAF_USIZE + 777;
        let mut source = vec![0; size];
        for leaf in 0..41 {
            if random.random_bool(0.6) {
                random.fill(&mut source[leaf * LEAF_USIZE..((leaf + 1) * LEAF_USIZE).min(size)]);
            }
        }
        let mut old = vec![0; size];
        random.fill(&mut old[..]);
        let world = World::holding(old);
        *world.journal.check.lock().expect("unpoisoned") = Some((world.disk.clone(), source.clone()));
        let session = world.open(quick());
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < size {
            let end = (at + LEAF_USIZE * random.random_range(1..5)).min(size);
            pieces.push(ByteRange::new(at as u64, end as u64));
            at = end;
        }
        pieces.extend(pieces.clone().into_iter().take(5));
        pieces.shuffle(&mut random);
        let streams = [session.stream(), session.stream()];
        for (i, range) in pieces.iter().enumerate() {
            streams[i % 2].0.write(piece(&source, *range)).await.expect("accepted");
        }
        let sealed = session.seal().await.expect("sealed");
        assert_eq!(sealed.durable.total(), size as u64);
        assert_eq!(world.disk.stable(), source, "seed {seed}: old data under source zeros too");
        let mut told = RangeSet::new();
        for (_, mut acks) in streams {
            while let Some(ranges) = acks.next().await.expect("healthy") {
                told.union(&ranges);
            }
        }
        assert_eq!(told, sealed.durable);
        let none = tokio_util::sync::CancellationToken::new();
        let report =
            verify_replica(&world.disk, &world.manifest, &RangeSet::new(), &|_| {}, &none).expect("verified");
        assert_eq!((report.different_bytes, report.compared_bytes), (0, size as u64));
    }
}

#[tokio::test]
async fn zeros_are_left_out_only_where_nothing_was_ever_written() {
    let mut world = World::zeroed(12);
    world.reads_zero = ReadsZero::Yes;
    // Leaf 1: written by a job that never committed. Leaf 2: committed, and in the manifest.
    world.journal.intended.lock().expect("unpoisoned").insert(leaves(1, 1));
    world.manifest.set(2 * LEAF, &[leaf_hash(b"committed")]).expect("set");
    let session = world.open(patient());
    let (stream, _acks) = session.stream();
    stream.write(Piece::Zero(leaves(0, 1))).await.expect("accepted");
    stream.write(Piece::Zero(leaves(1, 1))).await.expect("accepted");
    stream.write(Piece::Zero(leaves(2, 2))).await.expect("accepted");
    stream.write(data(5, 1, 7)).await.expect("accepted");
    stream.write(Piece::Zero(leaves(5, 3))).await.expect("accepted, after data in the same place");
    stream.write(Piece::Zero(leaves(9, 3))).await.expect("accepted");
    let stats = session.seal().await.expect("sealed").stats;
    let zeroed: Vec<Call> = world.disk.calls().into_iter().filter(|c| matches!(c, Call::Zero(_))).collect();
    assert_eq!(zeroed, [Call::Zero(leaves(1, 1)), Call::Zero(leaves(2, 2)), Call::Zero(leaves(5, 3))]);
    assert_eq!((stats.skipped_bytes, stats.zeroed_bytes, stats.written_bytes), (4 * LEAF, 6 * LEAF, LEAF));
    let mut hashes = [leaf_hash(b"x"); 12];
    world.manifest.read(0, &mut hashes).expect("read");
    assert_eq!(hashes, [LeafHash::ZERO; 12]);
}

#[tokio::test]
async fn a_target_that_may_hold_old_data_is_zeroed_everywhere() {
    let world = World::holding(vec![9; 4 * LEAF_USIZE]);
    let session = world.open(patient());
    let (stream, _acks) = session.stream();
    stream.write(Piece::Zero(leaves(0, 4))).await.expect("accepted");
    session.seal().await.expect("sealed");
    assert_eq!(world.disk.stable(), vec![0; 4 * LEAF_USIZE]);
}

#[tokio::test]
async fn what_cannot_be_a_piece_is_refused_and_the_session_goes_on() {
    let world = World::zeroed(8);
    let session = world.open(quick());
    let (stream, _acks) = session.stream();
    let data_at = |offset, len, hashes: usize| Piece::Data {
        offset,
        data: Bytes::from(vec![1; len]),
        hashes: vec![leaf_hash(b"x"); hashes],
    };
    let bad = [
        data_at(1, LEAF_USIZE, 1),
        data_at(0, LEAF_USIZE - 1, 1),
        data_at(0, 0, 0),
        data_at(8 * LEAF, LEAF_USIZE, 1),
        data_at(u64::MAX / LEAF * LEAF, LEAF_USIZE, 1),
        data_at(0, LEAF_USIZE, 2),
        data_at(0, MAX_DATA + LEAF_USIZE, 65),
        Piece::Zero(ByteRange::new(0, 100)),
        Piece::Zero(ByteRange::new(0, 9 * LEAF)),
        Piece::Zero(ByteRange::new(LEAF, LEAF)),
    ];
    for piece in bad {
        let named = format!("{piece:?}").chars().take(60).collect::<String>();
        assert!(matches!(stream.write(piece).await, Err(Error::Refused { .. })), "{named}");
    }
    assert!(matches!(
        session.intend(RangeSet::from_iter([ByteRange::new(0, 1)])).await,
        Err(Error::Refused { .. })
    ));
    assert!(matches!(stream.confirm(leaves(0, 2), vec![LeafHash::ZERO]).await, Err(Error::Refused { .. })));
    stream.write(data(0, 1, 7)).await.expect("healthy");
    session.seal().await.expect("nothing refused was announced");
    assert_eq!(world.writes(), 1);
}

#[tokio::test]
async fn hashes_are_made_where_missing_and_compared_where_asked() {
    let world = World::zeroed(8);
    let session = world.open(Options { hashes: Hashes::VerifyHere, ..quick() });
    let (stream, _acks) = session.stream();
    let bytes = Bytes::from(vec![3; 2 * LEAF_USIZE]);
    let mut hashes = leaf_hashes(&bytes);
    stream.write(Piece::Data { offset: 0, data: bytes.clone(), hashes: vec![] }).await.expect("made here");
    stream
        .write(Piece::Data { offset: 2 * LEAF, data: bytes.clone(), hashes: hashes.clone() })
        .await
        .expect("equal");
    hashes[1] = leaf_hash(b"other");
    let e = stream.write(Piece::Data { offset: 4 * LEAF, data: bytes, hashes }).await.expect_err("not equal");
    let offset = 5 * LEAF;
    assert!(matches!(e, Error::Refused { why: Refusal::HashMismatch { offset: o }, .. } if o == offset));
    session.seal().await.expect("sealed");
    let mut got = [LeafHash::ZERO; 8];
    world.manifest.read(0, &mut got).expect("read");
    assert_eq!(got[..4], [leaf_hash(&[3; LEAF_USIZE]); 4]);
    assert_eq!(got[4..], [LeafHash::ZERO; 4]);
}

#[tokio::test]
async fn what_a_hash_diff_found_equal_is_recorded_without_a_write() {
    let content = vec![5; 4 * LEAF_USIZE];
    let world = World::holding(content.clone());
    world.journal.intended.lock().expect("unpoisoned").insert(leaves(0, 2));
    let session = world.open(patient());
    let (stream, _acks) = session.stream();
    stream.confirm(leaves(0, 2), leaf_hashes(&content[..2 * LEAF_USIZE])).await.expect("accepted");
    let sealed = session.seal().await.expect("nothing is owed");
    assert_eq!((world.writes(), sealed.stats.confirmed_bytes), (0, 2 * LEAF));
    assert!(world.disk.calls().contains(&Call::Flush), "what was read back may not have been stable");
    let mut got = [LeafHash::ZERO; 2];
    world.manifest.read(0, &mut got).expect("read");
    assert_eq!(got, [leaf_hash(&content[..LEAF_USIZE]); 2]);
}

/// Or a crash would cost everything that was compared within a second, at the speed of reading.
#[tokio::test]
async fn what_is_confirmed_brings_a_flush_nearer_as_what_is_written_does() {
    let content = vec![9; 4 * LEAF_USIZE];
    let world = World::holding(content.clone());
    let session = world.open(Options { flush_bytes: 4 * LEAF, ..patient() });
    let (stream, mut acks) = session.stream();
    for half in [0, 2] {
        assert!(session.durable().is_empty());
        let hashes = leaf_hashes(&content[..2 * LEAF_USIZE]);
        stream.confirm(leaves(half, 2), hashes).await.expect("accepted");
    }
    let durable = tokio::time::timeout(Duration::from_secs(10), acks.next()).await.expect("without a seal");
    assert_eq!(durable.expect("healthy"), Some(RangeSet::from_iter([leaves(0, 4)])));
}

#[tokio::test]
async fn the_window_holds() {
    let world = World::zeroed(64);
    let options = Options { flush_bytes: 2 * LEAF, window: 8 * LEAF, ..quick() };
    for _ in 0..6 {
        world.disk.next(Op::Flush, Fault::Hang);
    }
    let session = world.open(options);
    session.intend(RangeSet::from_iter([leaves(0, 64)])).await.expect("logged");
    let (stream, _acks) = session.stream();
    let sender = tokio::spawn(async move {
        for leaf in 0..64 {
            stream.write(data(leaf, 1, 7)).await.expect("accepted");
        }
    });
    for round in 0..6 {
        until("a flush", || world.disk.hanging() == 1).await;
        // Written and not flushed: never more than the window, and all of it is used.
        let unflushed = || world.writes() as u64 * LEAF - session.durable().total();
        until("a full window", || unflushed() == 8 * LEAF).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(unflushed(), 8 * LEAF, "round {round}");
        assert!(!sender.is_finished());
        world.disk.release();
        until("the flush's end", || world.disk.hanging() == 1 || round == 5).await;
    }
    sender.await.expect("all sent");
    session.seal().await.expect("sealed");
    assert_eq!(world.disk.stable(), vec![7; 64 * LEAF_USIZE]);
}

#[tokio::test]
async fn a_small_rest_is_flushed_when_it_gets_old() {
    let world = World::zeroed(4);
    let session = world.open(Options { flush_bytes: 1 << 30, ..quick() });
    let (stream, mut acks) = session.stream();
    stream.write(data(0, 1, 7)).await.expect("accepted");
    assert_eq!(acks.next().await.expect("healthy"), Some(RangeSet::from_iter([leaves(0, 1)])));
}

#[tokio::test]
async fn a_disk_of_nothing_is_sealed_at_once() {
    let world = World::zeroed(0);
    let session = world.open(quick());
    assert!(session.seal().await.expect("sealed").durable.is_empty());
}

#[tokio::test]
async fn a_seal_given_up_leaves_the_session_open() {
    let world = World::zeroed(4);
    world.disk.next(Op::Flush, Fault::Hang);
    let session = world.open(patient());
    let (stream, _acks) = session.stream();
    stream.write(data(0, 1, 7)).await.expect("accepted");
    let given_up = tokio::time::timeout(Duration::from_millis(30), session.seal()).await;
    assert!(given_up.is_err());
    stream.write(data(1, 1, 8)).await.expect("open again");
    // The flush for the seal that was given up says nothing about this one.
    let second = tokio::spawn({
        let session = session.clone();
        async move { session.seal().await }
    });
    tokio::task::yield_now().await;
    world.disk.release();
    let sealed = second.await.expect("no panic").expect("sealed");
    assert_eq!(sealed.durable, RangeSet::from_iter([leaves(0, 2)]));
    assert_eq!(world.disk.stable()[LEAF_USIZE], 8);
}

#[tokio::test]
async fn a_small_target_is_refused_before_anything_happens() {
    let world = World::zeroed(4);
    let small = std::sync::Arc::new(fault::FaultTarget::zeroed(100));
    let prior = Prior { intended: RangeSet::new(), durable: RangeSet::new(), reads_zero: ReadsZero::Unknown };
    let refused = ReplicaSession::open(small, world.manifest.clone(), world.journal.clone(), prior, quick())
        .map(|_| ());
    assert!(
        matches!(refused, Err(Error::Failed(c)) if matches!(*c, Cause::TargetTooSmall { have: 100, .. }))
    );
    drop(world.dir);
}
