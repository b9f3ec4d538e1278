//! What a server can do, of its own list of commands.

use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Commands that the account may use, with their parameters. A server ignores a parameter it does not know in silence, so
/// that each one beyond the oldest server's is looked up here before it is relied on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeMap<String, BTreeSet<String>>);

#[derive(Deserialize)]
struct Api {
    name: String,
    #[serde(default)]
    params: Vec<Param>,
}

#[derive(Deserialize)]
struct Param {
    name: String,
}

impl Capabilities {
    /// Of the answer to `listApis`. What cannot be read is a command that is not there.
    pub fn of(answer: &Value) -> Self {
        let apis = answer.get("api").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let known = apis.iter().filter_map(|api| Api::deserialize(api).ok());
        Self(known.map(|api| (api.name, api.params.into_iter().map(|param| param.name).collect())).collect())
    }

    /// Whether the account may use it.
    pub fn has(&self, command: &str) -> bool {
        self.0.contains_key(command)
    }

    /// Whether the command takes the parameter.
    pub fn takes(&self, command: &str, parameter: &str) -> bool {
        self.0.get(command).is_some_and(|parameters| parameters.contains(parameter))
    }

    /// Those of `wanted` that are missing: `command`, or `command.parameter`.
    pub fn missing<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let is_there = |wanted: &str| match wanted.split_once('.') {
            Some((command, parameter)) => self.takes(command, parameter),
            None => self.has(wanted),
        };
        wanted.into_iter().filter(|wanted| !is_there(wanted)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_parameter_is_known_by_the_list_and_not_by_a_version() {
        let known = Capabilities::of(&json!({"count": 3, "api": [
            {"name": "createVolume", "isasync": true, "params": [{"name": "customid", "type": "string"}, {"name": "size"}]},
            {"name": "listZones"},
            {"isasync": false},
        ]}));
        assert!(known.has("listZones") && !known.has("listzones"));
        assert!(known.takes("createVolume", "customid") && !known.takes("createVolume", "storageid"));
        let wanted = [
            "createVolume",
            "createVolume.customid",
            "createVolume.storageid",
            "updateVolume",
            "updateVolume.path",
        ];
        assert_eq!(known.missing(wanted), ["createVolume.storageid", "updateVolume", "updateVolume.path"]);
        assert_eq!(Capabilities::of(&json!({})), Capabilities::default());
    }
}
