//! Who may ask for what: one table for both edges, and the tokens that say who asks.
//!
//! ```text
//!  gRPC: certificate (agents, people), or token ─┐
//!  REST: token, or nobody asked on loopback ─────┴► Who ──► the operation's row ──► the handler, with its Caller
//!                                                     └─ no row, or too little: refused before any handler
//! ```
//!
//! The edges bring what a request shows ([`Access::bearer`], [`local`]) and dress the refusal; what is decided is decided
//! here. No request costs a database read: all tokens are in memory, and what changes them changes the memory with it.
//!
//! Not here: which agent may touch which migration (`service`), and the making of tokens (`service::tokens`).

mod cut;
pub mod failures;
pub mod local;
pub mod operations;
mod refusal;
mod tokens;

#[cfg(test)]
mod tests;

pub use cut::Cut;
pub use operations::{Needs, OPERATIONS, Operation};
pub use refusal::Refusal;
pub use tokens::Tokens;

use crate::service::{Caller, Role};
use crate::store::TokenRow;
use failures::Failures;
use jiff::Timestamp;
use shared::tls::{Identity, Role as CertificateRole};
use shared::token::Token;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A daemon, by its certificate; never by a token.
    Daemon(Identity),
    /// A person or a script.
    Person(Caller),
}

impl Who {
    /// What a certificate says.
    pub fn of_certificate(identity: &Identity) -> Self {
        let person = |role| Self::Person(Caller { name: identity.name.to_string(), role });
        match identity.role {
            CertificateRole::Agent | CertificateRole::Oma => Self::Daemon(identity.clone()),
            CertificateRole::Viewer => person(Role::Viewer),
            CertificateRole::Operator => person(Role::Operator),
            CertificateRole::Admin => person(Role::Admin),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon(identity) => identity.fmt(f),
            Self::Person(Caller { name, role }) => write!(f, "{role}/{name}"),
        }
    }
}

/// Somebody whose token was good.
#[derive(Clone, Debug)]
pub struct Bearer {
    pub caller: Caller,
    /// Cancelled when the token is revoked: what goes on for long ends by it.
    pub revoked: CancellationToken,
    pub expires_at: Timestamp,
}

impl Bearer {
    /// Returns when the token is revoked or expires.
    pub async fn ended(self) {
        let left = Duration::try_from(self.expires_at.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::select! {
            () = self.revoked.cancelled() => {}
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// What both edges ask.
#[derive(Debug)]
pub struct Access {
    pub tokens: Tokens,
    failures: Failures,
}

impl Access {
    /// With all tokens that are stored.
    pub fn new(rows: Vec<TokenRow>) -> Self {
        Self { tokens: Tokens::new(rows), failures: Failures::default() }
    }

    /// Whether nobody is asked who they are, where all are on this machine: no token was made that is not revoked. One
    /// that has merely expired keeps the door shut: nobody decided to open it.
    pub fn is_open(&self) -> bool {
        self.tokens.none_kept()
    }

    /// Whose token the value of the header `Authorization` is. A good token is always good; an address that keeps showing
    /// bad ones is told to wait, and its bad ones are not looked at more closely.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn bearer(&self, header: &[u8], from: IpAddr, now: Timestamp) -> Result<Bearer, Refusal> {
        match self.look_up(header, now) {
            Err(refusal) => Err(match self.failures.one_more(from) {
                Some(wait) => Refusal::TooMany { wait },
                None => refusal,
            }),
            good => good,
        }
    }

    fn look_up(&self, header: &[u8], now: Timestamp) -> Result<Bearer, Refusal> {
        let text = std::str::from_utf8(header).map_err(|_| Refusal::Scheme)?.trim();
        let (scheme, token) = text.split_once(' ').ok_or(Refusal::Scheme)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::Scheme);
        }
        self.tokens.find(&Token::parse(token).map_err(Refusal::Malformed)?.hash(), now)
    }
}
