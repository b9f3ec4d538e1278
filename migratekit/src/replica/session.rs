//! The handle: checks pieces, holds them to the window, logs intents, hands them to the writer.

use std::sync::Arc;

use shared::leaf::{LEAF_LEN, LeafHash, is_whole_leaves, leaf_count};
use shared::range::{ByteRange, RangeSet};
use tokio::sync::{Mutex, mpsc};

use super::acks::{AckCell, Acks};
use super::core::Core;
use super::flusher::Flusher;
use super::writer::{Job, Work, Writer};
use super::{Cause, Error, Hashes, Journal, Options, Prior, Refusal, Sealed, Stats};
use crate::manifest::{Manifest, leaf_hashes};
use crate::piece::{MAX_DATA, Piece};
use crate::target::Target;

/// The share of the window that a piece without data takes: what it costs in memory, rounded up.
const SMALLEST_CHARGE: usize = 4096;

/// One disk being written under one epoch. Clones are the same session; see the module for its rules.
///
/// When the last handle (streams included) is dropped, what was not checkpointed is forgotten; a write may still
/// be under way then: who wants to know waits for [`fence`](Self::fence).
#[derive(Clone)]
pub struct ReplicaSession {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    /// To be told when nobody writes to it any more.
    target: Arc<dyn Target>,
    jobs: mpsc::Sender<Job>,
    journal: Arc<dyn Journal>,
    /// One at a time, so that those who wait find what the one before them logged.
    intents: Mutex<()>,
    hashes: Hashes,
    window: usize,
    memory: usize,
    disk_size: u64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.close(Error::Fenced { reason: "nobody holds it any more".into() });
    }
}

impl ReplicaSession {
    /// Starts the writer's thread and the flusher's task; to be called inside a tokio runtime.
    ///
    /// The disk's size is the manifest's; the target may be larger. It must have been opened for this session: one
    /// that lived through a failed session has forgotten what it lost.
    pub fn open(
        target: Arc<dyn Target>,
        manifest: Arc<Manifest>,
        journal: Arc<dyn Journal>,
        prior: Prior,
        options: Options,
    ) -> Result<Self, Error> {
        let disk_size = manifest.disk_size();
        if target.size() < disk_size {
            let (have, need) = (target.size(), disk_size);
            return Err(Cause::TargetTooSmall { target: target.name(), have, need }.into());
        }
        let window = usize::try_from(options.window.min(1 << 30)).unwrap_or(1 << 30).max(1);
        // Half of the window fills while the other half is being flushed.
        let flush_bytes = options.flush_bytes.min(window as u64 / 2).max(1);
        let memory = usize::try_from(options.memory.min(1 << 30)).unwrap_or(1 << 30).max(1);
        let core = Arc::new(Core::new(&prior, window, memory));
        // The window bounds the queue: each job in it holds its share.
        let (jobs, queue) = mpsc::channel(window.div_ceil(SMALLEST_CHARGE));
        let writer = Writer {
            core: core.clone(),
            target: target.clone(),
            manifest: manifest.clone(),
            reads_zero: prior.reads_zero,
            touched: prior.intended,
        };
        // Not joined: `fence` and `seal` wait until it writes nothing, and it ends with the last handle.
        std::thread::Builder::new()
            .name("replica-writer".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(Cause::Thread)?;
        let options = Options { flush_bytes, ..options };
        let flusher = Flusher {
            core: core.clone(),
            target: target.clone(),
            manifest,
            journal: journal.clone(),
            options,
        };
        tokio::spawn(flusher.run());
        let (intents, hashes) = (Mutex::new(()), options.hashes);
        Ok(Self {
            inner: Arc::new(Inner {
                core,
                target,
                jobs,
                journal,
                intents,
                hashes,
                window,
                memory,
                disk_size,
            }),
        })
    }

    /// A way in with acknowledgements of its own.
    pub fn stream(&self) -> (ReplicaStream, Acks) {
        let cell = Arc::new(AckCell::default());
        let core = self.inner.core.clone();
        core.add_stream(&cell);
        (ReplicaStream { session: self.clone(), cell: cell.clone() }, Acks { core, cell })
    }

    /// Logs what is about to be sent, whole leaves. Once it returns, pieces in these ranges need not wait for the
    /// journal. Everything intended must become durable before [`seal`](Self::seal).
    pub async fn intend(&self, ranges: RangeSet) -> Result<(), Error> {
        ranges.iter().try_for_each(|range| self.check_range(range))?;
        let core = &self.inner.core;
        // What is logged need not wait for what somebody else is logging.
        if core.unlogged(&ranges).is_empty() {
            return core.check_open();
        }
        let _one_at_a_time = self.inner.intents.lock().await;
        let ranges = core.unlogged(&ranges);
        if ranges.is_empty() {
            return core.check_open();
        }
        core.logging(&ranges)?;
        let _guard = Logging(core);
        match self.inner.journal.intend(&ranges).await {
            Ok(()) => {
                core.logged(&ranges);
                Ok(())
            }
            Err(why) => {
                core.close(Cause::Intent(why));
                core.check_open()
            }
        }
    }

    /// Waits for everything that was accepted, flushes, and ends the session for good if all that was ever intended
    /// is durable; else [`Error::Incomplete`], and the session goes on. Once sealed, it answers the same again.
    pub async fn seal(&self) -> Result<Sealed, Error> {
        self.inner.core.seal().await
    }

    /// Refuses everything from now on, and returns when no write, flush or journal call of this session is under
    /// way. Then another session may open the same target and manifest.
    pub async fn fence(&self, reason: impl Into<Arc<str>>) {
        self.inner.core.close(Error::Fenced { reason: reason.into() });
        let target = Arc::clone(&self.inner.target);
        // First, so that a write or flush that waits for a server is let go. It does not panic; and who fences could do
        // nothing about it if it did.
        let _ = tokio::task::spawn_blocking(move || target.end()).await;
        self.inner.core.idle().await;
    }

    /// Everything durable so far, earlier attempts of the job included.
    pub fn durable(&self) -> RangeSet {
        self.inner.core.durable()
    }

    /// Everything intended by this or an earlier session that is not durable: to be sent.
    pub fn owed(&self) -> RangeSet {
        self.inner.core.owed()
    }

    /// Bytes that were accepted and are not durable yet; small pieces and zeros count as more than they are.
    pub fn pending(&self) -> u64 {
        let core = &self.inner.core;
        if core.check_open().is_err() {
            return 0;
        }
        self.inner.window.saturating_sub(core.budget.available_permits()) as u64
    }

    /// What the session did so far.
    pub fn stats(&self) -> Stats {
        self.inner.core.stats()
    }

    /// `Err`: why nothing is accepted any more.
    pub fn check(&self) -> Result<(), Error> {
        self.inner.core.check_open()
    }

    fn check_range(&self, range: ByteRange) -> Result<(), Error> {
        let disk_size = self.inner.disk_size;
        let why = match range.is_empty() {
            true => Refusal::Empty,
            false if is_whole_leaves(range, disk_size) => return Ok(()),
            false => Refusal::NotWholeLeaves { disk_size },
        };
        Err(Error::Refused { range, why })
    }

    async fn accept(
        &self,
        stream: &Arc<AckCell>,
        range: ByteRange,
        work: Work,
        bytes: usize,
    ) -> Result<(), Error> {
        let core = &self.inner.core;
        core.check_open()?;
        let charge = u32::try_from(bytes.max(SMALLEST_CHARGE).min(self.inner.window)).unwrap_or(u32::MAX);
        let Ok(permit) = core.budget.clone().acquire_many_owned(charge).await else {
            return core.check_open();
        };
        if !matches!(work, Work::Confirm(_)) {
            self.intend(RangeSet::from_iter([range])).await?;
        }
        let memory = u32::try_from(bytes.min(self.inner.memory)).unwrap_or(u32::MAX);
        let Ok(memory) = core.memory.clone().acquire_many_owned(memory).await else {
            return core.check_open();
        };
        let job = Job { range, work, stream: stream.clone(), permit, memory };
        core.enqueue(|| self.inner.jobs.try_send(job).is_ok())
    }
}

/// The session as one stream of a transfer sees it.
#[derive(Clone)]
pub struct ReplicaStream {
    session: ReplicaSession,
    cell: Arc<AckCell>,
}

impl ReplicaStream {
    /// Waits until the piece fits into the window and its intent is durable, then hands it to the writer.
    /// `Ok` is not yet written: [`Acks`] tells when it is durable.
    pub async fn write(&self, piece: Piece) -> Result<(), Error> {
        let range = piece.range();
        let refuse = |why| Err(Error::Refused { range, why });
        match piece {
            Piece::Zero(_) => {
                self.session.check_range(range)?;
                self.session.accept(&self.cell, range, Work::Zero, 0).await
            }
            Piece::Data { data, .. } if data.len() > MAX_DATA => {
                refuse(Refusal::TooLarge { bytes: data.len(), most: MAX_DATA })
            }
            Piece::Data { data, hashes, .. } => {
                self.session.check_range(range)?;
                let need = data.len().div_ceil(LEAF_LEN);
                if !hashes.is_empty() && hashes.len() != need {
                    return refuse(Refusal::HashCount { have: hashes.len(), need });
                }
                let bytes = data.len();
                let hashes = self.hashes(range, &data, hashes).await?;
                self.session.accept(&self.cell, range, Work::Data(data, hashes), bytes).await
            }
        }
    }

    /// The replica was read back past the page cache and found to be what the source has there: these hashes, made
    /// by the source; none of them: zeros. It is not written, but flushed, entered into the manifest and
    /// acknowledged as what is written is.
    pub async fn confirm(&self, range: ByteRange, hashes: Vec<LeafHash>) -> Result<(), Error> {
        self.session.check_range(range)?;
        let (have, need) = (hashes.len() as u64, leaf_count(range.len()));
        let work = match have {
            0 => Work::Confirm(None),
            _ if have == need => Work::Confirm(Some(hashes)),
            _ => {
                let need = usize::try_from(need).unwrap_or(usize::MAX);
                return Err(Error::Refused { range, why: Refusal::HashCount { have: hashes.len(), need } });
            }
        };
        self.session.accept(&self.cell, range, work, 0).await
    }

    /// The session it belongs to.
    pub fn session(&self) -> &ReplicaSession {
        &self.session
    }

    async fn hashes(
        &self,
        range: ByteRange,
        data: &bytes::Bytes,
        sent: Vec<LeafHash>,
    ) -> Result<Vec<LeafHash>, Error> {
        if !sent.is_empty() && self.session.inner.hashes == Hashes::TrustSender {
            return Ok(sent);
        }
        let data = data.clone();
        let made = tokio::task::spawn_blocking(move || leaf_hashes(&data)).await;
        let made = made.map_err(|_| Cause::Died { who: "hasher" })?;
        match sent.iter().zip(&made).position(|(sent, made)| sent != made) {
            None => Ok(made),
            Some(leaf) => {
                let offset = range.start + (leaf * LEAF_LEN) as u64;
                Err(Error::Refused { range, why: Refusal::HashMismatch { offset } })
            }
        }
    }
}

/// Counts the journal call out, also when its caller gives up waiting.
struct Logging<'a>(&'a Core);

impl Drop for Logging<'_> {
    fn drop(&mut self) {
        self.0.logging_ended();
    }
}
