//! One thing that was looked at, and how it stands.

use std::fmt;

/// How it stands, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Well,
    /// It works without, or it cannot be known: somebody should look.
    Doubtful,
    /// Nothing can be done there without it.
    Missing,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Doubtful => "warning",
            Self::Missing => "missing",
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A few words: `CloudStack clock`.
    pub what: String,
    pub standing: Standing,
    /// What was found and, where it is not well, the cause and what to do. A sentence without its full stop.
    pub why: String,
}

impl Finding {
    pub fn well(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), standing: Standing::Well, why: found.into() }
    }

    pub fn doubtful(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), standing: Standing::Doubtful, why: why.into() }
    }

    pub fn missing(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), standing: Standing::Missing, why: why.into() }
    }

    /// Well, or missing for that reason.
    pub fn of(what: impl Into<String>, found: impl Into<String>, against: Option<String>) -> Self {
        match against {
            None => Self::well(what, found),
            Some(why) => Self::missing(what, why),
        }
    }

    /// Of what could not be asked for: the whole chain of causes.
    pub fn unasked(what: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::missing(what, shared::error::chain(error))
    }

    pub fn is_missing(&self) -> bool {
        self.standing == Standing::Missing
    }
}

/// One line, whatever a server said.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why: String = self.why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        write!(f, "{:<8} {}: {}", self.standing.as_str(), self.what, why.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_whatever_a_server_said() {
        let of = Finding::missing("CloudStack zone", "a\nb\x1b[2J ");
        assert_eq!(of.to_string(), "missing  CloudStack zone: a b [2J");
        assert_eq!(Finding::well("x", "y").to_string(), "ok       x: y");
        assert_eq!(Finding::doubtful("x", "y").to_string(), "warning  x: y");
        assert!(Finding::of("x", "y", Some("z".to_owned())).is_missing());
    }
}
