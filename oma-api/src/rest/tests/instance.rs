//! The instance-migration API: as `curl` and a WebSocket see it.

use super::*;
use futures::StreamExt as _;
use std::time::Duration;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const JSON: [&str; 2] = ["-H", "content-type: application/json"];

impl Api {
    async fn act(&self, key: Option<&str>, body: &str) -> (u16, Value) {
        let key = key.map(|key| format!("idempotency-key: {key}"));
        let mut arguments = JSON.to_vec();
        arguments.extend(key.iter().flat_map(|key| ["-H", key.as_str()]));
        arguments.extend(["-d", body]);
        let (status, _, body) = self.ask(&arguments, "my/machines/web-1/migrate").await;
        (status, body)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_is_taken_and_shown_in_the_documents_fields() {
    let plant = Plant::new().await;
    let api = Api::of(&plant).await;
    let (status, begun) = api.act(None, r#"{"action":"begin","affinity":["instance!=web-2"]}"#).await;
    assert_eq!(status, 201, "{begun}");
    assert_eq!((&begun["phase"], &begun["state"]), (&json!("begin"), &json!("running")));
    assert_eq!((&begun["affinity"], &begun["automatic"]), (&json!(["instance!=web-2"]), &json!(false)));
    let run = &begun["progress_history"][0];
    assert_eq!(
        (&run["type"], &run["phase"], &run["state"]),
        (&json!("progress"), &json!("begin"), &json!("running"))
    );
    plant.step().await;
    let (status, refused) = api.act(None, r#"{"action":"pause"}"#).await;
    assert_eq!(
        (status, &refused["code"], &refused["reason"]),
        (409, &json!("InvalidState"), &json!("NOTHING_TO_PAUSE"))
    );
    let said = refused["message"].as_str().expect("text");
    assert!(said.contains("possible now: sync") && said.contains("last asked for: begin by"), "{said}");
    let (status, refused) = api.act(None, r#"{"action":"switch"}"#).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("NO_COMMITTED_CYCLE")), "{refused}");
    plant.cycle("1").await;
    let (status, refused) = api.act(None, r#"{"action":"switch"}"#).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("CHAIN_POLICY")), "{refused}");
    let without = Api::of_app(App { compute: None, ..plant.app.clone() }).await;
    let (status, refused) = without.act(None, r#"{"action":"switch"}"#).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("NO_TARGET")), "{refused}");

    let shown = api.get("any/migrations/web-1").await;
    let runs: Vec<_> =
        shown["progress_history"].as_array().expect("runs").iter().map(|r| &r["phase"]).collect();
    assert_eq!(runs, ["begin", "sync"]);
    assert_eq!(shown["progress_history"][1]["state"], "successful", "{shown}");
    let listed = api.get("my/migrations").await;
    assert_eq!((&listed[0]["machine"], &listed[0]["progress_history"]), (&shown["machine"], &json!([])));
    // That cycle brought nothing to measure by.
    let estimate = api.get("my/machines/web-1/migrate").await;
    assert_eq!((&estimate["size"], &estimate["basis"]), (&json!(262_144), &json!("default")), "{estimate}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_named_and_changes_nothing() {
    let plant = Plant::begun().await;
    let api = Api::of(&plant).await;
    let before = plant.migration().await;
    for (body, code, word) in [
        (r#"{"action":"hold","colour":"red"}"#, "InvalidArgument", "colour"),
        (r#"{"action":"fly"}"#, "InvalidArgument", "fly"),
        (r"{}", "MissingParameter", "action"),
        (r#"{"action":"hold""#, "InvalidArgument", "EOF"),
        (r#"{"action":"hold"} {}"#, "InvalidArgument", "trailing"),
        (r#"{"action":"hold","affinity":["x"]}"#, "InvalidArgument", "affinity"),
        (r#"{"action":"automatic","max_cycles":-1}"#, "InvalidArgument", "max_cycles"),
        (r#"{"action":"automatic","max_cycles":0}"#, "InvalidArgument", "max_cycles"),
        (r#"{"action":"switch","scheduled_timestamp":"tomorrow"}"#, "InvalidArgument", "scheduled_timestamp"),
        (r#"{"action":"switch","scheduled_timestamp":"2001-01-01T00:00:00Z"}"#, "InvalidArgument", "future"),
        (
            r#"{"action":"sync","scheduled_timestamp":"2101-01-01T00:00:00Z"}"#,
            "InvalidArgument",
            "no meaning for sync",
        ),
        (r#"{"action":"begin","force":" "}"#, "InvalidArgument", "reason"),
    ] {
        let (status, refused) = api.act(None, body).await;
        assert_eq!((status, &refused["code"]), (400, &json!(code)), "{body}: {refused}");
        assert!(refused["message"].as_str().is_some_and(|m| m.contains(word)), "{body}: {refused}");
    }
    let path = "my/machines/web-1/migrate";
    let (status, _, refused) = api.ask(&["-d", r#"{"action":"hold"}"#], path).await;
    assert_eq!(
        (status, &refused["code"]),
        (415, &json!("InvalidHeader")),
        "curl's own content type: {refused}"
    );
    let (status, refused) = api.act(Some(&"x".repeat(256)), r#"{"action":"hold"}"#).await;
    assert_eq!((status, &refused["code"]), (400, &json!("InvalidArgument")), "{refused}");
    let large = plant.folder.path().join("large");
    std::fs::write(&large, format!("{{\"action\":\"{}\"}}", "x".repeat(10 << 20))).expect("written");
    let large = format!("@{}", large.display());
    let (status, _, refused) = api.ask(&[JSON[0], JSON[1], "--data-binary", &large], path).await;
    assert_eq!((status, &refused["code"]), (413, &json!("RequestTooLarge")), "{refused}");
    let (status, _, refused) =
        api.ask(&[JSON[0], JSON[1], "-d", r#"{"action":"sync"}"#], "my/machines/none/migrate").await;
    assert_eq!((status, &refused["code"]), (404, &json!("ResourceNotFound")), "{refused}");
    assert_eq!(plant.migration().await, before);
}

/// Red when a key does not keep its answer, and when it does not keep a second request from being done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_under_the_same_key_is_answered_as_before() {
    let plant = Plant::begun().await;
    let api = Api::of(&plant).await;
    let (status, first) = api.act(Some("k-1"), r#"{"action":"hold"}"#).await;
    assert_eq!((status, &first["held"]), (201, &json!(true)));
    plant.act(Action::Release).await;
    let before = plant.migration().await;
    let (status, again) = api.act(Some("k-1"), r#"{"action":"hold"}"#).await;
    assert_eq!((status, &again), (201, &first), "word for word, though it is released by now");
    assert_eq!(plant.migration().await, before, "and nothing was done");
    let (status, refused) = api.act(Some("k-1"), r#"{"action":"release"}"#).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("IDEMPOTENCY_KEY_REUSED")), "{refused}");
    let (_, refused) = api.act(Some("k-2"), r#"{"action":"pause"}"#).await;
    assert_eq!(refused["reason"], "NOTHING_TO_PAUSE");
    plant.act(Action::Sync).await;
    let (status, _) = api.act(Some("k-2"), r#"{"action":"pause"}"#).await;
    assert_eq!(status, 201, "what was refused did nothing and may be asked for again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_is_scheduled_shown_and_cancelled_and_refused_when_it_is_due() {
    let plant = Plant::begun().await;
    let api = Api::of(&plant).await;
    let (_, refused) = api.act(None, r#"{"action":"switch","scheduled_timestamp":null}"#).await;
    assert_eq!(refused["reason"], "NOTHING_SCHEDULED", "{refused}");
    let later = Timestamp::now() + jiff::SignedDuration::from_secs(3600);
    let body = format!(r#"{{"action":"switch","scheduled_timestamp":"{later}"}}"#);
    let (status, shown) = api.act(None, &body).await;
    assert_eq!((status, &shown["scheduled_timestamp"]), (201, &json!(format!("{later:.6}"))), "{shown}");
    let (_, shown) = api.act(None, r#"{"action":"switch","scheduled_timestamp":null}"#).await;
    assert_eq!(shown["scheduled_timestamp"], Value::Null, "{shown}");

    plant.cycle("1").await;
    let soon = Timestamp::now() + jiff::SignedDuration::from_millis(300);
    let body = format!(r#"{{"action":"switch","scheduled_timestamp":"{soon}"}}"#);
    assert_eq!(api.act(None, &body).await.0, 201);
    plant.step().await;
    assert_eq!(plant.migration().await.wishes.scheduled_at.map(|_| ()), Some(()), "not yet");
    tokio::time::sleep(Duration::from_millis(350)).await;
    plant.step().await;
    let m = plant.migration().await;
    let error = m.error.expect("said");
    assert_eq!((m.wishes.scheduled_at, error.reason.as_str()), (None, "CHAIN_POLICY"), "{}", error.message);
}

/// The last run as it stands, its changes, and one end: the same as lines and as messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_when_nothing_runs_any_more() {
    let plant = Plant::begun().await;
    let api = Api::of(&plant).await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let url = format!("http://{}/my/machines/web-1/migrate?action=watch", api.address);
    let lines = tokio::task::spawn_blocking(move || {
        Command::new("curl").args(["-sS", "--max-time", "20", "-D", "-", "-X", "POST", &url]).output()
    });
    let socket = format!("ws://{}/my/migrations/web-1/watch", api.address);
    let (mut socket, _) = connect_async(socket).await.expect("a WebSocket");
    let message = async |socket: &mut tokio_tungstenite::WebSocketStream<_>| -> Message {
        let next = tokio::time::timeout(Duration::from_secs(20), socket.next()).await;
        next.expect("in time").expect("one more").expect("well")
    };
    let parsed = |message: &Message| -> Value {
        serde_json::from_str(message.to_text().expect("text")).expect("JSON")
    };
    let first = parsed(&message(&mut socket).await);
    assert_eq!(
        (&first["type"], &first["phase"], &first["state"]),
        (&json!("progress"), &json!("sync"), &json!("running"))
    );
    while plant.app.hub.watches.count() != (1, 2) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    plant.act(Action::Pause).await;
    plant.step().await;
    let job = plant.job().await;
    plant.say(&job, shared::cycle::CycleEvent::Paused).await;
    let mut said = vec![first];
    loop {
        match message(&mut socket).await {
            Message::Close(frame) => break assert_eq!(frame.map(|f| u16::from(f.code)), Some(1000)),
            text => said.push(parsed(&text)),
        }
    }
    let sequences: Vec<_> = said.iter().map(|e| e["sequence"].as_u64().expect("a number")).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    let end = said.pop().expect("an end");
    assert_eq!(
        (&end["type"], &end["phase"], &end["state"]),
        (&json!("end"), &json!("sync"), &json!("paused")),
        "{end}"
    );
    assert!(said.iter().all(|event| event["type"] == "progress"));

    let output = lines.await.expect("run").expect("curl");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("application/x-json-stream"), "{text}");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["type"], &last["state"]), (&json!("end"), &json!("paused")));

    // Of one that does not run: how it ended, and the end.
    let (status, _, body) = api.ask(&["-X", "POST"], "my/machines/web-1/migrate?action=watch").await;
    assert_eq!((status, &body["type"]), (200, &json!("end")));
    let (status, _, refused) = api.ask(&[], "my/migrations/web-1/watch").await;
    assert_eq!((status, &refused["code"]), (426, &json!("InvalidArgument")), "{refused}");
}
