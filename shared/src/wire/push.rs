//! `TransferService.Push` without copying payloads.
//!
//! The messages are those of `transfer.proto`, byte for byte: any gRPC client can talk to it. Only the way they get
//! into and out of HTTP/2 frames differs from the generated code, which would copy every payload twice on each side:
//! a chunk goes out as a small header and the read buffer itself, and comes in as slices of the receive buffers.

mod decode;
mod encode;

pub use decode::{Decoder, Incoming, MAX_MESSAGE};
pub use encode::{Frames, Out, Sender, channel, message};
