//! Asked by a client that knows nothing of us: `curl`.

use super::*;
use crate::testing::Plant;
use jiff::Timestamp;
use serde_json::{Value, json};
use shared::migration::Action;
use std::process::Command;

mod events;
mod failover;
mod failover_live;
mod instance;

struct Api {
    address: String,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Api {
    async fn of(plant: &Plant) -> Self {
        Self::of_app(plant.app.clone()).await
    }

    async fn of_app(app: App) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(listener, app, shutdown.clone()));
        Self { address, _shutdown: shutdown.drop_guard() }
    }

    /// Status, correlation id and body.
    async fn ask(&self, arguments: &[&str], path: &str) -> (u16, String, Value) {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let mut command = Command::new("curl");
        command.args(["-s", "--max-time", "10", "-w", "\n%header{x-correlation-id}\n%{http_code}"]);
        command.args(arguments).arg(&url);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("run").expect("curl");
        let text = String::from_utf8(output.stdout).expect("text");
        let mut lines = text.rsplitn(3, '\n');
        let status = lines.next().expect("a status").parse().expect("a number");
        let id = lines.next().expect("an id").to_owned();
        // Of lines, the last.
        let body = lines.next().expect("a body").trim_end().lines().last().unwrap_or_default();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).expect("JSON") };
        (status, id, body)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, _, body) = self.ask(&[], path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_disks_are_accepted_and_shown() {
    let plant = Plant::begun().await;
    plant.cycle("1").await;
    let mut vm = plant.app.vm_find("web-1").await.expect("offered").remove(0).vm;
    vm.disks[1].key = "more".parse().expect("a key");
    plant.app.agent_inventory(&plant.agent, &[vm]).await.expect("taken");
    let api = Api::of(&plant).await;
    let post = async |body: &Value| {
        let body = body.to_string();
        let arguments = ["-X", "POST", "-H", "Content-Type: application/json", "-d", &body];
        let (status, _, body) = api.ask(&arguments, "migrations/web-1/accept").await;
        (status, body)
    };
    for (wrong, status, reason) in [
        (json!({ "disks": ["other"] }), 404, "DISK_UNKNOWN"),
        (json!({ "disks": [""] }), 400, "INVALID_ARGUMENT"),
        (json!({ "disk": "more" }), 400, "INVALID_ARGUMENT"),
    ] {
        let (got, body) = post(&wrong).await;
        assert_eq!((got, &body["error_code"]), (status, &json!(reason)), "{wrong}: {body}");
    }
    let (status, some) = post(&json!({ "disks": ["more"] })).await;
    assert_eq!((status, some["disks"].as_array().map(Vec::len)), (200, Some(3)), "{some}");
    let (status, mut all) = post(&json!({})).await;
    assert_eq!((status, all["disks"].as_array().map(Vec::len)), (200, Some(2)), "{all}");
    let retired = &all["retired_disks"][0];
    assert_eq!((&retired["key"], &retired["restore_points"]), (&json!("data"), &json!(1)), "{all}");
    let (_, mut again) = post(&json!({})).await;
    // It grows.
    (all["rpo_seconds"], again["rpo_seconds"]) = (Value::Null, Value::Null);
    assert_eq!(again, all, "again: the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cycles_are_listed_as_the_database_has_them() {
    // Of one second: the later ones are called after the next seconds that are free.
    let plant = Plant::begun().await;
    let ids = plant.cycles_at("2026-11-21T14:45:58.5Z".parse().expect("a time"), 3).await;
    assert_eq!(ids, ["job-20261121-144558", "job-20261121-144559", "job-20261121-144600"]);
    let api = Api::of(&plant).await;
    let listed = |page: &Value| -> Vec<String> {
        let rows = page["replications"].as_array().expect("rows");
        rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    };
    let all = api.get("replications").await;
    assert_eq!((listed(&all), &all["next_before"]), (ids.iter().rev().cloned().collect(), &Value::Null));
    let page = api.get("replications?limit=2").await;
    assert_eq!((listed(&page), &page["next_before"]), (vec![ids[2].clone(), ids[1].clone()], &json!(ids[1])));
    let page = api.get(&format!("replications?limit=2&before={}", ids[1])).await;
    assert_eq!((listed(&page), &page["next_before"]), (vec![ids[0].clone()], &Value::Null));
    assert_eq!(listed(&api.get("replications?status=running").await), [ids[2].clone()]);
    assert_eq!(listed(&api.get("replications?status=completed").await), Vec::<String>::new());

    let mut row = api.get(&format!("replications/{}", ids[0])).await;
    let migration = plant.migration().await;
    let disk = &plant.disks().await[0];
    assert!(row["finished_at"].is_string() && row["updated_at"] == row["finished_at"], "{row}");
    for key in ["finished_at", "updated_at"] {
        row[key] = Value::Null;
    }
    assert_eq!(row["disks"].as_array().map(Vec::len), Some(2));
    row["disks"].as_array_mut().expect("two").pop();
    let expected = json!({
        "id": ids[0], "migration_id": migration.id.to_string(), "vm_uuid": migration.vm.to_string(),
        "vm_name": "web-1", "kind": "full", "status": "aborted",
        "snapshot_id": null, "snapshot_taken_at": null,
        "started_at": "2026-11-21T14:45:58.500000Z", "finished_at": null, "updated_at": null,
        "progress_percent": 0.0, "current_operation": "Discover",
        "bytes_transferred": 0, "total_bytes": 0, "transfer_speed_bps": 0,
        "error_reason": "ABORTED", "error_message": "on request",
        "disks": [{
            "job_id": format!("migration-vol-{}", disk.id), "disk_id": disk.id.to_string(), "disk_key": "root",
            "strategy": "full", "finished": false, "plan_complete": false, "size_bytes": 131_072,
            "planned_bytes": 0, "done_bytes": 0, "read_bytes": 0, "wire_bytes": 0, "data_bytes": 0,
            "resumed_bytes": 0
        }]
    });
    assert_eq!(row, expected);
    let newest = api.get(&format!("replications/migration-vol-{}", disk.id)).await;
    assert_eq!(newest["id"], json!(ids[2]), "by a disk: its newest cycle");
    let progress = api.get(&format!("progress/migration-vol-{}", disk.id)).await;
    assert_eq!((&progress["status"], &progress["total_bytes"]), (&json!("Queued"), &json!(131_072)));
    // Of one that ended, a watch is its last state.
    let watched = api.get(&format!("progress/{}/watch", ids[0])).await;
    assert_eq!(watched["progress"]["status"], "Failed", "{watched}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_refused_in_the_documents_form() {
    let plant = Plant::begun().await;
    let api = Api::of(&plant).await;
    for (arguments, path, status, error) in [
        (&[][..], "replications/job-20010101-000000", 404, "job not found"),
        (&[], "replications/migration-vol-invalid-uuid", 404, "job not found"),
        (&[], "progress/job-20010101-000000", 404, "job not found"),
        (&[], "progress/job-20010101-000000/watch", 404, "job not found"),
        (&[], "progress/job-20010101-000000/watch?after=-1", 400, "invalid request"),
        (&["-X", "PUT", "-d", "{}"], "progress/job-1", 409, "progress is not taken here"),
        (&["-d", "{}"], "progress/job-1/update", 409, "progress is not taken here"),
        (&[], "replications?limit=501", 400, "invalid request"),
        (&[], "replications?limit=0", 400, "invalid request"),
        (&[], "replications?before=nonsense", 400, "invalid request"),
        (&[], "replications?limit=many", 400, "invalid request"),
        (&[], "replications?status=done", 400, "invalid request"),
        (&[], "replications?state=running", 400, "invalid request"),
        (&[], "replications?before=a/b", 400, "invalid request"),
        (&["-X", "DELETE"], "replications", 405, "method not allowed"),
    ] {
        let sent: Vec<_> = ["-H", "X-Correlation-Id: kept-1"].iter().chain(arguments).copied().collect();
        let (got, id, body) = api.ask(&sent, path).await;
        assert_eq!((got, id.as_str(), &body["error"]), (status, "kept-1", &json!(error)), "{path}: {body}");
        let of_a_job = error == "job not found" || status == 409 || path.contains("watch");
        let job = path.split('/').nth(1).filter(|_| of_a_job);
        assert_eq!(body.get("job_id").and_then(Value::as_str), job, "{path}: {body}");
        assert!(body["details"].is_string() && body["timestamp"].is_string(), "{path}: {body}");
    }
    let (status, _, body) = api.ask(&["-H", "X-Correlation-Id: kept-2"], "nothing").await;
    assert_eq!((status, &body["error_code"]), (404, &json!("NOT_FOUND")), "{body}");
    assert_eq!(body["details"]["correlation_id"], "kept-2", "{body}");
    let document = api.get("openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/api/v1/replications/{id}"]["get"].is_object(), "{document}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_put_shown_tried_and_taken_away() {
    let plant = Plant::begun().await;
    let api = Api::of(&plant).await;
    let send = async |method: &str, path: &str, body: &Value| {
        let body = body.to_string();
        api.ask(&["-X", method, "-H", "Content-Type: application/json", "-d", &body], path).await
    };
    let at = "migrations/web-1/schedule";
    let (status, _, body) = api.ask(&[], at).await;
    assert_eq!((status, &body["error_code"]), (404, &json!("NO_SCHEDULE")), "{body}");
    let spec = json!({ "every_seconds": 900, "time_zone": "Europe/Berlin", "blackout": ["mon-fri 08:00-18:00"],
        "blackout_running": "pause", "rpo_seconds": 3600,
        "bandwidth": [{ "window": "daily 08:00-18:00", "rate_bytes_per_second": 20_971_520 }] });
    let (status, _, put) = send("PUT", at, &spec).await;
    assert_eq!((status, &put["schedule"]), (200, &spec), "{put}");
    assert!(put["next_cycle_at"].is_string() && put["set_at"].is_string(), "{put}");
    assert_eq!(api.get(at).await, put);
    for (wrong, reason) in [
        (json!({ "every_seconds": 59 }), "INTERVAL_INVALID"),
        (json!({ "every_seconds": -60 }), "INVALID_ARGUMENT"),
        (json!({ "cron": "never" }), "CRON_INVALID"),
        (json!({ "cron": "0 3 * * *", "time_zone": "Mars/Crater" }), "TIME_ZONE_UNKNOWN"),
        (json!({ "every": "15m" }), "INVALID_ARGUMENT"),
        (json!({}), "SCHEDULE_EMPTY"),
    ] {
        let (status, _, body) = send("PUT", at, &wrong).await;
        assert_eq!((status, &body["error_code"]), (400, &json!(reason)), "{wrong}: {body}");
    }
    assert_eq!(api.get(at).await, put, "nothing has changed");
    let nightly = json!({ "schedule": { "cron": "30 2 * * *" }, "count": 3 });
    let (status, _, body) = send("POST", "schedules/preview", &nightly).await;
    assert_eq!((status, body["times"].as_array().map(Vec::len)), (200, Some(3)), "{body}");
    let (status, _, body) = send("POST", "schedules/preview", &json!({ "schedule": {}, "count": 0 })).await;
    assert_eq!((status, &body["error_code"]), (400, &json!("INVALID_ARGUMENT")), "{body}");
    for _ in 0..2 {
        let (status, _, body) = api.ask(&["-X", "DELETE"], at).await;
        assert_eq!((status, body), (204, Value::Null), "none is success");
    }
    assert_eq!(api.ask(&[], at).await.0, 404);
    let document = api.get("openapi.json").await;
    assert!(document["paths"]["/api/v1/migrations/{vm}/schedule"]["put"].is_object(), "{document}");
}
