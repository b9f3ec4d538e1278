//! The guest that never rests: seeded random writes, zeroes and discards, some at the very end of the disk.
//!
//! Writes pass a gate. Holding it closed ([`Writer::pause`]) means that no write is in flight and none begins, so
//! that what is read from the live disk then is the disk at one point in time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use shared::range::ByteRange;

use super::nbd::Nbd;

/// One disk to write to.
#[derive(Clone, Debug)]
pub struct WriterDisk {
    /// Key of the disk.
    pub key: String,
    /// Where to write; the disk's end is written often where the range reaches it.
    pub range: ByteRange,
}

/// How the writer behaves.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// The same seed gives the same requests (not the same moments).
    pub seed: u64,
    /// Bytes a second on each disk; `None` for as fast as it goes.
    pub rate: Option<u64>,
    /// Most bytes of one request; at least 512.
    pub largest: u32,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { seed: 1, rate: Some(16 << 20), largest: 256 << 10 }
    }
}

/// What was written so far, all disks together.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that the disk has answered.
    pub requests: AtomicU64,
    /// Bytes written, zeroed or discarded.
    pub bytes: AtomicU64,
    /// Requests that were discards.
    pub discards: AtomicU64,
    /// Requests that were writes of zeroes.
    pub zeroes: AtomicU64,
    /// Requests that reached the last byte of their range.
    pub at_end: AtomicU64,
}

/// One answered request.
struct Done {
    bytes: u64,
    kind: Kind,
    at_end: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Discard,
    Zero,
    Data,
}

impl Counters {
    fn count(&self, done: &Done) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(done.bytes, Ordering::Relaxed);
        self.discards.fetch_add(u64::from(done.kind == Kind::Discard), Ordering::Relaxed);
        self.zeroes.fetch_add(u64::from(done.kind == Kind::Zero), Ordering::Relaxed);
        self.at_end.fetch_add(u64::from(done.at_end), Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    pauses: u32,
    in_flight: u32,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, ready: impl Fn(&GateState) -> bool, then: impl Fn(&mut GateState)) {
        let mut state = self.lock();
        while !ready(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        then(&mut state);
    }

    fn change(&self, change: impl Fn(&mut GateState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The running writer; one thread a disk. Dropping it ends the threads.
#[derive(Debug)]
pub struct Writer {
    gate: Arc<Gate>,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
}

/// While it lives nothing is written.
#[derive(Debug)]
pub struct Pause {
    gate: Arc<Gate>,
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.gate.change(|state| state.pauses -= 1);
    }
}

impl Writer {
    pub(super) fn start(socket: PathBuf, disks: Vec<WriterDisk>, options: &WriterOptions) -> Self {
        let (gate, stop, counters) = (Arc::<Gate>::default(), Arc::<AtomicBool>::default(), Arc::default());
        let threads = (1u64..)
            .zip(disks)
            .map(|(index, disk)| {
                let mut hand = Hand {
                    socket: socket.clone(),
                    export: super::live_export(&disk.key),
                    range: disk.range,
                    random: SmallRng::seed_from_u64(options.seed.wrapping_mul(1_000_003).wrapping_add(index)),
                    rate: options.rate,
                    largest: u64::from(options.largest.max(512)),
                    gate: Arc::clone(&gate),
                    stop: Arc::clone(&stop),
                    counters: Arc::clone(&counters),
                };
                std::thread::spawn(move || hand.run())
            })
            .collect();
        Self { gate, stop, counters, threads }
    }

    /// Waits until no write is in flight and keeps new ones away for as long as the guard lives.
    pub fn pause(&self) -> Pause {
        self.gate.change(|state| state.pauses += 1);
        self.gate.wait_until(|state| state.in_flight == 0, |_| {});
        Pause { gate: Arc::clone(&self.gate) }
    }

    /// What was written so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Waits until `bytes` more have been written (at most a minute).
    pub fn wait_for_bytes(&self, bytes: u64) -> anyhow::Result<()> {
        let until = self.counters.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.counters.bytes.load(Ordering::Relaxed) < until {
            anyhow::ensure!(Instant::now() < deadline, "the writer wrote too little within a minute");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The writer of one disk.
struct Hand {
    socket: PathBuf,
    export: String,
    range: ByteRange,
    random: SmallRng,
    rate: Option<u64>,
    largest: u64,
    gate: Arc<Gate>,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

impl Hand {
    fn run(&mut self) {
        let mut connection: Option<Nbd> = None;
        let mut noise = vec![0; usize::try_from(self.largest).unwrap_or(512)];
        while !self.stop.load(Ordering::Relaxed) {
            let Some(nbd) = connection.as_mut() else {
                // The VM may be down for a while (a test kills it); the guest comes back with it.
                connection = Nbd::connect(&self.socket, &self.export).ok();
                if connection.is_none() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                continue;
            };
            if !self.enter() {
                continue;
            }
            let began = Instant::now();
            let done = Self::write(&mut self.random, self.range, self.largest, &mut noise, nbd);
            self.gate.change(|state| state.in_flight -= 1);
            match done {
                Ok(done) => {
                    self.counters.count(&done);
                    self.rest(done.bytes, began);
                }
                Err(error) => {
                    tracing::debug!(%error, export = self.export, "the guest's write failed");
                    connection = None;
                }
            }
        }
    }

    /// Passes the gate; `false` when it has to be tried again.
    fn enter(&self) -> bool {
        let mut state = self.gate.lock();
        if state.pauses > 0 {
            // Not for ever, so that a writer that is dropped while paused ends.
            let _ = self.gate.changed.wait_timeout(state, Duration::from_millis(20));
            return false;
        }
        state.in_flight += 1;
        true
    }

    fn rest(&self, bytes: u64, began: Instant) {
        let Some(rate) = self.rate else { return };
        let due = began + Duration::from_micros(bytes.saturating_mul(1_000_000) / rate.max(1));
        while Instant::now() < due && !self.stop.load(Ordering::Relaxed) {
            let left = due.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// One request of the guest: mostly data, of any alignment to 512, now and then at the very end.
    fn write(
        random: &mut SmallRng,
        range: ByteRange,
        largest: u64,
        noise: &mut [u8],
        nbd: &mut Nbd,
    ) -> anyhow::Result<Done> {
        let sectors = range.len() / 512;
        anyhow::ensure!(sectors > 0, "nothing to write to");
        let length = random.random_range(1..=(largest / 512).min(sectors));
        let start = match random.random_ratio(1, 12) {
            true => sectors - length,
            false => random.random_range(0..=sectors - length),
        };
        let (offset, length) = (range.start + start * 512, length * 512);
        let short = u32::try_from(length)?;
        let kind = match random.random_range(0..10) {
            0 => Kind::Discard,
            1 => Kind::Zero,
            _ => Kind::Data,
        };
        match kind {
            Kind::Discard => nbd.discard(offset, short)?,
            Kind::Zero => nbd.zero(offset, short)?,
            Kind::Data => {
                let noise = &mut noise[..usize::try_from(length)?];
                random.fill(&mut *noise);
                nbd.write(offset, noise)?;
            }
        }
        Ok(Done { bytes: length, kind, at_end: offset + length == range.start + sectors * 512 })
    }
}
