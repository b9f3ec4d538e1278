use std::os::unix::fs::MetadataExt;

use super::*;
use proptest::prelude::*;

fn hash(n: u8) -> LeafHash {
    LeafHash([n; HASH_LEN])
}

fn all(manifest: &Manifest) -> Vec<LeafHash> {
    let count = usize::try_from(leaf_count(manifest.disk_size())).expect("small");
    let mut out = vec![hash(0xee); count];
    manifest.read(0, &mut out).expect("readable");
    out
}

#[test]
fn survives_reopening_and_refuses_what_it_is_not() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("m");
    let size = 5 * LEAF + 1;
    let manifest = Manifest::create(&path, size).expect("made");
    assert_eq!(all(&manifest), vec![LeafHash::ZERO; 6]);
    manifest.set(4 * LEAF, &[hash(4), hash(5)]).expect("set, the short last leaf too");
    manifest.flush().expect("flushed");
    drop(manifest);
    let manifest = Manifest::open(&path, size).expect("open");
    assert_eq!(all(&manifest)[4..], [hash(4), hash(5)]);
    assert!(
        matches!(Manifest::open(&path, size + 1), Err(Error::WrongSize { have, need, .. }) if have + 1 == need)
    );
    assert!(
        matches!(Manifest::create(&path, size), Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists)
    );
    for (offset, n) in [(1, 1), (5 * LEAF, 2), (u64::MAX / LEAF * LEAF, 1)] {
        assert!(matches!(manifest.set(offset, &vec![hash(1); n]), Err(Error::Range { .. })), "{offset} {n}");
        assert!(matches!(manifest.read(offset, &mut vec![hash(1); n]), Err(Error::Range { .. })));
    }
    assert!(manifest.set_zero(ByteRange::new(0, 100)).is_err(), "whole leaves only");
    // Each byte of the header counts.
    let good = std::fs::read(&path).expect("read");
    for at in [0, 8, 12, 20, 24, 40] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).expect("written");
        assert!(Manifest::open(&path, size).is_err(), "byte {at}");
    }
    std::fs::write(&path, &good[..good.len() - 16]).expect("written");
    assert!(matches!(Manifest::open(&path, size), Err(Error::Invalid { .. })), "cut short");
    std::fs::write(&path, b"").expect("written");
    assert!(matches!(Manifest::open(&path, size), Err(Error::Invalid { .. })));
}

#[test]
fn a_disk_of_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let manifest = Manifest::create(&dir.path().join("m"), 0).expect("made");
    manifest.set(0, &[]).expect("nothing to do");
    manifest.set_zero(ByteRange::new(0, 0)).expect("nothing to do");
    assert_eq!(manifest.next_data(0).expect("asked"), None);
    Manifest::open(&dir.path().join("m"), 0).expect("open");
}

#[test]
fn a_sparse_tebibyte_costs_next_to_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let size = 1 << 40;
    let manifest = Manifest::create(&dir.path().join("m"), size).expect("made");
    assert_eq!(manifest.next_data(0).expect("asked"), None);
    let at = (1 << 39) + 3 * LEAF;
    manifest.set(at, &[hash(1)]).expect("set");
    manifest.set(0, &vec![LeafHash::ZERO; 4096]).expect("zeros leave the hole");
    manifest.set_zero(ByteRange::new(1 << 30, 1 << 38)).expect("set");
    manifest.flush().expect("flushed");
    let data = manifest.next_data(0).expect("asked").expect("some");
    assert!(data.start <= at && data.end > at && data.len() <= 512 << 20, "{data:?}");
    assert_eq!(data.start % LEAF, 0);
    assert_eq!(manifest.next_data(data.end).expect("asked"), None);
    let clone = manifest.clone_to(&dir.path().join("c")).expect("cloned");
    let mut got = [hash(9); 3];
    clone.read(at - LEAF, &mut got).expect("read");
    assert_eq!(got, [LeafHash::ZERO, hash(1), LeafHash::ZERO]);
    assert!(std::fs::metadata(clone.path()).expect("there").blocks() * 512 <= 128 * 1024);
    clone.set(at, &[hash(2)]).expect("set");
    manifest.read(at, &mut got[..1]).expect("read");
    assert_eq!(got[0], hash(1), "the clone is apart");
    manifest.set_zero(ByteRange::new(0, size)).expect("set");
    assert_eq!(manifest.next_data(0).expect("asked"), None);
}

#[test]
fn an_unfinished_one_is_in_nobodys_way() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("m.tmp"), vec![7; 100_000]).expect("left by a crash");
    let manifest = Manifest::create(&dir.path().join("m"), LEAF).expect("made");
    assert_eq!(all(&manifest), [LeafHash::ZERO]);
    assert!(!dir.path().join("m.tmp").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Against a plain array: set, set_zero, read, and next_data never hides a hash.
    #[test]
    fn behaves_like_an_array(ops in prop::collection::vec((0usize..600, 1usize..300, 0u8..3), 1..20), tail in 1u64..=LEAF) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let size = 599 * LEAF + tail;
        let manifest = Manifest::create(&dir.path().join("m"), size).expect("made");
        let mut model = vec![LeafHash::ZERO; 600];
        for (at, n, kind) in ops {
            let n = n.min(600 - at);
            let range = ByteRange::new(at as u64 * LEAF, ((at + n) as u64 * LEAF).min(size));
            model[at..at + n].fill(hash(kind));
            match kind {
                0 => manifest.set_zero(range).expect("set"),
                _ => manifest.set(range.start, &vec![hash(kind); n]).expect("set"),
            }
        }
        prop_assert_eq!(&all(&manifest), &model);
        let mut at = 0;
        while at < size {
            let data = manifest.next_data(at).expect("asked").unwrap_or(ByteRange::new(size, size));
            prop_assert!(data.start >= at);
            let hidden = usize::try_from(at / LEAF).expect("small")..usize::try_from(data.start.div_ceil(LEAF)).expect("small");
            prop_assert!(model[hidden].iter().all(|h| *h == LeafHash::ZERO));
            at = data.end.max(data.start);
            if data.is_empty() { break }
        }
    }
}
