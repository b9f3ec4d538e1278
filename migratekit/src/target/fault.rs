//! A target for tests that loses, fails, hangs and counts as told.
//!
//! It behaves like a disk behind Linux's page cache: what is written is read back at once but reaches the
//! stable image only by a flush; a flush that fails loses what was dirty, and *the next one succeeds*, as the
//! kernel's does. [`FaultTarget::crash`] is the power cut.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use shared::range::{ByteRange, RangeSet};

use super::{AlignedBuf, Error, Op, ReadPath, Target};

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// As if there were none (to let calls pass before the next one in line).
    Pass,
    /// Fails with this errno, having done nothing.
    Errno(i32),
    /// A write: does the first half, then fails with this errno.
    Half(i32),
    /// Takes this long, then succeeds.
    Slow(Duration),
    /// Waits until [`FaultTarget::release`], then succeeds; fails after [`LONGEST_HANG`], so that a test that
    /// failed meanwhile ends.
    Hang,
    /// A write: succeeds at once, and reaches the disk only after [`FaultTarget::release`].
    Late,
}

/// Longer than any test waits.
pub const LONGEST_HANG: Duration = Duration::from_secs(20);

/// `EIO`.
pub const EIO: i32 = 5;
/// `ENOSPC`.
pub const ENOSPC: i32 = 28;

/// What was called, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write(ByteRange),
    Zero(ByteRange),
    Flush,
}

#[derive(Default)]
struct State {
    stable: Vec<u8>,
    cached: Vec<u8>,
    dirty: RangeSet,
    faults: Vec<(Op, VecDeque<Fault>)>,
    calls: Vec<Call>,
    late: VecDeque<(u64, Vec<u8>)>,
    hanging: usize,
    released: usize,
}

/// See the module. Clones share the same disk.
#[derive(Clone)]
pub struct FaultTarget {
    size: u64,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl FaultTarget {
    /// A disk that holds `content`.
    pub fn holding(content: Vec<u8>) -> Self {
        let state = State { cached: content.clone(), stable: content, ..State::default() };
        Self { size: state.stable.len() as u64, state: Arc::new((Mutex::new(state), Condvar::new())) }
    }

    /// A disk of zeros.
    pub fn zeroed(size: usize) -> Self {
        Self::holding(vec![0; size])
    }

    /// Adds `fault` to the line of those that the next calls of this kind meet, one each.
    pub fn next(&self, op: Op, fault: Fault) -> &Self {
        let mut state = self.lock();
        match state.faults.iter_mut().find(|(o, _)| *o == op) {
            Some((_, line)) => line.push_back(fault),
            None => state.faults.push((op, VecDeque::from([fault]))),
        }
        drop(state);
        self
    }

    /// Lets one late write land, or one hanging call (or the next one to hang) go on.
    pub fn release(&self) {
        let late = self.lock().late.pop_front();
        match late {
            Some((offset, data)) => self.put(offset, &data),
            None => self.lock().released += 1,
        }
        self.state.1.notify_all();
    }

    /// Waits until no write is late.
    fn settle(&self) {
        let landed = self.state.1.wait_timeout_while(self.lock(), LONGEST_HANG, |s| !s.late.is_empty());
        drop(landed);
    }

    /// How many calls hang now.
    pub fn hanging(&self) -> usize {
        let state = self.lock();
        state.hanging.saturating_sub(state.released)
    }

    /// All calls so far that changed something or tried to.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// What is on stable storage.
    pub fn stable(&self) -> Vec<u8> {
        self.lock().stable.clone()
    }

    /// The power cut: a new disk with what was stable. Of the rest, the kernel had by chance written back those
    /// dirty ranges for which `written_back` says so.
    pub fn crash(&self, mut written_back: impl FnMut(ByteRange) -> bool) -> Self {
        let state = self.lock();
        let mut content = state.stable.clone();
        for range in state.dirty.iter().filter(|r| written_back(*r)) {
            content[span(range)].copy_from_slice(&state.cached[span(range)]);
        }
        Self::holding(content)
    }

    /// Changes a stable byte behind everybody's back.
    pub fn flip(&self, offset: usize) {
        let mut state = self.lock();
        state.stable[offset] ^= 0xff;
        state.cached[offset] ^= 0xff;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault of this call; waits it out. `Some`: the errno to end with.
    fn meet(&self, op: Op, call: Call) -> Option<Fault> {
        let mut state = self.lock();
        state.calls.push(call);
        let fault = state.faults.iter_mut().find(|(o, _)| *o == op).and_then(|(_, line)| line.pop_front())?;
        match fault {
            Fault::Slow(time) => {
                drop(state);
                std::thread::sleep(time);
                None
            }
            Fault::Hang => {
                state.hanging += 1;
                let ticket = state.hanging;
                let waited = self.state.1.wait_timeout_while(state, LONGEST_HANG, |s| s.released < ticket);
                let (_state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                waited.timed_out().then_some(Fault::Errno(EIO))
            }
            Fault::Pass => None,
            Fault::Errno(_) | Fault::Half(_) | Fault::Late => Some(fault),
        }
    }

    fn fail(op: Op, offset: u64, errno: i32) -> Error {
        Error::from_io(op, &PathBuf::from("fault"), offset, std::io::Error::from_raw_os_error(errno))
    }

    fn put(&self, offset: u64, data: &[u8]) {
        let mut state = self.lock();
        let range = ByteRange::new(offset, offset + data.len() as u64);
        state.cached[span(range)].copy_from_slice(data);
        state.dirty.insert(range);
    }
}

fn span(range: ByteRange) -> std::ops::Range<usize> {
    let at = |v: u64| usize::try_from(v).expect("a test disk fits in memory");
    at(range.start)..at(range.end)
}

impl Target for FaultTarget {
    fn name(&self) -> String {
        "fault".to_owned()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn write_at(&self, offset: u64, data: &[Bytes]) -> Result<(), Error> {
        let data = data.concat();
        let call = Call::Write(ByteRange::new(offset, offset + data.len() as u64));
        match self.meet(Op::Write, call) {
            Some(Fault::Errno(errno)) => return Err(Self::fail(Op::Write, offset, errno)),
            Some(Fault::Half(errno)) => {
                self.put(offset, &data[..data.len() / 2]);
                return Err(Self::fail(Op::Write, offset, errno));
            }
            Some(Fault::Late) => self.lock().late.push_back((offset, data)),
            _ => self.put(offset, &data),
        }
        Ok(())
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        if let Some(Fault::Errno(errno) | Fault::Half(errno)) = self.meet(Op::Zero, Call::Zero(range)) {
            return Err(Self::fail(Op::Zero, range.start, errno));
        }
        self.put(range.start, &vec![0; span(range).len()]);
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        self.settle();
        // What a write dirties while the flush is under way may or may not be in it: here it is not.
        let dirty = self.lock().dirty.clone();
        let fault = self.meet(Op::Flush, Call::Flush);
        let mut state = self.lock();
        state.dirty.subtract(&dirty);
        if let Some(Fault::Errno(errno) | Fault::Half(errno)) = fault {
            return Err(Self::fail(Op::Flush, 0, errno));
        }
        for range in dirty.iter() {
            let State { stable, cached, .. } = &mut *state;
            stable[span(range)].copy_from_slice(&cached[span(range)]);
        }
        Ok(())
    }

    fn read_direct(&self, offset: u64, buf: &mut AlignedBuf) -> Result<ReadPath, Error> {
        let range = ByteRange::new(offset, offset + buf.as_slice().len() as u64);
        if range.end > self.size {
            return Err(Self::fail(Op::Read, offset, EIO));
        }
        if let Some(Fault::Errno(errno) | Fault::Half(errno)) = self.meet_read() {
            return Err(Self::fail(Op::Read, offset, errno));
        }
        let state = self.lock();
        buf.as_mut_slice().copy_from_slice(&state.stable[span(range)]);
        for dirty in state.dirty.within(range) {
            let there = ByteRange::new(dirty.start - offset, dirty.end - offset);
            buf.as_mut_slice()[span(there)].copy_from_slice(&state.cached[span(dirty)]);
        }
        Ok(ReadPath::Direct)
    }

    fn next_data(&self, offset: u64) -> Result<Option<ByteRange>, Error> {
        Ok((offset < self.size).then(|| ByteRange::new(offset, self.size)))
    }

    fn end(&self) {
        self.settle();
    }
}

impl FaultTarget {
    fn meet_read(&self) -> Option<Fault> {
        let mut state = self.lock();
        state.faults.iter_mut().find(|(o, _)| *o == Op::Read).and_then(|(_, line)| line.pop_front())
    }
}
