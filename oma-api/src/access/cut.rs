//! An answer that ends with the token it was given to: a watch may go on for days, and a revocation counts at once.

use super::Bearer;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// See the module.
pub struct Cut<B> {
    body: B,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What the answer ends with when it is cut; gRPC says why in them.
    trailers: Option<HeaderMap>,
    done: bool,
}

impl<B> Cut<B> {
    /// Ends `body` when the token ends.
    pub fn new(body: B, bearer: &Bearer, trailers: Option<HeaderMap>) -> Self {
        Self { body, ended: Box::pin(bearer.clone().ended()), trailers, done: false }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Cut<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if self.ended.as_mut().poll(cx).is_ready() {
            self.done = true;
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.done || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
