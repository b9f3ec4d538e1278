//! What is copied.

mod file_system;

pub(super) use file_system::file_system;

use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Random, so that neither zeros nor repetitions help anybody.
pub(super) fn random(path: &Path, bytes: u64) -> anyhow::Result<()> {
    spread(path, bytes, 1)
}

/// One MiB of random data at the start of every ten: a tenth is allocated. Returns the bytes of data.
pub(super) fn sparse(path: &Path, bytes: u64) -> anyhow::Result<u64> {
    spread(path, bytes, 10)?;
    Ok(bytes.div_ceil(10 << 20) << 20)
}

const MIB: u64 = 1 << 20;

/// One MiB in every `step`.
fn spread(path: &Path, bytes: u64, step: u64) -> anyhow::Result<()> {
    let file = File::create(path)?;
    file.set_len(bytes)?;
    let mut random = SmallRng::seed_from_u64(bytes);
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let part = usize::try_from((bytes - at).min(MIB))?;
        random.fill_bytes(&mut block[..part]);
        file.write_all_at(&block[..part], at)?;
        at += step * MIB;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_tenth_is_a_tenth() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("sparse");
        let data = sparse(&path, 30 * MIB)?;
        let meta = path.metadata()?;
        assert_eq!((data, meta.len()), (3 * MIB, 30 * MIB));
        assert!(meta.blocks() * 512 <= 4 * MIB, "{} blocks", meta.blocks());
        Ok(())
    }
}
