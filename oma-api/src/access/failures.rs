//! How often an address has shown bad tokens.
//!
//! It bounds what guessing costs us (log lines, answers), not what it may find: a token has 256 random bits. So a good
//! token is served whatever its address has done: a stranger behind the same router, or one script with an old token, must
//! not lock an operator out.
//!
//! A map of our own and not governor's: failures are counted, requests are not, and the map is bounded.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bad tokens that an address may show within [`WINDOW`].
pub const MOST: u32 = 10;

/// From the first of them.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered; beyond, the one that began first is forgotten.
const ADDRESSES: usize = 4096;

#[derive(Debug, Default)]
pub struct Failures {
    addresses: Mutex<HashMap<IpAddr, Count>>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    failures: u32,
}

impl Failures {
    /// Counts one; how long to wait when it was one too many.
    pub fn one_more(&self, from: IpAddr) -> Option<Duration> {
        let (from, now) = (network(from), Instant::now());
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= ADDRESSES && !addresses.contains_key(&from) {
            addresses.retain(|_, count| now.duration_since(count.since) < WINDOW);
            if addresses.len() >= ADDRESSES
                && let Some(first) =
                    addresses.iter().min_by_key(|(_, c)| c.since).map(|(address, _)| *address)
            {
                addresses.remove(&first);
            }
        }
        let count = addresses.entry(from).or_insert(Count { since: now, failures: 0 });
        if now.duration_since(count.since) >= WINDOW {
            *count = Count { since: now, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
        (count.failures > MOST).then(|| WINDOW.saturating_sub(now.duration_since(count.since)))
    }
}

/// Who has one address of IPv6 has 2^64 of them.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test(start_paused = true)]
    async fn ten_a_minute_and_then_a_wait() {
        let failures = Failures::default();
        let one = address("192.0.2.1");
        for _ in 0..MOST {
            assert_eq!(failures.one_more(one), None);
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(failures.one_more(one), Some(Duration::from_secs(40)));
        assert_eq!(failures.one_more(address("::ffff:192.0.2.1")), Some(Duration::from_secs(40)), "the same");
        assert_eq!(failures.one_more(address("192.0.2.2")), None, "another");
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(failures.one_more(one), None, "a new minute");
    }

    #[tokio::test(start_paused = true)]
    async fn one_network_of_ipv6_is_one_guesser() {
        let failures = Failures::default();
        let waits = (0..=MOST).filter(|n| failures.one_more(address(&format!("2001:db8::{n}"))).is_some());
        assert_eq!(waits.count(), 1);
        assert_eq!(failures.one_more(address("2001:db8:0:1::1")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded() {
        let failures = Failures::default();
        for n in 0..3 * u32::try_from(ADDRESSES).expect("small") {
            failures.one_more(IpAddr::V4(n.into()));
        }
        assert_eq!(failures.addresses.lock().expect("not poisoned").len(), ADDRESSES);
    }
}
