//! Counts what an agent reads of a live VM, at the source.
//!
//! ```text
//!  agent ── DIR/metered.sock ── Meter ── DIR/nbd.sock ── qemu-storage-daemon
//! ```
//!
//! A relay that hands bytes on as they are; what flows towards the agent is counted before it is handed on, so that a
//! killed agent cannot have read more than was counted. NBD's own framing is in the count: about 0.01 % of it.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;

/// One read of the relay.
const BUFFER: usize = 1 << 20;

/// Between writes of the count to its file.
const PERIOD: Duration = Duration::from_millis(10);

/// The relay. It lives as long as the process.
#[derive(Debug)]
pub struct Meter {
    bytes: Arc<AtomicU64>,
}

impl Meter {
    /// Listens on the Unix socket `listen` for clients of the server at `server`, and keeps the count of bytes in the
    /// file `count`, as text of fixed width.
    ///
    /// # Errors
    /// The socket or the file cannot be made.
    pub fn start(listen: &Path, server: &Path, count: &Path) -> anyhow::Result<Self> {
        let _ = std::fs::remove_file(listen);
        let listener =
            UnixListener::bind(listen).with_context(|| format!("listen on {}", listen.display()))?;
        let file = File::create(count).with_context(|| format!("make {}", count.display()))?;
        let bytes = Arc::<AtomicU64>::default();
        let server = server.to_owned();
        let counting = Arc::clone(&bytes);
        std::thread::spawn(move || accept(&listener, &server, &counting));
        let written = Arc::clone(&bytes);
        std::thread::spawn(move || {
            // Ends when nobody can read the count any more.
            while file
                .write_all_at(format!("{:020}\n", written.load(Ordering::Relaxed)).as_bytes(), 0)
                .is_ok()
            {
                std::thread::sleep(PERIOD);
            }
        });
        Ok(Self { bytes })
    }

    /// What clients were given so far, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn accept(listener: &UnixListener, server: &PathBuf, bytes: &Arc<AtomicU64>) {
    for client in listener.incoming() {
        let pair = client.and_then(|client| Ok((client, UnixStream::connect(server)?)));
        let cloned = pair.and_then(|(c, s)| Ok((c.try_clone()?, s.try_clone()?, c, s)));
        // A client that cannot be served sees its connection closed, as a server that is away would do it.
        let Ok((client, server, client_again, server_again)) = cloned else { continue };
        let bytes = Arc::clone(bytes);
        std::thread::spawn(move || relay(&client, &server, None));
        std::thread::spawn(move || relay(&server_again, &client_again, Some(&bytes)));
    }
}

/// Hands on until either side closes, and then closes both.
fn relay(mut from: &UnixStream, mut to: &UnixStream, count: Option<&AtomicU64>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if let Some(count) = count {
            count.fetch_add(read as u64, Ordering::Relaxed);
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
