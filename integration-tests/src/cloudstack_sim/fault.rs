//! The switchboard: what goes wrong, at which command, and when.

use serde::{Deserialize, Serialize};

/// One thing that goes wrong once, or always.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// The command's name; `*` stands for anything.
    pub command: String,
    /// At which call of it from now on: 1 is the next one. 0: at each.
    #[serde(default = "next")]
    pub nth: u64,
    #[serde(flatten)]
    pub what: What,
}

fn next() -> u64 {
    1
}

/// What goes wrong.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// Refused at once, and not done.
    Fail {
        code: u16,
        #[serde(default = "of_the_api")]
        exception: u32,
        text: String,
    },
    /// The job is done, and says that it failed.
    FailedThoughDone,
    /// The job is done, and has failed without a result, as after a crash of the server.
    NoResult,
    /// The job fails, and nothing was done.
    JobFail { code: u16, text: String },
    /// The job finds no room: 533.
    Capacity,
    /// The account has no more: 535, at once.
    Quota,
    /// The command is carried out, and its answer is cut off.
    DropAnswer,
    /// The answer is late by so many milliseconds.
    Delay { ms: u64 },
    /// The volume's creation on storage fails; from then on it is stuck.
    Stuck,
    /// The id was used before: 530 "Entity already exists ".
    Burnt,
    /// A stop that fails and leaves the machine `Stopping`; a start that leaves it `Error`.
    LeftBetween,
    /// The process ends before it acts.
    DieBefore,
    /// The process ends after it acted, before it answers.
    DieAfter,
}

fn of_the_api() -> u32 {
    9999
}

/// The rules that have not fired.
#[derive(Debug, Default)]
pub(super) struct Switchboard {
    rules: Vec<Armed>,
    pub(super) fired: u64,
}

#[derive(Debug)]
struct Armed {
    rule: Rule,
    seen: u64,
}

impl Switchboard {
    pub(super) fn arm(&mut self, rules: impl IntoIterator<Item = Rule>) {
        self.rules.extend(rules.into_iter().map(|rule| Armed { rule, seen: 0 }));
    }

    /// Takes back what has not fired.
    pub(super) fn disarm(&mut self) -> Vec<Rule> {
        std::mem::take(&mut self.rules).into_iter().map(|armed| armed.rule).collect()
    }

    pub(super) fn armed(&self) -> Vec<&Rule> {
        self.rules.iter().map(|armed| &armed.rule).collect()
    }

    /// What this call of the command meets: every rule that has its turn.
    pub(super) fn take(&mut self, command: &str) -> Vec<What> {
        let mut met = Vec::new();
        self.rules.retain_mut(|armed| {
            if !glob(&armed.rule.command, command) {
                return true;
            }
            armed.seen += 1;
            if armed.rule.nth != 0 && armed.seen < armed.rule.nth {
                return true;
            }
            met.push(armed.rule.what.clone());
            armed.rule.nth == 0
        });
        self.fired += u64::try_from(met.len()).unwrap_or(u64::MAX);
        met
    }
}

/// `*` stands for any run of characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| glob(rest, &text[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_its_turn_once_and_one_of_all_calls_has_it_always() {
        let mut board = Switchboard::default();
        let rule = |command: &str, nth| Rule { command: command.to_owned(), nth, what: What::Capacity };
        board.arm([rule("start*", 2), rule("*Volume", 0)]);
        assert_eq!(board.take("startVirtualMachine").len(), 0);
        assert_eq!(board.take("stopVirtualMachine").len(), 0);
        assert_eq!(board.take("startVirtualMachine").len(), 1);
        assert_eq!(board.take("startVirtualMachine").len(), 0);
        assert_eq!(board.take("createVolume").len() + board.take("attachVolume").len(), 2);
        assert_eq!((board.armed().len(), board.fired), (1, 3));
        assert!(glob("*", "x") && glob("a*c*e", "abcde") && !glob("a*c", "abcd"));
    }

    #[test]
    fn a_rule_is_written_as_people_would() {
        let rule: Rule =
            serde_json::from_str(r#"{"command": "attachVolume", "what": "delay", "ms": 20}"#).unwrap();
        assert_eq!((rule.nth, rule.what), (1, What::Delay { ms: 20 }));
        let fail: Rule =
            serde_json::from_str(r#"{"command": "*", "nth": 3, "what": "fail", "code": 530, "text": "no"}"#)
                .unwrap();
        assert_eq!(fail.what, What::Fail { code: 530, exception: 9999, text: "no".to_owned() });
    }
}
