//! What loses data with a hand-over, each found before the machine starts (the end of CLOUDSTACK.md).

use super::*;
use crate::cloudstack::Params;
use crate::linstor::Name;

fn resource(volume: &VolumeId) -> Name {
    Name::parse(volume.as_str()).expect("a name")
}

/// Ends as a volume does that must not be used.
fn is_refused<T: std::fmt::Debug>(done: &Result<T, Error>) -> bool {
    matches!(done, Err(Error::NotAsMeant { .. } | Error::Linstor(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_gone_is_found_before_cloudstack_makes_an_empty_one() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (vm, disk) = (name("test-420570c7-1756882765"), rig.clone(7).await?);
    rig.bare(&vm).await?;
    rig.compute.adopt(&vm, 0, &disk, Guard::Deletable).await?;
    rig.storage.delete(&disk).await?;
    let attached = rig.compute.attach(&vm, 0, &disk).await;
    assert!(is_refused(&attached), "{attached:?}");
    assert!(!rig.changes().await?.contains(&"attachVolume".to_owned()), "nothing was asked");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_disk_in_the_place_of_one_that_vanished_never_starts() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (vm, disk) = (name("test-420570c7-1756882765"), rig.clone(7).await?);
    rig.bare(&vm).await?;
    rig.compute.adopt(&vm, 0, &disk, Guard::Deletable).await?;
    // Between the look and the call: CloudStack finds nothing, and makes an empty one without a word.
    rig.storage.delete(&disk).await?;
    let ids = [
        ("id", disk.as_str().trim_start_matches("cs-").to_owned()),
        ("virtualmachineid", vm.uuid(0).to_string()),
    ];
    let params = ids.into_iter().fold(Params::new().with("deviceid", "0"), |p, (k, v)| p.with(k, v));
    rig.compute.api.job("attachVolume", params).await?;
    let attached = rig.compute.attach(&vm, 0, &disk).await;
    assert!(is_refused(&attached), "{attached:?}");
    let started = rig.compute.start(&vm).await;
    assert!(is_refused(&started), "{started:?}");
    assert_ne!(rig.compute.find(&vm).await?.map(|m| m.state), Some(State::Running));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_in_another_group_or_with_a_namesake_beside_it_is_not_handed_over() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (vm, disk) = (name("test-420570c7-1756882765"), rig.clone(7).await?);
    rig.bare(&vm).await?;
    let client = rig.storage.cluster().client();
    let stray = Name::parse(format!("{disk}-1"))?;
    client.define(&stray, rig.storage.group(), &[], &std::collections::BTreeMap::new()).await?;
    let adopted = rig.compute.adopt(&vm, 0, &disk, Guard::Deletable).await;
    assert!(
        matches!(&adopted, Err(Error::NotAsMeant { why, .. }) if why.contains(stray.as_str())),
        "{adopted:?}"
    );
    client.delete_definition(&stray).await?;
    rig.compute.adopt(&vm, 0, &disk, Guard::Deletable).await?;
    rig.compute.attach(&vm, 0, &disk).await?;
    // A clone of it must not look like one that CloudStack took.
    let props = client.definition(&resource(&disk)).await?.expect("there").props;
    assert!(!props.keys().any(|key| key.starts_with("Aux/_cs-template-for-")), "{props:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_leaves_the_data_though_there_is_a_snapshot_on_it() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let (vm, disk) = (name("live-420570c7-1756882765"), rig.clone(7).await?);
    rig.with_disks(&vm, std::slice::from_ref(&disk)).await?;
    let kept = SnapshotName::parse("live-420570c7-1756882765-kept")?;
    rig.compute.detach(&disk).await?;
    rig.storage.snapshot(std::slice::from_ref(&disk), &kept).await?;
    rig.compute.release(&disk).await?;
    assert_eq!(rig.byte(&disk).await?, 7);
    assert_eq!(rig.storage.snapshot_size(&kept, &disk).await?, GIB);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_others_is_touched() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    let vm = name("test-420570c7-1756882765");
    // Somebody's machine of the same name: its id is not made of that.
    let (ids, place) = (rig.zone.ids()?, rig.compute.place().await?);
    let theirs = Params::new()
        .with("zoneid", &place.zone)
        .with("templateid", &place.template.id)
        .with("serviceofferingid", &ids.service_offering)
        .with("networkids", &ids.networks["l2v"])
        .with("name", vm.as_str())
        .with("startvm", "false");
    rig.compute.api.job("deployVirtualMachine", theirs).await?;
    assert_eq!(rig.compute.find(&vm).await?, None);
    assert_eq!(rig.compute.list().await?, []);
    rig.compute.stop(&vm, Stop::Now).await?;
    rig.compute.remove(&vm).await?;
    assert_eq!(rig.compute.api.vms(&place.zone).await?.len(), 1);
    Ok(())
}
