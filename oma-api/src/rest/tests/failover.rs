//! The failover API of its document, as `curl` sees it.

use super::*;
use crate::testing::Fault;
use std::time::{Duration, Instant};

const VM: &str = "00000000-0000-4000-8000-000000000001";

impl Api {
    pub(super) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let arguments = ["-X", "POST", "-H", "Content-Type: application/json", "-d", &body];
        let (status, _, body) = self.ask(&arguments, path).await;
        (status, body)
    }

    /// Until it is as wanted.
    async fn until(&self, job: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let found = self.get(&format!("failover/jobs/{job}")).await["data"].take();
            if wanted(&found) {
                return found;
            }
            assert!(Instant::now() < deadline, "not {what}: {found:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What every test asks for; nothing converts guests at the plant.
fn asked() -> Value {
    json!({
        "vm_id": VM, "vm_name": "web-1", "custom_config": { "memory_mb": 512 }, "skip_virtio_injection": true
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut asked = asked();
    asked[key] = value;
    asked
}

pub(super) fn is_second(at: &Value) -> bool {
    let text = at.as_str().unwrap_or_default();
    text.len() == "2025-09-03T07:59:25Z".len() && text.ends_with('Z') && text.parse::<Timestamp>().is_ok()
}

pub(super) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_is_answered_word_for_word() {
    let (plant, _driven) = Plant::driven().await;
    let api = Api::of(&plant).await;
    let mut new = with("vm_id", json!(VM.to_uppercase()));
    new["test_duration"] = json!("30m");
    new["skip_virtio_injection"] = json!(false);
    let body = new.to_string();
    let headers = ["-H", "Content-Type: application/json", "-H", "X-Correlation-Id: support-4711"];
    let (status, id, begun) = api.ask(&[&headers[..], &["-d", &body]].concat(), "failover/test").await;
    let job = begun["job_id"].as_str().expect("an id").to_owned();
    assert!(job.starts_with(&format!("enhanced-test-failover-{VM}-")), "{begun}");
    // All of the document's, and nothing else.
    let expected = json!({
        "success": true,
        "message": "Test failover initiated successfully with snapshot protection and VirtIO injection",
        "job_id": job,
        "estimated_duration": "30m",
        "data": {
            "auto_cleanup": false, "correlation_id": "support-4711", "job_type": "test",
            "snapshot_protection": true, "status": "executing", "test_duration": "30m",
            "virtio_injection": true, "vm_id": VM, "vm_name": "web-1"
        }
    });
    assert_eq!((status, id.as_str(), &begun), (202, "support-4711", &expected));
    let shown = api.get(&format!("failover/jobs/{job}")).await;
    assert_eq!(shown["data"]["correlation_id"], "support-4711", "{shown}");
    let steps = shown["data"]["steps"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["step_name"] == "virtio-injection"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_is_shown_and_cleaned_up_in_the_documents_fields() {
    let (plant, _driven) = Plant::driven().await;
    let api = Api::of(&plant).await;
    let mut new = with("test_duration", json!("30m"));
    new["wait_for_ready"] = json!({ "console": "the guest boots", "timeout": "20s", "required": true });
    let (status, begun) = api.post("failover/test", &new).await;
    assert_eq!(status, 202, "{begun}");
    let job = begun["job_id"].as_str().expect("an id").to_owned();
    let done = api.until(&job, "completed", |job| job["status"] == "completed").await;
    let seed = json!({
        "job_id": job, "vm_id": VM, "vm_name": "web-1", "job_type": "test", "status": "completed",
        "linstor_snapshot_name": done["machine"], "network_mappings": "{\"LAN\":\"isolated\"}", "engine_state": "succeeded",
        "allowed": [], "is_there": true, "error_code": null, "cleanup": null, "correlation_id": begun["data"]["correlation_id"],
        "requested_by": "loopback", "auto_cleanup": false, "test_duration": "30m", "expires_at": null,
        "custom_config": { "memory_mb": 512 }, "warnings": [], "waits_for": "\"the guest boots\" on its console"
    });
    for (key, value) in seed.as_object().expect("fields") {
        assert_eq!(&done[key], value, "{key}: {done:#}");
    }
    for key in ["created_at", "started_at", "completed_at", "taken_at"] {
        assert!(is_second(&done[key]), "{key}: {done:#}");
    }
    let spec: Value =
        serde_json::from_str(done["source_vm_spec"].as_str().expect("text")).expect("JSON in a text");
    assert_eq!(
        (&spec["cpu_count"], &spec["memory_mb"], &spec["vm_id"]),
        (&json!(2), &json!(512), &json!(VM))
    );
    assert!(done["rto_seconds"].as_f64().is_some_and(|s| s > 0.0) && done["restore_point"].is_string());
    assert_eq!(done["destination_vm_id"].as_str().map(str::len), Some(36), "{done:#}");
    let steps: Vec<_> =
        done["steps"].as_array().expect("steps").iter().map(|s| s["step_name"].clone()).collect();
    let of_document = ["validation", "snapshot", "test-vm-creation", "volume-attachment", "test-vm-startup"];
    assert_eq!(json!(steps), json!(of_document), "without the one that was left out");
    for step in done["steps"].as_array().expect("steps") {
        assert!(step["status"] == "completed" && is_second(&step["started_at"]), "{step:#}");
        assert!(is_second(&step["completed_at"]), "{step:#}");
    }
    let snapshot = &done["steps"][1]["parts"];
    assert_eq!(
        (&snapshot[0]["name"], &snapshot[0]["state"]),
        (&json!("clone-0"), &json!("done")),
        "{snapshot}"
    );

    let listed = api.get(&format!("failover/jobs?vm_id={VM}&status=completed&type=test")).await;
    assert_eq!(keys(&listed), ["data", "success", "total"], "{listed}");
    let mut fields = [
        "job_id",
        "vm_id",
        "vm_name",
        "job_type",
        "status",
        "linstor_snapshot_name",
        "destination_vm_id",
        "created_at",
        "completed_at",
    ];
    fields.sort_unstable();
    assert_eq!((keys(&listed["data"][0]), &listed["total"]), (fields.to_vec(), &json!(1)), "{listed}");
    for key in fields {
        assert_eq!(listed["data"][0][key], done[key], "{key}");
    }
    assert_eq!(api.get("failover/jobs?status=failed").await["total"], 0);

    let (status, cleaned) = api.post(&format!("failover/jobs/{job}/cleanup"), &json!({})).await;
    assert_eq!(
        (status, &cleaned["success"], &cleaned["job_id"]),
        (202, &json!(true), &json!(job)),
        "{cleaned}"
    );
    let (again, _) = api.post(&format!("failover/jobs/{job}/cleanup"), &json!({})).await;
    assert_eq!(again, 202, "the same clean-up");
    let gone = api.until(&job, "gone", |job| job["is_there"] == false).await;
    assert_eq!(
        (&gone["cleanup"]["status"], &gone["machine"]),
        (&json!("completed"), &Value::Null),
        "{gone:#}"
    );
    assert_eq!(gone["destination_vm_id"], done["destination_vm_id"], "it stays what it was");
    let (_, nothing) = api.post(&format!("failover/jobs/{job}/cleanup"), &json!({})).await;
    assert_eq!(nothing["message"], "Nothing of this failover is there any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_is_not_promised() {
    let (plant, _driven) = Plant::driven().await;
    let api = Api::of(&plant).await;
    for (snapshot, virtio, says) in [
        (true, false, "with VirtIO injection, without snapshot protection"),
        (false, true, "with snapshot protection, without VirtIO injection"),
        (true, true, "without snapshot protection and VirtIO injection"),
    ] {
        let mut new = with("skip_snapshot", json!(snapshot));
        new["skip_virtio_injection"] = json!(virtio);
        let (status, begun) = api.post("failover/test", &new).await;
        assert_eq!(status, 202, "{begun}");
        assert_eq!(begun["message"], json!(format!("Test failover initiated successfully {says}")));
        assert_eq!(begun["data"]["snapshot_protection"], json!(!snapshot));
        assert_eq!(begun["data"]["virtio_injection"], json!(!virtio));
        assert_eq!(begun["estimated_duration"], "24h", "what is usual");
        let job = begun["job_id"].as_str().expect("an id").to_owned();
        let ended = api.until(&job, "ended", |job| job["completed_at"].is_string()).await;
        assert_eq!(ended["status"], if virtio { "completed" } else { "failed" }, "{ended:#}");
        assert_eq!(ended["linstor_snapshot_name"].is_null(), snapshot || !virtio, "{ended:#}");
    }
    let page = api.get("failover/jobs?limit=2").await;
    assert_eq!((page["data"].as_array().map(Vec::len), &page["total"]), (Some(2), &json!(3)));
    let next = page["next_before"].as_str().expect("one more");
    let last = api.get(&format!("failover/jobs?limit=2&before={next}")).await;
    assert_eq!((last["data"].as_array().map(Vec::len), last.get("next_before")), (Some(1), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_the_documents_shape() {
    let (plant, _driven) = Plant::driven().await;
    let api = Api::of(&plant).await;
    let unknown = "420570c7-f61f-a930-77c5-1e876786cb3c";
    let job = format!("enhanced-test-failover-{unknown}-1756882765");
    let is_refused = |path: &str, got: u16, body: &Value, status: u16, code: &str| {
        assert_eq!((got, &body["error_code"]), (status, &json!(code)), "{path}: {body}");
        assert_eq!(
            (&body["success"], &body["details"]["error_code"]),
            (&json!(false), &json!(code)),
            "{body}"
        );
        assert!(body["error"].is_string() && body["details"]["correlation_id"].is_string(), "{body}");
        let help = &body["troubleshooting"];
        assert!(help["documentation"] == "/docs/failover/troubleshooting.md", "{body}");
        assert!(help["suggestions"].is_array(), "{body}");
    };
    for (new, status, code) in [
        (json!({ "vm_id": unknown, "vm_name": "pgtest1" }), 404, "VM_NOT_FOUND"),
        (json!({ "vm_id": "web-1", "vm_name": "web-1" }), 404, "VM_NOT_FOUND"),
        (with("vm_name", json!("web-2")), 400, "INVALID_REQUEST"),
        (json!({ "vm_id": VM }), 400, "INVALID_REQUEST"),
        (with("vm_name", json!(7)), 400, "INVALID_REQUEST"),
        (with("skip_everything", json!(true)), 400, "INVALID_REQUEST"),
        (with("notification_config", json!({})), 400, "INVALID_REQUEST"),
        (with("test_duration", json!("soon")), 400, "INVALID_REQUEST"),
        (with("custom_config", json!([])), 400, "INVALID_REQUEST"),
        (with("wait_for_ready", json!({ "console": "" })), 400, "INVALID_REQUEST"),
        (with("wait_for_ready", json!({})), 400, "INVALID_REQUEST"),
        (with("wait_for_ready", json!({ "console": "x", "tcp_port": 22 })), 400, "INVALID_REQUEST"),
        (with("wait_for_ready", json!({ "tcp_port": 0 })), 400, "INVALID_REQUEST"),
        (with("wait_for_ready", json!({ "http": { "path": "health" } })), 400, "INVALID_REQUEST"),
        (with("wait_for_ready", json!({ "console": "x", "timeout": "now" })), 400, "INVALID_REQUEST"),
        (with("restore_point", json!("rp-none")), 404, "RESTORE_POINT_NOT_FOUND"),
        (with("custom_config", json!({ "memory_mb": "much" })), 400, "INVALID_REQUEST"),
        (json!([]), 400, "INVALID_REQUEST"),
    ] {
        let (got, body) = api.post("failover/test", &new).await;
        is_refused(&new.to_string(), got, &body, status, code);
        if code == "VM_NOT_FOUND" {
            assert_eq!(body["error"], "Validation failed: VM not found or not replicated");
            assert_eq!(
                (&body["details"]["vm_id"], &body["details"]["step"]),
                (&new["vm_id"], &json!("validation"))
            );
            assert_eq!(body["troubleshooting"]["suggestions"][0], "Verify VM is replicated");
        }
    }
    for (arguments, path, status, code) in [
        (&[][..], format!("failover/jobs/{job}"), 404, "JOB_NOT_FOUND"),
        (&[], "failover/jobs/A%20B".to_owned(), 404, "JOB_NOT_FOUND"),
        (&[], "failover/jobs?before=zzz".to_owned(), 404, "JOB_NOT_FOUND"),
        (&[], format!("failover/jobs/{job}/console"), 404, "JOB_NOT_FOUND"),
        (&[], format!("failover/jobs/{job}/console?offset=-1"), 400, "INVALID_REQUEST"),
        (&["-X", "POST"], format!("failover/jobs/{job}/cleanup"), 404, "JOB_NOT_FOUND"),
        (&[], "failover/jobs?status=done".to_owned(), 400, "INVALID_REQUEST"),
        (&[], "failover/jobs?type=dry".to_owned(), 400, "INVALID_REQUEST"),
        (&[], "failover/jobs?limit=0".to_owned(), 400, "INVALID_REQUEST"),
        (&[], "failover/jobs?vm=web-1".to_owned(), 400, "INVALID_REQUEST"),
    ] {
        let (got, _, body) = api.ask(arguments, &path).await;
        is_refused(&path, got, &body, status, code);
    }
    // An address may ask twenty times at once; another server has counted none.
    let api = Api::of(&plant).await;
    for what in ["cleanup", "rollback", "commit"] {
        let path = format!("failover/jobs/{job}/{what}");
        let (got, body) = api.post(&path, &json!({"force": true})).await;
        is_refused(&path, got, &body, 400, "INVALID_REQUEST");
        assert!(body["error"].as_str().is_some_and(|e| e.contains("force")), "{body}");
    }
    let api = Api::of(&plant).await;
    for action in [json!({ "action": "explode" }), json!({}), json!({ "action": "cancel", "why": "x" })] {
        let path = format!("failover/jobs/{job}/actions");
        let (got, body) = api.post(&path, &action).await;
        is_refused(&path, got, &body, 400, "INVALID_REQUEST");
    }

    // What a backend did is not ours.
    let (_, begun) = api.post("failover/test", &asked()).await;
    let job = begun["job_id"].as_str().expect("an id").to_owned();
    api.until(&job, "completed", |job| job["status"] == "completed").await;
    plant.machines.fault(Some(Fault::Consoles));
    let path = format!("failover/jobs/{job}/console");
    let (got, _, body) = api.ask(&[], &path).await;
    is_refused(&path, got, &body, 502, "COMPUTE_FAILED");
    assert_eq!(body["details"]["job_id"], json!(job));
    // And what has ended takes no action.
    let path = format!("failover/jobs/{job}/actions");
    let (got, body) = api.post(&path, &json!({ "action": "cancel", "reason": "the wrong VM" })).await;
    is_refused(&path, got, &body, 409, "JOB_ENDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_machines_or_restore_points_there_are_no_failovers() {
    let plant = Plant::begun().await;
    let api = Api::of(&plant).await;
    let (status, body) = api.post("failover/test", &asked()).await;
    assert_eq!((status, &body["error_code"]), (409, &json!("NOTHING_COMMITTED")), "{body}");
    let api = Api::of_app(App { compute: None, ..plant.app.clone() }).await;
    let (status, body) = api.post("failover/test", &asked()).await;
    assert_eq!((status, &body["error_code"]), (409, &json!("NO_COMPUTE")), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_taken_back_and_says_why() {
    let (plant, _driven) = Plant::driven().await;
    let api = Api::of(&plant).await;
    plant.machines.fault(Some(Fault::Starts));
    let (_, begun) = api.post("failover/test", &asked()).await;
    let job = begun["job_id"].as_str().expect("an id").to_owned();
    let failed = api.until(&job, "taken back", |job| job["engine_state"] == "rolled_back").await;
    assert_eq!((&failed["status"], &failed["error_code"]), (&json!("failed"), &json!("VM_START_FAILED")));
    assert!(failed["error_message"].as_str().is_some_and(|m| m.contains("as the test says")), "{failed:#}");
    let help = &failed["troubleshooting"];
    assert_eq!(help["documentation"], "/docs/failover/troubleshooting.md");
    assert!(help["suggestions"].as_array().is_some_and(|all| !all.is_empty()));
    assert_eq!((&failed["is_there"], &failed["machine"]), (&json!(false), &Value::Null), "{failed:#}");
    let startup = failed["steps"].as_array().expect("steps").last().expect("one");
    assert_eq!((&startup["status"], &startup["error_code"]), (&json!("failed"), &json!("VM_START_FAILED")));

    // A test that waits is cancelled, by whoever says why.
    plant.machines.fault(None);
    let wait = json!({ "console": "login:", "timeout": "10m", "required": true });
    let (_, begun) = api.post("failover/test", &with("wait_for_ready", wait)).await;
    let job = begun["job_id"].as_str().expect("an id").to_owned();
    let waits = |job: &Value| {
        let parts =
            job["steps"].as_array().into_iter().flatten().flat_map(|s| s["parts"].as_array()).flatten();
        parts.clone().any(|part| part["name"] == "ready" && part["state"] == "started")
    };
    let waiting = api.until(&job, "waiting", waits).await;
    assert!(waiting["allowed"].as_array().expect("words").contains(&json!("cancel")), "{waiting:#}");
    let path = format!("failover/jobs/{job}");
    let (status, body) = api.post(&format!("{path}/cleanup"), &json!({})).await;
    assert_eq!((status, &body["error_code"]), (409, &json!("ACTION_IN_PROGRESS")), "{body}");
    let (status, taken) =
        api.post(&format!("{path}/actions"), &json!({ "action": "cancel", "reason": "the wrong VM" })).await;
    assert_eq!((status, &taken["message"]), (202, &json!("Action cancel taken")), "{taken}");
    let gone = api.until(&job, "taken back", |job| job["engine_state"] == "rolled_back").await;
    assert_eq!(gone["error_code"], "CANCELLED", "{gone:#}");
}

/// A clean-up that cannot go on takes the questions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_up_that_fails_waits_and_is_tried_again() {
    let (plant, _driven) = Plant::driven().await;
    let api = Api::of(&plant).await;
    let (_, begun) = api.post("failover/test", &asked()).await;
    let job = begun["job_id"].as_str().expect("an id").to_owned();
    api.until(&job, "completed", |job| job["status"] == "completed").await;
    plant.machines.fault(Some(Fault::Removals));
    api.post(&format!("failover/jobs/{job}/cleanup"), &json!({})).await;
    let stuck = api.until(&job, "stuck", |job| job["cleanup"]["engine_state"] == "needs_attention").await;
    assert_eq!(stuck["cleanup"]["error_code"], "CLEANUP_FAILED", "{stuck:#}");
    assert!(stuck["allowed"].as_array().expect("words").contains(&json!("retry")), "{stuck:#}");
    let path = format!("failover/jobs/{job}/actions");
    let (status, body) = api.post(&path, &json!({ "action": "skip", "reason": "" })).await;
    assert_eq!((status, &body["error_code"]), (409, &json!("REASON_NEEDED")), "{body}");
    let (status, body) = api.post(&path, &json!({ "action": "skip", "reason": "gone by hand" })).await;
    assert_eq!((status, &body["error_code"]), (409, &json!("STEP_REQUIRED")), "{body}");
    plant.machines.fault(None);
    let (status, body) = api.post(&path, &json!({ "action": "retry" })).await;
    assert_eq!(status, 202, "{body}");
    api.until(&job, "gone", |job| job["is_there"] == false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_is_read_byte_by_byte() {
    let (plant, _driven) = Plant::driven().await;
    let api = Api::of(&plant).await;
    let (_, begun) = api.post("failover/test", &asked()).await;
    let job = begun["job_id"].as_str().expect("an id").to_owned();
    api.until(&job, "completed", |job| job["status"] == "completed").await;
    // No text: what a guest writes is not.
    plant.machines.say(&[0xff, 0x00, 0x1b]);
    plant.machines.say(&vec![b'x'; 300 << 10]);
    let end = 17 + 3 + (300 << 10);
    let read = async |offset: usize| {
        let url = format!("http://{}/api/v1/failover/jobs/{job}/console?offset={offset}", api.address);
        let written = "\n%header{x-console-offset} %header{x-console-end} %header{content-type}";
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "10", "-w", written, &url]);
        let output =
            tokio::task::spawn_blocking(move || curl.output()).await.expect("run").expect("curl").stdout;
        let at = output.iter().rposition(|byte| *byte == b'\n').expect("a line");
        (output[..at].to_vec(), String::from_utf8(output[at + 1..].to_vec()).expect("text"))
    };
    let (data, says) = read(0).await;
    assert_eq!((data.len(), &data[..20]), (256 << 10, &b"the guest boots\r\n\xff\x00\x1b"[..]));
    assert_eq!(says, format!("0 {end} application/octet-stream"));
    let (data, says) = read(256 << 10).await;
    assert_eq!(
        (data.len(), says),
        (end - (256 << 10), format!("{} {end} application/octet-stream", 256 << 10))
    );
    let (data, says) = read(end + 5).await;
    assert_eq!((data.len(), says), (0, format!("{end} {end} application/octet-stream")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let plant = Plant::new().await;
    let api = Api::of(&plant).await;
    for _ in 0..20 {
        let (status, _, _) = api.ask(&["-X", "POST"], "failover/jobs/none/cleanup").await;
        assert_eq!(status, 404);
    }
    // Each of the twenty took time, in which one more may have become free.
    let mut last = (0, Value::Null);
    for _ in 0..10 {
        let (status, _, body) = api.ask(&["-X", "POST"], "failover/jobs/none/cleanup").await;
        last = (status, body);
        if status == 429 {
            break;
        }
    }
    let (status, body) = last;
    assert_eq!((status, &body["error_code"]), (429, &json!("RATE_LIMITED")), "{body}");
    assert_eq!(body["details"]["error_code"], "RATE_LIMITED", "{body}");
    let (status, _, _) = api.ask(&[], "failover/jobs").await;
    assert_eq!(status, 200, "who only looks is not counted");
    let url = format!("http://{}/api/v1/failover/test", api.address);
    let mut curl = Command::new("curl");
    curl.args([
        "-s",
        "--max-time",
        "10",
        "-X",
        "POST",
        "-o",
        "/dev/null",
        "-w",
        "%header{retry-after}",
        &url,
    ]);
    let said = tokio::task::spawn_blocking(move || curl.output()).await.expect("run").expect("curl").stdout;
    let seconds: u32 = String::from_utf8(said).expect("text").parse().expect("seconds");
    assert!((1..=7).contains(&seconds), "{seconds}");
}
