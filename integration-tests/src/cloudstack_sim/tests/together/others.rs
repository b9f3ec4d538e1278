//! The other ways: by helper, and by updateVolume.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_helpers_empty_volume_is_filled_and_cloudstack_notices_nothing() {
    let both = Both::start().await;
    let helper = both.placeholder("helper").await;
    let other = "44444444-0000-4000-8000-00000000000a";
    both.volume(other, 1).await;
    both.attach(other, &helper, "0").await.done();
    both.on("startVirtualMachine", &helper).await;
    both.volume(U, 1).await;
    both.attach(U, &helper, "1").await.done();
    let definition = both.definition(&cs(U));
    assert_eq!(definition["props"]["Aux/cs-name"], "mig-root");
    both.on("stopVirtualMachine", &helper).await;
    both.on("detachVolume", U).await;
    // Its resources go, its tie breaker along; the definition stays.
    for node in ["kvm1", "kvm2"] {
        both.ask("DELETE", &format!("resource-definitions/{}/resources/{node}", cs(U)), None);
    }
    assert_eq!(both.resources(&cs(U)), Vec::<Value>::new());
    // Meanwhile an attach would say that all is well.
    let vm = both.placeholder("moved").await;
    both.attach(U, &vm, "0").await.done();
    both.on("detachVolume", U).await;
    assert_eq!(both.resources(&cs(U)), Vec::<Value>::new());
    // A replica of another size is refused.
    both.replica("mk-large", 2 * GIB, "large");
    let to = Some(json!({"to_resource": cs(U)}));
    let refused = both.try_ask("POST", "resource-definitions/mk-large/snapshot-restore-resource/rp-1", to);
    assert!(refused.unwrap_err().contains("Snapshot size does not match"));
    both.replica("mk-r1", GIB, "of the source");
    both.fill("mk-r1", &cs(U));
    assert_eq!(both.definition(&cs(U))["uuid"], definition["uuid"]);
    both.attach(U, &vm, "0").await.done();
    assert_eq!(both.shown(U).await["type"], "ROOT");
    both.on("startVirtualMachine", &vm).await;
    assert_eq!(read(&both.device(&cs(U), "kvm1").unwrap()), "of the source");
}

#[tokio::test(flavor = "multi_thread")]
async fn update_volume_checks_nothing_and_leaves_no_format() {
    let both = Both::start().await;
    let vm = both.placeholder("moved").await;
    both.replica("mk-r1", GIB, "of the source");
    both.clone_of("mk-r1", &cs(U), GROUP);
    let (id, twin) = ("44444444-0000-4000-8000-00000000000b", "44444444-0000-4000-8000-00000000000c");
    let asked = both.zone.linstor().calls().len();
    for id in [id, twin] {
        both.volume(id, 1).await;
        let params = [("id", id), ("storageid", &both.ids.pool), ("path", U), ("state", "Ready")];
        both.admin.job("updateVolume", &params).await.done();
    }
    both.attach(id, &vm, "0").await.done();
    let volume = both.shown(id).await;
    assert_eq!((&volume["type"], &volume["path"]), (&json!("ROOT"), &json!(U)));
    assert_eq!(both.zone.linstor().calls().len(), asked, "LINSTOR was not asked");
    let kept = both.admin.see("state").await;
    let own = kept["volumes"].as_array().unwrap().iter().find(|one| one["id"] == id).unwrap().clone();
    assert_eq!(own["format"], json!(null));
    both.on("startVirtualMachine", &vm).await;
    assert_eq!(read(&both.device(&cs(U), "kvm1").unwrap()), "of the source");
    both.on("stopVirtualMachine", &vm).await;
    // Two rows with one path: the end of one is the end of the other's disk.
    both.admin.ok("deleteVolume", &[("id", twin)]).await;
    assert_eq!(both.names(), ["mk-r1"]);
    let failed = both.admin.job("startVirtualMachine", &[("id", vm.as_str())]).await;
    let (code, text) = failed.refused();
    assert!(code == 530 && text.contains("not found"), "{text}");
}
