//! The product under test: both real daemons, a live VM, certificates, all in one temporary folder over loopback.
//!
//! ```text
//! LiveVm (qemu-storage-daemon + guest) ◄── vma-agent ══ mTLS ══► oma-api ── SQLite, files
//!                                                test ── gRPC (operator) ──┘
//! ```
//!
//! Daemons can be killed and started again at any moment; dropping the world ends what it started, by process id.

mod clock;
mod daemon;
mod machines;
mod terminal;
mod world;

pub use clock::Clock;
pub use daemon::{Daemon, binary};
pub use machines::Machines;
pub use world::{Options, SourceKind, Transport, VM_UUID, World, hash_file, write_agent_config};

use std::time::{Duration, Instant};

/// Asks until `probe` says `Some`, or says what was waited for.
///
/// # Errors
/// After `deadline`.
pub async fn eventually<T, F: Future<Output = anyhow::Result<Option<T>>>>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = probe().await? {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < end, "{what}: not within {deadline:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
