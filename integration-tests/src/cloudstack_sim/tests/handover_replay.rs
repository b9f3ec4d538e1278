//! The recorded hand-over, sent again to both simulators in its order: what a client asked of CloudStack, and of LINSTOR.
//!
//! What CloudStack asked of LINSTOR is not sent: the plug-in behind the simulator has to ask it by itself, and what it did
//! shows in LINSTOR's later answers. Compared are statuses, codes, jobs' outcomes and the shape of bodies; of LINSTOR's
//! entries only errors and warnings (satellites that adjust DRBD say much more than is simulated), and nothing of DRBD's. What the recorder had the agent's class do on a host, the simulator's agent does. Ids
//! that a server made up are mapped, in LINSTOR's names too. What differs stands in `recordings/handover-differences.txt`
//! with its reason, which may only shrink.

use super::client::Client;
use super::replay_compare::{difference, learn};
use crate::cloudstack_sim::{Order, Rest, World, plugin};
use crate::linstor_sim::{self, What};
use crate::recordings::{Recording, exchanges};
use crate::zone::{Options, Zone};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const DIFFERENCES: &str = include_str!("../../../recordings/handover-differences.txt");

/// Made up by the world here, and by people there.
const GIVEN: &str = "00-setup";

/// What the recorder did beside the calls, before an exchange.
fn scene(zone: &Zone, key: &str) {
    let used = |resource: &str, node: &str, in_use| {
        let (resource, node) = (format!("cs-{resource}"), node.to_owned());
        zone.linstor().now(&What::InUse { resource, node, in_use });
    };
    match key {
        // A host did not take the first start.
        "01-clone-and-adopt/71" => {
            let rule =
                json!({"command": "startVirtualMachine", "what": "job-fail", "code": 530, "text": "no host"});
            zone.cloudstack().arm([serde_json::from_value(rule).unwrap()]);
        }
        "10-cleanup-repair-sizes/83" => used("0669526e-032c-4340-b516-6d28a3f2f1ff", "kvm2", true),
        "10-cleanup-repair-sizes/86" => used("0669526e-032c-4340-b516-6d28a3f2f1ff", "kvm2", false),
        _ => {}
    }
}

/// Of which machine, before which exchange, the recorder looked up the root, which stands in no answer.
const ROOTS: [(&str, &str, &str); 2] = [
    ("01-clone-and-adopt/55", "5ad06dde-ee67-4180-8d15-193d28ff4bcb", "3ec1d1bb-45e0-4cf9-acbb-1406a75b7f9e"),
    (
        "07-helper-and-replace/4",
        "4ebd23f7-9885-4f33-b039-34b68acd1867",
        "2f5c6c5d-7dc1-4912-befe-ddcdaea7cfcf",
    ),
];

/// Statistics, which come some minutes after the machine.
const COUNTED: [&str; 7] = [
    "cpuused",
    "memoryintfreekbs",
    "memorykbs",
    "memorytargetkbs",
    "physicalsize",
    "utilization",
    "virtualsize",
];

/// What of LINSTOR's answers is not looked at, beside properties of DRBD's: it is not simulated.
const OF_DRBD: [&str; 4] = ["layer_object", "layer_data", "layer_data_list", "state"];

enum Seen {
    Agrees,
    Differs(String),
    /// Nothing that can be sent.
    Skipped,
}

struct Replay {
    zone: Zone,
    admin: Client,
    /// Recorded ids, and the simulator's.
    ids: BTreeMap<String, String>,
}

impl Replay {
    /// Every id that is known to be another one here, wherever it stands.
    fn own(&self, text: &str) -> String {
        let known = self.ids.iter().filter(|(theirs, own)| theirs != own && text.contains(theirs.as_str()));
        known.fold(text.to_owned(), |text, (theirs, own)| text.replace(theirs.as_str(), own))
    }

    async fn cloudstack(&mut self, exchange: &Value) -> Seen {
        let (Some(command), Some(params)) = (exchange["command"].as_str(), exchange["params"].as_object())
        else {
            return Seen::Skipped;
        };
        let text = |value: &Value| self.own(value.as_str().unwrap_or_default());
        let params: Vec<_> = params.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        if command == "queryAsyncJobResult" {
            // Of a job that was not submitted here nothing can be said.
            let known = exchange["params"]["jobid"].as_str().is_some_and(|id| self.ids.contains_key(id));
            if !known {
                return Seen::Skipped;
            }
            self.admin.wait(&params[0].1).await;
        }
        let (status, own) =
            self.admin.raw("POST", "/client/api", Some(&self.admin.query(command, &params))).await;
        let own: Value = serde_json::from_str(&own).unwrap_or_default();
        learn(&exchange["answer"], &own, &mut self.ids);
        let theirs = uncounted(exchange["answer"].clone());
        let recorded = (exchange["status"].as_u64().unwrap_or(0), &theirs);
        difference(recorded, (u64::from(status), &uncounted(own))).map_or(Seen::Agrees, Seen::Differs)
    }

    async fn linstor(&self, exchange: &Value) -> Seen {
        let path = self.own(exchange["path"].as_str().unwrap_or_default());
        let method = exchange["method"].as_str().unwrap_or_default();
        let body = exchange.get("body").map(|body| self.own(&body.to_string())).unwrap_or_default();
        let json = [("content-type", if body.is_empty() { "" } else { "application/json" })];
        let address = self.zone.linstor().address();
        let Ok(Some((status, own))) = linstor_sim::ask(address, method, &path, &body, &json).await else {
            return Seen::Differs("no answer".to_owned());
        };
        let answer: Value =
            serde_json::from_str(&self.own(&exchange["answer"].to_string())).unwrap_or_default();
        let recorded = json!({"status": exchange["status"], "body": storage_only(answer)});
        let answered = (status, storage_only(own));
        if recorded["status"] == status
            && trouble(&recorded["body"]) == trouble(&answered.1)
            && is_said(&answered.1)
        {
            return Seen::Agrees;
        }
        linstor_sim::difference(&recorded, Some(&answered)).map_or(Seen::Agrees, Seen::Differs)
    }

    /// The class that runs on hosts, on one of them.
    fn agent(&self, exchange: &Value) {
        let node = exchange["command"].as_str().unwrap_or_default().trim_start_matches("agent ");
        let rest = Rest::new(&self.zone.linstor_url());
        for word in exchange["params"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let _ = match word.split(':').collect::<Vec<_>>()[..] {
                ["connect", volume] => plugin::connect(&rest, volume, node).map(drop),
                ["disconnect", volume] => plugin::disconnect(&rest, volume, node),
                _ => Ok(()),
            };
        }
    }

    async fn look_up_root(&mut self, key: &str) {
        let Some((_, vm, root)) = ROOTS.iter().find(|(at, _, _)| *at == key) else { return };
        let listed = self.admin.ok("listVolumes", &[("virtualmachineid", self.own(vm))]).await;
        self.ids.insert((*root).to_owned(), listed["volume"][0]["id"].as_str().unwrap().to_owned());
    }

    async fn see(&mut self, exchange: &Value) -> Seen {
        match (exchange["api"].as_str(), exchange["by"].as_str()) {
            _ if exchange["scenario"] == GIVEN => Seen::Skipped,
            (Some("cloudstack"), _) => self.cloudstack(exchange).await,
            (Some("linstor"), Some("us")) => self.linstor(exchange).await,
            (Some("agent"), _) => {
                self.agent(exchange);
                Seen::Skipped
            }
            _ => Seen::Skipped,
        }
    }
}

/// Without what a server counts from time to time.
fn uncounted(mut answer: Value) -> Value {
    match &mut answer {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = uncounted(item.take())),
        Value::Object(members) => {
            let is_counted = |key: &str| {
                COUNTED.contains(&key)
                    || ["diskio", "diskkbs", "networkkbs"].iter().any(|begin| key.starts_with(begin))
            };
            members.retain(|key, _| !is_counted(key));
            members.values_mut().for_each(|value| *value = uncounted(value.take()));
        }
        _ => {}
    }
    answer
}

/// A list of entries.
fn is_said(answer: &Value) -> bool {
    answer.as_array().and_then(|entries| entries.first()).is_some_and(|entry| entry.get("ret_code").is_some())
}

/// Kinds and codes of what is no success: how satellites adjust DRBD is said in many more entries.
fn trouble(answer: &Value) -> Vec<(i64, i64)> {
    let codes = answer.as_array().into_iter().flatten().filter_map(|entry| entry["ret_code"].as_i64());
    codes.map(|code| (code >> 62, code & 0x7FFF)).filter(|(kind, _)| *kind < 0).collect()
}

/// Without what only DRBD itself knows, which is not simulated.
fn storage_only(mut answer: Value) -> Value {
    match &mut answer {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = storage_only(item.take())),
        Value::Object(members) => {
            let is_drbds = |key: &str| {
                OF_DRBD.contains(&key) || key.starts_with("Drbd") || key.starts_with("Linstor/Drbd/")
            };
            members.retain(|key, _| !is_drbds(key));
            members.values_mut().for_each(|value| *value = storage_only(value.take()));
        }
        _ => {}
    }
    answer
}

/// The objects that were made for the recording, in the world of the simulator.
fn world(zone: &Zone, recorded: &[Value]) -> BTreeMap<String, String> {
    let ids = zone.ids().unwrap();
    let made = |command: &str, kind: &str| {
        let made = recorded.iter().find(|one| one["scenario"] == GIVEN && one["command"] == command).unwrap();
        let answer = made["answer"].as_object().unwrap().values().next().unwrap();
        answer[kind]["id"].as_str().unwrap().to_owned()
    };
    let pool = zone.cloudstack().world().id_of("storagepool", "PS0").unwrap();
    BTreeMap::from([
        (made("createStoragePool", "storagepool"), ids.pool),
        (made("createDiskOffering", "diskoffering"), ids.disk_offering),
        (made("createServiceOffering", "serviceoffering"), ids.service_offering),
        (made("createNetwork", "network"), ids.networks["l2a"].clone()),
        ("400da9ea-f03b-4e23-8553-0542ef536b77".to_owned(), ids.zone),
        ("73ed1a16-e59d-11f1-9c2d-02fc00000001".to_owned(), ids.template),
        ("366116d9-a0d8-3286-be0b-0ed785c9a1ee".to_owned(), pool),
        ("REAL".to_owned(), "linstor".to_owned()),
    ])
}

/// As the recorder had it set most of the time.
fn keep_snapshots(world: &mut World) {
    world.retain("configuration", |setting| {
        if setting["name"] == "lin.backup.snapshots" {
            setting["value"] = json!("false");
        }
        true
    });
}

/// In the order in which they were recorded: scenarios by their first moment.
fn in_order() -> Vec<Value> {
    let all = exchanges(Recording::HandOver).unwrap();
    let mut began = BTreeMap::new();
    for one in &all {
        began.entry(one["scenario"].to_string()).or_insert_with(|| one["at"].to_string());
    }
    let mut all: Vec<_> =
        all.into_iter().map(|one| (began[&one["scenario"].to_string()].clone(), one)).collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all.into_iter().map(|(_, one)| one).collect()
}

/// `scenario/n reason`, one a line.
fn known() -> BTreeMap<String, String> {
    let lines = DIFFERENCES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').map(|(key, why)| (key.to_owned(), why.to_owned())).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "the share is what this test is asked for")]
async fn a_real_hand_overs_answers_are_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { order: Order::Submission, adjust: keep_snapshots, ..Options::new(dir.path()) };
    let zone = Zone::start_with(options).await.unwrap();
    let recorded = in_order();
    let (admin, ids) = (Client::new(zone.cloudstack(), zone.admin_keys()), world(&zone, &recorded));
    let mut replay = Replay { zone, admin, ids };
    let (mut known, listed) = (known(), known().len());
    let (mut agreed, mut differ, mut wrong) = ([0, 0], [0, 0], Vec::new());
    for exchange in &recorded {
        let key = format!("{}/{}", exchange["scenario"].as_str().unwrap(), exchange["n"]);
        scene(&replay.zone, &key);
        replay.look_up_root(&key).await;
        let of = usize::from(exchange["api"] == "linstor");
        match replay.see(exchange).await {
            Seen::Skipped => {}
            Seen::Agrees => {
                agreed[of] += 1;
                if known.remove(&key).is_some() {
                    wrong.push(format!("{key} agrees now: strike it out"));
                }
            }
            Seen::Differs(text) => {
                differ[of] += 1;
                if known.remove(&key).is_none() {
                    let asked = exchange["command"].as_str().or(exchange["path"].as_str()).unwrap_or("-");
                    let text: String = text.chars().take(500).collect();
                    wrong.push(format!(
                        "{key} {asked} | {} | {text}",
                        exchange["note"].as_str().unwrap_or("-")
                    ));
                }
            }
        }
    }
    for (name, of) in [("CloudStack", 0), ("LINSTOR", 1)] {
        let all = agreed[of] + differ[of];
        eprintln!("{name}: {} of {all} exchanges agree ({}%)", agreed[of], agreed[of] * 100 / all.max(1));
    }
    wrong.extend(known.keys().map(|key| format!("{key} was not compared: strike it out")));
    assert!(wrong.is_empty(), "{} differ, {listed} are listed:\n{}", wrong.len(), wrong.join("\n"));
}
