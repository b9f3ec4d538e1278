//! What is asked of a live failover as both edges have it: words and spans of time, to be understood once.

use super::{CommitPolicy, DECIDED, GRACEFUL, Live, Mode};
use crate::failover::request::{Invalid, go_duration};
use std::time::Duration;

/// See the module. What is `None` was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub mode: Option<Mode>,
    pub accept_loss: Option<String>,
    pub power_off: Option<PowerOff>,
    pub commit_policy: Option<String>,
    pub commit_timeout: Option<String>,
    pub override_reason: Option<String>,
}

/// How a VM is powered off at its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PowerOff {
    pub timeout: Option<String>,
    pub force: bool,
}

fn invalid(field: &'static str, why: impl Into<String>) -> Invalid {
    Invalid { field, why: why.into() }
}

fn span(field: &'static str, text: Option<&str>, usual: Duration) -> Result<Duration, Invalid> {
    let Some(text) = text else { return Ok(usual) };
    go_duration(text).ok_or_else(|| {
        let shown: String = text.chars().take(32).collect();
        invalid(field, format!("{shown:?} is no duration: write it as 90s, 5m or 1h30m"))
    })
}

impl TryFrom<Asked> for Live {
    type Error = Invalid;

    fn try_from(asked: Asked) -> Result<Self, Invalid> {
        let mode = asked.mode.unwrap_or(Mode::Planned);
        if mode == Mode::Unplanned && asked.power_off.is_some() {
            let why = "has no meaning for an unplanned failover: nothing is powered off for it";
            return Err(invalid("power_off", why));
        }
        let power_off = asked.power_off.unwrap_or_default();
        let policy = asked.commit_policy.as_deref().map(str::parse::<CommitPolicy>).transpose();
        let commit_policy =
            policy.map_err(|e| invalid("commit_policy", e.to_string()))?.unwrap_or(CommitPolicy::None);
        if commit_policy == CommitPolicy::None && asked.commit_timeout.is_some() {
            let why = "has no meaning without a commit_policy of commit or rollback: nothing happens then";
            return Err(invalid("commit_timeout", why));
        }
        let accepted_loss = match asked.accept_loss.as_deref() {
            None => None,
            Some(text) => Some(span("accept_loss", Some(text), Duration::ZERO)?),
        };
        let graceful = span("power_off.timeout", power_off.timeout.as_deref(), GRACEFUL)?;
        if graceful.is_zero() && !power_off.force {
            let why = "0s leaves a guest no time to power itself off: give it some, or allow its power to be cut (force)";
            return Err(invalid("power_off.timeout", why));
        }
        Ok(Self {
            mode,
            graceful,
            force: power_off.force,
            commit_policy,
            decided_within: span("commit_timeout", asked.commit_timeout.as_deref(), DECIDED)?,
            accepted_loss,
            override_reason: asked.override_reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn what_is_left_out_is_as_usual() {
        assert_eq!(Live::try_from(Asked::default()), Ok(Live::default()));
        let all = Asked {
            mode: Some(Mode::Planned),
            accept_loss: None,
            power_off: Some(PowerOff { timeout: said("0s"), force: true }),
            commit_policy: said("rollback"),
            commit_timeout: said("30m"),
            override_reason: said("the site burns"),
        };
        let live = Live::try_from(all).expect("good");
        assert_eq!((live.graceful, live.force), (Duration::ZERO, true), "at once");
        assert_eq!((live.commit_policy, live.decided_within.as_secs()), (CommitPolicy::Rollback, 1800));
        let lost = Asked { mode: Some(Mode::Unplanned), accept_loss: said("1h30m"), ..Asked::default() };
        let live = Live::try_from(lost).expect("good");
        assert_eq!((live.mode, live.accepted_loss), (Mode::Unplanned, Some(Duration::from_secs(5400))));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_field() {
        let of = |asked: Asked| Live::try_from(asked).expect_err("wrong").field;
        let power_off = |timeout: &str| Some(PowerOff { timeout: said(timeout), force: false });
        assert_eq!(of(Asked { power_off: power_off("soon"), ..Asked::default() }), "power_off.timeout");
        assert_eq!(of(Asked { power_off: power_off("0s"), ..Asked::default() }), "power_off.timeout");
        let unplanned = Some(Mode::Unplanned);
        assert_eq!(
            of(Asked { mode: unplanned, power_off: power_off("5m"), ..Asked::default() }),
            "power_off"
        );
        assert_eq!(of(Asked { accept_loss: said("much"), ..Asked::default() }), "accept_loss");
        assert_eq!(of(Asked { commit_policy: said("perhaps"), ..Asked::default() }), "commit_policy");
        assert_eq!(of(Asked { commit_timeout: said("1h"), ..Asked::default() }), "commit_timeout");
        let policy = said("commit");
        let none = Asked { commit_policy: policy, commit_timeout: said(""), ..Asked::default() };
        assert_eq!(of(none), "commit_timeout");
    }
}
