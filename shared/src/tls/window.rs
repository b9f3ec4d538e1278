//! How much a peer may send before it hears from us: HTTP/2 windows by bandwidth × delay.
//!
//! The delay is known when a connection begins (how long the handshake took to be answered: a round trip, and the
//! cryptography of both sides, which may have to wait for a processor), the bandwidth never: 4 Gbit/s are taken. Near
//! peers get the least, which costs no more memory than it always did; far ones get what keeps their link full. It does
//! not change during a connection.
//!
//! HTTP/2 gives a window back in halves, so the rate is at least half a window a round trip.

use std::time::Duration;

/// Bounds of the windows, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// However near the peer is.
    pub least: u32,
    /// However far it is: what is received and cannot be written yet is memory.
    pub most: u32,
}

/// Bytes a millisecond at 4 Gbit/s.
const BANDWIDTH: u64 = 500_000;

/// Of a handshake, taken for cryptography. It is not enough where a processor is busy for longer: a near peer then has the
/// window of a far one until it connects again, which costs memory and nothing else.
const WORK: Duration = Duration::from_millis(15);

/// Where nothing tells the delay: full speed over 1 Gbit/s and 50 ms.
const FAR: Duration = Duration::from_millis(50);

impl Default for Windows {
    fn default() -> Self {
        // Measured over loopback: above 4 MiB nothing is gained.
        Self { least: 4 << 20, most: 16 << 20 }
    }
}

impl Windows {
    /// For a peer that answers within `round_trip`.
    pub fn of(&self, round_trip: Duration) -> u32 {
        let micros = u64::try_from(round_trip.saturating_sub(WORK).as_micros()).unwrap_or(u64::MAX);
        let needed = micros.saturating_mul(BANDWIDTH) / 1000;
        u32::try_from(needed).unwrap_or(u32::MAX).clamp(self.least, self.most)
    }

    /// For a peer whose distance is not known.
    pub fn unknown(&self) -> u32 {
        self.of(FAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_delay_within_bounds() {
        let windows = Windows::default();
        assert_eq!(windows.of(Duration::ZERO), 4 << 20);
        assert_eq!(windows.of(Duration::from_millis(20)), 4 << 20, "a near peer costs no more memory");
        // 1 Gbit/s and 50 ms: 6.25 MB are on the way, and a window comes back in halves.
        assert!(windows.of(Duration::from_millis(50)) >= 2 * 6_250_000);
        assert_eq!(windows.of(Duration::from_secs(3600)), 16 << 20);
        assert_eq!(windows.of(Duration::MAX), 16 << 20);
    }
}
