//! The first page of a manifest: what it is, and of which disk.

use shared::leaf::{HASH_LEN, LEAF};

/// Bytes before the first hash: one page, so that hashes lie on pages of their own.
pub(super) const HEADER: u64 = 4096;

/// Bytes of the header that mean something.
pub(super) const LEN: usize = 48;

const MAGIC: &[u8; 8] = b"MKmanif\n";
const VERSION: u32 = 1;

/// magic 8 · version 4 · leaf 4 · hash length 4 · 4 of zero · disk size 8 · hash of all that 16; little endian.
pub(super) fn encode(size: u64) -> [u8; LEN] {
    let mut out = [0; LEN];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&LEAF.to_le_bytes()[..4]);
    out[16..20].copy_from_slice(&HASH_LEN.to_le_bytes()[..4]);
    out[24..32].copy_from_slice(&size.to_le_bytes());
    let check = blake3::hash(&out[..32]);
    out[32..].copy_from_slice(&check.as_bytes()[..16]);
    out
}

/// The disk's size, or why this is no header of ours.
pub(super) fn decode(bytes: &[u8; LEN]) -> Result<u64, &'static str> {
    if bytes[..8] != *MAGIC {
        return Err("it does not begin as one");
    }
    let mut size = [0; 8];
    size.copy_from_slice(&bytes[24..32]);
    let size = u64::from_le_bytes(size);
    // Everything else is a constant of this version: made again, it must be the same.
    let expected = encode(size);
    if bytes[8..12] != expected[8..12] {
        return Err("it was made by another version of this program");
    }
    match *bytes == expected {
        true => Ok(size),
        false => Err("its header is damaged"),
    }
}
