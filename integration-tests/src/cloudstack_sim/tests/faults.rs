//! Jobs, restarts, and what the switchboard lets go wrong.

use super::Rig;
use serde_json::json;
use std::time::Duration;

const NONE: [(&str, &str); 0] = [];

#[tokio::test]
async fn jobs_on_one_machine_run_one_at_a_time() {
    let rig = Rig::start_with(|options| options.job_time = Duration::from_millis(150)).await;
    let vm = rig.deploy("queue").await;
    let (mut ids, mut jobs) = (Vec::new(), Vec::new());
    for at in 0..4 {
        ids.push(rig.volume(&format!("55555555-0000-4000-8000-00000000000{at}"), 1).await);
    }
    for id in &ids {
        let job = rig.admin.ok("attachVolume", &[("id", id), ("virtualmachineid", &vm)]).await;
        jobs.push(job["jobid"].as_str().unwrap().to_owned());
    }
    let pending = rig.admin.ok("listAsyncJobs", &NONE).await;
    assert!(pending["count"].as_u64().unwrap() >= 2, "{pending}");
    for job in &jobs {
        rig.admin.wait(job).await.done();
    }
    let devices = rig.admin.ok("listVolumes", &[("virtualmachineid", &vm)]).await["volume"].clone();
    let mut devices: Vec<_> =
        devices.as_array().unwrap().iter().map(|own| own["deviceid"].as_u64().unwrap()).collect();
    devices.sort_unstable();
    assert_eq!(devices, [0, 1, 2, 4, 5]);
    assert_eq!(rig.admin.ok("listAsyncJobs", &NONE).await, json!({}));
}

#[tokio::test]
async fn what_was_pending_has_failed_after_a_restart_without_a_result() {
    let rig = Rig::start().await;
    let vm = rig.deploy("crash").await;
    rig.admin.switch("settings", json!({"job_ms": 60_000})).await;
    let job = rig.admin.ok("startVirtualMachine", &[("id", &vm)]).await["jobid"].clone();
    let rig = rig.restart().await;
    let done = rig.admin.wait(job.as_str().unwrap()).await;
    assert_eq!((done.status, done.code, done.shown.get("jobresult")), (2, 530, None));
    assert_eq!(rig.shown("vm", &vm).await["state"], "Stopped");
    rig.admin.job("startVirtualMachine", &[("id", &vm)]).await.done();
    assert_eq!(rig.sim.world().all("storagepool").len(), 5, "the world is the one of the first start");
}

#[tokio::test]
async fn done_is_told_as_failed_and_an_answer_is_lost() {
    let rig = Rig::start().await;
    let (admin, vm) = (&rig.admin, rig.deploy("faults").await);
    let rule = |what: &str| json!({"command": "startVirtual*", "what": what});
    admin.switch("faults", rule("failed-though-done")).await;
    assert_eq!(admin.job("startVirtualMachine", &[("id", &vm)]).await.refused().0, 530);
    assert_eq!(rig.shown("vm", &vm).await["state"], "Running");
    admin.switch("faults", json!({"command": "stop*", "what": "no-result"})).await;
    let stopped = admin.job("stopVirtualMachine", &[("id", &vm)]).await;
    assert_eq!((stopped.status, stopped.shown.get("jobresult")), (2, None));
    assert_eq!(rig.shown("vm", &vm).await["state"], "Stopped");
    admin.switch("faults", rule("capacity")).await;
    assert_eq!(admin.job("startVirtualMachine", &[("id", &vm)]).await.refused().0, 533);
    admin.switch("faults", json!({"command": "deploy*", "what": "drop-answer"})).await;
    let sent = admin.query("deployVirtualMachine", &rig.placeholder("lost"));
    let (_, body) = admin.raw("POST", "/client/api", Some(&sent)).await;
    assert_eq!(body, "", "the answer is lost");
    assert_eq!(admin.ok("listVirtualMachines", &[("name", "lost")]).await["count"], 1);
    admin
        .switch(
            "faults",
            json!([
                {"command": "listZones", "nth": 2, "what": "fail", "code": 530, "text": "no database"},
                {"command": "createVolume", "what": "quota"},
                {"command": "createVolume", "nth": 2, "what": "burnt"},
            ]),
        )
        .await;
    admin.ok("listZones", &NONE).await;
    assert_eq!(admin.refused("listZones", &NONE).await, (530, Some(9999), "no database".to_owned()));
    admin.ok("listZones", &NONE).await;
    let volume = [("zoneid", rig.zone()), ("diskofferingid", rig.id("diskoffering", "Small"))];
    assert_eq!(admin.refused("createVolume", &volume).await.0, 535);
    assert_eq!(admin.refused("createVolume", &volume).await.2, "Entity already exists ");
    assert_eq!(admin.see("faults").await["armed"], json!([]));
}

#[tokio::test]
async fn a_volume_is_stuck_and_a_machine_is_left_between() {
    let rig = Rig::start().await;
    let (admin, vm) = (&rig.admin, rig.deploy("between").await);
    let id = rig.volume("66666666-0000-4000-8000-000000000001", 1).await;
    let attach = [("id", id.as_str()), ("virtualmachineid", &vm)];
    admin.switch("faults", json!({"command": "attachVolume", "what": "stuck"})).await;
    for _ in 0..2 {
        assert_eq!(admin.job("attachVolume", &attach).await.refused().0, 530);
    }
    admin.job("startVirtualMachine", &[("id", &vm)]).await.done();
    admin.switch("faults", json!({"command": "stopVirtualMachine", "what": "left-between"})).await;
    let forced = [("id", vm.as_str()), ("forced", "true")];
    assert_eq!(admin.job("stopVirtualMachine", &forced).await.refused().0, 530);
    assert_eq!(rig.shown("vm", &vm).await["state"], "Stopping");
    admin.switch("faults", json!({"command": "deploy*", "what": "left-between"})).await;
    let mut params = rig.placeholder("at-once");
    params.retain(|(name, _)| name != "startvm");
    assert_eq!(admin.job("deployVirtualMachine", &params).await.refused().0, 530);
    let shown = admin.ok("listVirtualMachines", &[("name", "at-once")]).await;
    assert_eq!(shown["virtualmachine"][0]["state"], "Error");
}
