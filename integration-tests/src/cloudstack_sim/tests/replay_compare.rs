//! When two answers agree: status, codes, a job's outcome, and which keys stand where. Values do not count.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Keys whose contents are not the server's: people's own names, or details.
const OPAQUE: [&str; 3] = ["details", "resourcedetails", "storagecapabilities"];

/// Every path of keys, list items all alike.
fn shape(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = format!("{at}.{key}");
                if !OPAQUE.contains(&key.as_str()) {
                    shape(value, &path, into);
                }
                into.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| shape(item, at, into)),
        _ => {}
    }
}

fn first(value: &Value) -> Value {
    value.as_object().and_then(|whole| whole.values().next().cloned()).unwrap_or_default()
}

/// What differs, in words; `None`: nothing.
pub(super) fn difference(recorded: (u64, &Value), simulated: (u64, &Value)) -> Option<String> {
    if recorded.0 != simulated.0 {
        return Some(format!("status {} is {}: {}", recorded.0, simulated.0, simulated.1));
    }
    let (own, theirs) = (first(simulated.1), first(recorded.1));
    for key in ["errorcode", "cserrorcode", "jobstatus", "jobresultcode", "success"] {
        if theirs.get(key) != own.get(key) {
            let text = own["errortext"].as_str().or_else(|| own["jobresult"]["errortext"].as_str());
            return Some(format!("{key} {} is {} {}", theirs[key], own[key], text.unwrap_or_default()));
        }
    }
    let (mut ours, mut real) = (BTreeSet::new(), BTreeSet::new());
    shape(simulated.1, "", &mut ours);
    shape(recorded.1, "", &mut real);
    let missing: Vec<_> = real.difference(&ours).map(String::as_str).collect();
    let more: Vec<_> = ours.difference(&real).map(String::as_str).collect();
    let alike = missing.is_empty() && more.is_empty();
    (!alike).then(|| format!("missing [{}], too many [{}]", missing.join(" "), more.join(" ")))
}

/// Ids that stand at the same place in both answers are the same thing.
pub(super) fn learn(recorded: &Value, simulated: &Value, ids: &mut BTreeMap<String, String>) {
    match (recorded, simulated) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                if let Some(own) = ours.get(key) {
                    learn(value, own, ids);
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            // Lists of several may stand in another order: matched by name, else by place.
            for (at, theirs) in theirs.iter().enumerate() {
                let same =
                    |own: &&Value| theirs.get("name").is_some() && theirs.get("name") == own.get("name");
                if let Some(own) = ours.iter().find(same).or_else(|| ours.get(at)) {
                    learn(theirs, own, ids);
                }
            }
        }
        (Value::String(theirs), Value::String(own)) if is_id(theirs) && is_id(own) => {
            ids.entry(theirs.clone()).or_insert_with(|| own.clone());
        }
        _ => {}
    }
}

fn is_id(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok() && text.len() == 36
}

#[test]
fn a_difference_is_seen() {
    use serde_json::json;
    let zones = json!({"listzonesresponse": {"count": 1, "zone": [{"id": "a", "tags": []}]}});
    assert_eq!(difference((200, &zones), (200, &zones)), None);
    assert!(difference((200, &zones), (401, &zones)).is_some());
    let less = json!({"listzonesresponse": {"count": 1, "zone": [{"id": "b"}]}});
    assert!(difference((200, &zones), (200, &less)).unwrap().contains("zone.tags"));
    let failed = |code: u64| json!({"x": {"jobstatus": 2, "jobresultcode": code}});
    assert!(difference((200, &failed(530)), (200, &failed(431))).is_some());
}
