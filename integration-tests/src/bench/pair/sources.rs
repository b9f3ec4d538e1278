//! The disks that are copied, and whether a copy is one.

use crate::bench::place::Place;
use crate::bench::servers::Nbdkit;
use crate::bench::{Options, image};
use crate::harness::hash_file;
use anyhow::Context as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Disks, each behind an NBD server.
pub(in crate::bench) struct Sources {
    pub(super) disks: Vec<Source>,
    /// Of each, as far as the file is long.
    pub(in crate::bench) bytes: u64,
    /// Of all, without what is not allocated.
    pub(super) allocated: u64,
    _folder: TempDir,
}

pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) server: Nbdkit,
    hash: [u8; 32],
}

impl Sources {
    /// `count` disks in memory, made by `make`; what `make` says of the last one comes back.
    pub(in crate::bench) async fn make<T>(
        options: &Options,
        count: usize,
        room: u64,
        make: impl Fn(&Path) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Self, T)> {
        let folder = Place::memory(options).folder(room)?;
        let (mut disks, mut said) = (vec![], None);
        for number in 0..count {
            let file = folder.path().join(format!("source-{number}.img"));
            said = Some(make(&file)?);
            let server = Nbdkit::source(&file, &folder.path().join(format!("{number}.sock"))).await?;
            disks.push(Source { server, hash: hash_file(&file)?, file });
        }
        let (mut bytes, mut allocated) = (0, 0);
        for disk in &disks {
            let meta = disk.file.metadata()?;
            (bytes, allocated) = (meta.len(), allocated + 512 * meta.blocks());
        }
        let said = said.context("there is no case without a disk")?;
        Ok((Self { disks, bytes, allocated, _folder: folder }, said))
    }

    /// `count` disks of random data.
    pub(in crate::bench) async fn random(
        options: &Options,
        count: usize,
        bytes: u64,
    ) -> anyhow::Result<Self> {
        let room = count as u64 * bytes + (64 << 20);
        Ok(Self::make(options, count, room, |file| image::random(file, bytes)).await?.0)
    }

    /// Names of the disks.
    pub(in crate::bench) fn keys(&self) -> Vec<String> {
        (0..self.disks.len()).map(|number| format!("disk-{number}")).collect()
    }

    /// The disks as an agent's source.
    pub(in crate::bench) fn uris(&self) -> Vec<(String, String)> {
        self.keys().into_iter().zip(self.disks.iter().map(|disk| disk.server.uri.clone())).collect()
    }

    /// BLAKE3 of the first.
    pub(in crate::bench) fn hash(&self) -> [u8; 32] {
        self.disks[0].hash
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.disks.iter().map(|disk| disk.server.pid()).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.disks.len()
    }

    pub(in crate::bench) fn total(&self) -> u64 {
        self.bytes * self.disks.len() as u64
    }

    /// Fails unless these files, in order, are what the sources are.
    pub(super) fn compare(&self, copies: &[PathBuf], whose: &str) -> anyhow::Result<()> {
        let hashes = hash_all(copies)?;
        let same = hashes.len() == self.disks.len()
            && hashes.iter().zip(&self.disks).all(|(hash, disk)| *hash == disk.hash);
        anyhow::ensure!(same, "{whose} copy is not the source");
        Ok(())
    }
}

/// At the same time, a thread each.
pub(super) fn hash_all(files: &[PathBuf]) -> anyhow::Result<Vec<[u8; 32]>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = files.iter().map(|file| scope.spawn(|| hash_file(file))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<[u8; 32]>>| {
            thread.join().map_err(|_| anyhow::anyhow!("the hashing thread panicked"))?
        };
        threads.into_iter().map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Sizes;

    #[tokio::test]
    async fn a_copy_that_is_not_the_source_is_found() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let here = || dir.path().to_owned();
        let (cases, transfer) = (vec![], String::new());
        let options = Options { sizes: Sizes::QUICK, runs: 1, cases, disk: here(), memory: here(), transfer };
        let sources = Sources::random(&options, 2, 1 << 20).await?;
        assert_eq!((sources.total(), sources.keys().len()), (2 << 20, 2));
        let copies = [here().join("one"), here().join("two")];
        for (copy, disk) in copies.iter().zip(&sources.disks) {
            std::fs::copy(&disk.file, copy)?;
        }
        sources.compare(&copies, "a good")?;
        assert!(sources.compare(&copies[..1], "half of a").is_err());
        let mut bytes = std::fs::read(&copies[1])?;
        bytes[700_000] ^= 1;
        std::fs::write(&copies[1], bytes)?;
        assert!(sources.compare(&copies, "a damaged").is_err());
        Ok(())
    }
}
