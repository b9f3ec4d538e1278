//! What goes wrong with a hand-over by attach, as it was recorded.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn with_none_there_an_empty_disk_is_made_in_silence() {
    let both = Both::start().await;
    let vm = both.placeholder("empty").await;
    both.volume(U, 1).await;
    both.attach(U, &vm, "0").await.done();
    let volume = both.shown(U).await;
    assert_eq!((&volume["state"], &volume["path"]), (&json!("Ready"), &json!(U)), "as if all were well");
    let definition = both.definition(&cs(U));
    assert_eq!(definition["props"]["Aux/cs-name"], "mig-root", "what tells it");
    assert_eq!(definition["props"].get(MARKER), None);
    assert_eq!(read(&both.device(&cs(U), "kvm1").unwrap()), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_without_resources_leaves_the_volume_stuck() {
    let both = Both::start().await;
    let vm = both.placeholder("stuck").await;
    both.replica("mk-r1", GIB, "bytes");
    // A bare one has no properties, and the plug-in trips over it; one with a mark of ours comes one step further.
    let (bare, marked) = (U, "44444444-0000-4000-8000-000000000002");
    for id in [bare, marked] {
        both.define(&cs(id), GROUP);
        both.volume(id, 1).await;
    }
    let mark = json!({"override_props": {"Aux/mk-id": "1"}});
    both.ask("PUT", &format!("resource-definitions/{}", cs(marked)), Some(mark));
    assert_eq!(both.definition(&cs(bare)).get("props"), None);
    for (id, why) in [(bare, "getProps()\" is null"), (marked, "")] {
        let failed = both.attach(id, &vm, "0").await;
        let (code, text) = failed.refused();
        assert!(code == 530 && text.contains(why), "{text}");
        assert_eq!(both.shown(id).await["state"], "Allocated");
        // Now it is whole, and it does not help: another volume has to be made.
        let path = "resource-definitions/mk-r1/snapshot-restore-volume-definition/rp-1";
        both.ask("POST", path, Some(json!({"to_resource": cs(id)})));
        both.fill("mk-r1", &cs(id));
        let again = both.attach(id, &vm, "0").await;
        let (code, text) = again.refused();
        assert!(code == 530 && text.starts_with("Unable to find suitable primary storage"), "{text}");
    }
    assert_eq!(both.names(), [cs(bare), cs(marked), "mk-r1".to_owned()], "nothing was spawned");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_that_selects_otherwise_a_stray_is_spawned_as_well() {
    let both = Both::start().await;
    let vm = both.placeholder("stray").await;
    let other =
        json!({"name": "mk-other", "select_filter": {"place_count": 1, "storage_pool_list": ["thin"]}});
    both.ask("POST", "resource-groups", Some(other));
    both.replica("mk-r1", GIB, "bytes");
    both.clone_of("mk-r1", &cs(U), "mk-other");
    let uuid = both.definition(&cs(U))["uuid"].clone();
    both.volume(U, 1).await;
    both.attach(U, &vm, "0").await.done();
    let volume = both.shown(U).await;
    assert_eq!(
        (&volume["state"], &volume["path"]),
        (&json!("Ready"), &json!(U)),
        "and it is taken all the same"
    );
    assert_eq!(both.definition(&cs(U))["uuid"], uuid);
    assert_eq!(read(&both.device(&cs(U), "kvm1").unwrap()), "bytes");
    let strays: Vec<_> =
        both.names().into_iter().filter(|name| name.starts_with(&format!("{}-", cs(U)))).collect();
    assert_eq!(strays.len(), 1, "{strays:?}");
    assert_eq!(both.definition(&strays[0])["resource_group_name"], GROUP);
}

/// In a group of ours that selects as the pool's does, it is taken: what counts is how groups select.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_that_selects_alike_it_is_taken() {
    let both = Both::start().await;
    let vm = both.placeholder("alike").await;
    both.replica("mk-r1", GIB, "bytes");
    both.clone_of("mk-r1", &cs(U), OWN_GROUP);
    both.volume(U, 1).await;
    both.attach(U, &vm, "0").await.done();
    assert_eq!(both.names(), [cs(U), "mk-r1".to_owned()]);
    assert_eq!(both.definition(&cs(U))["props"][MARKER], "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_snapshot_of_ours_stays_expunging() {
    let both = Both::start().await;
    let vm = both.placeholder("kept").await;
    both.replica("mk-r1", GIB, "bytes");
    both.clone_of("mk-r1", &cs(U), GROUP);
    both.volume(U, 1).await;
    both.attach(U, &vm, "0").await.done();
    both.on("detachVolume", U).await;
    let snapshots = format!("resource-definitions/{}/snapshots", cs(U));
    both.ask("POST", &snapshots, Some(json!({"name": "mk-1"})));
    let refused = both.admin.refused("deleteVolume", &[("id", U)]).await;
    assert!(refused.0 == 530 && refused.2.contains("has snapshots"), "{refused:?}");
    assert_eq!(both.shown(U).await["state"], "Expunging");
    both.ask("DELETE", &format!("{snapshots}/mk-1"), None);
    assert_eq!(both.shown(U).await["state"], "Expunging", "nobody comes back for it");
    assert_eq!(both.names(), [cs(U), "mk-r1".to_owned()]);
    both.admin.ok("deleteVolume", &[("id", U)]).await;
    assert_eq!(both.names(), ["mk-r1"]);
    assert_eq!(both.admin.ok("listVolumes", &[("id", U)]).await, json!({}));
}

/// LINSTOR's own word on what is open reaches the client of CloudStack.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_stays_expunging_and_goes_later() {
    let both = Both::start().await;
    let vm = both.placeholder("used").await;
    both.volume(U, 1).await;
    both.attach(U, &vm, "0").await.done();
    both.on("detachVolume", U).await;
    let used = |in_use| crate::linstor_sim::What::InUse { resource: cs(U), node: "kvm1".to_owned(), in_use };
    both.zone.linstor().now(&used(true));
    let refused = both.admin.refused("deleteVolume", &[("id", U)]).await;
    assert!(refused.0 == 530 && refused.2.contains("in use"), "{refused:?}");
    assert_eq!(both.shown(U).await["state"], "Expunging");
    both.zone.linstor().now(&used(false));
    both.admin.ok("deleteVolume", &[("id", U)]).await;
    assert!(both.names().is_empty());
}
