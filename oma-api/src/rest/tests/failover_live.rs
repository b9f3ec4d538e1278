//! Live failovers by the API of the document, as `curl` sees them.

use super::failover::{is_second, keys};
use super::*;
use crate::compute::Stop;
use crate::failover::names;
use crate::failover::tests::site::Site;
use crate::store::Arm;
use crate::workflow::WorkflowId;
use shared::cycle::{Hello, PROTOCOL_VERSIONS};
use std::time::Duration;

const VM: &str = "00000000-0000-4000-8000-000000000001";

/// Without a test, for a reason; nothing converts guests here.
fn asked(more: Value) -> Value {
    let mut asked = json!({
        "vm_id": VM, "vm_name": "web-1", "skip_virtio_injection": true, "power_off": { "timeout": "1s" },
        "override_reason": "no time for a test"
    });
    for (key, value) in more.as_object().expect("fields") {
        asked[key] = value.clone();
    }
    asked
}

async fn drive(site: &Site, job: &Value) {
    site.drive(&WorkflowId::parse(job.as_str().expect("an id")).expect("an id")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_failover_is_answered_word_for_word_and_goes_back() {
    let site = Site::sqlite().await;
    let api = Api::of(&site.world.plant).await;
    let new = asked(json!({
        "skip_validation": false, "skip_snapshot": false, "commit_policy": "commit", "commit_timeout": "2h",
        "notification_config": { "email": "admin@company.com" }
    }));
    let body = new.to_string();
    let headers = ["-H", "Content-Type: application/json", "-H", "X-Correlation-Id: support-4712"];
    let (status, id, begun) = api.ask(&[&headers[..], &["-d", &body]].concat(), "failover/live").await;
    let job = begun["job_id"].as_str().expect("an id").to_owned();
    assert!(job.starts_with(&format!("enhanced-live-failover-{VM}-")), "{begun}");
    // All of the document's, and nothing else.
    let expected = json!({
        "success": true,
        "message": "Live failover initiated successfully",
        "job_id": job,
        "data": {
            "correlation_id": "support-4712", "job_type": "live", "snapshot_protection": true, "status": "executing",
            "virtio_injection": false, "vm_id": VM, "vm_name": "web-1"
        }
    });
    assert_eq!((status, id.as_str(), &begun), (202, "support-4712", &expected));
    let path = format!("failover/jobs/{job}");
    let (status, refused) = api.post(&format!("{path}/cleanup"), &json!({})).await;
    assert_eq!((status, &refused["error_code"]), (409, &json!("ACTION_IN_PROGRESS")), "{refused}");

    drive(&site, &begun["job_id"]).await;
    let moved = api.get(&path).await["data"].take();
    for (key, value) in [
        ("job_type", json!("live")),
        ("status", json!("completed")),
        ("mode", json!("planned")),
        ("standing", json!("there")),
        ("commit_policy", json!("commit")),
        ("override_reason", json!("no time for a test")),
        ("notification_config", json!({ "email": "admin@company.com" })),
        ("allowed", json!(["rollback", "commit"])),
        ("test_duration", Value::Null),
        ("rollback", Value::Null),
        ("committed_at", Value::Null),
    ] {
        assert_eq!(moved[key], value, "{key}: {moved:#}");
    }
    assert!(is_second(&moved["decided_at"]) && is_second(&moved["taken_at"]), "{moved:#}");
    assert!(moved["final_job_id"].as_str().is_some_and(|id| id.starts_with("job-")), "{moved:#}");
    let steps: Vec<_> =
        moved["steps"].as_array().expect("steps").iter().map(|s| s["step_name"].clone()).collect();
    let of_document = ["validation", "snapshot", "vm-creation", "volume-switch", "vm-startup"];
    assert_eq!(json!(steps), json!(of_document), "without the one that was left out");
    let listed = api.get("failover/jobs?type=live").await;
    assert_eq!((&listed["data"][0]["job_id"], &listed["total"]), (&json!(job), &json!(1)), "{listed}");

    let (status, back) = api.post(&format!("{path}/rollback"), &json!({})).await;
    assert_eq!(
        (status, &back["message"], &back["job_id"]),
        (202, &json!("Rollback initiated successfully"), &json!(job)),
        "{back}"
    );
    let rollback = &back["data"]["rollback"];
    let mut fields =
        ["job_id", "status", "engine_state", "error_code", "error_message", "completed_at", "steps"];
    fields.sort_unstable();
    assert_eq!(keys(rollback), fields);
    drive(&site, &rollback["job_id"]).await;
    let (status, again) = api.post(&format!("{path}/rollback"), &json!({})).await;
    assert_eq!((status, &again["message"]), (202, &json!("This failover was rolled back")), "{again}");
    let kept = &again["data"];
    assert_eq!((&kept["standing"], &kept["rollback"]["status"]), (&json!("kept"), &json!("completed")));
    assert!(is_second(&kept["expires_at"]) && kept["machine"].is_null(), "{kept:#}");
    let (status, refused) = api.post(&format!("{path}/commit"), &json!({})).await;
    assert_eq!((status, &refused["error_code"]), (409, &json!("NOT_SWITCHED")), "{refused}");
    let (status, cleaned) = api.post(&format!("{path}/cleanup"), &json!({})).await;
    assert_eq!(status, 202, "what was kept goes: {cleaned}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_failover_is_committed_if_its_machine_is_there() {
    let site = Site::sqlite().await;
    let api = Api::of(&site.world.plant).await;
    let (_, begun) = api.post("failover/live", &asked(json!({}))).await;
    drive(&site, &begun["job_id"]).await;
    let path = format!("failover/jobs/{}", begun["job_id"].as_str().expect("an id"));
    let (commit, nothing) = (format!("{path}/commit"), json!({}));
    // Its agent is asked how the source's power is.
    let (status, committed) = tokio::select! {
        answer = api.post(&commit, &nothing) => answer,
        () = Box::pin(site.agent()) => panic!("it goes on for ever"),
    };
    assert_eq!((status, &committed["message"]), (202, &json!("Live failover committed")), "{committed}");
    let data = &committed["data"];
    assert!(is_second(&data["committed_at"]) && data["standing"] == "handed_over", "{committed}");
    let (status, again) = api.post(&format!("{path}/commit"), &json!({})).await;
    assert_eq!((status, &again["data"]["committed_at"]), (202, &data["committed_at"]), "as it is");
    let (status, refused) = api.post(&format!("{path}/rollback"), &json!({})).await;
    assert_eq!((status, &refused["success"]), (409, &json!(false)), "{refused}");

    let site = Site::sqlite().await;
    let api = Api::of(&site.world.plant).await;
    let (_, begun) = api.post("failover/live", &asked(json!({}))).await;
    drive(&site, &begun["job_id"]).await;
    let path = format!("failover/jobs/{}", begun["job_id"].as_str().expect("an id"));
    let machine = api.get(&path).await["data"]["machine"].as_str().expect("there").to_owned();
    let compute = site.world.plant.app.compute.clone().expect("there");
    let name = names::machine_name(&machine);
    compute.stop(&name, Stop::Now).await.expect("by hand");
    compute.remove(&name).await.expect("by hand");
    let (status, refused) = api.post(&format!("{path}/commit"), &json!({})).await;
    assert_eq!((status, &refused["error_code"]), (409, &json!("NOTHING_TO_COMMIT")), "{refused}");
    assert!(refused["error"].as_str().expect("text").contains(&machine), "{refused}");
    assert_eq!(refused["details"]["job_id"], begun["job_id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_policy_or_a_schema_forbids_has_its_code() {
    let mut site = Site::sqlite().await;
    let api = Api::of(&site.world.plant).await;
    let refused = async |api: &Api, new: &Value, status: u16, code: &str| {
        let (got, body) = api.post("failover/live", new).await;
        assert_eq!((got, &body["error_code"]), (status, &json!(code)), "{new}: {body}");
        assert_eq!(
            (&body["details"]["error_code"], &body["details"]["step"]),
            (&json!(code), &json!("validation"))
        );
        assert!(body["troubleshooting"]["documentation"] == "/docs/failover/troubleshooting.md", "{body}");
        let helps = body["troubleshooting"]["suggestions"].as_array().is_some_and(|all| !all.is_empty());
        assert!(helps || status == 400, "{body}");
    };
    let unplanned = |more: Value| {
        let mut new = asked(more);
        new["unplanned"] = json!(true);
        new.as_object_mut().expect("fields").remove("power_off");
        new
    };
    let mut plain = asked(json!({}));
    plain.as_object_mut().expect("fields").remove("override_reason");
    refused(&api, &plain, 409, "CHAIN_POLICY").await;
    refused(&api, &unplanned(json!({})), 409, "DATA_LOSS_NOT_ACCEPTED").await;
    refused(&api, &asked(json!({ "vm_id": "420570c7-f61f-a930-77c5-1e876786cb3c" })), 404, "VM_NOT_FOUND")
        .await;
    for wrong in [
        asked(json!({ "override_reason": " " })),
        asked(json!({ "power_off": { "timeout": "soon" } })),
        asked(json!({ "commit_policy": "commit", "commit_timeout": "745h" })),
        asked(json!({ "commit_timeout": "1h" })),
        asked(json!({ "accept_loss": "15m" })),
        asked(json!({ "restore_point": "rp" })),
        unplanned(json!({ "accept_loss": "much" })),
        asked(json!({ "wait_for_ready": { "console": "" } })),
    ] {
        refused(&api, &wrong, 400, "INVALID_REQUEST").await;
    }
    // Another server has counted none.
    let api = Api::of(&site.world.plant).await;
    for wrong in [
        asked(json!({ "commit_policy": "perhaps" })),
        asked(json!({ "test_duration": "1h" })),
        asked(json!({ "power_off": { "cut": true } })),
    ] {
        let (status, body) = api.post("failover/live", &wrong).await;
        assert_eq!((status, &body["error_code"]), (400, &json!("INVALID_REQUEST")), "{wrong}: {body}");
    }
    let old = Timestamp::now() - Duration::from_secs(31 * 24 * 3600);
    site.world.plant.compared(Arm::Source, old).await;
    refused(&api, &asked(json!({})), 409, "VERIFICATION_DUE").await;
    site.world.plant.compared(Arm::Source, Timestamp::now()).await;
    let test = site.world.begin().await;
    refused(&api, &asked(json!({})), 409, "ACTION_IN_PROGRESS").await;
    for (path, status, code) in [
        (format!("failover/jobs/{test}/rollback"), 400, "INVALID_REQUEST"),
        (format!("failover/jobs/{test}/commit"), 400, "INVALID_REQUEST"),
        ("failover/jobs/none/rollback".to_owned(), 404, "JOB_NOT_FOUND"),
        ("failover/jobs/none/commit".to_owned(), 404, "JOB_NOT_FOUND"),
    ] {
        let (got, body) = api.post(&path, &json!({})).await;
        assert_eq!((got, &body["error_code"]), (status, &json!(code)), "{path}: {body}");
    }
    site.world.drive(&test).await;
    let cleanup = site.world.clean(&test).await;
    site.world.drive(&cleanup).await;
    let without = Api::of_app(App { compute: None, ..site.world.plant.app.clone() }).await;
    refused(&without, &asked(json!({})), 409, "NO_COMPUTE").await;

    let vm = site.world.plant.app.vm_find("web-1").await.expect("offered").remove(0).vm;
    site.world.plant.disconnect();
    refused(&api, &asked(json!({})), 503, "AGENT_NOT_CONNECTED").await;
    let agent = site.world.plant.agent.clone();
    let hello = Hello {
        agent: agent.clone(),
        software_version: "old".to_owned(),
        protocol_versions: PROTOCOL_VERSIONS.to_vec(),
        capabilities: vec![],
        inventory: vec![vm],
    };
    let address = ([127, 0, 0, 1], 1).into();
    let _old = site.world.plant.app.agent_connect(&agent, address, hello).await.expect("connected");
    refused(&api, &asked(json!({})), 409, "AGENT_TOO_OLD").await;
}
