//! Chunks as they arrive → pieces for the replica.

use bytes::Bytes;
use migratekit::compress::unpack;
use migratekit::piece::Piece;
use proto::v1;
use shared::leaf::{HASH_LEN, LEAF, LEAF_LEN, LeafHash};
use shared::wire::Invalid;

/// A chunk as pieces of contiguous memory. It arrived in slices cut by HTTP/2: only a leaf that lies across a cut
/// is copied.
pub(super) fn pieces(offset: u64, leaf_hashes: &Bytes, data: Vec<Bytes>) -> Result<Vec<Piece>, Invalid> {
    let mut hashes = split_hashes(leaf_hashes)?.into_iter();
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

pub(super) fn split_hashes(bytes: &[u8]) -> Result<Vec<LeafHash>, Invalid> {
    let (hashes, rest) = bytes.as_chunks::<HASH_LEN>();
    match rest.is_empty() {
        true => Ok(hashes.iter().map(|h| LeafHash(*h)).collect()),
        false => Err(Invalid::new("leaf_hashes", "are not a multiple of 16 bytes")),
    }
}

/// A compressed chunk as one piece.
pub(super) async fn unpacked(chunk: v1::CompressedChunk) -> Result<Piece, Invalid> {
    match chunk.compression() {
        v1::Compression::Zstd => {}
        v1::Compression::Unspecified => return Err(Invalid::missing("compressed.compression")),
    }
    let hashes = split_hashes(&chunk.leaf_hashes)?;
    let leaves = chunk.data_bytes.div_ceil(LEAF);
    if hashes.len() as u64 != leaves {
        let why = format!("{} hashes for {leaves} leaves", hashes.len());
        return Err(Invalid::new("compressed.leaf_hashes", why));
    }
    let (packed, plain) = (chunk.data, chunk.data_bytes);
    let data = tokio::task::spawn_blocking(move || unpack(&packed, plain)).await;
    let data = data.map_err(|_| Invalid::new("compressed.data", "was not decompressed: shutting down"))?;
    let data = data.map_err(|error| Invalid::new("compressed.data", error))?;
    Ok(Piece::Data { offset: chunk.offset, hashes, data: data.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use migratekit::compress::{Mode, Packed, Packer};
    use migratekit::manifest::leaf_hash;

    async fn compressed(data: &[u8]) -> v1::CompressedChunk {
        let Packed::Zstd(packed) = Packer::new(Mode::Strong).pack(Bytes::copy_from_slice(data)).await else {
            panic!("it shrinks")
        };
        let leaf_hashes: Vec<u8> = data.chunks(LEAF_LEN).flat_map(|leaf| leaf_hash(leaf).0).collect();
        v1::CompressedChunk {
            offset: 3 * LEAF,
            leaf_hashes: leaf_hashes.into(),
            compression: v1::Compression::Zstd.into(),
            data_bytes: data.len() as u64,
            data: packed,
        }
    }

    #[tokio::test]
    async fn a_compressed_chunk_becomes_its_data() {
        let data = b"once more, ".repeat(9000);
        let piece = unpacked(compressed(&data).await).await.expect("whole");
        let Piece::Data { offset, data: got, hashes } = piece else { panic!("data") };
        assert_eq!((offset, hashes.len()), (3 * LEAF, 2));
        assert!(got == data);
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused() {
        let good = compressed(&b"once more, ".repeat(9000)).await;
        let but = |change: fn(&mut v1::CompressedChunk)| {
            let mut chunk = good.clone();
            change(&mut chunk);
            unpacked(chunk)
        };
        for (field, refused) in [
            ("compression", but(|c| c.compression = 0).await),
            ("compression", but(|c| c.compression = 99).await),
            ("leaf_hashes", but(|c| c.leaf_hashes = Bytes::new()).await),
            ("leaf_hashes", but(|c| c.data_bytes = u64::MAX).await),
            ("data", but(|c| c.data_bytes -= 1).await),
            ("data", but(|c| c.data = c.data.slice(1..)).await),
        ] {
            let error = refused.expect_err("not a chunk").to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
