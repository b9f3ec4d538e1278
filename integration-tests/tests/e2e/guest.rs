//! A real machine is replicated while it runs, and its restore points boot.

use integration_tests::guest::{Bus, Found, LiveGuest, Options as GuestOptions, Tools, boot};
use integration_tests::harness::{Options, World};
use proto::v1;
use std::path::PathBuf;

/// Boots the newest restore point on virtio, and gives what the guest found there.
fn booted(world: &World, m: &v1::Migration, name: &str) -> anyhow::Result<Found> {
    let images: Vec<PathBuf> =
        ["root", "data"].iter().map(|key| world.restore_point(m, key)).collect::<anyhow::Result<_>>()?;
    boot(&world.dir.join(name), &images, Bus::VirtioBlk)?.ready()
}

/// Each restore point boots on another bus than the source's, and the guest itself says that all it had written before is
/// there, on both disks at one point in time. The source never stands still; at the end it is powered off, and the last
/// sync has all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_machine_boots_from_its_replica() -> anyhow::Result<()> {
    if let Err(error) = Tools::find() {
        eprintln!("SKIPPED: {error:#}");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let mut guest =
        LiveGuest::start(dir.path(), GuestOptions { bus: Bus::Pvscsi, ..GuestOptions::default() })?;
    assert_eq!(guest.ready()?.boot, 1);
    let world = World::start(&Options::own(guest.source_toml())).await?;
    world.begin().await?;
    let mut newest = 0;
    for cycle in 0..3 {
        guest.wait_for_records(3)?;
        let before = guest.status()?;
        let m = world.sync().await?;
        let last = m.cycle.clone().unwrap_or_default();
        let kind = if cycle == 0 { v1::CycleKindName::Full } else { v1::CycleKindName::Incremental };
        assert_eq!(last.kind(), kind, "cycle {cycle}");
        let after = guest.status()?;
        // A machine beside the source would slow it down; the first cycle's point is like the second's.
        if cycle > 0 {
            let found = booted(&world, &m, &format!("cycle-{cycle}"))?;
            assert_eq!((found.boot, found.first), (2, 1), "one boot after the source's only one");
            assert!((before.record..=after.record).contains(&found.last), "{before:?} {found:?} {after:?}");
            assert!(found.last > newest, "the replica goes on");
            newest = found.last;
        }
    }
    guest.power_off()?;
    let m = world.sync().await?;
    let found = booted(&world, &m, "powered-off")?;
    guest.power_on()?;
    assert_eq!(found, guest.ready()?, "the source and its replica find the same");
    let (replica, mismatches) = world.verify(false).await?;
    assert!(replica.equal, "{mismatches:?}");
    Ok(())
}
