//! The LINSTOR plug-in's behaviour, trap by trap, as it was recorded in a hand-over.

use super::super::linstor::Linstor as _;
use super::Rig;
use serde_json::json;

const U: &str = "33333333-0000-4000-8000-000000000001";
const GIB: u64 = 1024 * 1024;

/// A placeholder without its root.
async fn without_root(rig: &Rig, name: &str) -> String {
    let vm = rig.deploy(name).await;
    let root = rig.admin.ok("listVolumes", &[("virtualmachineid", &vm)]).await["volume"][0]["id"].clone();
    let root = root.as_str().unwrap();
    rig.admin.job("detachVolume", &[("id", root)]).await.done();
    rig.admin.ok("deleteVolume", &[("id", root)]).await;
    vm
}

fn as_root<'a>(id: &'a str, vm: &'a str) -> [(&'static str, &'a str); 3] {
    [("id", id), ("virtualmachineid", vm), ("deviceid", "0")]
}

#[tokio::test]
async fn a_resource_that_is_there_is_taken() {
    let rig = Rig::start().await;
    let vm = without_root(&rig, "taken").await;
    rig.linstor.put(&format!("cs-{U}"), "cloudstack", 2 * GIB);
    rig.volume(U, 2).await;
    let allocated = rig.shown("volume", U).await;
    assert_eq!((&allocated["state"], &allocated["path"]), (&json!("Allocated"), &json!(null)));
    let done = rig.admin.job("attachVolume", &as_root(U, &vm)).await.done()["volume"].clone();
    assert_eq!(
        (&done["state"], &done["path"], &done["storage"]),
        (&json!("Ready"), &json!(U), &json!("linstor"))
    );
    let resource = rig.linstor.get(&format!("cs-{U}")).unwrap();
    assert!(!resource.is_empty, "its content is what was put there");
    assert!(resource.props.contains_key("Aux/_cs-template-for-cloudstack"));
    assert!(!resource.props.contains_key("Aux/cs-name"));
    assert_eq!(rig.linstor.names(), [format!("cs-{U}")]);
    let pool = rig.admin.ok("listStoragePools", &[("name", "linstor")]).await["storagepool"][0].clone();
    assert_eq!(pool["disksizeallocated"], 2_u64 << 30);
    // The agent's part.
    rig.linstor.change(&format!("cs-{U}"), |resource| resource.placements.retain(|one| one.node == "kvm2"));
    rig.admin.job("startVirtualMachine", &[("id", &vm)]).await.done();
    assert!(rig.linstor.calls().contains(&format!("make-available cs-{U} kvm1")));
    assert!(
        rig.linstor
            .placements(&format!("cs-{U}"))
            .unwrap()
            .iter()
            .any(|one| one.node == "kvm1" && one.diskless)
    );
    rig.admin.job("stopVirtualMachine", &[("id", &vm)]).await.done();
    assert!(rig.linstor.calls().contains(&format!("drop cs-{U} kvm1")));
}

#[tokio::test]
async fn with_none_there_an_empty_one_is_made_in_silence() {
    let rig = Rig::start().await;
    let vm = without_root(&rig, "empty").await;
    rig.volume(U, 1).await;
    rig.admin.job("attachVolume", &as_root(U, &vm)).await.done();
    let resource = rig.linstor.get(&format!("cs-{U}")).unwrap();
    assert!(resource.is_empty && resource.props.contains_key("Aux/cs-name"));
    assert_eq!(resource.kib, GIB);
}

#[tokio::test]
async fn a_definition_without_resources_leaves_the_volume_stuck() {
    let rig = Rig::start().await;
    let vm = without_root(&rig, "stuck").await;
    rig.linstor.put_bare(&format!("cs-{U}"), "cloudstack", GIB);
    rig.volume(U, 1).await;
    let failed = rig.admin.job("attachVolume", &as_root(U, &vm)).await;
    assert_eq!(failed.refused().0, 530);
    // Now it is whole, and it does not help.
    rig.linstor.put(&format!("cs-{U}"), "cloudstack", GIB);
    let again = rig.admin.job("attachVolume", &as_root(U, &vm)).await;
    let (code, text) = again.refused();
    assert!(code == 530 && text.starts_with("Unable to find suitable primary storage"), "{text}");
    assert_eq!(rig.shown("volume", U).await["state"], "Allocated");
}

#[tokio::test]
async fn in_a_group_that_selects_otherwise_a_stray_is_spawned_as_well() {
    let rig = Rig::start().await;
    let vm = without_root(&rig, "stray").await;
    rig.linstor.set_filter("mk-other", json!({"place_count": 1}));
    rig.linstor.put(&format!("cs-{U}"), "mk-other", GIB);
    rig.volume(U, 1).await;
    let done = rig.admin.job("attachVolume", &as_root(U, &vm)).await.done();
    assert_eq!(done["volume"]["path"], U);
    let strays: Vec<_> = rig.linstor.names().into_iter().filter(|name| *name != format!("cs-{U}")).collect();
    assert!(strays.len() == 1 && strays[0].starts_with(&format!("cs-{U}-")), "{strays:?}");
    // Of two whose names begin alike, the other's is taken for it.
    let other = "33333333-0000-4000-8000-000000000002";
    rig.linstor.put(&format!("cs-{other}-mk"), "cloudstack", GIB);
    rig.volume(other, 1).await;
    let done = rig.admin.job("attachVolume", &[("id", other), ("virtualmachineid", &vm)]).await;
    let (code, text) = done.refused();
    assert!(code == 530 && text.contains(&format!("'cs-{other}' not found")), "{text}");
}

#[tokio::test]
async fn what_has_a_snapshot_is_not_deleted_and_nobody_comes_back_for_it() {
    let rig = Rig::start().await;
    let (admin, vm) = (&rig.admin, without_root(&rig, "kept").await);
    let name = format!("cs-{U}");
    rig.linstor.put(&name, "cloudstack", GIB);
    rig.volume(U, 1).await;
    admin.job("attachVolume", &as_root(U, &vm)).await.done();
    admin.job("detachVolume", &[("id", U)]).await.done();
    rig.linstor.create_snapshot(&name, "mk-ours").unwrap();
    let refused = admin.refused("deleteVolume", &[("id", U)]).await;
    assert!(refused.0 == 530 && refused.2.contains("because it has snapshots"), "{}", refused.2);
    assert_eq!(rig.shown("volume", U).await["state"], "Expunging");
    assert_eq!(admin.refused("recoverVolume", &[("id", U)]).await.0, 431);
    assert_eq!(admin.job("attachVolume", &as_root(U, &vm)).await.refused().0, 431);
    // Rescued, then released: the row goes, the disk stays.
    admin.job("updateVolume", &[("id", U), ("state", "Ready")]).await.done();
    admin.job("updateVolume", &[("id", U), ("deleteprotection", "true")]).await.done();
    assert_eq!(admin.refused("deleteVolume", &[("id", U)]).await.0, 431);
    let release = [("id", U), ("path", "released-x"), ("deleteprotection", "false")];
    admin.job("updateVolume", &release).await.done();
    admin.ok("deleteVolume", &[("id", U)]).await;
    assert_eq!(admin.ok("listVolumes", &[("id", U)]).await, json!({}));
    assert_eq!(rig.linstor.get(&name).unwrap().snapshots, ["mk-ours"]);
}

#[tokio::test]
async fn a_root_with_a_snapshot_keeps_its_machine_from_being_expunged() {
    let rig = Rig::start().await;
    let (admin, vm) = (&rig.admin, without_root(&rig, "held").await);
    let name = format!("cs-{U}");
    rig.linstor.put(&name, "cloudstack", GIB);
    rig.volume(U, 1).await;
    admin.job("attachVolume", &as_root(U, &vm)).await.done();
    rig.linstor.create_snapshot(&name, "mk-ours").unwrap();
    let destroy = [("id", vm.as_str()), ("expunge", "true")];
    assert_eq!(admin.job("destroyVirtualMachine", &destroy).await.refused().0, 530);
    assert_eq!(rig.shown("vm", &vm).await["state"], "Expunging");
    rig.linstor.delete_snapshot(&name, "mk-ours").unwrap();
    admin.job("expungeVirtualMachine", &[("id", &vm)]).await.done();
    assert_eq!(rig.linstor.names(), Vec::<String>::new());
}

#[tokio::test]
async fn sizes_are_made_equal_and_snapshots_are_linstors() {
    let rig = Rig::start().await;
    let (admin, vm) = (&rig.admin, without_root(&rig, "sizes").await);
    let name = format!("cs-{U}");
    rig.linstor.put(&name, "cloudstack", GIB + 4);
    rig.volume(U, 2).await;
    admin.job("attachVolume", &as_root(U, &vm)).await.done();
    admin.job("resizeVolume", &[("id", U), ("size", "2")]).await.done();
    assert_eq!(rig.linstor.size_kib(&name), Ok(2 * GIB));
    assert_eq!(admin.job("resizeVolume", &[("id", U), ("size", "1")]).await.refused().0, 432);
    let taken = admin.job("createSnapshot", &[("volumeid", U), ("name", "s1")]).await.done();
    let id = taken["snapshot"]["id"].as_str().unwrap().to_owned();
    assert_eq!(rig.linstor.get(&name).unwrap().snapshots, [format!("cs-{id}")]);
    admin.job("resizeVolume", &[("id", U), ("size", "3")]).await.done();
    admin.job("revertSnapshot", &[("id", &id)]).await.done();
    assert_eq!(rig.shown("volume", U).await["size"], 2_u64 << 30);
    admin.job("deleteSnapshot", &[("id", &id)]).await.done();
    assert_eq!(rig.linstor.get(&name).unwrap().snapshots.len(), 0);
}

#[tokio::test]
async fn an_unknown_parameter_is_ignored_and_written_down() {
    let rig = Rig::start().await;
    let pool = rig.id("storagepool", "linstor");
    let params = [
        ("name", "st".to_owned()),
        ("zoneid", rig.zone()),
        ("diskofferingid", rig.id("diskoffering", "linstor-custom")),
        ("size", "1".to_owned()),
        ("storageid", pool.clone()),
    ];
    let made = rig.admin.job("createVolume", &params).await.done()["volume"].clone();
    assert_eq!((&made["state"], &made["storageid"]), (&json!("Allocated"), &json!(null)));
    assert_eq!(rig.sim.unknown_parameters(), ["createVolume.storageid"]);
    assert_eq!(rig.admin.see("unknown-parameters").await, json!(["createVolume.storageid"]));
    let placed = Rig::start_with(|options| options.placed = true).await;
    let apis = placed.admin.ok("listApis", &[("name", "createVolume")]).await;
    assert!(apis["api"][0]["params"].as_array().unwrap().iter().any(|param| param["name"] == "storageid"));
    let made = placed.admin.job("createVolume", &params).await.done()["volume"].clone();
    assert_eq!((&made["state"], &made["storageid"]), (&json!("Ready"), &json!(pool)));
    assert!(placed.sim.unknown_parameters().is_empty());
}
