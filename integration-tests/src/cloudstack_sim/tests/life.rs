//! A machine's life, and what the server is particular about on the way.

use super::Rig;
use serde_json::json;

const NONE: [(&str, &str); 0] = [];

#[tokio::test]
async fn a_machine_is_deployed_gets_disks_runs_and_goes() {
    let rig = Rig::start().await;
    let admin = &rig.admin;
    let vm = rig.deploy("web").await;
    let root = admin.ok("listVolumes", &[("virtualmachineid", &vm)]).await["volume"][0].clone();
    assert_eq!(
        (&root["type"], &root["state"], &root["deviceid"]),
        (&json!("ROOT"), &json!("Allocated"), &json!(0))
    );
    let data = rig.volume("11111111-0000-4000-8000-000000000001", 2).await;
    let attached =
        admin.job("attachVolume", &[("id", &data), ("virtualmachineid", &vm)]).await.done()["volume"].clone();
    assert_eq!((&attached["deviceid"], &attached["state"]), (&json!(1), &json!("Ready")));
    let running = admin.job("startVirtualMachine", &[("id", &vm)]).await.done()["virtualmachine"].clone();
    assert_eq!((&running["state"], &running["hypervisor"]), (&json!("Running"), &json!("KVM")));
    let machine = rig.hosts.running().pop().unwrap();
    let disks: Vec<_> = machine.disks.iter().map(|disk| (disk.device_id, disk.volume.clone())).collect();
    assert_eq!(disks, [(0, root["id"].as_str().unwrap().to_owned()), (1, data.clone())]);
    assert_eq!(machine.disks[1].path, format!("/dev/drbd/by-res/cs-{data}/0"));
    assert_eq!(admin.job("startVirtualMachine", &[("id", &vm)]).await.refused().0, 431);
    for _ in 0..2 {
        // Of one that is stopped, too.
        admin.job("stopVirtualMachine", &[("id", &vm)]).await.done();
    }
    assert!(rig.hosts.running().is_empty());
    admin.job("destroyVirtualMachine", &[("id", &vm), ("expunge", &"true".to_owned())]).await.done();
    assert_eq!(admin.ok("listVirtualMachines", &[("id", &vm)]).await, json!({}));
    let left = rig.shown("volume", &data).await;
    assert_eq!((&left["state"], &left["virtualmachineid"]), (&json!("Ready"), &json!(null)));
    admin.ok("deleteVolume", &[("id", &data)]).await;
    assert!(rig.linstor.names().is_empty(), "{:?}", rig.linstor.names());
}

#[tokio::test]
async fn a_root_is_detached_as_data_and_data_attached_at_0_is_a_root() {
    let rig = Rig::start().await;
    let (admin, vm) = (&rig.admin, rig.deploy("roots").await);
    let root = admin.ok("listVolumes", &[("virtualmachineid", &vm)]).await["volume"][0]["id"].clone();
    let data = rig.volume("11111111-0000-4000-8000-000000000002", 1).await;
    let at = |device: &str| {
        [("id", data.clone()), ("virtualmachineid", vm.clone()), ("deviceid", device.to_owned())]
    };
    let there = admin.job("attachVolume", &at("0")).await;
    assert_eq!(there.refused(), (431, "Vm already has root volume attached to it"));
    assert_eq!(admin.job("attachVolume", &at("3")).await.refused().0, 530);
    let detached = admin.job("detachVolume", &[("id", root.as_str().unwrap())]).await.done();
    assert_eq!(detached["volume"]["type"], "DATADISK");
    assert_eq!(admin.job("startVirtualMachine", &[("id", &vm)]).await.refused().0, 530);
    let attached = admin.job("attachVolume", &at("0")).await.done()["volume"].clone();
    assert_eq!((&attached["type"], &attached["deviceid"]), (&json!("ROOT"), &json!(0)));
    assert_eq!(rig.shown("vm", &vm).await["diskofferingname"], "linstor-custom");
    let devices = ["1", "1", "2"];
    for (at, wanted) in devices.iter().enumerate() {
        let id = rig.volume(&format!("11111111-0000-4000-8000-00000000001{at}"), 1).await;
        let params = [("id", &id), ("virtualmachineid", &vm), ("deviceid", &(*wanted).to_owned())];
        let done = admin.job("attachVolume", &params).await;
        assert_eq!(done.status, if at == 1 { 2 } else { 1 }, "{:?}", done.shown);
    }
    let third = rig.volume("11111111-0000-4000-8000-000000000020", 1).await;
    let attached = admin.job("attachVolume", &[("id", &third), ("virtualmachineid", &vm)]).await.done();
    assert_eq!(attached["volume"]["deviceid"], 4, "3 is the CD-ROM's");
}

#[tokio::test]
async fn ids_and_names_are_used_once() {
    let rig = Rig::start().await;
    let admin = &rig.admin;
    let id = "22222222-0000-4000-8000-000000000001";
    let mut params = rig.placeholder("once");
    params.push(("customid".to_owned(), id.to_owned()));
    admin.job("deployVirtualMachine", &params).await.done();
    let again = admin.refused("deployVirtualMachine", &params).await;
    assert_eq!((again.0, again.1), (431, Some(4350)));
    admin.job("destroyVirtualMachine", &[("id", id)]).await.done();
    let named = admin.refused("deployVirtualMachine", &rig.placeholder("once")).await;
    assert_eq!(named.0, 431, "a destroyed one holds its name: {}", named.2);
    admin.job("expungeVirtualMachine", &[("id", id)]).await.done();
    let burnt = admin.refused("deployVirtualMachine", &params).await;
    assert_eq!(burnt, (530, Some(0), "Entity already exists ".to_owned()));
    rig.deploy("once").await;
    for wrong in ["CC4F08DF-5B12-49E7-B623-41FC975A2ED5", "", "not-a-uuid"] {
        let params = [
            ("zoneid", rig.zone()),
            ("diskofferingid", rig.id("diskoffering", "Small")),
            ("name", "x".to_owned()),
            ("customid", wrong.to_owned()),
        ];
        assert_eq!(admin.refused("createVolume", &params).await.0, 431);
    }
}

#[tokio::test]
async fn details_are_replaced_whole_and_uefi_needs_a_host_that_boots_it() {
    let rig = Rig::start().await;
    let admin = &rig.admin;
    let mut params = rig.placeholder("uefi");
    params.push(("details[0].UEFI".to_owned(), "SECURE".to_owned()));
    params.push(("details[1].rootDiskController".to_owned(), "virtio".to_owned()));
    let vm = admin.job("deployVirtualMachine", &params).await.done()["virtualmachine"]["id"].clone();
    let vm = vm.as_str().unwrap();
    let details = |shown: serde_json::Value| shown["virtualmachine"]["details"].clone();
    let two = [("id", vm), ("details[0].UEFI", "LEGACY"), ("details[1].nicAdapter", "virtio")];
    assert_eq!(details(admin.ok("updateVirtualMachine", &two).await), json!({"UEFI": "LEGACY"}));
    let running = admin.job("startVirtualMachine", &[("id", vm)]).await.done();
    let host = running["virtualmachine"]["hostname"].clone();
    assert!(["kvm1", "kvm3"].contains(&host.as_str().unwrap()), "{host}");
    let none = Rig::start_with(|options| {
        options.world.retain("host", |host| {
            host["ueficapability"] = json!(false);
            true
        });
    })
    .await;
    let mut params = none.placeholder("uefi");
    params.push(("details[0].UEFI".to_owned(), "LEGACY".to_owned()));
    let vm = none.admin.job("deployVirtualMachine", &params).await.done()["virtualmachine"]["id"].clone();
    assert_eq!(none.admin.job("startVirtualMachine", &[("id", vm.as_str().unwrap())]).await.refused().0, 533);
}

#[tokio::test]
async fn cards_and_tags() {
    let rig = Rig::start().await;
    let (admin, vm) = (&rig.admin, rig.deploy("nics").await);
    let iso = rig.id("network", "iso1");
    let add = [("virtualmachineid", vm.as_str()), ("networkid", &iso), ("macaddress", "02:00:00:aa:bb:09")];
    admin.job("addNicToVirtualMachine", &add).await.done();
    assert_eq!(admin.job("addNicToVirtualMachine", &add).await.refused().0, 530);
    let nics = admin.ok("listNics", &[("virtualmachineid", &vm)]).await["nic"].clone();
    assert_eq!((&nics[0]["isdefault"], &nics[1]["macaddress"]), (&json!(true), &json!("02:00:00:aa:bb:09")));
    let nic = nics[1]["id"].as_str().unwrap();
    let set = [("nicid", nic), ("ipaddress", "10.1.1.77")];
    let shown = admin.job("updateVmNicIp", &set).await.done();
    assert_eq!(shown["virtualmachine"]["nic"][1]["ipaddress"], "10.1.1.77");
    let outside = [("nicid", nic), ("ipaddress", "192.0.2.1")];
    assert_eq!(admin.job("updateVmNicIp", &outside).await.refused().0, 431);
    let default = [("virtualmachineid", vm.as_str()), ("nicid", nics[0]["id"].as_str().unwrap())];
    assert_eq!(admin.job("removeNicFromVirtualMachine", &default).await.refused().0, 431);
    let tags = [
        ("resourceids", vm.as_str()),
        ("resourcetype", "uservm"),
        ("tags[0].key", "migr"),
        ("tags[0].value", "job 7/ü"),
    ];
    admin.job("createTags", &tags).await.done();
    assert_eq!(admin.job("createTags", &tags).await.refused().0, 530);
    let by = [("tags[0].key", "migr"), ("tags[0].value", "job 7/ü")];
    assert_eq!(admin.ok("listVirtualMachines", &by).await["count"], 1);
    let gone = [("resourceids", vm.as_str()), ("resourcetype", "UserVm"), ("tags[0].key", "migr")];
    admin.job("deleteTags", &gone).await.done();
    assert_eq!(admin.ok("listTags", &NONE).await, json!({}));
}
