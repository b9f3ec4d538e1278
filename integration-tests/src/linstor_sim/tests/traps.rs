//! The ways to lose data, one by one.

use super::*;
use crate::linstor_sim::{Rule, Tool, What};

const ROLLBACK: &str = "resource-definitions/mk-1/snapshot-rollback/s1";

/// A volume that said `before` when `s1` was taken, and says `after` now.
async fn two_states(bench: &Bench) -> anyhow::Result<PathBuf> {
    let device = bench.spawn("mk-1", 8192).await?;
    write(&device, "before")?;
    bench.snapshot("mk-1", "s1").await?;
    write(&device, "after")?;
    Ok(device)
}

fn told(what: What, at: &str) -> Rule {
    Rule::first("POST", "/v1/*/snapshot-rollback/*", what).at(at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_not_in_place() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    let device = two_states(&bench).await?;
    bench.snapshot("mk-1", "s2").await?;
    let was = bench.resource("mk-1").await?;
    let volume = "resource-definitions/mk-1/volume-definitions/0";
    bench.done("PUT", volume, json!({"size_kib": 16384})).await?;
    assert_eq!(std::fs::metadata(&device)?.len(), 16 << 20);
    let open = File::open(&device)?;
    bench.done("POST", ROLLBACK, json!({})).await?;
    let is = bench.resource("mk-1").await?;
    assert_ne!(is["uuid"], was["uuid"]);
    let now = bench.device("mk-1").await?.context("a device")?;
    assert_ne!(now, device);
    assert_eq!(read(&now)?, "before");
    assert_eq!(std::fs::metadata(&now)?.len(), 8 << 20, "the size returns to the snapshot's");
    assert_eq!(bench.get(volume).await?["size_kib"], 8192);
    assert_eq!(read_from(&open, 5)?, "after", "who has it open has a deleted file");
    assert!(!device.exists());
    assert_eq!(bench.snapshots("mk-1").await?, ["s1", "s2"]);
    bench.done("POST", "resource-definitions/mk-1/snapshot-rollback/s2", json!({})).await?;
    assert_eq!(read(&bench.device("mk-1").await?.context("a device")?)?, "after");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_rollback_any_change_makes_it_empty() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    two_states(&bench).await?;
    bench.sim.arm([told(What::ToolFails(Tool::Restore), "before")]);
    assert_eq!(bench.refused("POST", ROLLBACK, json!({}), 998).await?, 500);
    let resource = bench.resource("mk-1").await?;
    assert_eq!(resource["flags"], json!(["RESTORE_FROM_SNAPSHOT"]));
    assert_eq!(bench.device("mk-1").await?, None);
    assert_eq!(bench.snapshots("mk-1").await?, ["s1"], "the safety snapshot is gone with all that it held");
    bench.done("PUT", "resource-definitions/mk-1", json!({"override_props": {"Aux/any": "1"}})).await?;
    let device = bench.device("mk-1").await?.context("a device")?;
    assert_eq!(read(&device)?, "", "an empty volume, and nothing said so");
    assert_eq!(bench.resource("mk-1").await?.get("flags"), None);
    bench.done("POST", ROLLBACK, json!({})).await?;
    assert_eq!(read(&bench.device("mk-1").await?.context("a device")?)?, "before");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_rollback_that_is_repeated_restores() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    two_states(&bench).await?;
    bench.sim.arm([told(What::ToolFails(Tool::Any), "before")]);
    bench.refused("POST", ROLLBACK, json!({}), 998).await?;
    bench.done("POST", ROLLBACK, json!({})).await?;
    assert_eq!(read(&bench.device("mk-1").await?.context("a device")?)?, "before");
    assert_eq!(bench.snapshots("mk-1").await?, ["s1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_deleted_during_its_rollback_takes_all_with_it() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    two_states(&bench).await?;
    bench.sim.arm([told(What::DelayMs(600), "marked")]);
    let deletion = async {
        // Into the middle of it: the resources are gone by then.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        bench.done("DELETE", "resource-definitions/mk-1/snapshots/s1", json!({})).await
    };
    let (rollback, deletion) = tokio::join!(bench.call("POST", ROLLBACK, json!({})), deletion);
    assert_eq!(rollback?.0, 500);
    deletion?;
    assert_eq!(bench.snapshots("mk-1").await?, [""; 0]);
    assert_eq!(bench.device("mk-1").await?, None, "and the volume is gone too");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_in_mid_rollback_goes_back_to_before_it() -> anyhow::Result<()> {
    for point in ["registered", "taken", "safety", "deleted", "marked", "restored"] {
        let mut bench = Bench::usual().await?;
        two_states(&bench).await?;
        bench.sim.arm([told(What::Die, point)]);
        assert_eq!(bench.try_call("POST", ROLLBACK, json!({})).await?, None, "{point}");
        bench.restart().await?;
        let device = bench.device("mk-1").await?.with_context(|| format!("a device after {point}"))?;
        assert_eq!(read(&device)?, "after", "{point}");
        assert_eq!(bench.snapshots("mk-1").await?, ["s1"], "{point}");
        bench.done("POST", ROLLBACK, json!({})).await?;
        assert_eq!(read(&bench.device("mk-1").await?.context("a device")?)?, "before", "{point}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_who_has_it_open() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    let device = bench.spawn("mk-1", 4096).await?;
    let open = write(&device, "still here")?;
    let used = What::InUse { resource: "mk-1".to_owned(), node: "oma".to_owned(), in_use: true };
    bench.sim.now(&used);
    bench.done("DELETE", "resource-definitions/mk-1", json!({})).await?;
    assert!(!device.exists());
    assert_eq!(read_from(&open, 10)?, "still here");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_its_resources_and_snapshots_with_it() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    let device = two_states(&bench).await?;
    bench.done("DELETE", "nodes/oma", json!({})).await?;
    assert!(!device.exists());
    assert_eq!(bench.get("view/resources").await?, json!([]));
    assert_eq!(bench.get("view/snapshots").await?, json!([]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_deleted_while_its_node_is_off_stays_on_the_disk() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    let device = two_states(&bench).await?;
    let files = || {
        std::fs::read_dir(device.parent().context("a folder")?)
            .map(Iterator::count)
            .map_err(anyhow::Error::from)
    };
    assert_eq!(files()?, 2);
    let turn = |online| What::Node { name: "oma".to_owned(), online };
    bench.sim.now(&turn(false));
    bench.done("DELETE", "resource-definitions/mk-1/snapshots/s1", json!({})).await?;
    assert_eq!(bench.snapshots("mk-1").await?, [""; 0]);
    bench.sim.now(&turn(true));
    assert_eq!(files()?, 2, "nobody remembers it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn make_available_speaks_of_what_has_no_device() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    bench.sim.arm([Rule::first("POST", "*/spawn", What::ToolFails(Tool::Create))]);
    let body = json!({"resource_definition_name": "mk-1", "volume_sizes": [4096]});
    bench.refused("POST", "resource-groups/cloudstack/spawn", body.clone(), 998).await?;
    bench.refused("POST", "resource-groups/cloudstack/spawn", body, 501).await?;
    let there =
        bench.done("POST", "resource-definitions/mk-1/resources/oma/make-available", json!({})).await?;
    assert_eq!(entries(&there), Some(vec![(0, 0)]));
    assert_eq!(bench.device("mk-1").await?, None);
    bench.done("PUT", "resource-definitions/mk-1", json!({"override_props": {"Aux/any": "1"}})).await?;
    assert!(bench.device("mk-1").await?.is_some(), "a change of a property makes it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_with_snapshots_stays_whatever_its_case() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    two_states(&bench).await?;
    assert_eq!(bench.refused("DELETE", "resource-definitions/MK-1", json!({}), 514).await?, 500);
    let body = json!({"resource_definition": {"name": "Mk-1"}});
    assert_eq!(bench.refused("POST", "resource-definitions", body, 501).await?, 500);
    assert_eq!(bench.get("resource-definitions/MK-1").await?["name"], "mk-1");
    bench.done("DELETE", "resource-definitions/mk-1/snapshots/S1", json!({})).await?;
    bench.done("DELETE", "resource-definitions/mk-1", json!({})).await?;
    assert_eq!(bench.refused("GET", "resource-definitions/mk-1", json!({}), 301).await?, 404);
    Ok(())
}

/// The hand-over at the end of what was found out about LINSTOR: a clone of a restore point lives on without its origin.
#[tokio::test(flavor = "multi_thread")]
async fn a_clone_of_a_snapshot_lives_on_alone() -> anyhow::Result<()> {
    let bench = Bench::usual().await?;
    two_states(&bench).await?;
    let definition = json!({"resource_definition": {"name": "cs-1", "resource_group_name": "cloudstack"}});
    bench.done("POST", "resource-definitions", definition).await?;
    for what in ["volume-definition", "resource"] {
        let path = format!("resource-definitions/mk-1/snapshot-restore-{what}/s1");
        bench.done("POST", &path, json!({"to_resource": "cs-1"})).await?;
    }
    let clone = bench.device("cs-1").await?.context("a device")?;
    assert_eq!(read(&clone)?, "before");
    bench.snapshot("cs-1", "test-1").await?;
    bench
        .done("PUT", "resource-definitions/cs-1/volume-definitions/0", json!({"size_kib": 1_056_768}))
        .await?;
    write(&clone, "converted")?;
    assert_eq!(read(&bench.device("mk-1").await?.context("a device")?)?, "after");
    bench.refused("DELETE", "resource-definitions/mk-1", json!({}), 514).await?;
    bench.done("DELETE", "resource-definitions/mk-1/snapshots/s1", json!({})).await?;
    bench.done("DELETE", "resource-definitions/mk-1", json!({})).await?;
    assert_eq!(read(&clone)?, "converted");
    let again = "resource-definitions/cs-1/snapshot-restore-resource/test-1";
    bench.refused("POST", again, json!({"to_resource": "cs-1"}), 502).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_there_after_a_restart() -> anyhow::Result<()> {
    let mut bench = Bench::usual().await?;
    let device = two_states(&bench).await?;
    bench.done("PUT", "key-value-store/mk", json!({"override_props": {"a": "1"}})).await?;
    let paths =
        ["nodes", "resource-groups", "resource-definitions?with_volume_definitions=true", "view/snapshots"];
    let mut before = Vec::new();
    for path in paths {
        before.push(bench.get(path).await?);
    }
    bench.restart().await?;
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(bench.get(path).await?, before, "{path}");
    }
    assert_eq!(bench.device("mk-1").await?, Some(device.clone()));
    assert_eq!(read(&device)?, "after");
    assert_eq!(bench.get("key-value-store/mk").await?[0]["props"]["a"], "1");
    bench.done("POST", ROLLBACK, json!({})).await?;
    assert_eq!(read(&bench.device("mk-1").await?.context("a device")?)?, "before");
    Ok(())
}
