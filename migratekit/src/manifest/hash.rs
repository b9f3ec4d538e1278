//! The hash of a leaf, as the manifest and the wire have it.

use shared::leaf::{HASH_LEN, LEAF_LEN, LeafHash};

/// BLAKE3 cut to 16 bytes; [`LeafHash::ZERO`] for a leaf of zeros.
///
/// A zero leaf costs one pass over its bytes; any other one is left at its first byte that is not zero.
pub fn leaf_hash(leaf: &[u8]) -> LeafHash {
    if is_zero(leaf) {
        return LeafHash::ZERO;
    }
    let mut cut = [0; HASH_LEN];
    cut.copy_from_slice(&blake3::hash(leaf).as_bytes()[..HASH_LEN]);
    LeafHash(cut)
}

/// One hash a leaf; the last leaf may be short.
pub fn leaf_hashes(data: &[u8]) -> Vec<LeafHash> {
    data.chunks(LEAF_LEN).map(leaf_hash).collect()
}

/// Compares in blocks that the compiler turns into vector instructions.
pub fn is_zero(bytes: &[u8]) -> bool {
    const BLOCK: [u8; 256] = [0; 256];
    let mut blocks = bytes.chunks_exact(BLOCK.len());
    blocks.all(|b| b == BLOCK) && blocks.remainder().iter().all(|b| *b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zeros_are_zero() {
        let mut leaf = vec![0; 65_536];
        assert_eq!(leaf_hash(&leaf), LeafHash::ZERO);
        for at in [0, 255, 256, 65_535] {
            leaf[at] = 1;
            assert_ne!(leaf_hash(&leaf), LeafHash::ZERO, "{at}");
            leaf[at] = 0;
        }
        assert_eq!(leaf_hash(&leaf[..777]), LeafHash::ZERO);
        assert!(is_zero(&[]));
    }

    #[test]
    fn it_is_blake3_cut() {
        let expected = blake3::hash(b"abc");
        assert_eq!(leaf_hash(b"abc").0, expected.as_bytes()[..16]);
        assert_eq!(leaf_hashes(&[1; 65_537]).len(), 2);
    }
}
