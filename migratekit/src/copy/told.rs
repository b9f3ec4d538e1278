//! Being told to stop: SIGINT, SIGTERM, SIGHUP.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that end a command in order. They do so from [`listen`](Self::listen) on.
pub(crate) struct Told {
    signals: Vec<Signal>,
}

impl Told {
    /// A signal that cannot be listened for ends the process, as ever.
    pub(crate) fn listen() -> Self {
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        // `nohup` has it ignored, and means it.
        if !hangup_is_ignored() {
            kinds.push(SignalKind::hangup());
        }
        let listen = |kind| {
            signal(kind).inspect_err(
                |error: &io::Error| tracing::warn!(?kind, %error, "a signal cannot be listened for"),
            )
        };
        Self { signals: kinds.into_iter().filter_map(|kind| listen(kind).ok()).collect() }
    }

    /// Returns when the first of them has come.
    pub(crate) async fn comes(&mut self) {
        std::future::poll_fn(|cx| {
            let came = self.signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
            if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

/// Whether this process was started so that SIGHUP does nothing.
pub(super) fn hangup_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// By the kernel's list of ignored signals, a bit each.
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).is_some_and(|bits| bits & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_known() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hangup("Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t1\n"));
    }
}
