//! Which message is to meet which fault.

use super::catalog::Kind;
use super::wire::How;
use std::collections::{HashMap, VecDeque};

/// On which side of a message the fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It never arrives.
    Before,
    /// It arrives, and nothing after it.
    After,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Both connections end.
    Cut(Moment, How),
    /// Nothing is forwarded any more, either way; TCP stays open.
    Stall(Moment),
    /// It goes out twice.
    Twice,
    /// It goes out behind the next one of its stream.
    Late,
}

/// One fault, at the `nth` message (1 is the first) of a kind from when the rule came into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub kind: Kind,
    pub nth: u64,
    pub fault: Fault,
}

impl Rule {
    /// At the first message of that kind.
    pub fn at(kind: &str, fault: Fault) -> Self {
        Self { kind: Kind::new(kind), nth: 1, fault }
    }
}

/// Rules in their order, and what was seen.
#[derive(Default)]
pub(super) struct Plan {
    rules: VecDeque<Rule>,
    /// Of the first rule's kind, since it is the first.
    counted: u64,
    seen: HashMap<String, u64>,
    fired: u64,
    /// As `seen` was when the last rule fired.
    before: HashMap<String, u64>,
}

impl Plan {
    pub(super) fn arm(&mut self, rules: impl IntoIterator<Item = Rule>) {
        self.rules.extend(rules);
    }

    pub(super) fn disarm(&mut self) -> Vec<Rule> {
        self.counted = 0;
        self.rules.drain(..).collect()
    }

    pub(super) fn armed(&self) -> usize {
        self.rules.len()
    }

    pub(super) fn in_force(&self) -> Option<&Rule> {
        self.rules.front()
    }

    pub(super) fn seen(&self, kind: &str) -> u64 {
        self.seen.get(kind).copied().unwrap_or(0)
    }

    /// Since the last rule fired; what fired it is not counted.
    pub(super) fn seen_since(&self, kind: &str) -> u64 {
        self.seen(kind) - self.before.get(kind).copied().unwrap_or(0)
    }

    pub(super) fn fired(&self) -> u64 {
        self.fired
    }

    /// A message of this kind is here; what happens to it.
    pub(super) fn meet(&mut self, kind: &Kind) -> Option<Fault> {
        *self.seen.entry(kind.as_str().to_owned()).or_default() += 1;
        let rule = self.rules.front().filter(|rule| rule.kind == *kind)?;
        self.counted += 1;
        if self.counted < rule.nth {
            return None;
        }
        self.counted = 0;
        self.fired += 1;
        self.before.clone_from(&self.seen);
        self.rules.pop_front().map(|rule| rule.fault)
    }
}
