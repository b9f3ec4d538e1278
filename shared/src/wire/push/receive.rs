//! The body of a request → messages.

use super::decode::{Decoder, Incoming};
use crate::wire::refusal;
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::{Code, Status};

/// The receiving half of a push stream.
pub struct Receiver {
    body: Body,
    decoder: Decoder,
}

impl Receiver {
    pub fn new(body: Body) -> Self {
        Self { body, decoder: Decoder::default() }
    }

    /// The next message, or `None` at the end of the stream.
    ///
    /// # Errors
    /// The connection's own, and `BAD_STREAM` for what is no message, or half of one.
    pub async fn next(&mut self) -> Result<Option<Incoming>, Status> {
        let broken = |why: String| refusal::status(Code::InvalidArgument, "BAD_STREAM", why);
        loop {
            if let Some(incoming) = self.decoder.take().map_err(broken)? {
                return Ok(Some(incoming));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.put(data);
                    }
                }
                Some(Err(status)) => return Err(status),
                None if self.decoder.is_empty() => return Ok(None),
                None => return Err(broken("the stream ended within a message".to_owned())),
            }
        }
    }
}
