//! Server-Sent Events.

use super::*;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use tokio::sync::mpsc;

/// The `id`, `event` and `data` of the next events.
struct Following {
    events: mpsc::Receiver<(u64, String, Value)>,
    child: std::process::Child,
}

impl Following {
    fn of(api: &Api, arguments: &[&str], query: &str) -> Self {
        let url = format!("http://{}/api/v1/events/stream{query}", api.address);
        let mut child = Command::new("curl")
            .args(["-sSN", "--max-time", "20"])
            .args(arguments)
            .arg(url)
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, events) = mpsc::channel(64);
        std::thread::spawn(move || {
            let (mut id, mut kind, mut data) = (0, String::new(), Value::Null);
            for line in lines.map_while(Result::ok) {
                match line.split_once(": ") {
                    Some(("id", text)) => id = text.parse().expect("a number"),
                    Some(("event", text)) => text.clone_into(&mut kind),
                    Some(("data", text)) => data = serde_json::from_str(text).expect("JSON"),
                    _ if line.is_empty() && id > 0 => {
                        let _ = sender.blocking_send((id, kind.clone(), data.clone()));
                    }
                    _ => {}
                }
            }
        });
        Self { events, child }
    }

    async fn next(&mut self) -> (u64, String, Value) {
        self.events.recv().await.expect("one more")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Red when a client that comes back misses what happened meanwhile, or is told again what it knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_on_from_the_last_that_was_seen() {
    let plant = Plant::begun().await;
    let api = Api::of(&plant).await;
    let mut following = Following::of(&api, &[], "");
    let (first, kind, state) = following.next().await;
    assert_eq!((kind.as_str(), &state["migrations"][0]["vm_name"]), ("state", &json!("web-1")), "{state}");
    plant.act(Action::Hold).await;
    let (held, kind, event) = following.next().await;
    assert_eq!((held, kind.as_str()), (first + 1, "migration_changed"));
    assert_eq!(
        (&event["data"]["held"], &event["data"]["last_action_by"]),
        (&json!(true), &json!("tester")),
        "{event}"
    );
    drop(following);
    plant.act(Action::Release).await;
    let mut following = Following::of(&api, &["-H", &format!("last-event-id: {held}")], "?vm=web-1");
    let (released, _, event) = following.next().await;
    assert_eq!((released, &event["data"]["held"]), (held + 1, &json!(false)), "{event}");
    let mut from_the_future = Following::of(&api, &["-H", "last-event-id: 999999"], "");
    assert_eq!(from_the_future.next().await.1, "state");
    let (status, _, refused) = api.ask(&["-H", "last-event-id: x"], "events/stream").await;
    assert_eq!((status, &refused["error_code"]), (400, &json!("INVALID_ARGUMENT")), "{refused}");
}
