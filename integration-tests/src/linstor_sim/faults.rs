//! The switchboard of `/sim/`: what is to go wrong at which call, and a log of calls.

use serde::{Deserialize, Serialize};

/// A fault at some calls. As JSON to `POST /sim/rules`, alone or in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `GET`, `POST`, `PUT`, `DELETE` or `*`.
    #[serde(default = "any")]
    pub method: String,
    /// As in `/v1/resource-definitions/*/snapshots`: a star stands for any characters.
    #[serde(default = "any")]
    pub path: String,
    /// From which call on that fits, since the rule was given; 1 is the first.
    #[serde(default = "once")]
    pub nth: u64,
    /// For how many calls; 0: for ever.
    #[serde(default = "once")]
    pub times: u64,
    /// Where within the call: `before` (the default), `after` it was done, or between steps that are written down:
    /// `registered` (spawn, snapshot, restore, deletion), `taken` (snapshot: copied, and not yet said to be), `safety`,
    /// `deleted`, `marked`, `restored` (rollback).
    #[serde(default = "before")]
    pub at: String,
    pub what: What,
}

fn any() -> String {
    "*".to_owned()
}

fn once() -> u64 {
    1
}

fn before() -> String {
    "before".to_owned()
}

/// Places within a call: see [`Rule::at`].
const POINTS: [&str; 8] =
    ["before", "registered", "taken", "safety", "deleted", "marked", "restored", "after"];

impl Rule {
    /// What is wrong with it: it would never fire.
    pub(super) fn wrong(&self) -> Option<String> {
        let known = POINTS.contains(&self.at.as_str());
        (!known).then(|| format!("at: {:?} is none of {}", self.at, POINTS.join(", ")))
    }

    /// At the first call that fits.
    pub fn first(method: &str, path: &str, what: What) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), nth: 1, times: 1, at: before(), what }
    }

    /// Elsewhere within the call.
    #[must_use]
    pub fn at(mut self, point: &str) -> Self {
        point.clone_into(&mut self.at);
        self
    }
}

/// What happens. The last three can also happen at once: `POST /sim/now`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The call is refused with this code (996, 995, 502, …); what was done until then stays.
    Fail { code: i64, message: Option<String> },
    /// It takes so much longer. Other calls go on.
    DelayMs(u64),
    /// It is done, and the connection closed without an answer.
    DropAnswer,
    /// A program on the nodes fails: 998, and what was being made stays half-made.
    ToolFails(Tool),
    /// The simulator ends there, as by `kill -9`.
    Die,
    /// A pool has this much room from now on.
    Pool { node: String, pool: String, capacity_kib: u64 },
    /// A satellite goes away, or comes back and catches up.
    Node { name: String, online: bool },
    /// Somebody has it open there (role Primary), or no longer has. Known with DRBD only.
    InUse { resource: String, node: String, in_use: bool },
}

/// Which program fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    Any,
    /// Making a volume.
    Create,
    /// Taking a snapshot.
    Snapshot,
    /// Making a volume of a snapshot.
    Restore,
    /// What gives a device to a volume, and takes it away: the satellite dies of it, and says nothing.
    Attach,
}

/// A call that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    pub method: String,
    /// With its query.
    pub path: String,
    /// None: the connection was closed without an answer.
    pub status: Option<u16>,
    pub ms: u64,
    /// When it came, in milliseconds since 1970.
    pub at: i64,
}

/// Calls that are kept, and as many as a tenth fewer.
const KEPT: usize = 100_000;

#[derive(Default)]
pub(super) struct Board {
    rules: Vec<Armed>,
    calls: Vec<Logged>,
}

struct Armed {
    rule: Rule,
    seen: u64,
}

impl Board {
    pub(super) fn arm(&mut self, rules: impl IntoIterator<Item = Rule>) {
        self.rules.extend(rules.into_iter().map(|rule| Armed { rule, seen: 0 }));
    }

    pub(super) fn disarm(&mut self) {
        self.rules.clear();
    }

    /// Rules that may still fire.
    pub(super) fn armed(&self) -> Vec<Rule> {
        let open =
            |armed: &&Armed| armed.rule.times == 0 || armed.seen + 1 < armed.rule.nth + armed.rule.times;
        self.rules.iter().filter(open).map(|armed| armed.rule.clone()).collect()
    }

    /// A call is here: what is to happen within it.
    pub(super) fn meet(&mut self, method: &str, path: &str) -> Vec<Rule> {
        let mut met = Vec::new();
        for armed in &mut self.rules {
            let rule = &armed.rule;
            if (rule.method != "*" && rule.method != method) || !fits(&rule.path, path) {
                continue;
            }
            armed.seen += 1;
            let last = rule.nth + rule.times;
            if armed.seen >= rule.nth && (rule.times == 0 || armed.seen < last) {
                met.push(rule.clone());
            }
        }
        met
    }

    pub(super) fn log(&mut self, call: Logged) {
        if self.calls.len() >= KEPT {
            self.calls.drain(..KEPT / 10);
        }
        self.calls.push(call);
    }

    pub(super) fn calls(&self) -> &[Logged] {
        &self.calls
    }

    pub(super) fn forget_calls(&mut self) {
        self.calls.clear();
    }
}

/// Whether a text is what a pattern with stars says.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for pattern in ["*", "/v1/*/spawn", "/v1/resource-groups/g/spawn", "*spawn", "/v1/*-groups/*"] {
            assert!(fits(pattern, "/v1/resource-groups/g/spawn"), "{pattern}");
        }
        for pattern in ["", "/v1", "/v1/*/snapshots", "spawn"] {
            assert!(!fits(pattern, "/v1/resource-groups/g/spawn"), "{pattern}");
        }
    }

    #[test]
    fn a_rule_fires_from_its_call_on_so_many_times() {
        let mut board = Board::default();
        let rule = Rule { nth: 2, times: 2, ..Rule::first("POST", "/a*", What::DropAnswer) };
        board.arm([rule]);
        let fired: Vec<_> = (0..5).map(|_| board.meet("POST", "/ab").len()).collect();
        assert_eq!(fired, [0, 1, 1, 0, 0]);
        assert_eq!(board.meet("GET", "/ab").len(), 0);
        assert!(board.armed().is_empty());
    }
}
