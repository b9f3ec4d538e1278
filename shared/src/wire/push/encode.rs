//! Messages → HTTP/2 DATA frames.

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// One gRPC message, cut where a copy would begin.
pub struct Out {
    head: Bytes,
    payload: Option<Bytes>,
}

impl Out {
    /// Any message, the usual way.
    pub fn message(message: &proto::v1::PushRequest) -> Self {
        Self { head: self::message(message), payload: None }
    }

    /// A chunk whose data is not touched.
    pub fn chunk(offset: u64, leaf_hashes: &[u8], data: Bytes) -> Self {
        // PushRequest { chunk = 1: Chunk { offset = 1, leaf_hashes = 2, data = 3 } }
        Self::laid_out(1, offset, leaf_hashes, &[], 3, data)
    }

    /// A chunk compressed by zstd; `plain` bytes before that.
    pub fn zstd_chunk(offset: u64, leaf_hashes: &[u8], plain: u64, data: Bytes) -> Self {
        // PushRequest { compressed = 7: CompressedChunk { .., compression = 3, data_bytes = 4, data = 5 } }
        let zstd = proto::v1::Compression::Zstd as u64;
        Self::laid_out(7, offset, leaf_hashes, &[(3, zstd), (4, plain)], 5, data)
    }

    /// The message of field `kind`: offset = 1, leaf_hashes = 2, then `numbers` (none is 0), then the data.
    fn laid_out(
        kind: u32,
        offset: u64,
        leaf_hashes: &[u8],
        numbers: &[(u32, u64)],
        data_field: u32,
        data: Bytes,
    ) -> Self {
        let hashes = match leaf_hashes.is_empty() {
            true => 0,
            false => key_len(2) + encoded_len_varint(leaf_hashes.len() as u64) + leaf_hashes.len(),
        };
        let offset_len = if offset == 0 { 0 } else { key_len(1) + encoded_len_varint(offset) };
        let more: usize =
            numbers.iter().map(|&(field, value)| key_len(field) + encoded_len_varint(value)).sum();
        let data_key = key_len(data_field) + encoded_len_varint(data.len() as u64);
        let chunk = offset_len + hashes + more + data_key + data.len();
        let whole = key_len(kind) + encoded_len_varint(chunk as u64) + chunk;
        let mut head = BytesMut::with_capacity(5 + whole - data.len());
        put_prefix(&mut head, whole);
        encode_key(kind, WireType::LengthDelimited, &mut head);
        encode_varint(chunk as u64, &mut head);
        if offset != 0 {
            encode_key(1, WireType::Varint, &mut head);
            encode_varint(offset, &mut head);
        }
        if !leaf_hashes.is_empty() {
            encode_key(2, WireType::LengthDelimited, &mut head);
            encode_varint(leaf_hashes.len() as u64, &mut head);
            head.put_slice(leaf_hashes);
        }
        for &(field, value) in numbers {
            encode_key(field, WireType::Varint, &mut head);
            encode_varint(value, &mut head);
        }
        encode_key(data_field, WireType::LengthDelimited, &mut head);
        encode_varint(data.len() as u64, &mut head);
        Self { head: head.freeze(), payload: Some(data) }
    }

    /// Bytes it takes on the wire, above HTTP/2.
    pub fn wire_len(&self) -> u64 {
        (self.head.len() + self.payload.as_ref().map_or(0, Bytes::len)) as u64
    }
}

/// A whole gRPC message: prefix and encoding. Also for the answer stream.
pub fn message<M: Message>(message: &M) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(5 + len);
    put_prefix(&mut out, len);
    message.encode_raw(&mut out);
    out.freeze()
}

fn put_prefix(out: &mut BytesMut, len: usize) {
    out.put_u8(0); // not compressed
    out.put_u32(u32::try_from(len).expect("messages are at most a few MiB"));
}

/// Where messages are put.
pub type Sender = mpsc::Sender<Out>;

/// A request body and its sending end; `depth` messages wait at most. Dropping the sender ends the body.
pub fn channel(depth: usize) -> (Sender, Frames) {
    let (sender, receiver) = mpsc::channel(depth);
    (sender, Frames { receiver, payload: None })
}

/// The request body.
pub struct Frames {
    receiver: mpsc::Receiver<Out>,
    payload: Option<Bytes>,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Some(payload) = self.payload.take() {
            return Poll::Ready(Some(Ok(Frame::data(payload))));
        }
        self.receiver.poll_recv(cx).map(|next| {
            next.map(|out| {
                self.payload = out.payload.filter(|p| !p.is_empty());
                Ok(Frame::data(out.head))
            })
        })
    }
}
