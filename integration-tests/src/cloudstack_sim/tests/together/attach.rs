//! The hand-over by attach, whole, and back again.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_becomes_a_root_runs_and_is_released() {
    let mut both = Both::start().await;
    let name = cs(U);
    let vm = both.placeholder("moved").await;
    both.replica("mk-r1", 1_600_000, "of the source");
    both.clone_of("mk-r1", &name, GROUP);
    // What the source does afterwards does not reach the clone.
    write(&both.device("mk-r1", "kvm1").unwrap(), "later");
    let grow = format!("resource-definitions/{name}/volume-definitions/0");
    both.ask("PUT", &grow, Some(json!({"size_kib": 2 * GIB})));
    let uuid = both.definition(&name)["uuid"].clone();
    both.volume(U, 2).await;
    let allocated = both.shown(U).await;
    assert_eq!((&allocated["state"], &allocated["path"]), (&json!("Allocated"), &json!(null)));

    both.attach(U, &vm, "0").await.done();
    let volume = both.shown(U).await;
    for (key, value) in [
        ("state", "Ready"),
        ("path", U),
        ("type", "ROOT"),
        ("storageid", &both.ids.pool),
        ("virtualmachineid", &vm),
        ("hypervisor", "KVM"),
    ] {
        assert_eq!(volume[key], value, "{key}: {volume}");
    }
    let format = both.admin.see("state").await["volumes"].as_array().unwrap().clone();
    let format = format.iter().find(|one| one["id"] == U).unwrap()["format"].clone();
    assert_eq!(format, "QCOW2");
    let definition = both.definition(&name);
    assert_eq!(definition["uuid"], uuid, "it is still ours");
    assert_eq!(definition["props"][MARKER], "true");
    assert_eq!(definition["props"].get("Aux/cs-name"), None, "nothing was spawned");
    assert_eq!(both.names(), [name.clone(), "mk-r1".to_owned()], "no stray");
    assert_eq!(read(&both.device(&name, "kvm1").unwrap()), "of the source");
    let remove = json!({"delete_props": [MARKER]});
    both.ask("PUT", &format!("resource-definitions/{name}"), Some(remove));
    both.admin.job("resizeVolume", &[("id", U), ("size", "2")]).await.done();
    assert_eq!((both.size_kib(&name), both.definition(&name)["uuid"].clone()), (2 * GIB, uuid.clone()));

    let running = both.on("startVirtualMachine", &vm).await["virtualmachine"].clone();
    assert_eq!((&running["state"], &running["hostname"]), (&json!("Running"), &json!("kvm1")));
    assert!(both.device(&name, "kvm1").is_some());
    // Both are started anew, and nothing has changed for it.
    both.zone.restart_linstor().await.unwrap();
    both.zone.restart_cloudstack().await.unwrap();
    both.on("stopVirtualMachine", &vm).await;
    both.on("detachVolume", U).await;
    assert_eq!(both.shown(U).await["type"], "DATADISK");

    let snapshots = format!("resource-definitions/{name}/snapshots");
    both.ask("POST", &snapshots, Some(json!({"name": "mk-kept"})));
    both.admin.job("updateVolume", &[("id", U), ("path", "released-1")]).await.done();
    both.admin.ok("deleteVolume", &[("id", U)]).await;
    assert_eq!(both.admin.ok("listVolumes", &[("id", U)]).await, json!({}));
    assert_eq!(both.definition(&name)["uuid"], uuid, "its disk stays");
    assert_eq!(both.get(&snapshots)[0]["name"], "mk-kept");
    // It is moved to our group, and goes when nobody wants it back any more.
    both.ask("PUT", &format!("resource-definitions/{name}"), Some(json!({"resource_group": OWN_GROUP})));
    assert_eq!(both.definition(&name)["resource_group_name"], OWN_GROUP);
    both.ask("DELETE", &format!("{snapshots}/mk-kept"), None);
    both.ask("DELETE", &format!("resource-definitions/{name}"), None);
    assert_eq!(both.names(), ["mk-r1"]);
    // The id is used up.
    let again = [("name", "x"), ("zoneid", &both.ids.zone), ("diskofferingid", &both.ids.disk_offering)];
    let again: Vec<_> = again.into_iter().chain([("size", "1"), ("customid", U)]).collect();
    let refused = both.admin.refused("createVolume", &again).await;
    assert_eq!((refused.0, refused.2.as_str()), (530, "Entity already exists "));
}

/// A host that has no replica gets one without a disk, and gives it back after the stop; one that has keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_given_the_disk_when_a_machine_starts_there() {
    let both = Both::start().await;
    let name = cs(U);
    let vm = both.placeholder("hosted").await;
    // The host that is chosen loses its replica.
    both.replica("mk-r1", GIB, "bytes");
    both.clone_of("mk-r1", &name, GROUP);
    both.volume(U, 1).await;
    both.attach(U, &vm, "0").await.done();
    let flags = |node: &str| {
        let all = both.resources(&name);
        all.iter().find(|one| one["node_name"] == node).map(|one| one["flags"].clone())
    };
    assert_eq!(flags("kvm1"), Some(json!(null)), "a replica");
    both.ask("DELETE", &format!("resource-definitions/{name}/resources/kvm1"), None);
    assert_eq!(flags("kvm1"), None);
    both.on("startVirtualMachine", &vm).await;
    assert_eq!(flags("kvm1"), Some(json!(["DISKLESS", "DRBD_DISKLESS"])));
    assert_eq!(read(&both.device(&name, "kvm1").unwrap()), "bytes");
    both.on("stopVirtualMachine", &vm).await;
    assert_eq!(flags("kvm1"), None);
    assert_eq!(flags("kvm2"), Some(json!(null)));
    both.on("startVirtualMachine", &vm).await;
    both.on("stopVirtualMachine", &vm).await;
    assert_eq!(flags("kvm2"), Some(json!(null)));
}
