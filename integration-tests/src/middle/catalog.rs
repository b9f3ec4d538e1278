//! What kinds of messages there are, from the schema itself: a new one is found without anybody naming it here.

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Of a message on a stream, such as `ConnectRequest.report.sent`: the message's name and its set alternatives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(String);

impl Kind {
    /// As [`Display`](fmt::Display) writes it.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Up is the way of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// Two-way streams and their messages.
pub(super) struct Catalog {
    /// By HTTP path: names of the messages up and down.
    streams: HashMap<String, (String, String)>,
    messages: BTreeMap<String, DescriptorProto>,
}

impl Catalog {
    pub(super) fn of_schema() -> anyhow::Result<Self> {
        let set = FileDescriptorSet::decode(proto::DESCRIPTOR_SET).context("the schema's descriptor set")?;
        let mut this = Self { streams: HashMap::new(), messages: BTreeMap::new() };
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    if method.client_streaming() && method.server_streaming() {
                        let ends = (method.input_type().to_owned(), method.output_type().to_owned());
                        this.streams.insert(path, ends);
                    }
                }
            }
            for message in &file.message_type {
                let name = format!(".{}.{}", file.package(), message.name());
                this.messages.insert(name, message.clone());
            }
        }
        Ok(this)
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for (up, down) in self.streams.values() {
            for end in [up, down] {
                self.below(end, short(end), &mut kinds);
            }
        }
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// The kind of a message on this stream; `None`: of another schema than ours.
    pub(super) fn kind_of(&self, path: &str, direction: Direction, message: &Bytes) -> Option<Kind> {
        let (up, down) = self.streams.get(path)?;
        let name = match direction {
            Direction::Up => up,
            Direction::Down => down,
        };
        self.descend(name, short(name), message.clone()).map(Kind)
    }

    fn below(&self, message: &str, so_far: &str, kinds: &mut Vec<Kind>) {
        let alternatives: Vec<_> = self.alternatives(message).collect();
        for field in &alternatives {
            self.below(field.type_name(), &format!("{so_far}.{}", field.name()), kinds);
        }
        if alternatives.is_empty() {
            kinds.push(Kind(so_far.to_owned()));
        }
    }

    fn alternatives(&self, message: &str) -> impl Iterator<Item = &FieldDescriptorProto> {
        let fields = self.messages.get(message).into_iter().flat_map(|message| &message.field);
        fields.filter(|f| f.oneof_index.is_some() && !f.proto3_optional() && f.r#type() == Type::Message)
    }

    fn descend(&self, message: &str, so_far: &str, bytes: Bytes) -> Option<String> {
        if self.alternatives(message).next().is_none() {
            return Some(so_far.to_owned());
        }
        let (mut rest, mut found) = (bytes, None);
        while rest.has_remaining() {
            let (tag, wire) = decode_key(&mut rest).ok()?;
            let field = self.alternatives(message).find(|f| u32::try_from(f.number()) == Ok(tag));
            match (field, wire) {
                (Some(field), WireType::LengthDelimited) => {
                    let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                    if length > rest.len() {
                        return None;
                    }
                    found = Some((field, rest.split_to(length)));
                }
                _ => skip_field(wire, tag, &mut rest, DecodeContext::default()).ok()?,
            }
        }
        let (field, inner) = found?;
        self.descend(field.type_name(), &format!("{so_far}.{}", field.name()), inner)
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A message as it goes over the stream.
pub fn message(of: &impl prost::Message) -> Bytes {
    of.encode_to_vec().into()
}

/// The message with a field that this schema does not have, as a newer version would set it.
pub fn unknown_field(message: &Bytes) -> Bytes {
    let mut out = BytesMut::from(&message[..]);
    encode_key(1999, WireType::LengthDelimited, &mut out);
    encode_varint(4, &mut out);
    out.put_slice(b"soon");
    out.freeze()
}

/// A message of a kind that this schema does not have.
pub fn unknown_message() -> Bytes {
    let mut out = BytesMut::new();
    encode_key(99, WireType::LengthDelimited, &mut out);
    encode_varint(0, &mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{self, connect_request::Kind as Up, cycle_report::Event};

    #[test]
    fn kinds_are_found_in_the_schema_and_in_messages() -> anyhow::Result<()> {
        let catalog = Catalog::of_schema()?;
        let kinds: Vec<_> = catalog.kinds().iter().map(ToString::to_string).collect();
        for known in ["ConnectRequest.hello", "ConnectRequest.report.sent", "PushResponse.durable"] {
            assert!(kinds.iter().any(|kind| kind == known), "{kinds:?}");
        }
        assert!(!kinds.iter().any(|kind| kind == "ConnectRequest.report"), "{kinds:?}");
        let report = v1::CycleReport { job_id: "j".into(), event: Some(Event::Sent(v1::CycleSent {})) };
        let sent = message(&v1::ConnectRequest { kind: Some(Up::Report(report)) });
        let path = "/migratekit.v1.AgentService/Connect";
        let kind = |bytes: &Bytes| catalog.kind_of(path, Direction::Up, bytes);
        assert_eq!(kind(&sent), Some(Kind::new("ConnectRequest.report.sent")));
        assert_eq!(kind(&unknown_field(&sent)), Some(Kind::new("ConnectRequest.report.sent")));
        assert_eq!(kind(&unknown_message()), None);
        assert!(v1::ConnectRequest::decode(unknown_message())?.kind.is_none());
        Ok(())
    }
}
