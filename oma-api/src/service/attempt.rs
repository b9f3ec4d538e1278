//! Idempotency keys: the same request again is answered as it was, and does nothing.
//!
//! The key is recorded by the transaction of the action, so that a crash leaves both or neither. Refusals are not
//! kept: what was refused did nothing, and may be asked for again.

use super::act::Ask;
use super::{App, Caller, Error};
use crate::store::{Attempt, Attempted};

/// Longest key, in bytes.
const LONGEST: usize = 255;

/// A key as it was sent, of one edge: each keeps answers in its own form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    edge: &'static str,
    text: String,
}

impl Key {
    /// # Errors
    /// [`Error::Argument`] when it is empty, long, or not of visible ASCII characters.
    pub fn parse(edge: &'static str, text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let why = format!("must be 1 to {LONGEST} visible ASCII characters, a UUID for example");
            return Err(Error::Argument { what: "idempotency key", why });
        }
        Ok(Self { edge, text: text.to_owned() })
    }

    fn hash(&self) -> String {
        hash(&[self.edge, &self.text])
    }
}

/// Length first, so that no two lists run into one.
fn hash(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.len().to_string().as_bytes()).update(b":").update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

pub(super) fn attempt(key: &Key, caller: &Caller, asked: &str, ask: &Ask) -> Attempt {
    let parts = ask.parts();
    let parts: Vec<_> =
        [caller.name.as_str(), asked].into_iter().chain(parts.iter().map(String::as_str)).collect();
    Attempt { key: key.hash(), fingerprint: hash(&parts) }
}

impl App {
    /// What came of the same request before, if it was made.
    pub(super) async fn attempted(&self, attempt: &Attempt) -> Result<Option<Attempted>, Error> {
        match self.store.attempt_fetch(&attempt.key).await? {
            Some(before) if before.fingerprint == attempt.fingerprint => Ok(Some(before)),
            Some(_) => Err(Error::KeyReused),
            None => Ok(None),
        }
    }

    /// Keeps the answer that an edge gives. Losing it costs its exact words, nothing else.
    pub async fn attempt_answered(&self, key: &Key, answer: &[u8]) {
        if let Err(error) = self.store.attempt_answer(&key.hash(), answer).await {
            tracing::warn!(error = %shared::error::chain(&error), "an answer could not be kept");
        }
    }
}
