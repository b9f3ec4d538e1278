//! The id under which one request is found again: in the answer, in every line logged meanwhile, in the journal.
//!
//! Whoever asks may send one (`x-correlation-id`, an HTTP header and gRPC metadata alike); it is kept if it is short and
//! plain, for it goes into logs. The id of the request at work is known to everything that its task calls
//! ([`current`]), so that a refusal made far below its edge carries it.
//!
//! Not here: trace ids, which are a collector's words ([`crate::telemetry`]).

use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::sync::Arc;
use tracing::Instrument as _;

/// Of requests and answers.
pub const HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// Longest id that is kept, in bytes: the journal's column has that many.
pub const LONGEST: usize = 64;

tokio::task_local! {
    static CURRENT: CorrelationId;
}

/// 1 to [`LONGEST`] of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CorrelationId(Arc<str>);

impl CorrelationId {
    /// One that nobody has: a UUID of version 7, so that ids sort by time.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }

    /// `None` for one that is not kept.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        ((1..=LONGEST).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    /// The one sent in, if it can be kept; else a new one.
    pub fn of_headers(headers: &HeaderMap) -> Self {
        let sent = headers.get(&HEADER).and_then(|id| id.to_str().ok()).and_then(Self::parse);
        sent.unwrap_or_else(Self::generate)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For [`HEADER`].
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("letters, digits, dots, dashes")
    }

    /// Runs `work` as the request of this id.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// As [`scope`](Self::scope), for one step of something that is polled.
    pub fn step<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Goes on as part of the request and the span of this moment: for what a request leaves to a task of its own.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let id = current();
    async move {
        match id {
            Some(id) => id.scope(work).await,
            None => work.await,
        }
    }
    .in_current_span()
}

/// Of the request that this task answers; `None` outside of any.
pub fn current() -> Option<CorrelationId> {
    CURRENT.try_with(Clone::clone).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_plain_ids_are_kept_and_others_replaced() {
        for good in ["1", "1bcd3a2c-1547-45fe", "My.Job_7", &"x".repeat(64)] {
            assert_eq!(CorrelationId::parse(good).expect(good).as_str(), good);
        }
        for bad in ["", "two words", "<script>", "a/b", "a\nb", "ä", &"x".repeat(65)] {
            assert_eq!(CorrelationId::parse(bad), None, "{bad:?}");
        }
        let mut headers = HeaderMap::new();
        let (one, other) = (CorrelationId::of_headers(&headers), CorrelationId::of_headers(&headers));
        assert!(one != other && one.as_str().len() == 36, "{one} {other}");
        headers.insert(HEADER, HeaderValue::from_static("mine"));
        assert_eq!(CorrelationId::of_headers(&headers).to_header(), "mine");
        headers.insert(HEADER, HeaderValue::from_bytes(b"\xff").expect("a header may hold it"));
        assert_eq!(CorrelationId::of_headers(&headers).as_str().len(), 36);
    }

    #[tokio::test]
    async fn what_a_request_calls_knows_its_id_and_others_do_not() {
        assert_eq!(current(), None);
        let id = CorrelationId::parse("mine").expect("plain");
        let seen = id.clone().scope(async {
            tokio::task::yield_now().await;
            current()
        });
        let seen = seen.await;
        assert_eq!(seen, Some(id.clone()));
        let left = id.clone().scope(async { tokio::spawn(carried(async { current() })).await }).await;
        assert_eq!(left.expect("no panic"), Some(id.clone()), "a task of the request's own");
        assert_eq!(id.step(current), Some(id));
        assert_eq!(current(), None);
    }
}
