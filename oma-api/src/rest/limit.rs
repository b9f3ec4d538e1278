//! How often an address may ask for failovers: their POSTs, by GCRA (`governor`), behind the gate, so that strangers use
//! nothing up.
//!
//! The address is the peer's. Of proxies that are named in the configuration it is who they say they forward for: the
//! right-most address in `X-Forwarded-For` that is no such proxy. What stands left of it anybody may have written.

use super::refusal::{FAILOVER, Refusal};
use crate::access::failures::network;
use crate::config;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use shared::http::PeerAddress;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Addresses that are remembered; beyond, those that are new share what one has.
const ADDRESSES: usize = 4096;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

type Keyed<C> = RateLimiter<IpAddr, DefaultKeyedStateStore<IpAddr>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// See the module.
pub(super) struct Limiter<C: Clock = DefaultClock> {
    addresses: Keyed<C>,
    clock: C,
    proxies: Vec<IpAddr>,
}

impl Limiter {
    pub(super) fn new(limits: &config::Limits) -> Self {
        Self::with_clock(limits, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Limiter<C> {
    fn with_clock(limits: &config::Limits, clock: C) -> Self {
        let quota = Quota::per_minute(limits.failovers_per_minute).allow_burst(limits.failover_burst);
        let addresses = RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock.clone());
        let proxies = limits.trusted_proxies.iter().map(IpAddr::to_canonical).collect();
        Self { addresses, clock, proxies }
    }

    /// Counts one; how long to wait when it was one too many.
    fn one_more(&self, from: IpAddr) -> Option<Duration> {
        if self.addresses.len() >= ADDRESSES {
            self.addresses.retain_recent();
        }
        let key = match self.addresses.len() >= ADDRESSES {
            true => Ipv4Addr::UNSPECIFIED.into(),
            false => network(from),
        };
        let refused = self.addresses.check_key(&key).err()?;
        Some(refused.wait_time_from(self.clock.now()))
    }

    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let named: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
        let mut named = named.iter().rev().flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        while self.proxies.contains(&client) {
            // What is no address says nothing: then it is the proxy itself.
            match named.next().and_then(|text| text.trim().parse::<IpAddr>().ok()) {
                Some(next) => client = next.to_canonical(),
                None => break,
            }
        }
        client
    }
}

/// Lets on whoever does not ask too often.
pub(super) async fn pass(State(limiter): State<Arc<Limiter>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<PeerAddress>>();
    if request.method() == Method::POST
        && request.uri().path().starts_with(FAILOVER)
        && let Some(ConnectInfo(PeerAddress(peer))) = peer
        && let Some(wait) = limiter.one_more(limiter.client(peer.ip(), request.headers()))
    {
        return too_often(wait).into_response();
    }
    next.run(request).await
}

fn too_often(wait: Duration) -> Refusal {
    let seconds = wait.as_secs() + 1;
    let message = format!("too many requests for failovers from this address: try again in {seconds}s");
    let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message);
    refusal.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn limiter(proxies: &[&str]) -> Limiter<FakeRelativeClock> {
        let trusted_proxies = proxies.iter().map(|text| address(text)).collect();
        let limits = config::Limits { trusted_proxies, ..config::Limits::default() };
        Limiter::with_clock(&limits, FakeRelativeClock::default())
    }

    #[test]
    fn twenty_at_once_and_ten_a_minute() {
        let limiter = limiter(&[]);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..20 {
            assert_eq!(limiter.one_more(one), None);
        }
        assert_eq!(limiter.one_more(one), Some(Duration::from_secs(6)));
        assert_eq!(limiter.one_more(address("::ffff:192.0.2.1")), Some(Duration::from_secs(6)), "the same");
        assert_eq!(limiter.one_more(other), None, "another");
        limiter.clock.advance(Duration::from_secs(6));
        assert_eq!(limiter.one_more(one), None, "a tenth of a minute: one more");
        assert!(limiter.one_more(one).is_some());
        limiter.clock.advance(Duration::from_secs(60));
        let taken = (0..20).filter(|_| limiter.one_more(one).is_none()).count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_who_is_quiet() {
        let limiter = limiter(&[]);
        for n in 0..3 * u32::try_from(ADDRESSES).expect("small") {
            limiter.one_more(IpAddr::V4(n.into()));
        }
        assert!(limiter.addresses.len() <= ADDRESSES + 1, "{}", limiter.addresses.len());
        assert!(limiter.one_more(address("192.0.2.1")).is_some(), "those who are new share");
        limiter.clock.advance(Duration::from_secs(3600));
        assert_eq!(limiter.one_more(address("192.0.2.1")), None);
        assert!(limiter.addresses.len() < 10, "{}", limiter.addresses.len());
    }

    #[test]
    fn only_proxies_that_are_named_are_believed() {
        let limiter = limiter(&["10.0.0.1", "10.0.0.2"]);
        let client = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(X_FORWARDED_FOR, HeaderValue::from_str(value).expect("text"));
            }
            limiter.client(address(peer), &headers).to_string()
        };
        assert_eq!(client("192.0.2.9", &["198.51.100.1"]), "192.0.2.9", "who is no proxy speaks for itself");
        assert_eq!(client("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.7, 198.51.100.1"]), "198.51.100.1", "the right-most");
        assert_eq!(client("10.0.0.1", &["203.0.113.7", "198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1, nonsense"]), "10.0.0.1", "not what stands left of it");
    }
}
