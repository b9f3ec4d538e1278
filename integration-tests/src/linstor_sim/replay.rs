//! What LINSTOR 1.33.3 was asked, asked again: statuses, kinds, codes and words of the entries, and the shape of bodies have
//! to be the same.
//!
//! Of the recording, what was made with files as storage (FILE and FILE_THIN): the rest is of DRBD, tokens and https. What
//! the recorder did beside the calls (a satellite killed, a program made to fail, a call that was not written down) stands in
//! [`scenes`]. Where the simulator answers differently, `recordings/linstor-differences.txt` says so, and why; the test
//! fails when that list is not exactly right.

use super::tests::{Answered, ask, entries};
use super::{LinstorSim, Options, Rule, Tool, What};
use crate::recordings::{Recording, exchanges};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinHandle;

const DIFFERENCES: &str = include_str!("../../recordings/linstor-differences.txt");

/// What was done before an exchange, by its name.
enum Scene {
    /// The satellite.
    Node(bool),
    /// The next change meets a failing program.
    Fails(Tool),
    /// A call that was made and is not in the recording.
    Asked(&'static str, &'static str, Value),
    /// A call that is still running, at this point, at the next exchanges. It goes on afterwards, or its controller is killed.
    Running(&'static str, Value, &'static str, Option<What>),
    /// The one that was running is at its end.
    Over,
    /// A controller on the same folder, whose satellites are still to be found.
    Restarted,
    /// They are.
    Found,
}

const SPAWN: &str = "/v1/resource-groups/rgfat/spawn";

fn scenes(file: &str) -> Vec<Scene> {
    let fat = |name: &str| json!({"resource_definition_name": name, "volume_sizes": [16384]});
    let spawn = |name: &str| Scene::Asked("POST", SPAWN, fat(name));
    match file {
        "0329-off-nodes" => vec![Scene::Node(false)],
        "0358-on-nodes" => vec![Scene::Node(true)],
        "0367-f-spawn-fail" => vec![Scene::Fails(Tool::Create)],
        "0377-f-snap-fail" | "0379-f-multi-fail" => vec![Scene::Fails(Tool::Snapshot)],
        "0383-f-rollback-fail" => vec![Scene::Fails(Tool::Any)],
        "0385-f-losetup" | "0386-f-losetup-del" => vec![Scene::Fails(Tool::Attach)],
        "0399-g-rollback-fail" => vec![
            spawn("mk-rb"),
            Scene::Asked("POST", "/v1/resource-definitions/mk-rb/snapshots", json!({"name": "prot"})),
            Scene::Fails(Tool::Any),
        ],
        "0404-g-prop" => vec![
            Scene::Fails(Tool::Any),
            Scene::Asked("POST", "/v1/resource-definitions/mk-rb/snapshot-rollback/prot", json!({})),
        ],
        "0391-f-slow-view" => vec![Scene::Running(SPAWN, fat("mk-slow2"), "registered", None)],
        "0392-f-slow2" => vec![Scene::Over],
        "0397-f-abort-view" => vec![Scene::Running(SPAWN, fat("mk-abort"), "registered", None)],
        "0398-f-abort-view2" => vec![Scene::Over],
        "0408-k-nodes" => {
            vec![
                Scene::Running(SPAWN, fat("mk-crash"), "registered", Some(What::Die)),
                Scene::Over,
                Scene::Restarted,
            ]
        }
        "0410-k-view2" => vec![Scene::Found],
        "0412-k-snap-view-during" => {
            let snapshots = "/v1/resource-definitions/mk-crash/snapshots";
            vec![Scene::Running(snapshots, json!({"name": "s1"}), "taken", Some(What::Die))]
        }
        "0414-k-snap-view" => vec![Scene::Over, Scene::Restarted, Scene::Found],
        "0419-k-rollback-during" => {
            let rollback = "/v1/resource-definitions/mk-crash/snapshot-rollback/s3";
            vec![
                Scene::Asked("POST", "/v1/resource-definitions/mk-crash/snapshots", json!({"name": "s3"})),
                Scene::Running(rollback, json!({}), "marked", Some(What::Die)),
            ]
        }
        "0421-k-rollback-view" => vec![Scene::Over, Scene::Restarted, Scene::Found],
        _ => Vec::new(),
    }
}

/// Bodies that could not be recorded as JSON, by what their notes say of them.
fn odd_body(file: &str) -> Option<(&'static str, &'static str)> {
    let json = "application/json";
    let found = match file {
        "0257-e-badjson" => (r#"{"resource_definition_name": "mk-"#, json),
        "0258-e-notjson" => ("not json", json),
        "0268-e-nocontenttype" => (r#"{"resource_definition": {"name": "mk-nct"}}"#, ""),
        "0269-e-textplain" => (r#"{"resource_definition": {"name": "mk-tp"}}"#, "text/plain"),
        "0292-e-huge-int" => {
            (r#"{"resource_definition_name": "mk-hi", "volume_sizes": [99999999999999999999]}"#, json)
        }
        "0293-e-float" => (r#"{"resource_definition_name": "mk-fl", "volume_sizes": [4096.5]}"#, json),
        _ => return None,
    };
    Some(found)
}

/// The keys of all objects in it, with where they are. Elements of a list are one place, and so are names of the caller's.
fn shape(value: &Value, at: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let at = format!("{at}.{name}");
                out.insert(at.clone());
                shape(value, &at, out);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| shape(value, &format!("{at}[]"), out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What the entries say, without the names that are made up; sorted, as satellites answer in no order.
fn messages(body: &Value) -> Vec<String> {
    let entries = body.as_array().into_iter().flatten();
    let messages =
        entries.filter(|entry| entry.get("ret_code").is_some()).filter_map(|entry| entry["message"].as_str());
    let mut messages: Vec<_> = messages
        .map(|message| match message.split_once("safety-snap-") {
            Some((before, after)) => {
                format!("{before}safety-snap{}", after.trim_start_matches(|one| one != '\''))
            }
            None => message.to_owned(),
        })
        .collect();
    messages.sort();
    messages
}

/// What is different. None: nothing that counts.
pub(crate) fn difference(recorded: &Value, answered: Option<&(u16, Value)>) -> Option<String> {
    let Some(status) = recorded["status"].as_u64() else {
        return answered.map(|(status, _)| format!("no answer was recorded, this is {status}"));
    };
    let Some((got, body)) = answered else { return Some("no answer".to_owned()) };
    if u64::from(*got) != status {
        return Some(format!("status {status} was recorded, this is {got}"));
    }
    let expected = &recorded["body"];
    if expected.is_null() {
        return None;
    }
    let (own, theirs) = (entries(body), entries(expected));
    if own != theirs && (own.as_ref().is_some_and(|list| !list.is_empty()) || theirs.is_some()) {
        return Some(format!("entries {theirs:?} were recorded, these are {own:?}"));
    }
    let (own, theirs) = (messages(body), messages(expected));
    if let Some((own, theirs)) = own.iter().zip(&theirs).find(|(own, theirs)| own != theirs) {
        return Some(format!("{theirs:?} was recorded, this is {own:?}"));
    }
    let (mut mine, mut recorded) = (BTreeSet::new(), BTreeSet::new());
    shape(body, "", &mut mine);
    shape(expected, "", &mut recorded);
    let lacking: Vec<_> = recorded.difference(&mine).cloned().collect();
    let beyond: Vec<_> = mine.difference(&recorded).cloned().collect();
    let differs = !lacking.is_empty() || !beyond.is_empty();
    differs.then(|| format!("lacks {}; has {}", lacking.join(" "), beyond.join(" ")))
}

/// Of files as storage, or of no storage at all.
fn of_files(file: &str) -> bool {
    let of = file.split('-').nth(1).unwrap_or_default();
    !matches!(of, "d" | "tls" | "auth" | "py" | "cli") && !of.starts_with("tok")
}

/// The simulator, and what is going on beside the exchanges.
struct Stage {
    sim: LinstorSim,
    options: Options,
    running: Option<JoinHandle<anyhow::Result<Answered>>>,
    /// What the last one that ran was answered.
    over: Option<Answered>,
}

/// How long a call stays at its point: longer than the exchanges meanwhile.
const RUNS: Duration = Duration::from_millis(700);

impl Stage {
    async fn set(&mut self, scene: Scene) -> anyhow::Result<()> {
        let json = [("content-type", "application/json")];
        match scene {
            Scene::Node(online) => self.sim.now(&What::Node { name: "oma".to_owned(), online }),
            Scene::Fails(tool) => {
                for method in ["POST", "PUT", "DELETE"] {
                    self.sim.arm([Rule::first(method, "*", What::ToolFails(tool))]);
                }
            }
            Scene::Asked(method, path, body) => {
                let answer = ask(self.sim.address(), method, path, &body.to_string(), &json).await?;
                answer.with_context(|| format!("no answer to {path}"))?;
                self.sim.disarm();
            }
            Scene::Running(path, body, point, then) => {
                let delay = What::DelayMs(u64::try_from(RUNS.as_millis())?);
                let rules = [Some(delay), then].into_iter().flatten();
                self.sim.arm(rules.map(|what| Rule::first("POST", path, what).at(point)));
                let at = self.sim.address();
                self.running =
                    Some(tokio::spawn(async move { ask(at, "POST", path, &body.to_string(), &json).await }));
                // Until it is there.
                tokio::time::sleep(RUNS / 2).await;
            }
            Scene::Over => {
                let running = self.running.take().context("nothing is running")?;
                self.over = Some(running.await??);
                self.sim.disarm();
            }
            Scene::Restarted => {
                let options = Options { reconnect: Duration::from_secs(3600), ..self.options.clone() };
                self.sim = LinstorSim::start(options).await?;
            }
            Scene::Found => self.sim.now(&What::Node { name: "oma".to_owned(), online: true }),
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_as_linstor_was_recorded_to() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = Options { host: Some("vm".to_owned()), ..Options::new(folder.path()) };
    let sim = LinstorSim::start(options.clone()).await?;
    let mut stage = Stage { sim, options, running: None, over: None };
    let mut found = BTreeMap::new();
    let mut asked = 0;
    for recorded in exchanges(Recording::Linstor)? {
        let file = recorded["file"].as_str().unwrap_or_default();
        if !of_files(file) {
            continue;
        }
        for scene in scenes(file) {
            stage.set(scene).await?;
        }
        // What is in `scenes` was cut off there, and a controller that is not there answers nobody.
        if recorded["status"].is_null() {
            continue;
        }
        let method = recorded["method"].as_str().unwrap_or_default();
        let path = recorded["path"].as_str().unwrap_or_default();
        let body = recorded["request_body"]
            .as_null()
            .map_or_else(|| recorded["request_body"].to_string(), |()| String::new());
        let (body, kind) = odd_body(file).unwrap_or((&body, "application/json"));
        let accept = if file == "0270-e-accept-xml" { "application/xml" } else { "*/*" };
        let kind = if matches!(method, "GET" | "HEAD" | "DELETE") { "" } else { kind };
        let answered = match stage.over.take().filter(|_| file == "0392-f-slow2") {
            Some(answered) => answered,
            None => {
                ask(stage.sim.address(), method, path, body, &[("content-type", kind), ("accept", accept)])
                    .await?
            }
        };
        if method != "GET" {
            stage.sim.disarm();
        }
        asked += 1;
        if let Some(difference) = difference(&recorded, answered.as_ref()) {
            found.insert(file.to_owned(), difference);
        }
    }
    let listed: BTreeSet<_> = DIFFERENCES
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let agree = asked - found.len();
    eprintln!("{agree} of {asked} recorded exchanges agree");
    let new: Vec<_> = found.iter().filter(|(file, _)| !listed.contains(file.as_str())).collect();
    let mended: Vec<_> = listed.iter().filter(|file| !found.contains_key(**file)).collect();
    let told: String = new.iter().map(|(file, difference)| format!("\n{file}  {difference}")).collect();
    assert!(new.is_empty(), "{agree} of {asked} agree; these differ and are not listed:{told}");
    assert!(mended.is_empty(), "these are listed as different, and are not: {mended:?}");
    Ok(())
}

/// What python-linstor and linstor-client asked of a real one with DRBD on two nodes of three. What satellites say of DRBD is
/// not what is looked at: statuses and the codes of errors.
#[tokio::test(flavor = "multi_thread")]
async fn real_clients_get_the_statuses_that_they_got() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let nodes = ["kvm1", "kvm2", "oma"].map(str::to_owned).to_vec();
    let sim = LinstorSim::start(Options { nodes, drbd: true, ..Options::usual(folder.path()) }).await?;
    let json = [("content-type", "application/json")];
    for pool in ["thin", "thick"] {
        ask(sim.address(), "DELETE", &format!("/v1/nodes/oma/storage-pools/{pool}"), "", &json).await?;
    }
    let one = json!({"name": "one", "select_filter": {"place_count": 1, "storage_pool_list": ["thin"]}});
    ask(sim.address(), "POST", "/v1/resource-groups", &one.to_string(), &json).await?;
    let errors = |body: &Value| {
        let codes = entries(body).unwrap_or_default().into_iter();
        codes.filter_map(|(kind, code)| (kind == -1).then_some(code)).collect::<Vec<_>>()
    };
    let (mut asked, mut different) = (0, Vec::new());
    for recorded in exchanges(Recording::Linstor)? {
        let text = |name: &str| recorded[name].as_str().unwrap_or_default();
        let of = text("file").split('-').nth(1);
        let Some(status) = recorded["status"].as_u64().filter(|_| matches!(of, Some("py" | "cli"))) else {
            continue;
        };
        let body = recorded.get("request_body").map(ToString::to_string).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { json[0].1 };
        let answered =
            ask(sim.address(), text("method"), text("path"), &body, &[("content-type", kind)]).await?;
        let (got, answer) = answered.context("no answer")?;
        asked += 1;
        if u64::from(got) != status || errors(&answer) != errors(&recorded["body"]) {
            different.push(format!("{} {} {}: {got} {answer}", text("file"), text("method"), text("path")));
        }
    }
    assert!(asked > 100, "{asked} were asked");
    assert!(different.is_empty(), "{} of {asked} differ:\n{}", different.len(), different.join("\n"));
    Ok(())
}
