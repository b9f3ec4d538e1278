//! What can go wrong, and what that says of the command: not carried out, or nobody knows.

use super::credentials::Unusable;
use super::job::JobId;
use crate::outbound::{Again, Away, Outcome};
use std::fmt;
use std::time::Duration;

/// A command that gave no value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "CloudStack at {endpoint} cannot be reached: look at its address, its management server, and the way there"
    )]
    Unreachable {
        endpoint: String,
        #[source]
        source: reqwest::Error,
    },
    /// Nothing was sent: nobody has answered for a while.
    #[error(transparent)]
    Away(#[from] Away),
    /// It was sent, and may have been carried out.
    #[error("CloudStack at {endpoint} gave no answer to {command}")]
    NoAnswer {
        endpoint: String,
        command: String,
        #[source]
        source: reqwest::Error,
    },
    /// Something on the way answered, or a server that is just starting.
    #[error("{endpoint} answered {command} with HTTP {status} and nothing of CloudStack's: {excerpt}")]
    Strange { endpoint: String, command: String, status: u16, excerpt: String },
    /// The server's clock and this host's are further apart than a request may be old.
    #[error(
        "CloudStack refuses {command} because the clocks are {} s apart: set the time here or there (NTP)",
        apart.as_secs()
    )]
    Clock { command: String, apart: Duration },
    #[error("CloudStack refused {command}: {refusal}")]
    Refused { command: String, refusal: Refusal },
    /// A job that ended badly. It may have done what it was to do, or a part of it.
    #[error("job {job} of {command} failed: {refusal}")]
    JobFailed { job: JobId, command: String, refusal: Refusal },
    /// A job of which the server knows no result: it was restarted meanwhile, or the job's record expired.
    #[error("what became of job {job} of {command} is not known: {why}")]
    JobLost { job: JobId, command: String, why: &'static str },
    /// It is still running.
    #[error("job {job} of {command} has not ended within {} s", waited.as_secs())]
    JobSlow { job: JobId, command: String, waited: Duration },
    /// An answer without what the command's answers have.
    #[error("CloudStack's answer to {command} has no {missing}")]
    Incomplete { command: String, missing: &'static str },
    #[error(transparent)]
    Credentials(#[from] Unusable),
}

impl Error {
    /// What is known of the command.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unreachable { .. } | Self::Away(_) | Self::Clock { .. } | Self::Credentials(_) => {
                Outcome::NotDone
            }
            Self::Refused { refusal, .. } => match refusal.reason() {
                // An exception somewhere on the way.
                Reason::Internal | Reason::Unavailable | Reason::Unknown => Outcome::Unknown,
                Reason::Credentials
                | Reason::NotAllowed
                | Reason::Parameter
                | Reason::Invalid
                | Reason::Limit
                | Reason::Capacity
                | Reason::InUse
                | Reason::Throttled => Outcome::NotDone,
            },
            Self::NoAnswer { .. }
            | Self::Strange { .. }
            | Self::JobFailed { .. }
            | Self::JobLost { .. }
            | Self::JobSlow { .. }
            | Self::Incomplete { .. } => Outcome::Unknown,
        }
    }

    /// What may be done after it.
    pub fn again(&self) -> Again {
        match (self.outcome(), self.refusal().map(Refusal::reason)) {
            (Outcome::Unknown, _) => Again::Looked,
            // Nobody was there, or things stand otherwise soon.
            (Outcome::NotDone, None | Some(Reason::Throttled | Reason::InUse | Reason::Capacity)) => {
                Again::Later
            }
            (Outcome::NotDone, Some(_)) => Again::Never,
        }
    }

    /// Whether nobody answered, nor refused.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Away(_) | Self::NoAnswer { .. })
    }

    /// The server's own words, where it refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } | Self::JobFailed { refusal, .. } => Some(refusal),
            Self::Unreachable { .. }
            | Self::Away(_)
            | Self::NoAnswer { .. }
            | Self::Strange { .. }
            | Self::Clock { .. }
            | Self::JobLost { .. }
            | Self::JobSlow { .. }
            | Self::Incomplete { .. }
            | Self::Credentials(_) => None,
        }
    }
}

/// An error as the server says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `errorcode`: one of CloudStack's, above 430 mostly.
    pub code: u16,
    /// `cserrorcode`: which exception it was.
    pub exception: Option<u32>,
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.text.trim(), self.code)?;
        match self.exception {
            Some(exception) => write!(f, "/{exception})"),
            None => f.write_str(")"),
        }
    }
}

/// Why it refused (`ApiErrorCode` of the server's source).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The key, the signature, the time, or a command that is spelled in another case: the server does not say which.
    Credentials,
    /// The account may not, or the server does not know the command.
    NotAllowed,
    /// A parameter that is missing or malformed, or an id of nothing.
    Parameter,
    /// Well-formed, and not possible as things stand; also what was removed.
    Invalid,
    /// A limit of the account, the domain or the project.
    Limit,
    /// No host, pool or address can take it.
    Capacity,
    InUse,
    /// Too many requests.
    Throttled,
    /// Something it needs does not answer.
    Unavailable,
    /// An exception that the server did not expect.
    Internal,
    /// A code that this version does not know.
    Unknown,
}

/// Of `InvalidParameterValueException`.
const INVALID_VALUE: u32 = 4350;

impl Refusal {
    pub fn reason(&self) -> Reason {
        match (self.code, self.exception) {
            (401, _) => Reason::Credentials,
            (432 | 511 | 531, _) => Reason::NotAllowed,
            (431, Some(INVALID_VALUE)) => Reason::Invalid,
            (400 | 405 | 430 | 431, _) => Reason::Parameter,
            (429, _) => Reason::Throttled,
            (532 | 535, _) => Reason::Limit,
            (533, _) => Reason::Capacity,
            (536 | 537, _) => Reason::InUse,
            (503 | 534, _) => Reason::Unavailable,
            (530, _) => Reason::Internal,
            _ => Reason::Unknown,
        }
    }

    /// How long it asks to be left alone: in the text alone, there is no `Retry-After`.
    pub fn wait(&self) -> Option<Duration> {
        let (_, after) = self.text.split_once("please retry after [")?;
        let (ms, _) = after.split_once(']')?;
        (self.reason() == Reason::Throttled).then_some(Duration::from_millis(ms.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttled_request_says_when_to_come_back() {
        let text = "The given user has reached his/her account api limit, please retry after [9897] ms.";
        let refusal = |code| Refusal { code, exception: Some(9999), text: text.to_owned() };
        assert_eq!(refusal(429).wait(), Some(Duration::from_millis(9897)));
        assert_eq!(refusal(530).wait(), None);
    }

    #[test]
    fn only_what_a_server_refused_outright_was_not_done() {
        let refused = |code, exception| Error::Refused {
            command: "createVolume".to_owned(),
            refusal: Refusal { code, exception, text: String::new() },
        };
        for (code, exception) in [
            (401, None),
            (431, Some(9999)),
            (431, Some(4350)),
            (432, Some(9999)),
            (535, Some(4370)),
            (429, None),
        ] {
            assert_eq!(refused(code, exception).outcome(), Outcome::NotDone, "{code}");
        }
        for code in [530, 534, 599] {
            assert_eq!(refused(code, None).outcome(), Outcome::Unknown, "{code}");
        }
        let failed = Error::JobFailed {
            job: JobId::from("j"),
            command: "attachVolume".to_owned(),
            refusal: Refusal { code: 431, exception: None, text: String::new() },
        };
        assert_eq!(failed.outcome(), Outcome::Unknown);
    }
}
