//! Compares one stretch of whole leaves.

use shared::leaf::{LEAF, LEAF_LEN, LeafHash, is_whole_leaves, leaf_count};
use shared::range::{ByteRange, RangeSet};

use super::Error;
use crate::manifest::{Manifest, is_zero, leaf_hash};
use crate::target::{AlignedBuf, ReadPath, Target};

/// Read at a time.
const REQUEST: usize = 1 << 20;

/// What a range should hold.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// One hash a leaf.
    Leaves(&'a [LeafHash]),
    /// All of it zeros.
    Zero,
}

impl Expected<'_> {
    fn leaf(&self, index: usize) -> LeafHash {
        match self {
            Self::Leaves(hashes) => hashes[index],
            Self::Zero => LeafHash::ZERO,
        }
    }

    fn check(&self, range: ByteRange, size: u64) -> Result<(), Error> {
        let hashes = match self {
            Self::Leaves(hashes) => hashes.len(),
            Self::Zero => 0,
        };
        let fits = matches!(self, Self::Zero) || hashes as u64 == leaf_count(range.len());
        match fits && is_whole_leaves(range, size) {
            true => Ok(()),
            false => Err(Error::Range { range, hashes, size }),
        }
    }
}

/// The leaves of `range` of the replica (a disk of `disk_size` bytes) that do not hold what is expected, as they
/// are read back past the page cache. Blocks. For a hash-diff (DESIGN §6 rule 5).
pub fn compare_block(
    target: &dyn Target,
    disk_size: u64,
    range: ByteRange,
    expected: Expected<'_>,
) -> Result<Vec<ByteRange>, Error> {
    expected.check(range, disk_size.min(target.size()))?;
    let mut different = RangeSet::new();
    let mut at = range.start;
    let mut buffer = None;
    while at < range.end {
        if let Expected::Zero = expected {
            // A hole reads as zeros; a long one is not worth reading.
            match target.next_data(at)? {
                Some(data) if data.start < range.end => at = at.max(data.start / LEAF * LEAF),
                _ => break,
            }
        }
        let part = ByteRange::new(at, range.end.min(at + REQUEST as u64));
        let buffer = buffer.get_or_insert_with(|| AlignedBuf::new(REQUEST));
        let first = leaf_index(range.start, at);
        different_leaves(target, part, |i| expected.leaf(first + i), buffer, |leaf| different.insert(leaf))?;
        at = part.end;
    }
    Ok(different.iter().collect())
}

/// The leaves of `range` for which the manifest has something else than expected. For the source's arm.
pub fn compare_manifest(
    manifest: &Manifest,
    range: ByteRange,
    expected: Expected<'_>,
) -> Result<Vec<ByteRange>, Error> {
    expected.check(range, manifest.disk_size())?;
    let mut different = RangeSet::new();
    let mut hashes = Vec::new();
    let mut at = range.start;
    while at < range.end {
        if let Expected::Zero = expected {
            match manifest.next_data(at)? {
                Some(data) if data.start < range.end => at = at.max(data.start),
                _ => break,
            }
        }
        // 64 KiB of hashes at a time.
        let end = range.end.min(at + 4096 * LEAF);
        hashes.resize(leaf_index(at, end.next_multiple_of(LEAF)), LeafHash::ZERO);
        manifest.read(at, &mut hashes)?;
        let first = leaf_index(range.start, at);
        for (i, have) in hashes.iter().enumerate() {
            if *have != expected.leaf(first + i) {
                let start = at + i as u64 * LEAF;
                different.insert(ByteRange::new(start, (start + LEAF).min(end)));
            }
        }
        at = end;
    }
    Ok(different.iter().collect())
}

/// `range` is no longer than the buffer.
pub(super) fn compare_with_manifest(
    target: &dyn Target,
    manifest: &Manifest,
    range: ByteRange,
    buffer: &mut AlignedBuf,
) -> Result<(Vec<ByteRange>, ReadPath), Error> {
    let mut hashes = vec![LeafHash::ZERO; leaf_index(0, range.len().next_multiple_of(LEAF))];
    manifest.read(range.start, &mut hashes)?;
    let mut different = RangeSet::new();
    let path = different_leaves(target, range, |i| hashes[i], buffer, |leaf| different.insert(leaf))?;
    Ok((different.iter().collect(), path))
}

fn different_leaves(
    target: &dyn Target,
    range: ByteRange,
    expected: impl Fn(usize) -> LeafHash,
    buffer: &mut AlignedBuf,
    mut found: impl FnMut(ByteRange),
) -> Result<ReadPath, Error> {
    buffer.set_len(usize::try_from(range.len()).unwrap_or(usize::MAX));
    let path = target.read_direct(range.start, buffer)?;
    for (i, leaf) in buffer.as_slice().chunks(LEAF_LEN).enumerate() {
        let expected = expected(i);
        let same = match expected == LeafHash::ZERO {
            true => is_zero(leaf),
            false => leaf_hash(leaf) == expected,
        };
        if !same {
            let start = range.start + (i * LEAF_LEN) as u64;
            found(ByteRange::new(start, start + leaf.len() as u64));
        }
    }
    Ok(path)
}

/// How many whole leaves lie between two offsets that belong to one block or request.
fn leaf_index(from: u64, to: u64) -> usize {
    usize::try_from((to - from) / LEAF).unwrap_or(usize::MAX)
}
