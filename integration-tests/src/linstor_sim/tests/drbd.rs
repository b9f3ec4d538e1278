//! Replicas on several nodes: alike, tied by a third, and known to be in use.

use super::*;
use crate::linstor_sim::What;

async fn three_nodes() -> anyhow::Result<Bench> {
    let nodes = ["kvm1", "kvm2", "oma"].map(str::to_owned).to_vec();
    let bench = Bench::start(|options| Options { nodes, drbd: true, ..options }).await?;
    Ok(bench)
}

async fn resources(bench: &Bench, name: &str) -> anyhow::Result<Vec<Value>> {
    let all = bench.get(&format!("view/resources?resources={name}")).await?;
    Ok(all.as_array().cloned().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_node_breaks_ties() -> anyhow::Result<()> {
    let bench = three_nodes().await?;
    bench.spawn("cs-1", 4096).await?;
    let all = resources(&bench, "cs-1").await?;
    assert_eq!(all.len(), 3);
    let diskless: Vec<_> = all.iter().filter(|one| one["flags"].is_array()).collect();
    assert_eq!(diskless.len(), 1);
    assert_eq!(diskless[0]["flags"], json!(["DISKLESS", "DRBD_DISKLESS", "TIE_BREAKER"]));
    let node = diskless[0]["node_name"].as_str().context("a node")?.to_owned();
    // Asked for, it is no tie breaker any more; deleted, it becomes one again.
    let there = format!("resource-definitions/cs-1/resources/{node}");
    bench.done("POST", &format!("{there}/make-available"), json!({"diskful": false})).await?;
    assert_eq!(bench.get(&there).await?["flags"], json!(["DISKLESS", "DRBD_DISKLESS"]));
    let kept = bench.done("DELETE", &there, json!({})).await?;
    assert_eq!(entries(&kept).context("entries")?[0], (1, 10006));
    assert_eq!(bench.get(&there).await?["flags"], json!(["DISKLESS", "DRBD_DISKLESS", "TIE_BREAKER"]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_alike_on_all_nodes_and_so_are_snapshots() -> anyhow::Result<()> {
    let bench = three_nodes().await?;
    bench.spawn("cs-1", 4096).await?;
    let paths = |all: &[Value]| -> Vec<PathBuf> {
        all.iter().filter_map(|one| one["volumes"][0]["device_path"].as_str().map(PathBuf::from)).collect()
    };
    let devices = paths(&resources(&bench, "cs-1").await?);
    assert_eq!(devices.len(), 3, "one on each node, with a disk or without");
    write(&devices[2], "before")?;
    for device in &devices {
        assert_eq!(read(device)?, "before");
    }
    bench.snapshot("cs-1", "s1").await?;
    assert_eq!(bench.get("view/snapshots").await?[0]["nodes"].as_array().map(Vec::len), Some(2));
    write(&devices[0], "after")?;
    bench.done("POST", "resource-definitions/cs-1/snapshot-rollback/s1", json!({})).await?;
    let devices = paths(&resources(&bench, "cs-1").await?);
    assert_eq!(devices.len(), 3);
    for device in &devices {
        assert_eq!(read(device)?, "before");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_primary_is_neither_deleted_nor_rolled_back() -> anyhow::Result<()> {
    let bench = three_nodes().await?;
    bench.spawn("cs-1", 4096).await?;
    bench.snapshot("cs-1", "s1").await?;
    let used = |in_use| What::InUse { resource: "cs-1".to_owned(), node: "kvm1".to_owned(), in_use };
    bench.sim.now(&used(true));
    let rollback = "resource-definitions/cs-1/snapshot-rollback/s1";
    bench.refused("POST", rollback, json!({}), 997).await?;
    bench.refused("DELETE", "resource-definitions/cs-1/resources/kvm1", json!({}), 997).await?;
    bench.refused("DELETE", "nodes/kvm1", json!({}), 997).await?;
    bench.done("DELETE", "resource-definitions/cs-1/snapshots/s1", json!({})).await?;
    assert_eq!(bench.refused("DELETE", "resource-definitions/cs-1", json!({}), 997).await?, 500);
    assert_eq!(bench.get("resource-definitions/cs-1/resources/kvm1").await?["state"]["in_use"], true);
    bench.sim.now(&used(false));
    bench.done("DELETE", "resource-definitions/cs-1", json!({})).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_node_is_off_holds_up_a_restore_and_a_growth() -> anyhow::Result<()> {
    let bench = three_nodes().await?;
    bench.spawn("cs-1", 4096).await?;
    bench.snapshot("cs-1", "s1").await?;
    let holder = bench.get("view/snapshots").await?[0]["nodes"][1].as_str().context("a node")?.to_owned();
    let turn = |online| What::Node { name: holder.clone(), online };
    bench.sim.now(&turn(false));
    let grow = "resource-definitions/cs-1/volume-definitions/0";
    bench.refused("PUT", grow, json!({"size_kib": 8192}), 974).await?;
    bench.refused("POST", "resource-definitions/cs-1/snapshot-rollback/s1", json!({}), 995).await?;
    let partial = bench.done("POST", "resource-definitions/cs-1/snapshots", json!({"name": "s2"})).await?;
    assert_eq!(entries(&partial).context("entries")?[0], (-2, 0), "without the node that is off");
    let definition = json!({"resource_definition": {"name": "cs-2", "resource_group_name": "cloudstack"}});
    bench.done("POST", "resource-definitions", definition).await?;
    let restore = |what: &str| format!("resource-definitions/cs-1/snapshot-restore-{what}/s1");
    let to = json!({"to_resource": "cs-2"});
    bench.done("POST", &restore("volume-definition"), to.clone()).await?;
    assert_eq!(bench.refused("POST", &restore("resource"), to, 998).await?, 500);
    assert!(bench.device("cs-2").await?.is_some(), "refused, and it is there");
    bench.sim.now(&turn(true));
    bench.done("PUT", grow, json!({"size_kib": 8192})).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_comes_and_goes() -> anyhow::Result<()> {
    let bench = three_nodes().await?;
    let device = bench.spawn("cs-1", 4096).await?;
    write(&device, "kept")?;
    let diskful = resources(&bench, "cs-1").await?;
    let tie = diskful.iter().find(|one| one["flags"].is_array()).context("a tie breaker")?;
    let node = tie["node_name"].as_str().context("a node")?;
    let there = format!("resource-definitions/cs-1/resources/{node}");
    bench.done("POST", &format!("{there}/make-available"), json!({"diskful": true})).await?;
    assert_eq!(bench.get(&there).await?.get("flags"), None);
    bench.done("PUT", &format!("{there}/toggle-disk/diskless"), json!({})).await?;
    assert_eq!(bench.get(&there).await?["flags"], json!(["DISKLESS", "DRBD_DISKLESS"]));
    for resource in resources(&bench, "cs-1").await? {
        let path = resource["volumes"][0]["device_path"].as_str().context("a device")?;
        assert_eq!(read(Path::new(path))?, "kept");
    }
    Ok(())
}
