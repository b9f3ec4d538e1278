//! How fast a replica session takes data: `replica_speed FILE [GiB] [flush MiB] [sparse]`. For profiling; no test.
//!
//! Writes random data that was made before, in pieces of 1 MiB with their hashes, over two streams. The file is
//! made and removed; its manifest too.

#![expect(clippy::print_stdout, reason = "a tool for a terminal")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use migratekit::manifest::{Manifest, leaf_hashes};
use migratekit::piece::Piece;
use migratekit::replica::{Journal, JournalError, Options, Prior, ReadsZero, ReplicaSession};
use migratekit::target::FileTarget;
use migratekit::verify::verify_replica;
use shared::range::{ByteRange, RangeSet};

struct NoJournal;

#[async_trait::async_trait]
impl Journal for NoJournal {
    async fn intend(&self, _: &RangeSet) -> Result<(), JournalError> {
        Ok(())
    }
    async fn checkpoint(&self, _: &RangeSet) -> Result<(), JournalError> {
        Ok(())
    }
}

const PIECE: usize = 1 << 20;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = PathBuf::from(args.first().map_or("replica_speed.img", String::as_str));
    let size = args.get(1).map_or(Ok(2), |s| s.parse::<u64>())? << 30;
    let flush_bytes = args.get(2).map_or(Ok(16), |s| s.parse::<u64>())? << 20;
    let manifest_path = path.with_extension("manifest");
    let target = Arc::new(FileTarget::create(&path, size)?);
    let manifest = Arc::new(Manifest::create(&manifest_path, size)?);
    let prior = Prior { intended: RangeSet::new(), durable: RangeSet::new(), reads_zero: ReadsZero::Yes };
    let options = Options { flush_bytes, ..Options::default() };
    let session =
        ReplicaSession::open(target.clone(), manifest.clone(), Arc::new(NoJournal), prior, options)?;
    session.intend(RangeSet::from_iter([ByteRange::new(0, size)])).await?;
    // A few different pieces, again and again: the disk does not know.
    let data: Vec<Bytes> = (0..16u8)
        .map(|seed| {
            let mut out = vec![0; PIECE];
            blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
            Bytes::from(out)
        })
        .collect();
    let hashes: Vec<_> = data.iter().map(|d| leaf_hashes(d)).collect();
    let began = Instant::now();
    let senders: Vec<_> = (0..2u64)
        .map(|n| {
            let (stream, mut acks) = session.stream();
            let (data, hashes) = (data.clone(), hashes.clone());
            tokio::spawn(async move { while let Ok(Some(_)) = acks.next().await {} });
            tokio::spawn(async move {
                for i in (n..size >> 20).step_by(2) {
                    let of = usize::try_from(i % 16)?;
                    let (offset, data) = (i << 20, data[of].clone());
                    stream.write(Piece::Data { offset, data, hashes: hashes[of].clone() }).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for sender in senders {
        sender.await??;
    }
    let sealed = session.seal().await?;
    let took = began.elapsed();
    let mib = |t: std::time::Duration| (size >> 20) as f64 / t.as_secs_f64();
    println!("written {:.0} MiB/s, {} flushes", mib(took), sealed.stats.flushes);
    let began = Instant::now();
    let report = tokio::task::spawn_blocking(move || {
        verify_replica(
            &*target,
            &manifest,
            &RangeSet::new(),
            &|_| {},
            &tokio_util::sync::CancellationToken::new(),
        )
    });
    let report = report.await??;
    println!("verified {:.0} MiB/s, {} bytes different", mib(began.elapsed()), report.different_bytes);
    std::fs::remove_file(path)?;
    std::fs::remove_file(manifest_path)?;
    Ok(())
}
