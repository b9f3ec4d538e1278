//! A machine from its definition to its end.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_runs_on_volumes_that_were_handed_over_and_leaves_them_whole() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (vm, disks) = (name("test-420570c7-1756882765"), [rig.clone(1).await?, rig.clone(2).await?]);
    rig.compute.check(&machine(&vm)).await?;
    assert_eq!(rig.compute.find(&vm).await?, None);
    // Each twice: what is there already is found.
    for _ in 0..2 {
        rig.compute.define(&vm, &machine(&vm)).await?;
    }
    let surplus = rig.compute.surplus(&vm).await?;
    assert_eq!(surplus.len(), 1, "a template's root");
    for _ in 0..2 {
        rig.compute.shed(&vm, &surplus[0]).await?;
    }
    for (position, disk) in disks.iter().enumerate() {
        for _ in 0..2 {
            rig.compute.adopt(&vm, position, disk, Guard::Deletable).await?;
        }
        for _ in 0..2 {
            rig.compute.attach(&vm, position, disk).await?;
        }
    }
    for _ in 0..2 {
        rig.compute.start(&vm).await?;
    }
    let found = rig.compute.find(&vm).await?.expect("it is there");
    assert_eq!(
        (found.fingerprint, found.cards, found.state),
        (machine(&vm).fingerprint(), 1, State::Running)
    );
    assert_eq!(found.disks, disks);
    assert_eq!(rig.compute.list().await?.len(), 1);
    assert!(matches!(rig.compute.remove(&vm).await, Err(Error::Running { .. })));
    assert!(matches!(rig.compute.detach(&disks[0]).await, Err(Error::VolumeHeld { .. })));
    for _ in 0..2 {
        rig.compute.stop(&vm, Stop::Graceful { patience: Duration::from_secs(5) }).await?;
    }
    assert!(matches!(rig.compute.release(&disks[1]).await, Err(Error::VolumeHeld { .. })));
    for disk in &disks {
        for _ in 0..2 {
            rig.compute.detach(disk).await?;
        }
        assert!(rig.compute.is_adopted(disk).await?);
        for _ in 0..2 {
            rig.compute.release(disk).await?;
        }
        assert!(!rig.compute.is_adopted(disk).await?);
    }
    for _ in 0..2 {
        rig.compute.remove(&vm).await?;
    }
    assert_eq!(rig.compute.find(&vm).await?, None);
    // Only what belongs to a hand-over was asked, and each once.
    let of_disk = ["createVolume", "attachVolume"];
    let back = ["detachVolume", "updateVolume", "deleteVolume"];
    let mut expected = vec!["deployVirtualMachine", "detachVolume", "deleteVolume"];
    expected.extend([of_disk, of_disk].concat());
    expected.extend(["startVirtualMachine", "stopVirtualMachine"]);
    expected.extend([back, back].concat());
    expected.push("destroyVirtualMachine");
    assert_eq!(rig.changes().await?, expected);
    for (disk, fill) in disks.iter().zip([1, 2]) {
        assert_eq!(rig.byte(disk).await?, fill, "what it holds is where it was");
        rig.storage.delete(disk).await?;
        assert_eq!(rig.storage.volume(disk).await?, None);
    }
    assert_eq!(rig.zone.cloudstack().unknown_parameters(), Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_removed_without_its_disks_wherever_its_making_was_left() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (vm, disk) = (name("test-420570c7-1756882765"), rig.clone(7).await?);
    rig.with_disks(&vm, std::slice::from_ref(&disk)).await?;
    // With the root still attached, which CloudStack would delete with its machine.
    rig.compute.remove(&vm).await?;
    assert_eq!(rig.compute.find(&vm).await?, None);
    assert!(rig.compute.is_adopted(&disk).await?);
    assert_eq!(rig.byte(&disk).await?, 7);
    rig.compute.release(&disk).await?;
    assert_eq!(rig.byte(&disk).await?, 7);
    // The id is used up: the next one of that name has another, and is found by it.
    rig.compute.define(&vm, &machine(&vm)).await?;
    assert!(rig.compute.find(&vm).await?.is_some());
    // With the root that came with it.
    rig.compute.remove(&vm).await?;
    assert_eq!(rig.compute.find(&vm).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_defined_as_something_else_is_another_machine() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let vm = name("test-420570c7-1756882765");
    rig.compute.define(&vm, &machine(&vm)).await?;
    let other = Definition { cpus: 2, ..machine(&vm) };
    assert!(matches!(rig.compute.define(&vm, &other).await, Err(Error::OtherMachine { .. })));
    Ok(())
}
