//! One request, from what was received to an answer: who, which command, may they, is it well-formed, what goes wrong.

use super::Sim;
use super::answer::{Answer, Format};
use super::call::{Call, Caller};
use super::commands;
use super::contract::Standing;
use super::fault::What;
use super::params::Params;
use super::refusal::Refusal;
use super::sign::{self, Sent, any_case};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// An answer, and what is to become of it on its way.
pub(super) struct Outcome {
    pub(super) answer: Answer,
    pub(super) delay: Duration,
    pub(super) is_cut: bool,
    pub(super) command: String,
    /// The job that it began, or asks about.
    pub(super) job: Option<String>,
}

impl Outcome {
    fn plain(command: &str, answer: Answer) -> Self {
        Self { answer, delay: Duration::ZERO, is_cut: false, command: command.to_owned(), job: None }
    }
}

/// Percent-encoding with `+` for a space; what is no UTF-8 stays damaged, so that its signature does not fit.
pub(super) fn decode(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name), unescape(value))
        })
        .collect()
}

fn unescape(text: &str) -> String {
    let (mut bytes, raw) = (Vec::with_capacity(text.len()), text.as_bytes());
    let mut at = 0;
    while at < raw.len() {
        let escaped = raw.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (raw[at], escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Sim {
    /// Blocks; an asynchronous command's job runs elsewhere.
    pub(super) fn handle(&self, sent: &Sent) -> Outcome {
        let is_json = sent.get("response").is_some_and(|format| format.eq_ignore_ascii_case("json"));
        let format = if is_json { Format::Json } else { Format::Xml };
        let Some(command) = sent.get("command") else {
            // The server's own word for a command that it cannot tell.
            let envelope = if sent.is_empty() { "errorresponse" } else { "null" };
            return Outcome::plain("", Answer::refused(format, envelope, &Refusal::unverified()));
        };
        let envelope = format!("{}response", command.to_lowercase());
        let refuse = |envelope: &str, refusal: &Refusal| {
            Outcome::plain(command, Answer::refused(format, envelope, refusal))
        };
        let caller = match self.authenticate(sent) {
            Ok(caller) => caller,
            Err(refusal) => return refuse(&envelope, &refusal),
        };
        match self.contract.standing(command, caller.is_admin) {
            Standing::Allowed => {}
            Standing::Unknown => return refuse("errorresponse", &Refusal::unverified()),
            Standing::Denied => {
                let text = format!(
                    "The API [{command}] does not exist or is not available for the account for user id [{}].",
                    caller.user_id
                );
                return refuse("errorresponse", &Refusal::unsupported(text));
            }
            Standing::NotSimulated => {
                let text = format!("cloudstack-sim does not simulate {command}");
                return refuse("errorresponse", &Refusal::new(501, 9999, text));
            }
        }
        if let Err(refusal) = self.throttle(&caller) {
            return refuse(&envelope, &refusal);
        }
        self.carry_out(command, &envelope, format, Params::of(sent), caller)
    }

    fn authenticate(&self, sent: &Sent) -> Result<Caller, Refusal> {
        let key = any_case(sent, "apikey").ok_or_else(Refusal::unverified)?;
        let account = self.accounts.iter().find(|account| account.api_key == key);
        let account = account.ok_or_else(Refusal::unverified)?;
        sign::verify(sent, &account.secret_key, Timestamp::now())?;
        Ok(account.caller.clone())
    }

    /// A root admin is never throttled.
    fn throttle(&self, caller: &Caller) -> Result<(), Refusal> {
        let mut switches = self.switches();
        let Some(throttle) = switches.throttle.filter(|_| !caller.is_admin) else { return Ok(()) };
        let now = Timestamp::now().as_millisecond();
        let window = switches.windows.entry(caller.account.clone()).or_insert((now, 0));
        let ends = window.0 + throttle.window_ms;
        if now >= ends {
            *window = (now, 0);
        }
        window.1 += 1;
        if window.1 <= throttle.limit {
            return Ok(());
        }
        let text = format!(
            "The given user has reached his/her account api limit, please retry after [{}] ms.",
            (window.0 + throttle.window_ms - now).max(1)
        );
        Err(Refusal::new(429, 9999, text))
    }

    fn carry_out(
        &self,
        command: &str,
        envelope: &str,
        format: Format,
        mut params: Params,
        caller: Caller,
    ) -> Outcome {
        for name in self.contract.unknown(command, &params) {
            self.switches().unknown.insert(format!("{command}.{name}"));
        }
        let found = self.read(|state| {
            self.contract.check(command, &mut params, |kind, id| self.find(state, kind, id, &caller))
        });
        let faults = match found {
            Ok(()) => self.switches().board.take(command),
            Err(refusal) => {
                return Outcome::plain(command, Answer::refused(format, envelope, &refusal));
            }
        };
        if faults.contains(&What::DieBefore) {
            std::process::abort();
        }
        let call = Call { sim: self, command, params, caller, job: None, fault: None };
        let done = refused_by(&faults).map_or_else(|| self.begin(&call, &faults), Err);
        if faults.contains(&What::DieAfter) {
            std::process::abort();
        }
        let begun = done.as_ref().ok().and_then(|value| value["jobid"].as_str());
        let job = begun.map(str::to_owned);
        let answer = match done {
            Ok(value) => Answer::done(format, envelope, &value),
            Err(refusal) => Answer::refused(format, envelope, &refusal),
        };
        let delay = faults.iter().map(|fault| match fault {
            What::Delay { ms } => Duration::from_millis(*ms),
            _ => Duration::ZERO,
        });
        let (delay, is_cut) = (delay.sum(), faults.contains(&What::DropAnswer));
        Outcome { answer, delay, is_cut, command: command.to_owned(), job }
    }

    /// Carries a command out, or its first part and leaves the rest to a job.
    fn begin(&self, call: &Call<'_>, faults: &[What]) -> Result<Value, Refusal> {
        if !self.contract.is_async(call.command) {
            return commands::run(call);
        }
        let begun = commands::begin(call)?;
        let in_the_job = faults.iter().find(|fault| {
            matches!(
                fault,
                What::FailedThoughDone
                    | What::NoResult
                    | What::JobFail { .. }
                    | What::Capacity
                    | What::Stuck
                    | What::LeftBetween
            )
        });
        Ok(self.submit(call, begun, in_the_job.cloned()))
    }
}

fn refused_by(faults: &[What]) -> Option<Refusal> {
    faults.iter().find_map(|fault| match fault {
        What::Fail { code, exception, text } => Some(Refusal::new(*code, *exception, text.clone())),
        What::Burnt => Some(Refusal::internal("Entity already exists ")),
        What::Quota => Some(Refusal::quota(
            4370,
            "Maximum amount of resources of Type = 'volume', tag = 'null' for Account Name = admin in Domain Id = 1 is \
             exceeded: Account Resource Limit = 0, Current Account Resource Amount = 0, Requested Resource Amount = 1.",
        )),
        _ => None,
    })
}
