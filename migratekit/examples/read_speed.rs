//! Measures reading and hashing: `read_speed URI|FILE [connections] [request KiB] [memory MiB]`.
//!
//! Against `nbdcopy URI null:`, which reads the same and hashes nothing.
#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

use std::time::Instant;

use anyhow::Context;
use migratekit::nbd::NbdUri;
use migratekit::plan::{Areas, Planner};
use migratekit::read::{ReadOptions, Reader};
use shared::range::RangeSet;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let source = args.next().context("read_speed URI|FILE [connections] [request KiB] [memory MiB]")?;
    let mut options = ReadOptions::default();
    if let Some(connections) = args.next() {
        options.connections = connections.parse()?;
    }
    if let Some(kib) = args.next() {
        options.request_size = kib.parse::<u64>()? << 10;
    }
    if let Some(mib) = args.next() {
        options.memory = mib.parse::<u64>()? << 20;
    }
    let start = Instant::now();
    let (reader, mut pieces) = if NbdUri::is_uri(&source) {
        Reader::open(&source.parse()?, &options).await?
    } else {
        Reader::open_file(source.as_ref(), &options).await?
    };
    let none = RangeSet::new();
    let mut planner = Planner::new(reader.size(), Areas::All, &none, &none, Box::new(reader.extents()));
    let (connections, request) = (reader.connections(), reader.request_size());
    let submitting = tokio::spawn(async move {
        while let Some(window) = planner.next().await? {
            for chunk in window.data {
                reader.submit(chunk).await?;
            }
        }
        anyhow::Ok(reader.counters())
    });
    let (mut bytes, mut count) = (0, 0u64);
    while let Some(piece) = pieces.recv().await {
        bytes += piece?.range().len();
        count += 1;
    }
    submitting.await??;
    let seconds = start.elapsed().as_secs_f64();
    let millions = u32::try_from(bytes / 1_000_000).map_or(f64::INFINITY, f64::from);
    println!(
        "{connections} connections, {} KiB requests: {bytes} bytes in {count} pieces, {seconds:.3} s, {:.2} GB/s",
        request >> 10,
        millions / 1000.0 / seconds
    );
    Ok(())
}
