//! HTTP/2 DATA frames → messages.

use bytes::{Buf, Bytes};
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use std::collections::VecDeque;

/// Largest message taken: a chunk of 4 MiB with its hashes.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024 + 64 * 1024;

/// What a push stream said.
#[derive(Debug)]
pub enum Incoming {
    /// A chunk; `data` are the slices it arrived in, in order.
    Chunk { offset: u64, leaf_hashes: Bytes, data: Vec<Bytes> },
    /// Anything else.
    Message(proto::v1::push_request::Kind),
}

/// Takes DATA frames, gives messages.
#[derive(Default)]
pub(super) struct Decoder {
    frames: Segments,
    /// Length of the message whose prefix was read.
    length: Option<usize>,
}

impl Decoder {
    /// One DATA frame.
    pub(super) fn put(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.frames.total += frame.len();
            self.frames.parts.push_back(frame);
        }
    }

    /// The next whole message, if it is there.
    ///
    /// # Errors
    /// A text saying what is wrong with the stream; it cannot be read on after that.
    pub(super) fn take(&mut self) -> Result<Option<Incoming>, String> {
        let length = match self.length {
            Some(length) => length,
            None if self.frames.remaining() < 5 => return Ok(None),
            None => {
                if self.frames.get_u8() != 0 {
                    return Err("compressed messages are not accepted on this stream".to_owned());
                }
                let length = self.frames.get_u32() as usize;
                if length > MAX_MESSAGE {
                    return Err(format!("message of {length} bytes; the most is {MAX_MESSAGE}"));
                }
                *self.length.insert(length)
            }
        };
        if self.frames.remaining() < length {
            return Ok(None);
        }
        self.length = None;
        parse(self.frames.split_to(length)).map(Some)
    }

    /// Whether the stream ended between two messages.
    pub(super) fn is_empty(&self) -> bool {
        self.length.is_none() && self.frames.remaining() == 0
    }
}

fn parse(message: Segments) -> Result<Incoming, String> {
    let mut rest = message.clone();
    if let Some((offset, leaf_hashes)) = chunk_head(&mut rest) {
        return Ok(Incoming::Chunk { offset, leaf_hashes, data: rest.parts.into() });
    }
    let request = proto::v1::PushRequest::decode(message).map_err(|e| format!("not a PushRequest: {e}"))?;
    match request.kind {
        Some(proto::v1::push_request::Kind::Chunk(chunk)) => Ok(Incoming::Chunk {
            offset: chunk.offset,
            leaf_hashes: chunk.leaf_hashes,
            data: vec![chunk.data],
        }),
        Some(kind) => Ok(Incoming::Message(kind)),
        None => Err("a PushRequest with nothing in it, or with a kind this version does not know".to_owned()),
    }
}

/// Reads a chunk up to its data, when the fields come in the order our sender writes them and nothing follows.
fn chunk_head(message: &mut Segments) -> Option<(u64, Bytes)> {
    let field = |message: &mut Segments, number: u32, wire: WireType| {
        let mut look = message.clone();
        let found = decode_key(&mut look).ok()? == (number, wire);
        if found {
            *message = look;
        }
        Some(found)
    };
    if !field(message, 1, WireType::LengthDelimited)?
        || decode_varint(message).ok()? != message.remaining() as u64
    {
        return None;
    }
    let mut offset = 0;
    if field(message, 1, WireType::Varint)? {
        offset = decode_varint(message).ok()?;
    }
    let mut leaf_hashes = Bytes::new();
    if field(message, 2, WireType::LengthDelimited)? {
        let length = usize::try_from(decode_varint(message).ok()?).ok()?;
        if length > message.remaining() {
            return None;
        }
        leaf_hashes = message.copy_to_bytes(length);
    }
    let whole = field(message, 3, WireType::LengthDelimited)?
        && decode_varint(message).ok()? == message.remaining() as u64;
    whole.then_some((offset, leaf_hashes))
}

/// Received slices as one buffer. Cloning copies no data.
#[derive(Clone, Default)]
struct Segments {
    parts: VecDeque<Bytes>,
    total: usize,
}

impl Segments {
    fn split_to(&mut self, mut length: usize) -> Self {
        let mut head = Self { parts: VecDeque::with_capacity(8), total: length };
        while length > 0 {
            let Some(mut part) = self.parts.pop_front() else { break };
            if part.len() > length {
                head.parts.push_back(part.split_to(length));
                self.total -= length;
                self.parts.push_front(part);
                break;
            }
            length -= part.len();
            self.total -= part.len();
            head.parts.push_back(part);
        }
        head
    }
}

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.total
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.total, "advanced past the end");
        self.total -= count;
        while count > 0 {
            let Some(part) = self.parts.front_mut() else { return };
            if part.len() > count {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::{Out, channel, message};
    use super::*;
    use futures::executor::block_on;
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;
    use proto::v1::{Chunk, CompressedChunk, Compression, PushRequest, push_request::Kind};

    fn request(offset: u64, hashes: Vec<u8>, data: Vec<u8>) -> PushRequest {
        PushRequest {
            kind: Some(Kind::Chunk(Chunk { offset, leaf_hashes: hashes.into(), data: data.into() })),
        }
    }

    fn bytes_of(out: Vec<Out>) -> Vec<u8> {
        let (sender, frames) = channel(out.len().max(1));
        for one in out {
            sender.try_send(one).map_err(|_| ()).expect("room");
        }
        drop(sender);
        block_on(frames.collect()).expect("no error").to_bytes().to_vec()
    }

    proptest! {
        /// What our encoder writes is what prost writes, and the decoder reads it back however it is cut.
        #[test]
        fn is_the_wire_format(offset in prop_oneof![Just(0u64), any::<u64>()], hashes in prop::collection::vec(any::<u8>(), 0..40),
                              data in prop::collection::vec(any::<u8>(), 1..300), cuts in prop::collection::vec(1usize..50, 1..40)) {
            let ours = bytes_of(vec![Out::chunk(offset, &hashes, data.clone().into()), Out::chunk(7, &[], data.clone().into())]);
            let mut theirs = message(&request(offset, hashes.clone(), data.clone())).to_vec();
            theirs.extend(message(&request(7, vec![], data.clone())));
            prop_assert_eq!(&ours, &theirs);
            let mut decoder = Decoder::default();
            let (mut got, mut at) = (vec![], 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(ours.len());
                decoder.put(Bytes::copy_from_slice(&ours[at..end]));
                while let Some(m) = decoder.take().expect("well formed") { got.push(m); }
                at = end;
                if at == ours.len() { break }
            }
            prop_assert!(decoder.is_empty());
            prop_assert_eq!(got.len(), 2);
            let Incoming::Chunk { offset: o, leaf_hashes, data: parts } = &got[0] else { panic!("a chunk") };
            prop_assert_eq!(*o, offset);
            prop_assert_eq!(&leaf_hashes[..], &hashes[..]);
            prop_assert_eq!(parts.concat(), data);
        }

        #[test]
        fn a_compressed_chunk_is_the_wire_format_too(offset in prop_oneof![Just(0u64), any::<u64>()], hashes in prop::collection::vec(any::<u8>(), 0..40),
                                                     data in prop::collection::vec(any::<u8>(), 1..300), plain in 1u64..) {
            let ours = bytes_of(vec![Out::zstd_chunk(offset, &hashes, plain, data.clone().into())]);
            let chunk = CompressedChunk {
                offset, leaf_hashes: hashes.into(), compression: Compression::Zstd.into(), data_bytes: plain, data: data.into(),
            };
            let theirs = message(&PushRequest { kind: Some(Kind::Compressed(chunk.clone())) });
            prop_assert_eq!(&ours, &theirs);
            let mut decoder = Decoder::default();
            decoder.put(ours.into());
            let Some(Incoming::Message(Kind::Compressed(got))) = decoder.take().expect("well formed") else { panic!("a chunk") };
            prop_assert_eq!(got, chunk);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.put(message(&request(1, vec![], bytes.clone())).slice(5..));
            let _ = decoder.take();
            let mut decoder = Decoder::default();
            let mut framed = vec![0];
            framed.extend(u32::try_from(bytes.len()).expect("small").to_be_bytes());
            framed.extend(bytes);
            decoder.put(framed.into());
            let _ = decoder.take();
        }
    }

    #[test]
    fn fields_in_another_order_are_read_too() {
        // Chunk { data = 3: "ab", offset = 1: 5 }, as some other client may write it.
        let chunk = [0x1a, 2, b'a', b'b', 0x08, 5];
        let mut framed = vec![0, 0, 0, 0, 8, 0x0a, 6];
        framed.extend(chunk);
        let mut decoder = Decoder::default();
        decoder.put(framed.into());
        let Some(Incoming::Chunk { offset, data, .. }) = decoder.take().expect("valid") else {
            panic!("a chunk")
        };
        assert_eq!((offset, data.concat()), (5, b"ab".to_vec()));
    }

    #[test]
    fn a_message_too_long_is_refused_before_it_is_gathered() {
        let mut decoder = Decoder::default();
        decoder.put(vec![0, 0xff, 0xff, 0xff, 0xff].into());
        assert!(decoder.take().is_err());
    }
}
