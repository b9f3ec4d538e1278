//! Asked by a client that knows nothing of us: `curl`.

use super::*;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;
use tokio::io::AsyncBufReadExt as _;

struct Api {
    address: String,
    register: Arc<Register>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Api {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let register = Arc::new(Register::default());
        let settings = crate::metrics::tests::settings();
        let (manager, _) = crate::cycle::Manager::start(vec![], &settings, &register);
        let shown = Shown::new(&settings.counted, manager, settings.budget.clone());
        let serving = tokio::spawn(serve(listener, Arc::clone(&register), shown, shutdown.clone()));
        Self { address, register, shutdown, serving }
    }

    /// Status and body.
    async fn ask(&self, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
        let url = format!("http://{}/api/v1/progress/{path}", self.address);
        let mut command = Command::new("curl");
        command.args(["-s", "--max-time", "10", "-X", method, "-w", "\n%{http_code}", &url]);
        if let Some(body) = body {
            command.args(["-H", "Content-Type: application/json", "-d", body]);
        }
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

const JOB: &str = "migration-vol-c290646c-41ba-4d50-a31f-f497320ca0bd";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_calls_are_answered_as_printed() {
    let api = Api::start().await;
    let update = r#"{"stage": "Transfer", "status": "Queued", "bytes_transferred": 933232640,
        "total_bytes": 42949672960, "throughput_bps": 0, "percent": 2.1728515625, "disk_id": "disk-2000"}"#;
    let update_path = format!("{JOB}/update");
    let unknown = json!({ "error": "job not found", "job_id": "migration-vol-invalid-uuid" });
    let lost = (404, unknown);
    assert_eq!(api.ask("GET", "migration-vol-invalid-uuid", None).await, lost);
    assert_eq!(api.ask("POST", "migration-vol-invalid-uuid/update", Some(update)).await, lost);
    assert_eq!(api.ask("PUT", JOB, Some("{}")).await.0, 201);
    assert_eq!(api.ask("PUT", JOB, Some("{}")).await.0, 200);
    let taken = json!({ "status": "success", "message": "Progress updated successfully" });
    assert_eq!(api.ask("POST", &update_path, Some(update)).await, (200, taken));
    let (status, view) = api.ask("GET", JOB, None).await;
    assert_eq!(
        (status, &view["percentage"], &view["phase"]),
        (200, &json!(2.172_851_562_5), &json!("Transfer"))
    );
    let negative = r#"{"stage": "Transfer", "bytes_transferred": -1}"#;
    let refused = json!({ "error": "invalid progress data", "details": "bytes_transferred must be >= 0" });
    assert_eq!(api.ask("POST", &update_path, Some(negative)).await, (400, refused));
    for nonsense in
        ["{", "[]", r#"{"stage": 1}"#, r#"{"stage": "x", "bytes_transferred": 1, "status": "Done"}"#]
    {
        let (status, body) = api.ask("POST", &update_path, Some(nonsense)).await;
        assert_eq!((status, &body["error"]), (400, &json!("invalid progress data")), "{nonsense}");
    }
    assert_eq!(
        api.ask("GET", JOB, None).await.1["bytes_transferred"],
        933_232_640,
        "nothing of them was taken"
    );
    api.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), api.serving).await.unwrap().unwrap();
}

/// What engines do that are careless, or worse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_theirs_to_say_is_refused_in_the_documents_form() {
    let api = Api::start().await;
    let now = Timestamp::now();
    api.register.register("job-20261121-144523", &Registration::default(), now).unwrap();
    let said = r#"{"stage": "Transfer", "bytes_transferred": 1500}"#;
    assert_eq!(api.ask("PUT", JOB, Some(r#"{"total_bytes": 1000}"#)).await.0, 201);
    let done = r#"{"stage": "Complete", "status": "Completed", "bytes_transferred": 7}"#;
    assert_eq!(api.ask("PUT", "ended", Some("{}")).await.0, 201);
    assert_eq!(api.ask("POST", "ended/update", Some(done)).await.0, 200);
    for (method, path, body, status, error) in [
        ("PUT", "job-20261121-144523", "{}", 409, "progress is not taken for this job"),
        ("POST", "job-20261121-144523/update", said, 409, "progress is not taken for this job"),
        ("POST", &format!("{JOB}/update"), said, 400, "invalid progress data"),
        ("POST", "ended/update", said, 400, "job has ended"),
        ("PUT", "job-1", r#"{"sync_type": "sideways"}"#, 400, "invalid progress data"),
        ("PUT", "job-1", "[]", 400, "invalid progress data"),
        ("PUT", "job-1", r#"["full"]"#, 400, "invalid progress data"),
        ("PUT", "job-1", "null", 400, "invalid progress data"),
        ("POST", &format!("{JOB}/update"), r#"["Transfer", null, 1]"#, 400, "invalid progress data"),
    ] {
        let (got, answer) = api.ask(method, path, Some(body)).await;
        assert_eq!((got, &answer["error"]), (status, &json!(error)), "{method} {path} {body}: {answer}");
        assert!(answer["details"].is_string(), "{method} {path} {body}: {answer}");
    }
    assert_eq!(api.ask("GET", "job-20261121-144523", None).await.1["status"], "Queued", "it stays as it is");
    assert_eq!(api.ask("GET", "job-1", None).await.0, 404);
    assert_eq!(api.ask("PUT", "ended", Some("{}")).await.0, 201, "anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_can_be_watched_to_its_end() {
    let api = Api::start().await;
    assert_eq!(api.ask("GET", &format!("{JOB}/watch"), None).await.0, 404);
    assert_eq!(api.ask("PUT", JOB, Some("{}")).await.0, 201);
    assert_eq!(api.ask("GET", &format!("{JOB}/watch?after=x"), None).await.0, 400);
    let mut watch = tokio::process::Command::new("curl");
    watch
        .args(["-sN", "--max-time", "30"])
        .arg(format!("http://{}/api/v1/progress/{JOB}/watch", api.address));
    let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = lines.next_line().await.unwrap();
        line.map(|line| serde_json::from_str::<Value>(&line).unwrap())
    };
    let first = next().await.unwrap();
    assert_eq!(first["progress"]["status"], "Queued");
    let done = r#"{"stage": "Complete", "status": "Completed", "bytes_transferred": 7}"#;
    assert_eq!(api.ask("POST", &format!("{JOB}/update"), Some(done)).await.0, 200);
    let last = next().await.unwrap();
    assert_eq!(
        (&last["progress"]["status"], &last["progress"]["bytes_transferred"]),
        (&json!("Completed"), &json!(7))
    );
    assert!(last["sequence"].as_u64() > first["sequence"].as_u64(), "{first} {last}");
    assert_eq!(next().await, None, "the job has ended");
    assert!(watch.wait().await.unwrap().success());
}
