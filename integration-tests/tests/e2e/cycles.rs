//! Cycles while the guest writes.

use integration_tests::harness::{Options, World, hash_file};
use integration_tests::live_vm::WriterOptions;

const MIB: u64 = 1 << 20;

/// The replica at each commit is the source at its snapshot, and both arms of verification say so.
#[tokio::test(flavor = "multi_thread")]
async fn full_and_incremental() -> anyhow::Result<()> {
    let world = World::start(&Options::live(&[("root", 64 * MIB), ("data", 24 * MIB + 512)])).await?;
    let writer = world.live()?.writer(&WriterOptions::default())?;
    writer.wait_for_bytes(8 * MIB)?;
    world.begin().await?;
    for _ in 0..2 {
        let m = world.sync().await?;
        let (replica, mismatches) = world.verify(false).await?;
        assert!(replica.equal, "{mismatches:?}");
        for key in ["root", "data"] {
            assert_eq!(hash_file(&world.replica(&m, key)?)?, hash_file(&world.restore_point(&m, key)?)?);
        }
    }
    let (source, mismatches) = world.verify(true).await?;
    assert!(source.equal, "{mismatches:?}");
    // A last sync of a quiet VM: byte for byte the live disks.
    let quiet = writer.pause();
    let m = world.sync().await?;
    for key in ["root", "data"] {
        assert_eq!(hash_file(&world.replica(&m, key)?)?, world.live()?.hash_disk(key)?, "disk {key}");
    }
    drop(quiet);
    Ok(())
}
