//! Turns what was read into pieces: zero check and hash per leaf.

use bytes::Bytes;
use shared::leaf::LeafHash;
use shared::range::ByteRange;

use crate::manifest::leaf_hash;
use crate::piece::Piece;
use shared::leaf::LEAF_LEN;

/// Runs of leaves that are alike: where they end, and the hashes of a run of data (none for zeros).
pub(super) struct Runs(Vec<(usize, Vec<LeafHash>)>);

/// Looks at `data`, which starts at a leaf; each leaf is hashed while it is still in the cache.
pub(super) fn runs(data: &[u8]) -> Runs {
    let mut runs: Vec<(usize, Vec<LeafHash>)> = Vec::new();
    let mut end = 0;
    for leaf in data.chunks(LEAF_LEN) {
        let hash = leaf_hash(leaf);
        let before = end;
        end += leaf.len();
        let zero = hash == LeafHash::ZERO;
        match runs.last_mut() {
            Some((run_end, hashes)) if hashes.is_empty() == zero => {
                *run_end = end;
                if !zero {
                    hashes.push(hash);
                }
            }
            _ if zero => runs.push((end, Vec::new())),
            _ => {
                let mut hashes = Vec::with_capacity((data.len() - before).div_ceil(LEAF_LEN));
                hashes.push(hash);
                runs.push((end, hashes));
            }
        }
    }
    Runs(runs)
}

impl Runs {
    /// Whether there is anything but zeros.
    pub(super) fn has_data(&self) -> bool {
        self.0.iter().any(|(_, hashes)| !hashes.is_empty())
    }

    /// The pieces, with slices of `data` (what [`runs`] looked at; unused if there is no data), from `offset` on.
    pub(super) fn into_pieces(self, offset: u64, data: &Bytes) -> impl Iterator<Item = Piece> {
        let mut start = 0;
        self.0.into_iter().map(move |(end, hashes)| {
            let (from, to) = (offset + start as u64, offset + end as u64);
            let piece = if hashes.is_empty() {
                Piece::Zero(ByteRange::new(from, to))
            } else {
                Piece::Data { offset: from, data: data.slice(start..end), hashes }
            };
            start = end;
            piece
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The pieces put together are the data again; zeros are never data and never the reverse.
        #[test]
        fn pieces_make_the_data_again(leaves in prop::collection::vec(any::<bool>(), 0..20), tail in 0..LEAF_LEN) {
            let mut data = Vec::new();
            for (i, full) in leaves.iter().enumerate() {
                data.resize((i + 1) * LEAF_LEN, u8::from(*full));
            }
            data.resize(data.len() + tail, 7);
            let bytes = Bytes::from(data.clone());
            let mut at = 1 << 20;
            let mut again = Vec::new();
            let mut kinds = Vec::new();
            let runs = runs(&data);
            prop_assert_eq!(runs.has_data(), data.iter().any(|&b| b != 0));
            for piece in runs.into_pieces(1 << 20, &bytes) {
                prop_assert_eq!(piece.range().start, at);
                at = piece.range().end;
                match piece {
                    Piece::Zero(range) => {
                        again.resize(again.len() + usize::try_from(range.len()).expect("small"), 0);
                        kinds.push(false);
                    }
                    Piece::Data { data, hashes, .. } => {
                        prop_assert_eq!(hashes.len(), data.len().div_ceil(LEAF_LEN));
                        for (leaf, hash) in data.chunks(LEAF_LEN).zip(hashes) {
                            prop_assert_eq!(leaf_hash(leaf), hash);
                            prop_assert_ne!(hash, LeafHash::ZERO);
                        }
                        again.extend_from_slice(&data);
                        kinds.push(true);
                    }
                }
            }
            prop_assert_eq!(again, data);
            prop_assert!(kinds.windows(2).all(|w| w[0] != w[1]), "runs are as long as they can be");
        }
    }
}
