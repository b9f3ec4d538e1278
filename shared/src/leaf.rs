//! The leaf: the grain of change tracking, zero detection and hashes.

use crate::range::ByteRange;

/// Bytes of a leaf; the last one of a disk may be shorter.
pub const LEAF: u64 = 64 * 1024;

/// [`LEAF`] as a length in memory.
pub const LEAF_LEN: usize = 64 * 1024;

/// Bytes of a leaf's hash (BLAKE3, cut).
pub const HASH_LEN: usize = 16;

/// A leaf's hash; all zero stands for a leaf of zeros, so that a sparse disk has a sparse manifest.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct LeafHash(pub [u8; HASH_LEN]);

impl LeafHash {
    /// A leaf whose bytes are all zero.
    pub const ZERO: Self = Self([0; HASH_LEN]);
}

impl std::fmt::Debug for LeafHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// How many leaves a disk of `size` bytes has.
pub const fn leaf_count(size: u64) -> u64 {
    size.div_ceil(LEAF)
}

/// Widens `range` to whole leaves, never past `size`.
pub fn round_out(range: ByteRange, size: u64) -> ByteRange {
    let start = range.start / LEAF * LEAF;
    let end = range.end.div_ceil(LEAF).saturating_mul(LEAF).min(size);
    ByteRange::new(start.min(end), end)
}

/// Whether `range` consists of whole leaves of a disk of `size` bytes.
pub fn is_whole_leaves(range: ByteRange, size: u64) -> bool {
    range.end <= size
        && range.start.is_multiple_of(LEAF)
        && (range.end.is_multiple_of(LEAF) || range.end == size)
}
