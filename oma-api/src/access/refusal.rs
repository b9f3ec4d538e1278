//! Why a request is refused before any handler sees it, and how both edges say it.

use crate::service::Role;
use jiff::Timestamp;
use shared::token::InvalidToken;
use std::time::Duration;
use tonic::Code;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "nothing says who asks: send a token (Authorization: Bearer mkt_…; `migratekit token create` makes one), or with gRPC \
         present a certificate"
    )]
    NoCredentials,
    #[error(
        "no token was made yet, and without one only this machine itself is served, over loopback: make one with `migratekit \
         token create NAME --role ROLE` and an admin's certificate"
    )]
    NoTokens,
    #[error("the certificate names nobody: {0}")]
    NamesNobody(String),
    #[error("the header Authorization is no bearer token: send `Authorization: Bearer mkt_…`")]
    Scheme,
    #[error("{0}")]
    Malformed(InvalidToken),
    #[error(
        "nobody here knows this token: it was made elsewhere; `migratekit token list` shows those that count"
    )]
    Unknown,
    #[error("the token {name} has expired at {at}: make a new one with `migratekit token create`")]
    Expired { name: String, at: Timestamp },
    #[error("the token {name} was revoked at {at}: ask an admin for a new one")]
    Revoked { name: String, at: Timestamp },
    #[error("too many bad tokens came from this address: wait {} s", wait.as_secs().max(1))]
    TooMany { wait: Duration },
    #[error("{operation} needs the role {needed}; this {by} is {who}")]
    RoleTooLow { operation: &'static str, needed: Role, by: &'static str, who: String },
    #[error("{operation} is for the role agent; this {by} is {who}")]
    AgentsOnly { operation: &'static str, by: &'static str, who: String },
    #[error(
        "the request names the host {host:?}, which is not this machine's loopback: while no token was made, only requests that \
         say localhost, 127.0.0.1 or [::1] are served"
    )]
    Host { host: String },
    #[error(
        "a web page of {origin:?} asked, which is not served from here: while no token was made, pages of other origins are \
         refused"
    )]
    Origin { origin: String },
    #[error(
        "the request came through a proxy (header {header}), so who asked is not on this machine: make a token with `migratekit \
         token create`"
    )]
    Proxied { header: &'static str },
    #[error("there is no {what} here")]
    NoOperation { what: String },
    #[error("{path} does not take {method}, but {allowed}")]
    Method { path: String, method: String, allowed: String },
}

impl Refusal {
    /// Whether a line in the log is owed to it: who goes on guessing must not fill the disk.
    pub fn is_worth_a_line(&self) -> bool {
        !matches!(self, Self::TooMany { .. })
    }

    /// As gRPC says it, and the reason for scripts.
    pub fn code(&self) -> (Code, &'static str) {
        match self {
            Self::NoCredentials => (Code::Unauthenticated, "CREDENTIALS_MISSING"),
            Self::NoTokens => (Code::Unauthenticated, "NO_TOKENS"),
            Self::NamesNobody(_) => (Code::Unauthenticated, "CERTIFICATE_NAMES_NOBODY"),
            Self::Scheme | Self::Malformed(_) => (Code::Unauthenticated, "TOKEN_MALFORMED"),
            Self::Unknown => (Code::Unauthenticated, "TOKEN_UNKNOWN"),
            Self::Expired { .. } => (Code::Unauthenticated, "TOKEN_EXPIRED"),
            Self::Revoked { .. } => (Code::Unauthenticated, "TOKEN_REVOKED"),
            Self::TooMany { .. } => (Code::ResourceExhausted, "TOO_MANY_FAILURES"),
            Self::RoleTooLow { .. } | Self::AgentsOnly { .. } => (Code::PermissionDenied, "WRONG_ROLE"),
            Self::Host { .. } => (Code::PermissionDenied, "FOREIGN_HOST"),
            Self::Origin { .. } => (Code::PermissionDenied, "FOREIGN_ORIGIN"),
            Self::Proxied { .. } => (Code::PermissionDenied, "PROXIED"),
            Self::NoOperation { .. } => (Code::Unimplemented, "NO_SUCH_METHOD"),
            Self::Method { .. } => (Code::Unimplemented, "METHOD_NOT_ALLOWED"),
        }
    }
}
