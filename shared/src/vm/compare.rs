//! What two configurations of one VM differ in, field by field.

use super::Configuration;
use serde_json::Value;
use std::collections::BTreeMap;

/// A field that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = ConfigurationChange)]
pub struct Difference {
    /// `memory_bytes`, `nics[4000].network`.
    pub field: String,
    /// As recorded; empty: not known, or not there.
    pub recorded: String,
    /// As the source has it now.
    pub present: String,
}

/// In the order of the fields' names.
pub fn differences(recorded: &Configuration, present: &Configuration) -> Vec<Difference> {
    let (was, is) = (fields(recorded), fields(present));
    let names: std::collections::BTreeSet<_> = was.keys().chain(is.keys()).collect();
    let text = |of: &BTreeMap<String, String>, name: &str| of.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .map(|name| Difference { field: name.clone(), recorded: text(&was, name), present: text(&is, name) })
        .filter(|d| d.recorded != d.present)
        .collect()
}

fn fields(configuration: &Configuration) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if let Ok(value) = serde_json::to_value(configuration) {
        flatten(String::new(), &value, &mut found);
    }
    found
}

/// Things of a list go by their key: a NIC that was added in front does not make all others differ.
fn flatten(path: String, value: &Value, found: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(below(name), value, found);
            }
        }
        Value::Array(list) => {
            let keyed = |thing: &Value| thing.get("key").and_then(Value::as_str).map(str::to_owned);
            let mut words = Vec::new();
            for thing in list {
                match keyed(thing) {
                    Some(key) => {
                        flatten(format!("{path}[{key}]"), thing, found);
                        words.push(key);
                    }
                    None => words.push(plain(thing)),
                }
            }
            // Their order too: the first disk is the one that is booted.
            found.insert(path, words.join(", "));
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(path, plain(value));
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    #[test]
    fn a_difference_is_named_by_field_and_key() {
        let nic = |key: &str, network: &str| Nic {
            key: key.parse().expect("a key"),
            mac: None,
            model: NicModel::E1000,
            network: Some(network.to_owned()),
            addresses: vec![],
        };
        let was = Configuration {
            cpus: Some(2),
            nics: vec![nic("4000", "a"), nic("4001", "b")],
            ..Default::default()
        };
        let mut is = was.clone();
        assert_eq!(differences(&was, &is), []);
        is.cpus = None;
        is.nics = vec![nic("4002", "x"), nic("4000", "c"), nic("4001", "b")];
        let said: Vec<_> = differences(&was, &is)
            .into_iter()
            .map(|d| format!("{}: {} > {}", d.field, d.recorded, d.present))
            .collect();
        let expected = [
            "cpus: 2 > ",
            "nics: 4000, 4001 > 4002, 4000, 4001",
            "nics[4000].network: a > c",
            "nics[4002].key:  > 4002",
            "nics[4002].model:  > e1000",
            "nics[4002].network:  > x",
        ];
        // An empty list of addresses is not told from none.
        assert_eq!(said, expected);
    }
}
