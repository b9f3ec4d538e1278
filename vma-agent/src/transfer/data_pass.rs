//! Chunks and zeros, out; durable ranges, in.

use super::TransferError;
use super::disk::{OpenSource, Outcome, Running};
use super::push::{Answers, PushError};
use super::window::Window;
use futures::FutureExt as _;
use migratekit::plan::{Planner, Window as Planned};
use proto::v1::push_response::Kind as Answer;
use shared::wire::ranges_from_wire;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::watch;

/// Runs the plan until the control plane has sealed the disk, or to a durable point when paused.
pub(super) async fn run(
    running: &Running<'_>,
    answers: &mut Answers,
    mut opened: OpenSource,
    mut planner: Planner,
) -> Result<Outcome, TransferError> {
    let Running { job, push, pause, .. } = running;
    let window = Window::new(job.settings.window);
    let before = job.counters.get().done;
    let reader = &opened.reader;
    let submitted = AtomicU64::new(0);
    let sent = watch::Sender::new(0u64);
    let finishing = AtomicBool::new(false);
    // Announced as one: the other side logs a window once, before the first of its bytes arrives.
    let announce = async |planner: &mut Planner| -> Result<Option<Planned>, TransferError> {
        let Some(next) = planner.next().await? else {
            job.counters.update(|c| c.plan_complete = true);
            return Ok(None);
        };
        job.counters.update(|c| c.planned += next.data_bytes() + next.zero_bytes());
        push.intent(next.ranges().iter()).await?;
        Ok(Some(next))
    };
    let submit = async |planned: Planned| -> Result<Outcome, TransferError> {
        for range in planned.zero {
            window.enter_zero(range);
            push.zero(range).await?;
        }
        for chunk in planned.data {
            tokio::select! {
                () = window.enter(chunk) => {}
                () = pause.cancelled() => return Ok(Outcome::Paused),
            }
            submitted.fetch_add(chunk.len(), Relaxed);
            reader.submit(chunk).await?;
        }
        Ok(Outcome::Finished)
    };
    let plan = async {
        // One ahead, so that neither asking the source nor logging there holds up what is being read.
        let mut ready = announce(&mut planner).await?;
        while let Some(planned) = ready {
            if pause.is_cancelled() {
                return Ok::<_, TransferError>(Outcome::Paused);
            }
            let (outcome, next) = tokio::try_join!(submit(planned), announce(&mut planner))?;
            if outcome == Outcome::Paused {
                return Ok(Outcome::Paused);
            }
            ready = next;
        }
        Ok(Outcome::Finished)
    };
    let send = async {
        while let Some(piece) = opened.pieces.recv().await {
            let piece = piece?;
            let (range, is_data) = (piece.range(), matches!(piece, migratekit::piece::Piece::Data { .. }));
            push.piece(piece).await?;
            job.counters.update(|c| {
                c.read += range.len();
                c.data += if is_data { range.len() } else { 0 };
                c.wire = push.wire_bytes();
            });
            sent.send_modify(|bytes| *bytes += range.len());
        }
        // Reader threads end only with the reader.
        Err::<(), TransferError>(PushError::broken("the reader ended").into())
    };
    let receive = async {
        loop {
            match answers.next().await? {
                Some(Answer::Durable(durable)) => {
                    window.acknowledge(&ranges_from_wire(&durable.ranges).map_err(PushError::broken)?);
                    let done = window.done();
                    job.counters.update(|c| c.done = before + done);
                }
                Some(Answer::Finished(_)) if finishing.load(Relaxed) => {
                    job.counters.update(|c| c.done = c.planned);
                    return Ok(Outcome::Finished);
                }
                Some(_) => return Err(PushError::broken("an answer out of place").into()),
                None => return Err(PushError::broken("the stream ended before the disk was finished").into()),
            }
        }
    };
    let to_the_end = async {
        if plan.await? == Outcome::Paused {
            window.drained().await;
            return Ok::<_, TransferError>(Outcome::Paused);
        }
        // The seal flushes what is left at once; waiting for the other side to do so by itself would cost a second.
        let whole = submitted.load(Relaxed);
        // Never fails: `sent` lives here.
        let _ = sent.subscribe().wait_for(|bytes| *bytes == whole).await;
        finishing.store(true, Relaxed);
        running.finish().await?;
        std::future::pending().await
    };
    let send = send.fuse();
    tokio::pin!(receive, send);
    let ended = tokio::select! {
        ended = to_the_end => ended,
        Err(error) = &mut send => Err(error),
        ended = &mut receive => return ended,
    };
    match ended {
        Ok(outcome) => Ok(outcome),
        Err(error) => Err(error.explained_by(async { receive.await.map(|_| ()) }, send).await),
    }
}
