//! An NBD export as a target.
//!
//! ```text
//! write_at, zero ─ admitted (bytes, requests, overlaps) ─► queue ─┬► thread ═ connection: many requests in flight
//! flush ─ waits for the answers to what came before it ─► queue ──┴► thread ═ connection
//! ```
//!
//! A write returns when it is queued, not when it is answered: the server's answer, good or bad, is waited for by the
//! next [`flush`](Target::flush), which is what makes anything durable. Requests in flight never overlap (the protocol
//! does not order them). Several connections are used only where the server says that a flush on one covers them all
//! (multi-conn). A failure ends the target for good, as a failed flush ends a file.
//!
//! Deliberately not here: connecting again, and keeping others from the export: the protocol has no lock.

mod queue;
mod worker;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use shared::leaf::LEAF;
use shared::range::ByteRange;

use super::{AlignedBuf, Error, Op, ReadPath, Target};
use crate::nbd::{BASE_ALLOCATION, Buffer, Export, NbdUri, STATE_ZERO};

use queue::{Job, Shared};

/// Written at a time where zeros have to be written.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// Most bytes of one block status query: lengths are 32 bits on the wire.
const MOST_STATUS: u64 = (1 << 32) - LEAF;

/// What is done with a server that cannot flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushing {
    /// Refuse it.
    Required,
    /// Write all the same: a flush then means only that the server has answered.
    IfPossible,
}

/// How to connect and what to ask of the server.
#[derive(Clone, Debug)]
pub struct NbdOptions {
    /// Connections (threads), where the server allows several.
    pub connections: usize,
    /// The longest that connecting may take.
    pub connect_timeout: Duration,
    /// The longest that a server may owe answers without giving one. A flush of a slow disk is one answer.
    pub stall_timeout: Duration,
    pub flushing: Flushing,
}

impl Default for NbdOptions {
    fn default() -> Self {
        Self {
            connections: crate::read::usual_connections(),
            connect_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(120),
            flushing: Flushing::Required,
        }
    }
}

/// See the module.
pub struct NbdTarget {
    uri: NbdUri,
    export: Export,
    /// Most bytes of one request.
    request: u64,
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl NbdTarget {
    /// Connects, and checks that a disk of `need` bytes can be written there. Writes nothing. Blocks.
    ///
    /// # Errors
    /// [`Error::Nbd`] when it cannot be connected to; [`Error::ReadOnly`], [`Error::TooSmall`], [`Error::NoFlush`],
    /// [`Error::BlockSize`] when the export does not do.
    pub fn open(uri: &NbdUri, need: u64, options: &NbdOptions) -> Result<Self, Error> {
        let handles = worker::connect(uri, options, |export| suitable(uri, export, need, options.flushing))?;
        let export = handles[0].export().clone();
        let (shared, wakes) = Shared::new(uri.to_string(), handles.len())?;
        let mut target = Self {
            uri: uri.clone(),
            request: export.block_max / export.block_min * export.block_min,
            export,
            shared,
            workers: Mutex::default(),
        };
        for (index, (handle, wake)) in handles.into_iter().zip(wakes).enumerate() {
            let worker =
                worker::spawn(handle, index, wake, Arc::clone(&target.shared), options.stall_timeout)?;
            target.workers.get_mut().unwrap_or_else(PoisonError::into_inner).push(worker);
        }
        Ok(target)
    }

    /// What the server said about the export.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Connections in use.
    pub fn connections(&self) -> usize {
        self.shared.workers()
    }

    /// Says good-bye to the server, for two seconds at most. Nothing can be done with the target afterwards. Blocks.
    pub fn close(&self) {
        self.shared.close();
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // One that panicked has said so; the connection is gone either way.
            let _ = worker.join();
        }
    }

    fn path(&self) -> PathBuf {
        self.uri.to_string().into()
    }

    fn check(&self, op: Op, range: Option<ByteRange>) -> Result<ByteRange, Error> {
        let range = range.unwrap_or(ByteRange::new(u64::MAX, u64::MAX));
        match range.end <= self.export.size {
            true => Ok(range),
            false => Err(Error::Outside {
                op,
                path: self.path(),
                start: range.start,
                end: range.end,
                size: self.export.size,
            }),
        }
    }

    /// `range` in requests of at most `most` bytes.
    fn requests(&self, range: ByteRange, most: u64) -> impl Iterator<Item = ByteRange> + use<> {
        let most = most.min(self.request);
        let mut at = range.start;
        std::iter::from_fn(move || {
            let part = ByteRange::new(at, range.end.min(at.saturating_add(most)));
            at = part.end;
            (!part.is_empty()).then_some(part)
        })
    }

    fn write(&self, range: ByteRange, data: &Bytes) -> Result<(), Error> {
        for part in self.requests(range, u64::MAX) {
            let within = |at: u64| usize::try_from(at - range.start).unwrap_or(usize::MAX);
            self.shared.change(part, Some(data.slice(within(part.start)..within(part.end))))?;
        }
        Ok(())
    }
}

impl Drop for NbdTarget {
    fn drop(&mut self) {
        // Not waited for here, which may be an async task: `close` does that.
        self.shared.close();
    }
}

/// Whether a disk of `need` bytes can be written to the export.
fn suitable(uri: &NbdUri, export: &Export, need: u64, flushing: Flushing) -> Result<(), Error> {
    let target = || uri.to_string();
    if export.read_only {
        return Err(Error::ReadOnly { target: target() });
    }
    if export.size < need {
        return Err(Error::TooSmall { path: target().into(), need, have: export.size });
    }
    if !export.can_flush && flushing == Flushing::Required {
        return Err(Error::NoFlush { target: target() });
    }
    // Whole leaves are written, and the end of the disk, which need not be one.
    if !LEAF.is_multiple_of(export.block_min) || !need.is_multiple_of(export.block_min) {
        return Err(Error::BlockSize { target: target(), block: export.block_min, need });
    }
    Ok(())
}

impl Target for NbdTarget {
    fn name(&self) -> String {
        self.uri.to_string()
    }

    fn size(&self) -> u64 {
        self.export.size
    }

    fn write_at(&self, offset: u64, data: &[Bytes]) -> Result<(), Error> {
        let total = data.iter().map(|d| d.len() as u64).sum();
        let range = self.check(Op::Write, ByteRange::at(offset, total))?;
        match data {
            [one] => self.write(range, one),
            // Parts need not fit the server's blocks.
            parts => {
                let mut whole = BytesMut::with_capacity(usize::try_from(total).unwrap_or(usize::MAX));
                parts.iter().for_each(|part| whole.extend_from_slice(part));
                self.write(range, &whole.freeze())
            }
        }
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        let range = self.check(Op::Zero, Some(range))?;
        if self.export.can_zero {
            return self.requests(range, u64::MAX).try_for_each(|part| self.shared.change(part, None));
        }
        let most = ZEROS.len() as u64;
        self.requests(range, most / self.export.block_min * self.export.block_min).try_for_each(|part| {
            let length = usize::try_from(part.len()).unwrap_or(usize::MAX).min(ZEROS.len());
            self.shared.change(part, Some(Bytes::from_static(&ZEROS[..length])))
        })
    }

    fn flush(&self) -> Result<(), Error> {
        self.shared.settle()?;
        if !self.export.can_flush {
            return Ok(());
        }
        self.shared.ask(|reply| Job::Flush { reply })
    }

    fn read_direct(&self, offset: u64, buf: &mut AlignedBuf) -> Result<ReadPath, Error> {
        let range = self.check(Op::Read, ByteRange::at(offset, buf.as_slice().len() as u64))?;
        self.shared.settle()?;
        // All requests first, so that they are under way together.
        let asked = self.requests(self.export.round_out(range), 1 << 20).map(|part| {
            let buffer = Buffer::new(usize::try_from(part.len()).unwrap_or(usize::MAX));
            Ok((part, self.shared.begin(|reply| Job::Read { offset: part.start, buffer, reply })?))
        });
        for (part, answer) in asked.collect::<Result<Vec<_>, Error>>()? {
            let buffer = self.shared.answer(&answer)?;
            let wanted = part.intersect(range);
            let at = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX);
            buf.as_mut_slice()[at(range.start, wanted.start)..at(range.start, wanted.end)].copy_from_slice(
                &buffer.as_slice()[at(part.start, wanted.start)..at(part.start, wanted.end)],
            );
        }
        Ok(ReadPath::Server)
    }

    fn next_data(&self, offset: u64) -> Result<Option<ByteRange>, Error> {
        let size = self.export.size;
        let mut at = offset;
        if at < size {
            self.shared.settle()?;
        }
        while at < size {
            if !self.export.has_context(BASE_ALLOCATION) {
                return Ok(Some(ByteRange::new(at, size)));
            }
            let question = ByteRange::new(at, size.min(at.saturating_add(MOST_STATUS)));
            let range = self.export.round_out(question);
            let told = self.shared.ask(|reply| Job::Status { range, reply })?;
            let before = at;
            for (range, flags) in
                told.into_iter().filter(|s| s.context == BASE_ALLOCATION).flat_map(|s| s.extents)
            {
                if range.start > at {
                    break;
                }
                if range.end > at && flags & STATE_ZERO == 0 {
                    return Ok(Some(ByteRange::new(at, range.end.min(size))));
                }
                at = at.max(range.end);
            }
            if at == before {
                // It does not tell: all may be data.
                return Ok(Some(ByteRange::new(at, size)));
            }
        }
        Ok(None)
    }

    fn end(&self) {
        // What a server was sent cannot be called back. Nothing more is sent, and nobody waits for its answers.
        self.shared.fail(Error::Lost { path: self.path() });
    }
}
