//! The switchboard, and pools that are full.

use super::*;
use crate::linstor_sim::{Rule, Tool, What};
use std::time::{Duration, Instant};

const SPAWN: &str = "resource-groups/cloudstack/spawn";

async fn switch(bench: &Bench, method: &str, path: &str, body: Value) -> anyhow::Result<(u16, Value)> {
    let answer = ask(bench.sim.address(), method, path, &body.to_string(), &[]).await?;
    answer.context("no answer of the switchboard")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_can_get_lost_after_it_was_done() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    let rule = json!({"method": "POST", "path": "/v1/*/spawn", "what": "drop_answer"});
    assert_eq!(switch(&bench, "POST", "/sim/rules", rule).await?.0, 200);
    let body = json!({"resource_definition_name": "mk-1", "volume_sizes": [4096]});
    assert_eq!(bench.try_call("POST", SPAWN, body.clone()).await?, None);
    assert!(bench.device("mk-1").await?.is_some(), "it was done");
    assert_eq!(bench.refused("POST", SPAWN, body, 501).await?, 500);
    let (_, calls) = switch(&bench, "GET", "/sim/calls", json!({})).await?;
    assert_eq!(calls[0]["path"], "/v1/resource-groups/cloudstack/spawn");
    assert_eq!(calls[0]["status"], Value::Null);
    switch(&bench, "POST", "/sim/reset-calls", json!({})).await?;
    assert!(bench.sim.calls().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_refuses_the_second_call_and_delays_the_third() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    let rules = json!([
        {"path": "/v1/nodes", "nth": 2, "what": {"fail": {"code": 996}}},
        {"path": "/v1/nodes", "nth": 3, "what": {"delay_ms": 300}},
    ]);
    switch(&bench, "POST", "/sim/rules", rules).await?;
    bench.get("nodes").await?;
    assert_eq!(bench.refused("GET", "nodes", json!({}), 996).await?, 500);
    let began = Instant::now();
    bench.get("nodes").await?;
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(switch(&bench, "GET", "/sim/rules", json!({})).await?.1, json!([]));
    assert_eq!(switch(&bench, "POST", "/sim/rules", json!({"whatever": 1})).await?.0, 400);
    let nowhere = json!({"at": "somewhere", "what": "die"});
    assert_eq!(switch(&bench, "POST", "/sim/rules", nowhere).await?.0, 400, "it would never fire");
    assert_eq!(switch(&bench, "POST", "/sim/nosuch", json!({})).await?.0, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_snapshot_keeps_its_name() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    bench.spawn("mk-1", 4096).await?;
    bench.sim.arm([Rule::first("POST", "*/snapshots", What::ToolFails(Tool::Snapshot))]);
    let snapshots = "resource-definitions/mk-1/snapshots";
    bench.refused("POST", snapshots, json!({"name": "s1"}), 998).await?;
    assert_eq!(bench.get(snapshots).await?[0]["flags"], json!(["FAILED_DEPLOYMENT"]));
    bench.refused("POST", snapshots, json!({"name": "s1"}), 514).await?;
    bench.refused("POST", "resource-definitions/mk-1/snapshot-rollback/s1", json!({}), 998).await?;
    bench.done("DELETE", &format!("{snapshots}/s1"), json!({})).await?;
    bench.snapshot("mk-1", "s1").await?;
    assert_eq!(bench.get(snapshots).await?[0]["flags"], json!(["SUCCESSFUL"]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_fills_up() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    let pool =
        |name: &str, capacity_kib| What::Pool { node: "oma".to_owned(), pool: name.to_owned(), capacity_kib };
    bench.sim.now(&pool("thick", 10_240));
    bench.sim.now(&pool("thin", 10_240));
    let group = json!({"name": "thick", "select_filter": {"place_count": 1, "storage_pool_list": ["thick"],
        "layer_stack": ["STORAGE"]}});
    bench.done("POST", "resource-groups", group).await?;
    let of =
        |name: &str, size_kib: u64| json!({"resource_definition_name": name, "volume_sizes": [size_kib]});
    bench.done("POST", "resource-groups/thick/spawn", of("mk-thick", 8192)).await?;
    let free = bench.get("view/storage-pools?storage_pools=thick").await?[0]["free_capacity"].as_u64();
    assert!(free.is_some_and(|free| (1900..=2048).contains(&free)), "{free:?} KiB are free");
    bench.refused("POST", "resource-groups/thick/spawn", of("mk-more", 8192), 996).await?;
    assert_eq!(bench.refused("GET", "resource-definitions/mk-more", json!({}), 301).await?, 404);
    let grow = "resource-definitions/mk-thick/volume-definitions/0";
    bench.refused("PUT", grow, json!({"size_kib": 65_536}), 980).await?;
    // Twenty times what there is may be promised of a thin one; what is written counts.
    let device = bench.spawn("mk-thin", 102_400).await?;
    std::fs::write(&device, vec![7; 6 << 20])?;
    bench.refused("POST", "resource-definitions/mk-thin/snapshots", json!({"name": "s1"}), 998).await?;
    bench.refused("POST", SPAWN, of("mk-huge", 1 << 30), 996).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_off_catches_up() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    let device = bench.spawn("mk-1", 4096).await?;
    let turn = |online| json!({"node": {"name": "oma", "online": online}});
    switch(&bench, "POST", "/sim/now", turn(false)).await?;
    assert_eq!(bench.get("nodes").await?[0]["connection_status"], "OFFLINE");
    bench.refused("POST", "resource-definitions/mk-1/snapshots", json!({"name": "s1"}), 995).await?;
    let warned = bench.done("DELETE", "resource-definitions/mk-1", json!({})).await?;
    assert_eq!(entries(&warned), Some(vec![(0, 2), (-2, 1002)]));
    assert_eq!(bench.get("resource-definitions/mk-1").await?["flags"], json!(["DELETE"]));
    assert!(device.exists());
    switch(&bench, "POST", "/sim/now", turn(true)).await?;
    assert!(!device.exists());
    assert_eq!(bench.refused("GET", "resource-definitions/mk-1", json!({}), 301).await?, 404);
    Ok(())
}

/// The controller dies in a spawn: what was written down is made when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_spawn_cut_short_is_finished() -> anyhow::Result<()> {
    let mut bench = Bench::usual().await?;
    bench.sim.arm([Rule::first("POST", "*/spawn", What::Die).at("registered")]);
    let body = json!({"resource_definition_name": "mk-1", "volume_sizes": [4096]});
    assert_eq!(bench.try_call("POST", SPAWN, body.clone()).await?, None);
    assert_eq!(bench.try_call("GET", "nodes", json!({})).await?, None, "it is dead");
    bench.restart().await?;
    assert!(bench.device("mk-1").await?.is_some());
    bench.refused("POST", SPAWN, body, 501).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn satellites_are_found_late() -> anyhow::Result<()> {
    let bench = Bench::start(|options| Options { reconnect: Duration::from_millis(600), ..options }).await?;
    assert_eq!(bench.get("nodes").await?[0]["connection_status"], "OFFLINE");
    let online = crate::harness::eventually("the node is found", Duration::from_secs(10), || async {
        let nodes = bench.get("nodes").await?;
        Ok((nodes[0]["connection_status"] == "ONLINE").then_some(()))
    });
    online.await?;
    bench.spawn("mk-1", 4096).await?;
    Ok(())
}
