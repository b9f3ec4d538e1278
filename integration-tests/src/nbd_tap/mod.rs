//! Stands between an agent and a real NBD server, and is the test's witness at the source.
//!
//! ```text
//!  agent ── LISTEN (Unix) ── Tap ── SERVER (Unix) ── nbdkit, qemu-storage-daemon
//! ```
//!
//! It notes every read that reaches the server, by export and by attempt; lets answers overtake each other by seeded
//! random waits; slows them down; and stops them after so many bytes, so that a kill lands inside a copy and not
//! beside it. Data goes through unchanged. Not here: TLS, NBD's older handshakes, writes worth counting.

mod relay;
mod server;

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
pub use server::{Extents, FolderServer};
use shared::range::{ByteRange, RangeSet};

/// How the tap behaves.
#[derive(Clone, Copy, Debug)]
pub struct TapOptions {
    /// Of the waits.
    pub seed: u64,
    /// The longest that an answer waits; each waits for a random part of it.
    pub jitter: Duration,
}

/// The tap. Dropping it closes all connections through it.
#[derive(Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    listen: PathBuf,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: PathBuf,
    options: TapOptions,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    /// Counts attempts: a read belongs to the one in which its connection was made.
    attempt: u64,
    reads: BTreeMap<String, Export>,
    /// Bytes of read data handed to the agent.
    handed: u64,
    hold_at: Option<u64>,
    /// Bytes a second, and when the next answer may go.
    rate: Option<(u64, Instant)>,
    connections: Vec<UnixStream>,
}

#[derive(Debug, Default)]
struct Export {
    /// What was asked for, by attempt.
    reads: BTreeMap<u64, RangeSet>,
    /// Reads that were answered after one that lies behind them.
    disordered: u64,
    last_answered: u64,
}

impl Tap {
    /// Listens on `listen` for clients of the server at `server`, which may come and go.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(listen: &Path, server: &Path, options: TapOptions) -> anyhow::Result<Self> {
        let listener =
            UnixListener::bind(listen).with_context(|| format!("listen on {}", listen.display()))?;
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { server: server.to_owned(), options, state, changed });
        let accepted = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&listener, &accepted));
        Ok(Self { shared, listen: listen.to_owned(), accepting: Some(accepting) })
    }

    /// The socket that clients connect to.
    pub fn socket(&self) -> &Path {
        &self.listen
    }

    /// Hands on `bytes` more of read data, and then no answer until [`release`](Self::release).
    pub fn hold_after(&self, bytes: u64) {
        self.change(|state| state.hold_at = Some(state.handed.saturating_add(bytes)));
    }

    /// Whether the bytes of [`hold_after`](Self::hold_after) are through.
    pub fn is_held(&self) -> bool {
        let state = self.shared.lock();
        state.hold_at.is_some_and(|at| state.handed >= at)
    }

    /// Hands answers on again.
    pub fn release(&self) {
        self.change(|state| state.hold_at = None);
    }

    /// Bytes of read data a second that are handed on, all connections together; `None`: as they come.
    pub fn set_rate(&self, rate: Option<u64>) {
        self.change(|state| state.rate = rate.map(|rate| (rate, Instant::now())));
    }

    /// What is read over connections that are made from now on is another attempt's.
    pub fn next_attempt(&self) {
        self.change(|state| state.attempt += 1);
    }

    /// Nothing was read yet: another cycle begins.
    pub fn forget(&self) {
        self.change(|state| state.reads.clear());
    }

    /// By export: bytes that the latest attempt asked for and an earlier one had asked for already.
    pub fn redone(&self) -> BTreeMap<String, u64> {
        let state = self.shared.lock();
        let redone = |export: &Export| {
            let mut earlier = RangeSet::new();
            export.reads.range(..state.attempt).for_each(|(_, reads)| earlier.union(reads));
            let latest = export.reads.get(&state.attempt);
            let again = latest.into_iter().flat_map(RangeSet::iter).flat_map(|range| earlier.within(range));
            again.map(ByteRange::len).sum()
        };
        state.reads.iter().map(|(name, export)| (name.clone(), redone(export))).collect()
    }

    /// By export: bytes asked for by any attempt, once each.
    pub fn asked(&self) -> BTreeMap<String, u64> {
        let whole = |export: &Export| {
            let mut all = RangeSet::new();
            export.reads.values().for_each(|reads| all.union(reads));
            all.total()
        };
        self.shared.lock().reads.iter().map(|(name, export)| (name.clone(), whole(export))).collect()
    }

    /// Reads that were answered out of the order of the disk.
    pub fn disordered(&self) -> u64 {
        self.shared.lock().reads.values().map(|export| export.disordered).sum()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.change(|state| {
            state.ended = true;
            for connection in state.connections.drain(..) {
                // Closed already is as good.
                let _ = connection.shutdown(Shutdown::Both);
            }
        });
        // Wakes the thread that accepts.
        let _ = UnixStream::connect(&self.listen);
        let _ = std::fs::remove_file(&self.listen);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read reached the server.
    fn asked(&self, attempt: u64, export: &str, range: ByteRange) {
        let mut state = self.lock();
        let export = state.reads.entry(export.to_owned()).or_default();
        export.reads.entry(attempt).or_default().insert(range);
    }

    /// Waits until the answer to a read may be handed on; `false` when the tap ended.
    fn may_answer(&self, export: &str, range: ByteRange) -> bool {
        let mut state = self.lock();
        loop {
            if state.ended {
                return false;
            }
            let held = state.hold_at.is_some_and(|at| state.handed >= at);
            let now = Instant::now();
            let wait = match state.rate {
                _ if held => Duration::from_secs(3600),
                Some((_, next)) if next > now => next - now,
                _ => break,
            };
            let (again, _) = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            state = again;
        }
        state.handed += range.len();
        if let Some((rate, next)) = &mut state.rate {
            *next =
                (*next).max(Instant::now()) + Duration::from_micros(range.len() * 1_000_000 / (*rate).max(1));
        }
        if let Some(export) = state.reads.get_mut(export) {
            export.disordered += u64::from(range.start < export.last_answered);
            export.last_answered = range.start;
        }
        true
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    for (number, client) in (0u64..).zip(listener.incoming()) {
        let attempt = {
            let state = shared.lock();
            if state.ended {
                return;
            }
            state.attempt
        };
        // A client that cannot be served sees its connection closed, as a server that is away would do it.
        let Ok(pair) = client.and_then(|client| Ok((client, UnixStream::connect(&shared.server)?))) else {
            continue;
        };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let (client, server) = pair;
            // Either side may vanish at any moment: that is what the tap is there for.
            let _ = relay::run(&shared, number, attempt, &client, &server);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
    }
}

#[cfg(test)]
mod tests;
