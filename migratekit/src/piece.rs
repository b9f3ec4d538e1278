//! What the reading half of the engine makes and the writing half takes.

use bytes::Bytes;
use shared::leaf::{HASH_LEN, LEAF_LEN, LeafHash};
use shared::range::ByteRange;
use shared::wire::Invalid;

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

/// A chunk as pieces of contiguous memory. It arrived in slices cut by HTTP/2: only a leaf that lies across a cut
/// is copied.
///
/// # Errors
/// When there are hashes, and not one a leaf; when it passes 2^64.
pub fn pieces_from_wire(offset: u64, leaf_hashes: &[u8], data: Vec<Bytes>) -> Result<Vec<Piece>, Invalid> {
    let mut hashes = hashes_from_wire(leaf_hashes)?.into_iter();
    let total: usize = data.iter().map(Bytes::len).sum();
    let leaves = total.div_ceil(LEAF_LEN);
    if !leaf_hashes.is_empty() && hashes.len() != leaves {
        return Err(Invalid::new(
            "chunk.leaf_hashes",
            format!("{} hashes for {leaves} leaves", hashes.len()),
        ));
    }
    let with_hashes = !leaf_hashes.is_empty();
    let mut take = |bytes: usize| match with_hashes {
        true => hashes.by_ref().take(bytes.div_ceil(LEAF_LEN)).collect(),
        false => Vec::new(),
    };
    let (mut pieces, mut at, mut across) = (Vec::with_capacity(data.len() + 1), offset, Vec::new());
    let last = data.len().saturating_sub(1);
    for (index, mut slice) in data.into_iter().enumerate() {
        if !across.is_empty() {
            let rest = slice.split_to((LEAF_LEN - across.len()).min(slice.len()));
            across.extend_from_slice(&rest);
            if across.len() < LEAF_LEN && !(index == last && slice.is_empty()) {
                continue;
            }
            let whole: Vec<u8> = std::mem::take(&mut across);
            pieces.push(Piece::Data { offset: at, hashes: take(whole.len()), data: whole.into() });
            at = advance(at, LEAF_LEN)?;
        }
        let whole = if index == last { slice.len() } else { slice.len() / LEAF_LEN * LEAF_LEN };
        if whole > 0 {
            let data = slice.split_to(whole);
            pieces.push(Piece::Data { offset: at, hashes: take(whole), data });
            at = advance(at, whole)?;
        }
        across.extend_from_slice(&slice);
    }
    Ok(pieces)
}

fn advance(at: u64, bytes: usize) -> Result<u64, Invalid> {
    at.checked_add(bytes as u64).ok_or_else(|| Invalid::new("chunk.offset", "passes 2^64"))
}

/// One hash a leaf, as a chunk carries them.
///
/// # Errors
/// When they are not whole.
pub fn hashes_from_wire(bytes: &[u8]) -> Result<Vec<LeafHash>, Invalid> {
    let (hashes, rest) = bytes.as_chunks::<HASH_LEN>();
    match rest.is_empty() {
        true => Ok(hashes.iter().map(|h| LeafHash(*h)).collect()),
        false => Err(Invalid::new("leaf_hashes", "are not a multiple of 16 bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk is cut by HTTP/2 anywhere; what is written is the same leaves, the disk's short last one among them.
    #[test]
    fn pieces_are_whole_leaves_wherever_the_stream_was_cut() {
        let data = Bytes::from(crate::nbd::testing::noise(22, 4 * 65536 + 100));
        let hashes = crate::manifest::leaf_hashes(&data);
        let sent: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        for cuts in
            [&[][..], &[1], &[65536], &[65535, 65537], &[100, 200, 70_000, 200_000], &[131_072, 262_143]]
        {
            let mut rest = data.clone();
            let mut at = 0;
            let mut slices: Vec<Bytes> =
                cuts.iter().map(|cut| rest.split_to(cut - std::mem::replace(&mut at, *cut))).collect();
            slices.push(rest);
            let (mut end, mut again, mut with) = (7 * 65536, Vec::new(), Vec::new());
            for piece in pieces_from_wire(7 * 65536, &sent, slices).expect("valid") {
                assert_eq!(piece.range().start, end, "{cuts:?}");
                end = piece.range().end;
                let Piece::Data { data, hashes, .. } = piece else { panic!("data") };
                again.extend_from_slice(&data);
                with.extend(hashes);
            }
            assert!(again == data && with == hashes, "{cuts:?}");
        }
        assert!(pieces_from_wire(0, &sent[16..], vec![data.clone()]).is_err(), "a hash too few");
        assert!(pieces_from_wire(0, &sent[1..], vec![data.clone()]).is_err(), "not whole");
        assert!(pieces_from_wire(u64::MAX - 65536, &sent, vec![data]).is_err(), "past 2^64");
    }
}
