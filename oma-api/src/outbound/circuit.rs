//! A peer that does not answer is left alone for a while.
//!
//! ```text
//!            3 failures in a row
//!  closed ─────────────────────────► open ──── pause over ───► half-open: one call tries
//!    ▲                                ▲                            │        │
//!    │                                └───── it failed: longer ────┘        │
//!    └────────────────────────────────────────── it was answered ───────────┘
//! ```
//!
//! A failure is that nobody answered; a refusal is an answer. While it is open, calls fail at once and say since when and why:
//! whoever waits for a deadline each time holds up what needs nobody. Nothing here is needed after a restart.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// Failures in a row after which it opens.
const FAILURES: u32 = 3;

/// From an opening to the first try; twice as long after each that failed, up to the longest.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);

/// As it is shown, in the order of their numbers in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Closed,
    HalfOpen,
    Open,
}

impl State {
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// How it stands with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `linstor`, `cloudstack`.
    pub peer: &'static str,
    pub state: State,
    /// How long nothing was heard of it; zero while it answers.
    pub silent: Duration,
    /// Why the last call failed; empty while it answers.
    pub why: String,
}

/// It is not asked now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{peer} has not answered for {} s and is asked again in {} s at the latest; the last time: {why}", silent.as_secs(), next.as_secs().max(1))]
pub struct Away {
    pub peer: &'static str,
    silent: Duration,
    next: Duration,
    why: String,
}

/// That of one peer. Clones are the same one.
#[derive(Clone)]
pub struct Circuit {
    peer: &'static str,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    failures: u32,
    /// Since when nobody answers.
    since: Option<Instant>,
    /// When it may be tried again; `None`: it is closed.
    open_until: Option<Instant>,
    pause: Duration,
    /// Somebody tries.
    trying: bool,
    why: String,
}

/// A call that may be made. Dropped without a word, it says nothing of the peer.
pub struct Pass {
    circuit: Circuit,
    tries: bool,
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.standing().fmt(f)
    }
}

impl Circuit {
    pub fn new(peer: &'static str) -> Self {
        Self { peer, inner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the peer may be asked now.
    ///
    /// # Errors
    /// [`Away`]: nothing was sent.
    pub fn enter(&self) -> Result<Pass, Away> {
        let mut inner = self.lock();
        let pass = |tries| Pass { circuit: self.clone(), tries };
        let Some(until) = inner.open_until else { return Ok(pass(false)) };
        let now = Instant::now();
        if now >= until && !inner.trying {
            inner.trying = true;
            return Ok(pass(true));
        }
        Err(Away {
            peer: self.peer,
            silent: inner.silent(now),
            next: until.saturating_duration_since(now),
            why: inner.why.clone(),
        })
    }

    pub fn standing(&self) -> Standing {
        let (inner, now) = (self.lock(), Instant::now());
        let state = match inner.open_until {
            None => State::Closed,
            Some(until) if inner.trying || now >= until => State::HalfOpen,
            Some(_) => State::Open,
        };
        Standing { peer: self.peer, state, silent: inner.silent(now), why: inner.why.clone() }
    }
}

impl Inner {
    fn silent(&self, now: Instant) -> Duration {
        self.since.map(|since| now - since).unwrap_or_default()
    }
}

impl Pass {
    /// Somebody was there, whatever was said.
    pub fn answered(self) {
        let mut inner = self.circuit.lock();
        if inner.open_until.is_some() {
            info!(peer = self.circuit.peer, silent = ?inner.silent(Instant::now()), "the peer answers again");
        }
        *inner = Inner::default();
    }

    /// Nobody was.
    pub fn failed(self, why: &dyn fmt::Display) {
        let mut inner = self.circuit.lock();
        let now = Instant::now();
        inner.why = why.to_string();
        inner.since.get_or_insert(now);
        inner.failures = inner.failures.saturating_add(1);
        // Those that were under way when it opened say nothing new.
        if self.tries || (inner.open_until.is_none() && inner.failures >= FAILURES) {
            if !self.tries {
                warn!(
                    peer = self.circuit.peer,
                    why = inner.why,
                    "the peer does not answer, and is left alone for a while"
                );
            }
            inner.pause = if self.tries { (inner.pause * 2).min(LONGEST) } else { PAUSE };
            inner.open_until = Some(now + inner.pause);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.tries {
            self.circuit.lock().trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(circuit: &Circuit) {
        circuit.enter().expect("it may be asked").failed(&"nobody there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_answer_is_left_alone_and_tried_by_one() {
        let circuit = Circuit::new("linstor");
        for _ in 0..FAILURES - 1 {
            fail(&circuit);
        }
        circuit.enter().expect("not in a row").answered();
        for _ in 0..FAILURES {
            assert_eq!(circuit.standing().state, State::Closed);
            fail(&circuit);
        }
        assert_eq!(circuit.standing().state, State::Open);
        let away = circuit.enter().err().map(|away| away.to_string()).unwrap_or_default();
        assert!(away.contains("linstor") && away.contains("nobody there"), "{away}");

        tokio::time::advance(PAUSE).await;
        assert_eq!(circuit.standing().state, State::HalfOpen);
        let tries = circuit.enter().expect("one may try");
        assert!(circuit.enter().is_err(), "one");
        tries.failed(&"nor now");
        tokio::time::advance(PAUSE).await;
        assert!(circuit.enter().is_err(), "it waits longer each time");
        tokio::time::advance(PAUSE).await;
        // Whoever gives up in the middle of a try does not keep others from it.
        drop(circuit.enter().expect("one may try"));
        let standing = circuit.standing();
        assert_eq!((standing.silent, standing.why.as_str()), (PAUSE * 3, "nor now"));
        circuit.enter().expect("one may try").answered();
        assert_eq!(circuit.standing(), Circuit::new("linstor").standing());
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_has_an_end() {
        let circuit = Circuit::new("linstor");
        (0..FAILURES).for_each(|_| fail(&circuit));
        for _ in 0..20 {
            tokio::time::advance(LONGEST).await;
            fail(&circuit);
        }
        tokio::time::advance(LONGEST).await;
        assert!(circuit.enter().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_under_way_when_it_opened_changes_nothing() {
        let circuit = Circuit::new("linstor");
        let late = circuit.enter().expect("closed");
        (0..FAILURES).for_each(|_| fail(&circuit));
        tokio::time::advance(PAUSE / 2).await;
        late.failed(&"late");
        tokio::time::advance(PAUSE / 2).await;
        assert!(circuit.enter().is_ok(), "its failure made nobody wait longer");
    }
}
