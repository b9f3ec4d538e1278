//! What can go wrong, and what that says of the change: not made, or nobody knows.

use super::reply::{Problem, Replies};
use crate::outbound::{Again, Away, Outcome};
use std::io;
use std::path::PathBuf;

/// A call without what it was to give.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was sent to any of them.
    #[error("no LINSTOR controller answers: {}; look at linstor-controller there, and at the way", tried.join("; "))]
    NoController { tried: Vec<String> },
    /// Nothing was sent: nobody has answered for a while.
    #[error(transparent)]
    Away(#[from] Away),
    /// It was sent, and may have been carried out.
    #[error("LINSTOR's controller {controller} gave no answer to {call}")]
    NoAnswer {
        controller: String,
        call: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{controller} answered {call} with HTTP {status} and nothing of LINSTOR's: {excerpt}")]
    Strange { controller: String, call: String, status: u16, excerpt: String },
    #[error(
        "LINSTOR's controller {controller} wants other credentials for {call} (HTTP {status}): look at the token's file"
    )]
    Denied { controller: String, call: String, status: u16 },
    #[error("LINSTOR refused {call}: {replies}")]
    Refused { call: String, status: u16, replies: Replies },
    #[error("LINSTOR's answer to {call} cannot be read")]
    Unreadable {
        call: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot read LINSTOR's token in {}", path.display())]
    Token {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What is known of the change.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NoController { .. } | Self::Away(_) | Self::Denied { .. } | Self::Token { .. } => {
                Outcome::NotDone
            }
            // Half-made things begin their answers with what was done.
            Self::Refused { replies, .. } if replies.did_something() => Outcome::Unknown,
            Self::Refused { replies, .. } => match replies.problem() {
                Some(
                    Problem::Invalid
                    | Problem::NotFound
                    | Problem::Exists
                    | Problem::NoRoom
                    | Problem::InUse
                    | Problem::NotUpToDate
                    | Problem::Denied,
                ) => Outcome::NotDone,
                Some(Problem::NodeOff | Problem::ToolFailed | Problem::Other(_)) | None => Outcome::Unknown,
            },
            Self::NoAnswer { .. } | Self::Strange { .. } | Self::Unreadable { .. } => Outcome::Unknown,
        }
    }

    /// Whether nobody answered, nor refused.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::NoController { .. } | Self::Away(_) | Self::NoAnswer { .. })
    }

    /// What may be done next.
    pub fn again(&self) -> Again {
        match (self.outcome(), self.problem()) {
            (Outcome::Unknown, _) => Again::Looked,
            // Nobody was there, or things stand otherwise soon.
            (Outcome::NotDone, None | Some(Problem::NotUpToDate | Problem::InUse)) => Again::Later,
            (Outcome::NotDone, Some(_)) => Again::Never,
        }
    }

    /// Why it was refused.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            Self::Refused { replies, .. } => replies.problem(),
            Self::NoController { .. }
            | Self::Away(_)
            | Self::NoAnswer { .. }
            | Self::Strange { .. }
            | Self::Denied { .. }
            | Self::Unreadable { .. }
            | Self::Token { .. } => None,
        }
    }
}
