//! The push stream: requests out without copies, compressed where it pays and not faster than allowed; answers in.

use bytes::Bytes;
use futures::StreamExt as _;
use migratekit::compress::{Mode, Packed, Packer};
use migratekit::piece::{MAX_DATA, Piece};
use migratekit::rate::Limit;
use proto::v1::{self, push_request::Kind as Ask, push_response::Kind as Answer};
use shared::ids::{DiskId, Epoch, JobId};
use shared::leaf::{LEAF, LEAF_LEN, LeafHash};
use shared::range::{ByteRange, RangeSet};
use shared::telemetry;
use shared::wire::push::{Out, Sender, channel, request};
use shared::wire::{ranges_from_wire, ranges_to_wire, refusal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::codec::{Codec as _, Streaming};
use tonic::codegen::Service as _;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A push that ended before it was finished.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// A higher epoch was allocated: whoever holds it writes now.
    #[error("overtaken: {message}")]
    Overtaken { message: String },
    /// The disk was sealed in this cycle before.
    #[error("it is finished already")]
    Finished,
    /// The control plane refuses this transfer; trying again changes nothing.
    #[error("refused ({reason}): {message}")]
    Refused { reason: String, message: String },
    /// Worth another try: the connection broke, the control plane restarts, a write or flush there failed.
    #[error("interrupted ({reason}): {message}")]
    Interrupted { reason: String, message: String },
}

impl PushError {
    fn of(status: &Status) -> Self {
        // Without a reason it is not the control plane that speaks, but what lies between.
        let reason = refusal::reason_of(status).unwrap_or_else(|| match status.code() {
            Code::Unknown | Code::Internal | Code::Cancelled | Code::Unavailable => {
                "CONNECTION_LOST".to_owned()
            }
            other => format!("{other:?}").to_uppercase(),
        });
        let message = status.message().to_owned();
        match (status.code(), reason.as_str()) {
            (_, "STALE_EPOCH") => Self::Overtaken { message },
            (_, "DISK_FINISHED") => Self::Finished,
            (
                Code::InvalidArgument
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::FailedPrecondition
                | Code::NotFound
                | Code::Unimplemented
                | Code::OutOfRange,
                _,
            ) => Self::Refused { reason, message },
            _ => Self::Interrupted { reason, message },
        }
    }

    pub(super) fn broken(message: impl std::fmt::Display) -> Self {
        Self::Interrupted { reason: "CONNECTION_LOST".to_owned(), message: message.to_string() }
    }
}

/// What to open.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// What compression may do, where the other side takes it.
    pub(super) compression: Mode,
    /// All of them bound what goes out.
    pub(super) limits: Vec<Arc<Limit>>,
    pub(super) job: JobId,
    pub(super) disk: DiskId,
    pub(super) epoch: Epoch,
    pub(super) size: u64,
    pub(super) mode: v1::PushMode,
}

/// What the control plane knew at the opening.
#[derive(Debug, Default)]
pub(super) struct Prior {
    pub(super) durable: RangeSet,
    pub(super) required: RangeSet,
}

/// The sending half.
pub(super) struct Push {
    sender: Sender,
    wire: AtomicU64,
    packer: Packer,
    limits: Vec<Arc<Limit>>,
}

/// The receiving half.
pub(super) struct Answers(Streaming<v1::PushResponse>);

/// For `open`: the control plane drains the writes of an older epoch first.
const OPEN_DEADLINE: Duration = Duration::from_secs(60);

/// Opens a transfer and reads the pages that precede it.
pub(super) async fn open(mut channel: Channel, open: Open) -> Result<(Push, Answers, Prior), PushError> {
    // Two messages wait at most: what waits here is memory.
    let (sender, frames) = self::channel(2);
    let ask = v1::Open {
        job_id: open.job.to_string(),
        disk_id: open.disk.to_string(),
        epoch: open.epoch.0,
        size_bytes: open.size,
        mode: open.mode.into(),
    };
    let (packer, limits) = (Packer::new(Mode::Off), open.limits);
    let mut push = Push { sender, wire: AtomicU64::new(0), packer, limits };
    push.send(Out::message(&v1::PushRequest { kind: Some(Ask::Open(ask)) })).await?;
    let opening = async {
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.map_err(PushError::broken)?;
        let mut request = request(frames);
        // What the control plane does with it belongs to this disk's span.
        telemetry::inject_headers(request.headers_mut());
        let response = channel.call(request).await.map_err(PushError::broken)?;
        if let Some(status) = Status::from_header_map(response.headers())
            && status.code() != Code::Ok
        {
            return Err(PushError::of(&status));
        }
        let status = response.status();
        let decoder = tonic_prost::ProstCodec::<v1::PushRequest, v1::PushResponse>::default().decoder();
        let mut answers = Answers(Streaming::new_response(decoder, response.into_body(), status, None, None));
        let mut prior = Prior::default();
        loop {
            match answers.next().await? {
                Some(Answer::Page(page)) => {
                    let broken = PushError::broken;
                    prior.durable.union(&ranges_from_wire(&page.durable).map_err(broken)?);
                    prior.required.union(&ranges_from_wire(&page.required).map_err(broken)?);
                }
                Some(Answer::Opened(opened)) => {
                    let zstd = opened.compressions().any(|one| one == v1::Compression::Zstd);
                    return Ok((answers, prior, if zstd { open.compression } else { Mode::Off }));
                }
                Some(_) => return Err(PushError::broken("an answer came before the transfer was open")),
                None => return Err(PushError::broken("the stream ended before the transfer was open")),
            }
        }
    };
    let opened = tokio::time::timeout(OPEN_DEADLINE, opening).await;
    let (answers, prior, compression) =
        opened.map_err(|_| PushError::broken("no answer to the opening within 60 s"))??;
    push.packer = Packer::new(compression);
    Ok((push, answers, prior))
}

impl Push {
    /// Bytes handed to the transport.
    pub(super) fn wire_bytes(&self) -> u64 {
        self.wire.load(Ordering::Relaxed)
    }

    pub(super) async fn piece(&self, piece: Piece) -> Result<(), PushError> {
        match piece {
            Piece::Data { offset, data, hashes } => self.data(offset, data, &hashes).await,
            Piece::Zero(range) => self.zero(range).await,
        }
    }

    async fn data(&self, offset: u64, mut data: Bytes, hashes: &[LeafHash]) -> Result<(), PushError> {
        let (mut at, mut hashes) = (offset, hashes);
        // A slow limit is kept with small messages.
        let grain = self.limits.iter().map(|limit| limit.grain()).min().unwrap_or(u64::MAX);
        let most =
            usize::try_from((grain / LEAF).clamp(1, MAX_DATA as u64 / LEAF) * LEAF).unwrap_or(MAX_DATA);
        while !data.is_empty() {
            let part = data.split_to(most.min(data.len()));
            let plain = part.len() as u64;
            let (these, rest) = hashes.split_at(part.len().div_ceil(LEAF_LEN).min(hashes.len()));
            let these: Vec<u8> = these.iter().flat_map(|h| h.0).collect();
            self.send(match self.packer.pack(part).await {
                Packed::Plain(part) => Out::chunk(at, &these, part),
                Packed::Zstd(packed) => Out::zstd_chunk(at, &these, plain, packed),
            })
            .await?;
            self.packer.sent(plain);
            hashes = rest;
            at += plain;
        }
        Ok(())
    }

    pub(super) async fn zero(&self, range: ByteRange) -> Result<(), PushError> {
        self.ask(Ask::Zero(v1::ZeroRange { offset: range.start, length: range.len() })).await
    }

    pub(super) async fn intent(&self, ranges: impl IntoIterator<Item = ByteRange>) -> Result<(), PushError> {
        self.ask(Ask::Intent(v1::Intent { ranges: ranges_to_wire(ranges.into_iter().collect::<Vec<_>>()) }))
            .await
    }

    /// Empty hashes: the whole range is zero.
    pub(super) async fn hashes(&self, range: ByteRange, leaf_hashes: Bytes) -> Result<(), PushError> {
        self.ask(Ask::Hashes(v1::HashBlock { offset: range.start, length: range.len(), leaf_hashes })).await
    }

    pub(super) async fn finish(&self, data_bytes: u64, zero_bytes: u64) -> Result<(), PushError> {
        self.ask(Ask::Finish(v1::Finish { data_bytes, zero_bytes })).await
    }

    async fn ask(&self, kind: Ask) -> Result<(), PushError> {
        self.send(Out::message(&v1::PushRequest { kind: Some(kind) })).await
    }

    async fn send(&self, out: Out) -> Result<(), PushError> {
        for limit in &self.limits {
            limit.take(out.wire_len()).await;
        }
        self.wire.fetch_add(out.wire_len(), Ordering::Relaxed);
        self.sender.send(out).await.map_err(|_| PushError::broken("the push stream was closed"))
    }
}

impl Answers {
    /// `None` when the stream ended without an error.
    pub(super) async fn next(&mut self) -> Result<Option<Answer>, PushError> {
        match self.0.next().await {
            Some(Ok(response)) => match response.kind {
                Some(kind) => Ok(Some(kind)),
                None => Err(PushError::broken("an empty answer")),
            },
            Some(Err(status)) => Err(PushError::of(&status)),
            None => Ok(None),
        }
    }
}
