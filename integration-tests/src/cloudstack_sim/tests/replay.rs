//! The recorded exchanges, sent again in their order: how much of a real server's behaviour is simulated.
//!
//! Ids are mapped as answers bring them. What differs stands in `recordings/cloudstack-differences.txt` with a reason; a
//! difference that is not there fails the test, and so does an entry that agrees by now.

use super::super::sign::Sent;
use super::super::{CloudStackSim, Options, Order};
use super::client::{Client, encode};
use super::replay_compare::{difference, learn};
use crate::recordings::{Recording, exchanges};
use serde_json::Value;
use std::collections::BTreeMap;

/// Those that fit the simulator's world. 05 makes what 06 goes on with.
const SCENARIOS: [&str; 9] = [
    "01-auth",
    "03-read",
    "04-errors-and-signing",
    "05-lifecycle",
    "06-vm-and-volumes",
    "07-running-vm",
    "09-jobs-and-timing",
    "17-server-restart",
    "19-retries-ids-transport",
];
const LAST: &str = "20-transport-and-throttling";

/// Asked while jobs ran: what is seen then is of the moment.
const OF_THE_MOMENT: [&str; 5] = [
    "07-running-vm/134",
    "07-running-vm/135",
    "09-jobs-and-timing/14",
    "09-jobs-and-timing/15",
    "09-jobs-and-timing/16",
];

const DIFFERENCES: &str = include_str!("../../../recordings/cloudstack-differences.txt");

struct Replay {
    admin: Client,
    user: Client,
    sim: CloudStackSim,
    ids: BTreeMap<String, String>,
    /// Jobs whose outcome was compared.
    ended: Vec<String>,
}

enum Seen {
    Agrees,
    Differs(String),
    /// Nothing that can be sent, or an answer of a moment.
    Skipped,
}

impl Replay {
    fn own(&self, value: &str) -> String {
        let parts = value.split(',').map(|id| self.ids.get(id).map_or(id, String::as_str));
        parts.collect::<Vec<_>>().join(",")
    }

    /// An id of a world that was built anew, which nothing has brought: by what the parameter means.
    fn guess(&self, name: &str, value: &str) -> Option<String> {
        let world = self.sim.world();
        if uuid::Uuid::try_parse(value).is_err() {
            return None;
        }
        let first = |kind: &str, own: &str| {
            let known = world.get(kind, value).is_some();
            (!known).then(|| world.id_of(kind, own)).flatten()
        };
        match name {
            "zoneid" => first("zone", "Sandbox-simulator"),
            "serviceofferingid" => first("serviceoffering", "Small Instance"),
            "diskofferingid" => first("diskoffering", "Small"),
            "templateid" => first("template", "CentOS 5.6 (64-bit) no GUI (Simulator)"),
            "networkids" if !value.contains(',') => first("network", "l2v"),
            _ => None,
        }
    }

    /// What was there, or set, before: by scenarios that are not replayed.
    async fn prepare(&mut self, key: &str) {
        let throttle = |throttle: Value| serde_json::json!({"throttle": throttle});
        match key {
            "19-retries-ids-transport/0" => {
                let params = [
                    ("zoneid", "3cc3e7ee-6c08-4083-9238-d6ced0ceed8d"),
                    ("serviceofferingid", "225d3338-b479-4fe4-b579-97e127443feb"),
                    ("templateid", "7a4360af-e59d-11f1-9c2d-02fc00000001"),
                    ("networkids", "00000000-0000-4000-8000-000000000000"),
                ];
                let guessed = params.map(|(name, id)| (name, self.guess(name, id).unwrap()));
                let own = [
                    ("name", "ad"),
                    ("startvm", "false"),
                    ("customid", "2f0ce61a-ee68-4e27-9fc5-f5a22a85b351"),
                ];
                let own = own.map(|(name, value)| (name, value.to_owned()));
                let params: Vec<_> = guessed.into_iter().chain(own).collect();
                self.admin.job("deployVirtualMachine", &params).await.done();
            }
            "20-transport-and-throttling/11" => {
                let five = serde_json::json!({"limit": 5, "window_ms": 10_000});
                self.admin.switch("settings", throttle(five)).await;
            }
            "20-transport-and-throttling/21" => {
                self.admin.switch("settings", throttle(Value::Null)).await;
            }
            _ => {}
        }
    }

    async fn send(&mut self, exchange: &Value) -> Option<(u64, Value)> {
        let command = exchange["command"].as_str();
        let (status, body) = if let (Some(command), Some(params)) = (command, exchange["params"].as_object())
        {
            let mut own = Vec::new();
            for (name, value) in params {
                let value = value.as_str().unwrap_or_default();
                let mapped = self.own(value);
                let mapped = if mapped == value { self.guess(name, value).unwrap_or(mapped) } else { mapped };
                own.push((name.clone(), mapped));
            }
            let is_plain = exchange["note"].as_str().is_some_and(|note| note.starts_with("plain user"));
            let by = if is_plain { &self.user } else { &self.admin };
            let form = by.query(command, &own);
            match exchange["method"].as_str() {
                Some("POST") => by.raw("POST", "/client/api", Some(&form)).await,
                _ => by.raw("GET", &format!("/client/api?{form}"), None).await,
            }
        } else if let (Some(pairs), Some(signed)) =
            (exchange["params"].as_array(), exchange["signed_text"].as_str())
        {
            // Signed by the recorded text, sent as it was recorded.
            let note = exchange["note"].as_str().unwrap_or_default();
            self.send_signed(pairs, signed, exchange["path"].as_str()?, note).await?
        } else {
            return None;
        };
        let body = serde_json::from_str(&body).unwrap_or(Value::Null);
        Some((u64::from(status), body))
    }

    async fn send_signed(
        &self,
        pairs: &[Value],
        signed: &str,
        path: &str,
        note: &str,
    ) -> Option<(u16, String)> {
        // What was signed otherwise than the text says cannot be made again.
        if note.contains("HMAC-SHA") || note.contains("wrong secret") || note.contains("latin-1") {
            return None;
        }
        let sent: Sent = pairs
            .iter()
            .filter_map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())))
            .collect();
        let is_expiring = sent.keys().any(|name| name.eq_ignore_ascii_case("expires"));
        let text = signed.replace("REDACTED", &encode(&self.admin.key));
        let text = if text.chars().any(char::is_uppercase)
            && signed == signed.to_lowercase().replace("redacted", "REDACTED")
        {
            text.to_lowercase()
        } else {
            text
        };
        let signature = encode(&self.admin.sign(&text));
        let mut path =
            path.replacen("REDACTED", &encode(&self.admin.key), 1).replacen("REDACTED", &signature, 1);
        if is_expiring && note.contains("v3, future") && path.contains("2026-11-21") {
            return None;
        }
        if !path.contains('?') {
            return None;
        }
        path.retain(|c| !c.is_whitespace());
        Some(self.admin.raw("GET", &path, None).await)
    }

    async fn compare(&mut self, exchange: &Value) -> Seen {
        let recorded = exchange["answer"].clone();
        let Some(status) = exchange["status"].as_u64() else { return Seen::Skipped };
        let is_poll = exchange["command"] == "queryAsyncJobResult" && recorded.is_object();
        if is_poll && let Some(seen) = self.poll(exchange, &recorded).await {
            return seen;
        }
        let Some((own_status, own)) = self.send(exchange).await else { return Seen::Skipped };
        learn(&recorded, &own, &mut self.ids);
        // An answer that is no JSON was not kept as one.
        let (recorded, own_body) =
            if recorded.is_object() { (recorded, own) } else { (Value::Null, Value::Null) };
        match difference((status, &recorded), (own_status, &own_body)) {
            None => Seen::Agrees,
            Some(text) => Seen::Differs(text),
        }
    }

    /// Of a job the outcome counts, once.
    async fn poll(&mut self, exchange: &Value, recorded: &Value) -> Option<Seen> {
        let inner = &recorded["queryasyncjobresultresponse"];
        let status = inner.get("jobstatus")?.as_u64()?;
        let id = inner["jobid"].as_str()?.to_owned();
        if status == 0
            || self.ended.contains(&id) && exchange["note"].as_str().is_some_and(|note| note.contains("poll"))
        {
            return Some(Seen::Skipped);
        }
        let Some(own) = self.ids.get(&id).cloned() else { return Some(Seen::Skipped) };
        self.ended.push(id);
        self.admin.wait(&own).await;
        None
    }
}

/// `scenario/n reason`, one a line.
fn known() -> BTreeMap<String, String> {
    let lines = DIFFERENCES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').map(|(key, why)| (key.to_owned(), why.to_owned())).unwrap())
        .collect()
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the share is what this test is asked for")]
async fn a_real_servers_answers_are_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path()).unwrap();
    options.order = Order::Submission;
    let sim = CloudStackSim::start(options).await.unwrap();
    let admin = Client::new(&sim, sim.admin_keys());
    let user = Client::new(&sim, sim.user_keys());
    let mut replay = Replay { admin, user, sim, ids: BTreeMap::new(), ended: Vec::new() };
    let (mut agreed, mut skipped, mut wrong) = (0, 0, Vec::new());
    let (mut known, mut keys) = (known(), std::collections::BTreeSet::new());
    for exchange in exchanges(Recording::CloudStack).unwrap() {
        let scenario = exchange["scenario"].as_str().unwrap_or_default();
        if !SCENARIOS.contains(&scenario) && scenario != LAST {
            continue;
        }
        let mut key = format!("{scenario}/{}", exchange["n"]);
        while !keys.insert(key.clone()) {
            key.push('+');
        }
        replay.prepare(&key).await;
        let seen = match replay.compare(&exchange).await {
            _ if OF_THE_MOMENT.contains(&key.as_str()) => Seen::Skipped,
            seen => seen,
        };
        match seen {
            Seen::Skipped => skipped += 1,
            Seen::Agrees if known.remove(&key).is_some() => {
                wrong.push(format!("{key} agrees now: strike it out"))
            }
            Seen::Agrees => agreed += 1,
            Seen::Differs(text) if known.remove(&key).is_none() => {
                let (command, note) = (exchange["command"].as_str(), exchange["note"].as_str());
                let text: String = text.chars().take(400).collect();
                wrong.push(format!("{key} {} | {} | {text}", command.unwrap_or("-"), note.unwrap_or("-")));
            }
            Seen::Differs(_) => {}
        }
    }
    let listed = DIFFERENCES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    let compared = agreed + listed;
    eprintln!(
        "{agreed} of {compared} exchanges agree ({}%), {skipped} cannot be compared",
        agreed * 100 / compared.max(1)
    );
    wrong.extend(known.keys().map(|key| format!("{key} was not compared: strike it out")));
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
