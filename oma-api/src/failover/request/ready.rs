//! What shows that a machine works, and how long that is waited for.

use super::{Invalid, LONGEST, go_duration, invalid};
use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How long a machine is waited for when nobody says, and at most.
const WITHIN: Duration = Duration::from_secs(300);
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// What a web server listens at when nobody says.
const HTTP_PORT: u16 = 80;

/// What shows that a machine works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub check: Check,
    pub within: Duration,
    pub weight: Weight,
}

/// How it is found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The serial console says this.
    Console { text: String },
    /// The guest takes connections at this port.
    Tcp { port: u16 },
    /// The guest answers this request.
    Http(Http),
    /// The QEMU guest agent in it answers.
    GuestAgent,
}

/// A GET, in clear, and what its answer has to be. A redirection is an answer; it is not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    pub port: u16,
    /// With its query, where there is one.
    pub path: String,
    /// Any from 200 to 399 when left out.
    pub status: Option<u16>,
    /// Somewhere in the beginning of the answer's body.
    pub text: Option<String>,
}

/// What follows when it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// The failover fails.
    Required,
    /// It succeeds, with a warning.
    #[default]
    Advisory,
}

/// The checks that a request names, as it has them: one is to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    pub console: Option<String>,
    pub tcp_port: Option<u32>,
    pub http: Option<HttpAsked>,
    pub guest_agent: bool,
}

/// An HTTP check as a request has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpAsked {
    pub port: Option<u32>,
    pub path: Option<String>,
    pub status: Option<u32>,
    pub text: Option<String>,
}

impl Checks {
    fn one(self) -> Result<Check, Invalid> {
        let Self { console, tcp_port, http, guest_agent } = self;
        let console = console.map(|text| Ok(Check::Console { text }));
        let tcp = tcp_port.map(|n| Ok(Check::Tcp { port: port("wait_for_ready.tcp_port", n)? }));
        let http = http.map(|http| Ok(Check::Http(http.checked()?)));
        let agent = guest_agent.then_some(Ok(Check::GuestAgent));
        let mut asked = [console, tcp, http, agent].into_iter().flatten();
        match (asked.next(), asked.next()) {
            (Some(check), None) => check,
            (None, _) => {
                Err(invalid("wait_for_ready", "names no check: give console, tcp_port, http or guest_agent"))
            }
            (Some(_), Some(_)) => Err(invalid(
                "wait_for_ready",
                "names more than one check: give console, tcp_port, http or guest_agent, one of them",
            )),
        }
    }
}

impl HttpAsked {
    fn checked(self) -> Result<Http, Invalid> {
        let status = match self.status {
            None => None,
            Some(status) => {
                Some(u16::try_from(status).ok().filter(|s| (100..600).contains(s)).ok_or_else(|| {
                    invalid("wait_for_ready.http.status", format!("{status} is no status: give 100 to 599"))
                })?)
            }
        };
        Ok(Http {
            port: self.port.map_or(Ok(HTTP_PORT), |n| port("wait_for_ready.http.port", n))?,
            path: self.path.unwrap_or_else(|| "/".to_owned()),
            status,
            text: self.text,
        })
    }
}

fn port(field: &'static str, n: u32) -> Result<u16, Invalid> {
    let port = u16::try_from(n).ok().filter(|port| *port > 0);
    port.ok_or_else(|| invalid(field, format!("{n} is no port: give 1 to 65535")))
}

impl Ready {
    /// `within` is [`WITHIN`] when left out.
    ///
    /// # Errors
    /// No check or more than one, a number that is out of bounds, a duration that is none.
    pub fn new(checks: Checks, within: Option<&str>, weight: Weight) -> Result<Self, Invalid> {
        let check = checks.one()?;
        let within = match within {
            None => WITHIN,
            Some(text) => go_duration(text).ok_or_else(|| {
                let shown: String = text.chars().take(32).collect();
                invalid("wait_for_ready.timeout", format!("{shown:?} is no duration: write it as 90s or 5m"))
            })?,
        };
        Ok(Self { check, within, weight })
    }

    /// The console, and nothing else.
    ///
    /// # Errors
    /// A duration that is none.
    pub fn console(text: &str, within: Option<&str>, weight: Weight) -> Result<Self, Invalid> {
        Self::new(Checks { console: Some(text.to_owned()), ..Checks::default() }, within, weight)
    }

    pub(super) fn check(&self) -> Result<(), Invalid> {
        let line = |field, text: &str| match text {
            text if text.is_empty() || text.len() > LONGEST || text.contains(char::is_control) => {
                Err(invalid(field, format!("takes 1 to {LONGEST} bytes on one line")))
            }
            _ => Ok(()),
        };
        match &self.check {
            Check::Console { text } => line("wait_for_ready.console", text)?,
            Check::Http(Http { path, text, .. }) => {
                line("wait_for_ready.http.path", path)?;
                let usable = path.starts_with('/') && path.is_ascii() && !path.contains('#');
                if !usable || PathAndQuery::try_from(path.as_str()).is_err() {
                    let why =
                        "begins with / and has no space, no # and nothing beyond ASCII, such as /health";
                    return Err(invalid("wait_for_ready.http.path", why));
                }
                text.as_ref().map_or(Ok(()), |text| line("wait_for_ready.http.text", text))?;
            }
            Check::Tcp { .. } | Check::GuestAgent => {}
        }
        match (Duration::from_secs(1)..=LONGEST_WAIT).contains(&self.within) {
            true => Ok(()),
            false => Err(invalid("wait_for_ready.timeout", "must be 1s to 24h")),
        }
    }
}

/// What is waited for, after "it shows".
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Console { text } => write!(f, "{text:?} on its console"),
            Self::Tcp { port } => write!(f, "an open TCP port {port}"),
            Self::Http(Http { port, path, status, text }) => {
                match status {
                    Some(status) => write!(f, "HTTP status {status} at :{port}{path}")?,
                    None => write!(f, "an HTTP status of 200 to 399 at :{port}{path}")?,
                }
                text.as_ref().map_or(Ok(()), |text| write!(f, " with {text:?} in its body"))
            }
            Self::GuestAgent => f.write_str("an answer of its QEMU guest agent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(checks: Checks) -> Result<Check, Invalid> {
        let ready = Ready::new(checks, None, Weight::Advisory)?;
        ready.check()?;
        Ok(ready.check)
    }

    #[test]
    fn a_request_names_one_check() {
        let none = Checks::default();
        let tcp = Checks { tcp_port: Some(22), ..none.clone() };
        let http = Checks { http: Some(HttpAsked::default()), ..none.clone() };
        let agent = Checks { guest_agent: true, ..none.clone() };
        let console = Checks { console: Some("login:".to_owned()), ..none.clone() };
        for (asked, says) in [
            (&console, "\"login:\" on its console"),
            (&tcp, "an open TCP port 22"),
            (&http, "an HTTP status of 200 to 399 at :80/"),
            (&agent, "an answer of its QEMU guest agent"),
        ] {
            assert_eq!(ready(asked.clone()).expect(says).to_string(), says);
        }
        let both = [
            Checks { tcp_port: Some(22), ..console },
            Checks { guest_agent: true, ..tcp },
            Checks { guest_agent: true, ..http },
            none,
        ];
        for checks in both {
            let refused = ready(checks.clone()).expect_err("which?");
            assert_eq!(refused.field, "wait_for_ready", "{checks:?}: {refused}");
            assert!(refused.why.contains("guest_agent"), "{refused}");
        }
    }

    #[test]
    fn what_cannot_be_asked_for_is_said_with_its_field() {
        let http = |asked: HttpAsked| Checks { http: Some(asked), ..Checks::default() };
        let path = |path: &str| http(HttpAsked { path: Some(path.to_owned()), ..HttpAsked::default() });
        for tcp_port in [0, 65536, u32::MAX] {
            let refused = ready(Checks { tcp_port: Some(tcp_port), ..Checks::default() });
            assert_eq!(refused.expect_err("no port").field, "wait_for_ready.tcp_port");
        }
        for wrong in ["", "health", "/a b", "/a#b", "/a\r\nHost: x", "/ä", "http://elsewhere/"] {
            assert_eq!(ready(path(wrong)).expect_err(wrong).field, "wait_for_ready.http.path");
        }
        for (asked, field) in [
            (HttpAsked { port: Some(0), ..HttpAsked::default() }, "wait_for_ready.http.port"),
            (HttpAsked { status: Some(99), ..HttpAsked::default() }, "wait_for_ready.http.status"),
            (HttpAsked { status: Some(600), ..HttpAsked::default() }, "wait_for_ready.http.status"),
            (HttpAsked { text: Some(String::new()), ..HttpAsked::default() }, "wait_for_ready.http.text"),
        ] {
            assert_eq!(ready(http(asked)).expect_err(field).field, field);
        }
        let all = HttpAsked {
            port: Some(8080),
            path: Some("/health?deep=1".to_owned()),
            status: Some(204),
            text: Some("ok".to_owned()),
        };
        let says = ready(http(all)).expect("good").to_string();
        assert_eq!(says, "HTTP status 204 at :8080/health?deep=1 with \"ok\" in its body");
    }

    /// Jobs of earlier versions have their checks in their plans.
    #[test]
    fn a_check_is_kept_as_it_was() {
        let kept =
            r#"{"check":{"console":{"text":"login:"}},"within":{"secs":300,"nanos":0},"weight":"advisory"}"#;
        let read: Ready = serde_json::from_str(kept).expect("readable");
        assert_eq!(read, Ready::console("login:", None, Weight::Advisory).expect("good"));
        for check in [Check::Tcp { port: 22 }, Check::GuestAgent] {
            let text = serde_json::to_string(&check).expect("text");
            assert_eq!(serde_json::from_str::<Check>(&text).expect("readable"), check, "{text}");
        }
    }
}
