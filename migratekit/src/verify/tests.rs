use super::*;
use crate::manifest::{leaf_hash, leaf_hashes};
use crate::target::fault::{EIO, Fault, FaultTarget};
use crate::target::{FileTarget, Op};
use bytes::Bytes;
use proptest::prelude::*;
use shared::leaf::{LEAF, LeafHash, leaf_count};

const TAIL: u64 = 1000;

/// A disk of nine leaves and a bit, with leaves 2, 3 and the short last one not zero, and its manifest.
fn disk(dir: &std::path::Path) -> (Vec<u8>, Manifest) {
    let mut content = vec![0u8; usize::try_from(9 * LEAF + TAIL).expect("small")];
    content[131_072..262_144]
        .iter_mut()
        .enumerate()
        .for_each(|(i, b)| *b = u8::try_from(i % 255).expect("small"));
    content[589_824..].fill(9);
    let manifest = Manifest::create(&dir.join("m"), content.len() as u64).expect("made");
    manifest.set(0, &leaf_hashes(&content)).expect("set");
    (content, manifest)
}

fn verify(target: &dyn Target, manifest: &Manifest, skip: &RangeSet) -> Result<Report, Error> {
    verify_replica(target, manifest, skip, &|_| {}, &CancellationToken::new())
}

fn leaves(from: u64, to: u64) -> ByteRange {
    ByteRange::new(from * LEAF, (to * LEAF).min(9 * LEAF + TAIL))
}

#[test]
fn an_equal_replica_is_equal_and_a_flipped_byte_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (content, manifest) = disk(dir.path());
    let target = FileTarget::create(&dir.path().join("t"), content.len() as u64).expect("made");
    target.write_at(0, &[Bytes::from(content.clone())]).expect("written");
    target.flush().expect("flushed");
    let report = verify(&target, &manifest, &RangeSet::new()).expect("verified");
    assert_eq!((report.compared_bytes, report.different_bytes), (content.len() as u64, 0));
    for (at, leaf) in [(0u64, 0u64), (3 * LEAF - 1, 2), (5 * LEAF + 7, 5), (9 * LEAF + TAIL - 1, 9)] {
        let old = Bytes::copy_from_slice(&content[usize::try_from(at).expect("small")..][..1]);
        target.write_at(at, &[Bytes::from(vec![old[0] ^ 0x10])]).expect("written");
        let report = verify(&target, &manifest, &RangeSet::new()).expect("verified");
        assert_eq!(report.different, RangeSet::from_iter([leaves(leaf, leaf + 1)]), "byte {at}");
        assert_eq!(report.different_bytes, leaves(leaf, leaf + 1).len());
        let skip = RangeSet::from_iter([leaves(leaf, leaf + 1)]);
        let report = verify(&target, &manifest, &skip).expect("verified");
        assert_eq!((report.different_bytes, report.skipped_bytes), (0, skip.total()), "not compared");
        assert_eq!(report.compared_bytes + report.skipped_bytes, content.len() as u64);
        target.write_at(at, &[old]).expect("written");
    }
}

#[test]
fn data_where_the_manifest_has_a_hole_and_a_hole_where_it_has_data() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let size = 1 << 30;
    let manifest = Manifest::create(&dir.path().join("m"), size).expect("made");
    let target = FileTarget::create(&dir.path().join("t"), size).expect("made");
    manifest.set(512 << 20, &[leaf_hash(b"lost")]).expect("set");
    target.write_at((100 << 20) + 5, &[Bytes::from_static(b"stray")]).expect("written");
    let report = verify(&target, &manifest, &RangeSet::new()).expect("verified");
    let expected =
        [ByteRange::new(100 << 20, (100 << 20) + LEAF), ByteRange::new(512 << 20, (512 << 20) + LEAF)];
    assert_eq!(report.different, RangeSet::from_iter(expected));
    assert_eq!(report.compared_bytes, size);
    assert!(report.read_bytes < 64 << 20, "holes are not read: {}", report.read_bytes);
}

#[test]
fn a_sparse_tebibyte_takes_no_time() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let size = 1 << 40;
    let manifest = Manifest::create(&dir.path().join("m"), size).expect("made");
    let target = FileTarget::create(&dir.path().join("t"), size).expect("made");
    let began = std::time::Instant::now();
    let report = verify(&target, &manifest, &RangeSet::new()).expect("verified");
    assert_eq!((report.compared_bytes, report.read_bytes), (size, 0));
    let zero = compare_block(&target, size, ByteRange::new(0, size), Expected::Zero).expect("compared");
    assert!(zero.is_empty());
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn no_verdict_without_reading() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (content, manifest) = disk(dir.path());
    let target = FaultTarget::holding(content);
    target.next(Op::Read, Fault::Errno(EIO));
    assert!(matches!(verify(&target, &manifest, &RangeSet::new()), Err(Error::Target(_))));
    let small = FaultTarget::zeroed(100);
    assert!(matches!(verify(&small, &manifest, &RangeSet::new()), Err(Error::TooSmall { have: 100, .. })));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let stopped = verify_replica(&target, &manifest, &RangeSet::new(), &|_| {}, &cancel);
    assert!(matches!(stopped, Err(Error::Cancelled)));
}

#[test]
fn progress_ends_at_the_size() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (content, manifest) = disk(dir.path());
    let target = FaultTarget::holding(content.clone());
    let most = std::sync::atomic::AtomicU64::new(0);
    let note = |p: Progress| {
        assert!(p.done_bytes <= p.total_bytes);
        most.fetch_max(p.done_bytes, std::sync::atomic::Ordering::Relaxed);
    };
    verify_replica(&target, &manifest, &RangeSet::new(), &note, &CancellationToken::new()).expect("verified");
    assert_eq!(most.into_inner(), content.len() as u64);
}

#[test]
fn blocks_are_compared_leaf_by_leaf() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut content, manifest) = disk(dir.path());
    let size = content.len() as u64;
    let hashes = leaf_hashes(&content);
    content[200_000] ^= 1;
    let target = FaultTarget::holding(content);
    let whole = ByteRange::new(0, size);
    let found = compare_block(&target, size, whole, Expected::Leaves(&hashes)).expect("compared");
    assert_eq!(found, [leaves(3, 4)]);
    let found = compare_block(&target, size, leaves(2, 9), Expected::Zero).expect("compared");
    assert_eq!(found, [leaves(2, 4)]);
    let mut other = hashes.clone();
    other[9] = LeafHash([7; 16]);
    assert_eq!(
        compare_manifest(&manifest, whole, Expected::Leaves(&other)).expect("compared"),
        [leaves(9, 10)]
    );
    let last = leaves(5, 10);
    assert_eq!(compare_manifest(&manifest, last, Expected::Zero).expect("compared"), [leaves(9, 10)]);
    assert_eq!(compare_manifest(&manifest, last, Expected::Leaves(&hashes[5..])).expect("compared"), []);
    for (range, hashes) in [(ByteRange::new(1, LEAF), &hashes[..1]), (leaves(0, 2), &hashes[..1])] {
        let bad = compare_block(&target, size, range, Expected::Leaves(hashes));
        assert!(matches!(bad, Err(Error::Range { .. })), "{range:?}");
        assert!(compare_manifest(&manifest, range, Expected::Leaves(hashes)).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever is sparse where, the walk covers every byte once and the differences are those of a plain compare.
    #[test]
    fn finds_exactly_what_differs(
        written in prop::collection::vec((0u64..200, 1u8..4), 0..20),
        claimed in prop::collection::vec((0u64..200, 1u8..4), 0..20),
        skip in prop::collection::vec((0u64..200, 1u64..20), 0..4),
        tail in 1u64..=LEAF,
    ) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let size = 199 * LEAF + tail;
        let target = FileTarget::create(&dir.path().join("t"), size).expect("made");
        let manifest = Manifest::create(&dir.path().join("m"), size).expect("made");
        let leaf = |i: u64| ByteRange::new(i * LEAF, ((i + 1) * LEAF).min(size));
        let bytes = |i: u64, v: u8| vec![v; usize::try_from(leaf(i).len()).expect("small")];
        let (mut a, mut b) = ([0u8; 200], [0u8; 200]);
        for (i, v) in written {
            target.write_at(i * LEAF, &[Bytes::from(bytes(i, v))]).expect("written");
            a[usize::try_from(i).expect("small")] = v;
        }
        for (i, v) in claimed {
            manifest.set(i * LEAF, &[leaf_hash(&bytes(i, v))]).expect("set");
            b[usize::try_from(i).expect("small")] = v;
        }
        let skip: RangeSet = skip.iter().map(|(s, n)| ByteRange::new(s * LEAF, ((s + n) * LEAF).min(size))).collect();
        let expected: RangeSet = (0..leaf_count(size))
            .filter(|i| a[usize::try_from(*i).expect("small")] != b[usize::try_from(*i).expect("small")])
            .map(leaf).filter(|r| !skip.contains(*r)).collect();
        let report = verify(&target, &manifest, &skip).expect("verified");
        prop_assert_eq!(&report.different, &expected);
        prop_assert_eq!(report.different_bytes, expected.total());
        prop_assert_eq!(report.compared_bytes + report.skipped_bytes, size);
        prop_assert_eq!(report.skipped_bytes, skip.total());
    }
}
