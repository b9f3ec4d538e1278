//! Hashes of the source, out; what differs on the other side, in, and in a sync at once out again as data.
//!
//! ```text
//! plan ─ window ─► reader ─► hashes ─► compared there ─┬ equal ─► durable ─► window
//!                    ▲                                 └ different ─┐
//!                    └────── read again, sent as data ◄─────────────┘
//! ```
//!
//! In a sync everything that was read and is not durable counts in the window, whether it turned out equal or not:
//! were differences gathered first and sent later, a crash would make us read all of them again.

use super::TransferError;
use super::disk::{Mode, OpenSource, Running};
use super::push::{Answers, PushError};
use super::window::Window;
use bytes::Bytes;
use futures::FutureExt as _;
use migratekit::piece::Piece;
use migratekit::plan::Planner;
use proto::v1::push_response::Kind as Answer;
use shared::range::{ByteRange, RangeSet};
use shared::wire::ranges_from_wire;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore};

/// Blocks asked about and not answered: the other side reads its disk for each.
const IN_FLIGHT: usize = 64;

/// What differs, on its way to the other side.
#[derive(Default)]
struct Different {
    /// To be read again.
    data: RangeSet,
    /// Known to be zeros.
    zero: RangeSet,
    /// Being read again: what comes of these is data to send.
    reading: RangeSet,
    /// Asked about without having been read.
    asked_as_zero: RangeSet,
}

impl Different {
    /// An answer about `block`.
    fn answered(&mut self, block: ByteRange, ranges: &RangeSet) {
        match self.asked_as_zero.contains(block) {
            true => self.zero.union(ranges),
            false => self.data.union(ranges),
        }
        self.asked_as_zero.remove(block);
    }

    /// Whether this was read to be sent.
    fn arrived(&mut self, range: ByteRange) -> bool {
        let wanted = self.reading.contains(range);
        if wanted {
            self.reading.remove(range);
        }
        wanted
    }
}

/// Everything the plan has is hashed and asked about, and in a sync what differs is sent and durable; `false` when
/// paused, which in a sync is at a durable point.
pub(super) async fn run(
    running: &Running<'_>,
    answers: &mut Answers,
    mut opened: OpenSource,
    mut planner: Planner,
) -> Result<bool, TransferError> {
    let Running { job, push, pause, .. } = running;
    let is_sync = matches!(job.mode, Mode::Sync(_));
    let room = Semaphore::new(IN_FLIGHT);
    let window = Window::new(job.settings.window);
    let before = job.counters.get().done;
    let different = Mutex::<Different>::default();
    let found = Notify::new();
    let submitted = AtomicU64::new(0);
    let answered = tokio::sync::watch::Sender::new(0u64);
    let reader = &opened.reader;
    let ask = async |range: ByteRange, hashes: Bytes| -> Result<(), TransferError> {
        // Never closed; given back with the answer.
        if let Ok(permit) = room.acquire().await {
            permit.forget();
        }
        Ok(push.hashes(range, hashes).await?)
    };
    let plan = async {
        while !pause.is_cancelled() {
            let Some(next) = planner.next().await? else { return Ok::<_, TransferError>(true) };
            let bytes = next.data_bytes() + next.zero_bytes();
            submitted.fetch_add(bytes, Relaxed);
            job.counters.update(|c| c.planned += bytes);
            for range in next.zero {
                if is_sync {
                    window.enter_zero(range);
                }
                lock(&different).asked_as_zero.insert(range);
                ask(range, Bytes::new()).await?;
            }
            for chunk in next.data {
                if is_sync {
                    tokio::select! {
                        () = window.enter(chunk) => {}
                        () = pause.cancelled() => return Ok(false),
                    }
                }
                reader.submit(chunk).await?;
            }
        }
        Ok(false)
    };
    let to_the_end = async {
        let whole = plan.await?;
        if is_sync {
            window.drained().await;
        } else if whole {
            let all = submitted.load(Relaxed);
            // Never fails: `answered` lives here.
            let _ = answered.subscribe().wait_for(|n| *n == all).await;
        }
        Ok(whole)
    };
    let send = async {
        while let Some(piece) = opened.pieces.recv().await {
            let piece = piece?;
            let (range, is_data) = (piece.range(), matches!(piece, Piece::Data { .. }));
            let again = lock(&different).arrived(range);
            match piece {
                piece if again => push.piece(piece).await?,
                Piece::Data { hashes, .. } => {
                    ask(range, hashes.iter().flat_map(|h| h.0).collect::<Vec<u8>>().into()).await?;
                }
                Piece::Zero(_) => ask(range, Bytes::new()).await?,
            }
            job.counters.update(|c| {
                c.read += range.len();
                c.data += if again && is_data { range.len() } else { 0 };
                c.wire = push.wire_bytes();
            });
        }
        Err::<(), TransferError>(PushError::broken("the reader ended").into())
    };
    // What is found while this waits for the log or for memory goes out together.
    let send_again = async || -> Result<(), TransferError> {
        loop {
            found.notified().await;
            let (data, zero) = {
                let mut different = lock(&different);
                let taken = (std::mem::take(&mut different.data), std::mem::take(&mut different.zero));
                different.reading.union(&taken.0);
                taken
            };
            let mut all = data.clone();
            all.union(&zero);
            push.intent(all.iter()).await?;
            for range in zero.iter() {
                push.zero(range).await?;
            }
            for range in data.iter() {
                reader.submit(range).await?;
            }
        }
    };
    let receive = async {
        loop {
            match answers.next().await? {
                Some(Answer::Different(answer)) => {
                    let ranges = ranges_from_wire(&answer.ranges).map_err(PushError::broken)?;
                    let block = ByteRange::at(answer.offset, answer.length);
                    let block =
                        block.ok_or_else(|| PushError::broken("an answer about a block past 2^64"))?;
                    room.add_permits(1);
                    answered.send_modify(|n| *n += answer.length);
                    if is_sync {
                        lock(&different).answered(block, &ranges);
                    } else {
                        job.counters.update(|c| c.done += block.len());
                    }
                    if is_sync && !ranges.is_empty() {
                        found.notify_one();
                    }
                }
                Some(Answer::Durable(durable)) => {
                    window.acknowledge(&ranges_from_wire(&durable.ranges).map_err(PushError::broken)?);
                    job.counters.update(|c| c.done = before + window.done());
                }
                Some(_) => {
                    return Err::<(), TransferError>(PushError::broken("an answer out of place").into());
                }
                None => return Err(PushError::broken("the stream ended among the hashes").into()),
            }
        }
    };
    let send = send.fuse();
    tokio::pin!(receive, send);
    let ended = tokio::select! {
        ended = to_the_end => ended,
        Err(error) = &mut send => Err(error),
        Err(error) = send_again() => Err(error),
        Err(error) = &mut receive => return Err(error),
    };
    match ended {
        Ok(whole) => Ok(whole),
        Err(error) => Err(error.explained_by(receive, send).await),
    }
}

fn lock(different: &Mutex<Different>) -> MutexGuard<'_, Different> {
    different.lock().unwrap_or_else(PoisonError::into_inner)
}
