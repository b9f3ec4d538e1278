//! What the reading half of the engine makes and the writing half takes.

use bytes::Bytes;
use shared::leaf::LeafHash;
use shared::range::ByteRange;

/// Whole leaves of one disk; the disk's last leaf may be short.
#[derive(Clone, Debug)]
pub enum Piece {
    /// `data.len()` is 1 byte to [`MAX_DATA`]; one hash a leaf; `offset` is a multiple of the leaf. A leaf of zeros may
    /// still be among them (its hash is then [`LeafHash::ZERO`]), though readers cut runs of them out.
    Data { offset: u64, data: Bytes, hashes: Vec<LeafHash> },
    /// Reads as zeros.
    Zero(ByteRange),
}

/// Most bytes of one data piece.
pub const MAX_DATA: usize = 4 * 1024 * 1024;

impl Piece {
    /// The bytes of the disk that the piece describes.
    pub fn range(&self) -> ByteRange {
        match self {
            Self::Data { offset, data, .. } => {
                ByteRange::new(*offset, offset.saturating_add(data.len() as u64))
            }
            Self::Zero(range) => *range,
        }
    }
}
