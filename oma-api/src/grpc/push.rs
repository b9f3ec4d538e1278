//! `TransferService.Push`, without copying payloads (see `shared::wire::push`).

mod chunk;

use super::access;
use crate::hub::Hub;
use crate::service::App;
use crate::service::transfer::{Hashed, Mode, OpenRequest, Opened, Sent, Transfer, TransferError};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use migratekit::piece::{Piece, hashes_from_wire, pieces_from_wire};
use migratekit::replica::Acks;
use proto::v1::{self, push_request::Kind as Ask, push_response::Kind as Answer};
use shared::correlation::carried;
use shared::ids::{AgentId, DiskId, Epoch, JobId};
use shared::range::{ByteRange, RangeSet};
use shared::wire::push::{Incoming, Receiver, message};
use shared::wire::{Invalid, ranges_from_wire, ranges_to_wire, refusal};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tracing::field::Empty;
use tracing::{Instrument as _, debug, info_span, warn};

/// For the first message.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// For what was sent before the sender closed its side.
const SETTLE_DEADLINE: Duration = Duration::from_secs(30);

/// Ranges in one page of what the sender needs to know.
const PAGE: usize = 4096;

/// The service, mounted by its name in the schema.
#[derive(Clone)]
pub(super) struct PushService(pub(super) App);

impl tonic::server::NamedService for PushService {
    const NAME: &'static str = "migratekit.v1.TransferService";
}

type Answers = mpsc::Sender<Result<Frame<Bytes>, Status>>;

impl Service<Request<Body>> for PushService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let app = self.0.clone();
        Box::pin(async move {
            if !request.uri().path().ends_with("/Push") {
                let what = format!("there is no method {} here", request.uri().path());
                return Ok(refusal::status(Code::Unimplemented, "NO_SUCH_METHOD", what).into_http());
            }
            let (answers, frames) = mpsc::channel(64);
            let agent = access::agent_of(request.extensions());
            let messages = Receiver::new(request.into_body());
            tokio::spawn(carried(async move {
                let result = match agent {
                    Ok(agent) => stream(&app, &agent, messages, &answers).await,
                    Err(status) => Err(status),
                };
                let status = result.err().unwrap_or_else(|| Status::ok(""));
                let mut trailers = http::HeaderMap::new();
                if status.add_header(&mut trailers).is_ok() {
                    // The peer is gone: nobody to tell.
                    let _ = answers.send(Ok(Frame::trailers(trailers))).await;
                }
            }));
            let mut response = Response::new(Body::new(StreamBody::new(ReceiverStream::new(frames))));
            let kind = http::HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            Ok(response)
        })
    }
}

/// One stream, from its first message to its end.
async fn stream(app: &App, agent: &AgentId, mut messages: Receiver, answers: &Answers) -> Result<(), Status> {
    let first = tokio::time::timeout(OPEN_DEADLINE, messages.next()).await;
    let first =
        first.map_err(|_| refusal::status(Code::DeadlineExceeded, "NO_OPEN", "no message within 30 s"))??;
    let request = match first {
        Some(Incoming::Message(Ask::Open(open))) => open_request(open).map_err(|e| refusal::invalid(&e))?,
        Some(_) => {
            return Err(refusal::status(
                Code::InvalidArgument,
                "NO_OPEN",
                "the first message must be an open",
            ));
        }
        None => return Ok(()),
    };
    let span = info_span!("push", migration_id = Empty, job_id = %request.job, disk_id = %request.disk,
                          epoch = request.epoch.0);
    opened(app, agent, &request, messages, answers).instrument(span).await
}

/// One stream, from its open to its end.
async fn opened(
    app: &App,
    agent: &AgentId,
    request: &OpenRequest,
    messages: Receiver,
    answers: &Answers,
) -> Result<(), Status> {
    let opened = app.transfers.open(agent, request).await.map_err(|error| {
        // The whole disk is to be compared now, which its agent has to be told: what it had planned would not do.
        if let TransferError::ManifestLost { .. } = error {
            app.hub.agent_changed(agent);
        }
        refused(&error)
    })?;
    send_pages(answers, &opened).await;
    let Opened { transfer, acks, .. } = opened;
    let unsettled = Mutex::new(RangeSet::new());
    let settled = Notify::new();
    let telling = tell_durable(acks, answers, &unsettled, &settled);
    tokio::pin!(telling);
    let receiving = receive(messages, &transfer, &app.hub, answers, &unsettled);
    tokio::pin!(receiving);
    let received = tokio::select! {
        received = &mut receiving => received,
        told = &mut telling => match told {
            Err(error) => Err(error),
            // Sealed, by another stream of this transfer; whatever still comes is refused.
            Ok(()) => receiving.await,
        },
    };
    let ended = match received {
        Ok(End::Finished) => {
            answer_with(answers, Answer::Finished(v1::Finished {})).await;
            Ok(())
        }
        // The sender is done for now; what it sent becomes durable all the same, and it wants to hear so.
        Ok(End::Closed) => tokio::select! {
            told = telling => told,
            () = is_empty(&unsettled, &settled) => Ok(()),
            () = tokio::time::sleep(SETTLE_DEADLINE) => Ok(()),
        },
        Err(error) => Err(error),
    };
    ended.map_err(|error| match error {
        Ended::Transfer(error) => refused(&error),
        Ended::Stream(status) => status,
    })
}

/// How a sender ended.
enum End {
    Finished,
    Closed,
}

enum Ended {
    Transfer(TransferError),
    Stream(Status),
}

impl From<TransferError> for Ended {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Stream(status)
    }
}

impl From<Invalid> for Ended {
    fn from(error: Invalid) -> Self {
        Self::Stream(refusal::invalid(&error))
    }
}

type Unsettled = Mutex<RangeSet>;

fn unsettled_of(unsettled: &Unsettled) -> MutexGuard<'_, RangeSet> {
    unsettled.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn is_empty(unsettled: &Unsettled, settled: &Notify) {
    while !unsettled_of(unsettled).is_empty() {
        settled.notified().await;
    }
}

async fn receive(
    mut messages: Receiver,
    transfer: &Transfer,
    hub: &Hub,
    answers: &Answers,
    unsettled: &Unsettled,
) -> Result<End, Ended> {
    // The sender announces ahead: what it announced before goes on arriving while this is logged.
    let mut intending = JoinSet::new();
    while let Some(asked) = messages.next().await? {
        match asked {
            Incoming::Chunk { offset, leaf_hashes, data } => {
                for piece in pieces_from_wire(offset, &leaf_hashes, data)? {
                    unsettled_of(unsettled).insert(piece.range());
                    transfer.write(piece).await?;
                }
            }
            Incoming::Message(Ask::Compressed(compressed)) => {
                let piece = chunk::unpacked(compressed).await?;
                unsettled_of(unsettled).insert(piece.range());
                transfer.write(piece).await?;
            }
            Incoming::Message(Ask::Zero(zero)) => {
                let range = ByteRange::at(zero.offset, zero.length)
                    .ok_or_else(|| Invalid::new("zero", "passes 2^64"))?;
                unsettled_of(unsettled).insert(range);
                transfer.write(Piece::Zero(range)).await?;
            }
            Incoming::Message(Ask::Intent(intent)) => {
                logged(&mut intending).await?;
                intending.spawn(transfer.intend(ranges_from_wire(&intent.ranges)?)?);
            }
            Incoming::Message(Ask::Hashes(block)) => {
                let different = transfer.compare(hashed(&block)?).await?;
                let ranges = ranges_to_wire(different.iter().collect::<Vec<_>>());
                let answer = v1::Different { offset: block.offset, length: block.length, ranges };
                answer_with(answers, Answer::Different(answer)).await;
            }
            Incoming::Message(Ask::Finish(finish)) => {
                logged(&mut intending).await?;
                transfer.seal(hub, Sent { data: finish.data_bytes, zero: finish.zero_bytes }).await?;
                return Ok(End::Finished);
            }
            Incoming::Message(Ask::Open(_) | Ask::Chunk(_)) => {
                return Err(Invalid::new("kind", "a transfer is opened once").into());
            }
        }
    }
    logged(&mut intending).await?;
    Ok(End::Closed)
}

/// Waits for the intent that is being logged, if there is one.
async fn logged(intending: &mut JoinSet<Result<(), TransferError>>) -> Result<(), TransferError> {
    match intending.join_next().await {
        Some(ended) => ended.unwrap_or(Err(TransferError::Died)),
        None => Ok(()),
    }
}

/// Sends on what becomes durable of this stream's pieces; an error is why the session ended.
async fn tell_durable(
    acks: Option<Acks>,
    answers: &Answers,
    unsettled: &Unsettled,
    settled: &Notify,
) -> Result<(), Ended> {
    let Some(mut acks) = acks else { return std::future::pending().await };
    while let Some(durable) = acks.next().await.map_err(TransferError::from)? {
        let ranges = ranges_to_wire(durable.iter().collect::<Vec<_>>());
        answer_with(answers, Answer::Durable(v1::Durable { ranges })).await;
        unsettled_of(unsettled).subtract(&durable);
        settled.notify_one();
    }
    Ok(())
}

fn hashed(block: &v1::HashBlock) -> Result<Hashed, Invalid> {
    let range =
        ByteRange::at(block.offset, block.length).ok_or_else(|| Invalid::new("hashes", "pass 2^64"))?;
    Ok(Hashed { range, hashes: hashes_from_wire(&block.leaf_hashes)? })
}

fn open_request(open: v1::Open) -> Result<OpenRequest, Invalid> {
    Ok(OpenRequest {
        mode: match open.mode() {
            v1::PushMode::Data => Mode::Data,
            v1::PushMode::HashDiff => Mode::HashDiff,
            v1::PushMode::Verify => Mode::Verify,
            v1::PushMode::Unspecified => return Err(Invalid::missing("open.mode")),
        },
        job: JobId::parse(open.job_id).map_err(|e| Invalid::new("open.job_id", e))?,
        disk: DiskId::parse(open.disk_id).map_err(|e| Invalid::new("open.disk_id", e))?,
        epoch: Epoch(open.epoch),
        size: open.size_bytes,
    })
}

async fn send_pages(answers: &Answers, opened: &Opened) {
    let pages = |set: &RangeSet| {
        let ranges = ranges_to_wire(set.iter().collect::<Vec<_>>());
        ranges.chunks(PAGE).map(<[_]>::to_vec).collect::<Vec<_>>()
    };
    for durable in pages(&opened.prior_durable) {
        answer_with(answers, Answer::Page(v1::RangePage { durable, required: vec![] })).await;
    }
    for required in pages(&opened.required) {
        answer_with(answers, Answer::Page(v1::RangePage { durable: vec![], required })).await;
    }
    answer_with(
        answers,
        Answer::Opened(v1::Opened {
            epoch: opened.epoch.0,
            compressions: vec![v1::Compression::Zstd.into()],
        }),
    )
    .await;
}

async fn answer_with(answers: &Answers, kind: Answer) {
    let frame = Frame::data(message(&v1::PushResponse { kind: Some(kind) }));
    // The peer is gone: the stream's reading side notices too.
    let _ = answers.send(Ok(frame)).await;
}

fn refused(error: &TransferError) -> Status {
    let status = error.to_status();
    match status.code() {
        Code::Internal | Code::DataLoss => warn!(error = %shared::error::chain(error), "transfer ended"),
        _ => debug!(error = %shared::error::chain(error), "transfer refused"),
    }
    status
}
