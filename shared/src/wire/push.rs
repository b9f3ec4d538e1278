//! `TransferService.Push` without copying payloads.
//!
//! The messages are those of `transfer.proto`, byte for byte: any gRPC client can talk to it. Only the way they get
//! into and out of HTTP/2 frames differs from the generated code, which would copy every payload twice on each side:
//! a chunk goes out as a small header and the read buffer itself, and comes in as slices of the receive buffers.

mod decode;
mod encode;
mod receive;

pub use decode::{Incoming, MAX_MESSAGE};
pub use encode::{Frames, Out, Sender, channel, message};
pub use receive::Receiver;

/// The request that opens a stream; what it says comes out of `frames`.
pub fn request(frames: Frames) -> http::Request<tonic::body::Body> {
    let mut request = http::Request::new(tonic::body::Body::new(frames));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static("/migratekit.v1.TransferService/Push");
    let (kind, trailers) = ("application/grpc", "trailers");
    request.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    request.headers_mut().insert(http::header::TE, http::HeaderValue::from_static(trailers));
    request
}
