//! Hashes of the source, out; what differs on the other side, in.

use super::TransferError;
use super::disk::{OpenSource, Running};
use super::push::{Answers, PushError};
use bytes::Bytes;
use migratekit::piece::Piece;
use migratekit::plan::Planner;
use proto::v1::push_response::Kind as Answer;
use shared::range::{ByteRange, RangeSet};
use shared::wire::ranges_from_wire;
use tokio::sync::Semaphore;

/// Blocks asked about and not answered: the other side reads its disk for each.
const IN_FLIGHT: usize = 64;

/// Everything the plan has is hashed and asked about; `None` when paused.
pub(super) async fn run(
    running: &Running<'_>,
    answers: &mut Answers,
    mut opened: OpenSource,
    mut planner: Planner,
) -> Result<Option<RangeSet>, TransferError> {
    let Running { job, push, pause, .. } = running;
    let room = Semaphore::new(IN_FLIGHT);
    let ask = async |range: ByteRange, hashes: Bytes| -> Result<(), TransferError> {
        // Never closed; given back with the answer.
        if let Ok(permit) = room.acquire().await {
            permit.forget();
        }
        Ok(push.hashes(range, hashes).await?)
    };
    let submitted = std::sync::atomic::AtomicU64::new(0);
    let answered = tokio::sync::watch::Sender::new(0u64);
    let reader = &opened.reader;
    let plan = async {
        use std::sync::atomic::Ordering::Relaxed;
        while !pause.is_cancelled() {
            let Some(next) = planner.next().await? else {
                let whole = submitted.load(Relaxed);
                // Never fails: `answered` lives here.
                let _ = answered.subscribe().wait_for(|n| *n == whole).await;
                return Ok::<_, TransferError>(true);
            };
            let bytes = next.data_bytes() + next.zero_bytes();
            submitted.fetch_add(bytes, Relaxed);
            job.counters.update(|c| c.planned += bytes);
            for range in next.zero {
                ask(range, Bytes::new()).await?;
            }
            for chunk in next.data {
                reader.submit(chunk).await?;
            }
        }
        Ok(false)
    };
    let send = async {
        while let Some(piece) = opened.pieces.recv().await {
            let piece = piece?;
            let range = piece.range();
            let hashes: Vec<u8> = match piece {
                Piece::Data { hashes, .. } => hashes.iter().flat_map(|h| h.0).collect(),
                Piece::Zero(_) => Vec::new(),
            };
            ask(range, hashes.into()).await?;
            job.counters.update(|c| {
                c.read += range.len();
                c.wire = push.wire_bytes();
            });
        }
        Err::<(), TransferError>(PushError::broken("the reader ended").into())
    };
    let mut different = RangeSet::new();
    let receive = async {
        loop {
            match answers.next().await? {
                Some(Answer::Different(answer)) => {
                    let ranges = ranges_from_wire(&answer.ranges).map_err(PushError::broken)?;
                    room.add_permits(1);
                    different.union(&ranges);
                    answered.send_modify(|n| *n += answer.length);
                    let equal = answer.length.saturating_sub(ranges.total());
                    // What differs is planned again, as data.
                    job.counters.update(|c| {
                        c.done += equal;
                        c.planned = c.planned.saturating_sub(ranges.total());
                    });
                }
                // Equal blocks are known durable: counted above.
                Some(Answer::Durable(_)) => {}
                Some(_) => {
                    return Err::<(), TransferError>(PushError::broken("an answer out of place").into());
                }
                None => return Err(PushError::broken("the stream ended among the hashes").into()),
            }
        }
    };
    let complete = {
        tokio::pin!(receive);
        let ended = tokio::select! {
            ended = plan => ended,
            Err(error) = send => Err(error),
            Err(error) = &mut receive => return Err(error),
        };
        match ended {
            Ok(complete) => complete,
            Err(error) => return Err(error.explained_by(receive).await),
        }
    };
    Ok(complete.then_some(different))
}
