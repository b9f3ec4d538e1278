//! Chunks and zeros, out; durable ranges, in.

use super::TransferError;
use super::disk::{OpenSource, Outcome, Running};
use super::push::{Answers, PushError};
use super::window::Window;
use migratekit::plan::Planner;
use proto::v1::push_response::Kind as Answer;
use shared::wire::ranges_from_wire;

/// Runs the plan to its durable end, or to a durable point when paused.
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
    let plan = async {
        while !pause.is_cancelled() {
            let Some(next) = planner.next().await? else {
                job.counters.update(|c| c.plan_complete = true);
                return Ok(Outcome::Finished);
            };
            let (data, zero) = (next.data_bytes(), next.zero_bytes());
            job.counters.update(|c| c.planned += data + zero);
            // Announced as one: the other side logs it once, before the first of its bytes arrives.
            push.intent(next.ranges().iter()).await?;
            for range in next.zero {
                window.enter_zero(range);
                push.zero(range).await?;
            }
            for chunk in next.data {
                tokio::select! {
                    () = window.enter(chunk) => {}
                    () = pause.cancelled() => return Ok(Outcome::Paused),
                }
                reader.submit(chunk).await?;
            }
        }
        Ok::<_, TransferError>(Outcome::Paused)
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
                Some(_) => return Err::<(), _>(PushError::broken("an answer out of place").into()),
                None => return Err(PushError::broken("the stream ended before the disk was finished").into()),
            }
        }
    };
    let to_the_end = async {
        let outcome = plan.await?;
        window.drained().await;
        Ok(outcome)
    };
    tokio::pin!(receive);
    let ended = tokio::select! {
        ended = to_the_end => ended,
        Err(error) = send => Err(error),
        Err(error) = &mut receive => return Err(error),
    };
    match ended {
        Ok(outcome) => Ok(outcome),
        Err(error) => Err(error.explained_by(receive).await),
    }
}
