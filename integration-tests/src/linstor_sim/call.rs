//! One call on its way through the controller: what was asked, the state, and the points at which a fault may sit.

use super::Sim;
use super::entries::{Entry, Frame, Kind, object, status};
use super::faults::{Rule, Tool, What};
use super::model::{Report, World};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// What goes back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// None: no body at all.
    pub(super) body: Option<Value>,
}

impl Answer {
    pub(super) fn json(body: Value) -> Self {
        Self { status: 200, body: Some(body) }
    }

    /// A refusal in one entry.
    pub(super) fn refusal(entry: &Entry) -> Self {
        let report = entry.has_report().then_some("6B017554-00000-000000");
        let entries = std::slice::from_ref(entry);
        Self { status: status(entries, 500), body: Some(Value::Array(vec![entry.json(report)])) }
    }
}

/// Handlers give either: an answer that was refused half-way leaves by `?`.
pub(super) type Answered = Result<Answer, Answer>;

/// The simulator ends: unwinds the call without a message.
pub(super) struct Died;

pub(super) struct Call<'a> {
    pub(super) sim: &'a Sim,
    pub(super) method: String,
    /// Of the path, decoded.
    pub(super) segments: Vec<String>,
    /// Decoded.
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Bytes,
    /// Those that fired at this call.
    pub(super) rules: Vec<Rule>,
}

impl Call<'_> {
    /// The part of the path at this place: 0 is `v1`.
    pub(super) fn segment(&self, at: usize) -> &str {
        self.segments.get(at).map_or("", String::as_str)
    }

    /// A query parameter that may be there several times, or hold several values behind commas.
    pub(super) fn wanted(&self, name: &str) -> Vec<String> {
        let values = self.query.iter().filter(|(key, _)| key == name);
        let values = values.flat_map(|(_, value)| value.split(',')).filter(|value| !value.is_empty());
        values.map(str::to_owned).collect()
    }

    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.query.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok())
    }

    pub(super) fn says(&self, name: &str) -> bool {
        self.query.iter().any(|(key, value)| key == name && value.eq_ignore_ascii_case("true"))
    }

    /// The state. Not to be held over a [`point`](Self::point).
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.sim.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body; `status` is what an unreadable or unknown one answers on this route.
    pub(super) fn parse<T: DeserializeOwned>(&self, status: u16) -> Result<T, Answer> {
        self.parse_as(b'{', status)
    }

    /// The same of a list.
    pub(super) fn parse_list<T: DeserializeOwned>(&self, status: u16) -> Result<Vec<T>, Answer> {
        self.parse_as(b'[', status)
    }

    fn parse_as<T: DeserializeOwned>(&self, first: u8, status: u16) -> Result<T, Answer> {
        let parsed = if self.body.trim_ascii_start().first() == Some(&first) {
            serde_json::from_slice(&self.body)
        } else {
            // A structure would be read out of a list as well, field by field.
            Err(serde::de::Error::custom(format!("the body does not begin with {}", char::from(first))))
        };
        parsed.map_err(|error| {
            let frame = Frame::new(super::entries::DELETE, object::NONE, &[]);
            let entry = frame.error(32765, "Unable to parse input json.").details(error.to_string());
            // Which of them write a report is as recorded.
            let entry = if status == 400 || self.method == "PUT" { entry.reported() } else { entry };
            Answer { status, ..Answer::refusal(&entry) }
        })
    }

    /// What was done so far is written down; then the faults that sit here.
    ///
    /// # Errors
    /// A rule refuses the call here.
    pub(super) fn point(&self, name: &str) -> Result<(), Answer> {
        // Nothing has changed before, and after it is written down already.
        if !matches!(name, "before" | "after") {
            self.sim.save(&self.world());
        }
        for rule in self.rules.iter().filter(|rule| rule.at == name) {
            match &rule.what {
                What::DelayMs(ms) => std::thread::sleep(Duration::from_millis(*ms)),
                What::Fail { code, message } => {
                    let message =
                        message.clone().unwrap_or_else(|| "Refused by a rule of the simulator".to_owned());
                    return Err(Answer::refusal(&Frame::bare().error(*code, message)));
                }
                What::Die => self.sim.die(),
                What::Pool { .. } | What::Node { .. } | What::InUse { .. } => self.sim.happen(&rule.what),
                What::ToolFails(_) | What::DropAnswer => {}
            }
        }
        Ok(())
    }

    pub(super) fn tool_fails(&self, tool: Tool) -> bool {
        self.rules.iter().any(|rule| match rule.what {
            What::ToolFails(which) => which == Tool::Any && tool != Tool::Attach || which == tool,
            _ => false,
        })
    }

    pub(super) fn drops_answer(&self) -> bool {
        self.rules.iter().any(|rule| rule.what == What::DropAnswer)
    }

    /// The entries as an answer; those that say so get a report of their own.
    pub(super) fn answer(&self, world: &mut World, otherwise: u16, entries: &[Entry]) -> Answer {
        let body = entries.iter().map(|entry| {
            let report = entry.has_report().then(|| report(world, entry));
            entry.json(report.as_deref())
        });
        let body = Value::Array(body.collect());
        Answer { status: status(entries, otherwise), body: Some(body) }
    }

    /// Refused, with one entry.
    pub(super) fn refuse(&self, world: &mut World, entry: Entry) -> Answer {
        debug_assert_eq!(entry.kind, Kind::Error);
        self.answer(world, 500, &[entry])
    }
}

fn report(world: &mut World, entry: &Entry) -> String {
    let id = format!("6B017554-00000-{:06}", world.reports.len());
    let time = jiff::Timestamp::now().as_millisecond();
    world.reports.push(Report { id: id.clone(), time, message: entry.message.clone() });
    id
}
