//! A command's parameters, by name in lower case. What stands behind a map's bracket keeps its case.

use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Params(pub(super) BTreeMap<String, String>);

/// What every command takes and no list of parameters names.
const OF_THE_REQUEST: [&str; 8] =
    ["command", "response", "apikey", "signature", "signatureversion", "expires", "sessionkey", "_"];

impl Params {
    /// Of what was sent.
    pub(super) fn of(sent: &BTreeMap<String, String>) -> Self {
        let spelled = sent.iter().map(|(name, value)| {
            let name = match name.split_once('[') {
                Some((map, rest)) => format!("{}[{rest}", map.to_lowercase()),
                None => name.to_lowercase(),
            };
            (name, value.clone())
        });
        Self(spelled.filter(|(name, _)| !OF_THE_REQUEST.contains(&name.as_str())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of one that the contract requires.
    pub(super) fn required(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// As Java's `Boolean.parseBoolean`: all but `true` is false.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value.eq_ignore_ascii_case("true"))
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(|value| value.parse().ok())
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let items = self.get(name).unwrap_or_default().split(',');
        items.map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    }

    /// `name[0].key=value`, `name[1].key=value`: one map an index, in order.
    pub(super) fn maps(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let mut maps: BTreeMap<u32, BTreeMap<String, String>> = BTreeMap::new();
        for (full, value) in &self.0 {
            let Some(rest) = full.strip_prefix(name).and_then(|rest| rest.strip_prefix('[')) else {
                continue;
            };
            let Some((index, key)) = rest.split_once("].") else { continue };
            if let Ok(index) = index.parse() {
                maps.entry(index).or_default().insert(key.to_owned(), value.clone());
            }
        }
        maps.into_values().collect()
    }

    /// All indexes in one, as `deployVirtualMachine` reads its details.
    pub(super) fn merged(&self, name: &str) -> BTreeMap<String, String> {
        self.maps(name).into_iter().flatten().collect()
    }

    /// Index 0 alone, as `updateVirtualMachine` reads its details.
    pub(super) fn first(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.maps(name).into_iter().next()
    }

    pub(super) fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// Names as the contract has them: a map's without its bracket.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| name.split_once('[').map_or(name.as_str(), |(map, _)| map))
    }
}
