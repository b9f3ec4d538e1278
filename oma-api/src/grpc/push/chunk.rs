//! Compressed chunks → pieces for the replica.

use migratekit::compress::unpack;
use migratekit::piece::{Piece, hashes_from_wire};
use proto::v1;
use shared::leaf::LEAF;
use shared::wire::Invalid;

/// A compressed chunk as one piece.
pub(super) async fn unpacked(chunk: v1::CompressedChunk) -> Result<Piece, Invalid> {
    match chunk.compression() {
        v1::Compression::Zstd => {}
        v1::Compression::Unspecified => return Err(Invalid::missing("compressed.compression")),
    }
    let hashes = hashes_from_wire(&chunk.leaf_hashes)?;
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
    use bytes::Bytes;
    use migratekit::compress::{Mode, Packed, Packer};
    use migratekit::manifest::leaf_hash;
    use shared::leaf::LEAF_LEN;

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
