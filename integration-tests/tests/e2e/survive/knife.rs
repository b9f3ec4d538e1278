//! What kills the control plane, and at which point.

use integration_tests::harness::World;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// See the module.
pub(super) enum Knife {
    /// Arguments of strace; the count comes last.
    Strace {
        calls: &'static str,
        files: [PathBuf; 2],
    },
    Wire(CommitWire),
}

impl Knife {
    /// In place of the N-th of these calls on the database and its log. Each is counted by itself.
    pub(super) fn tracing(world: &World, calls: &'static str) -> Self {
        Self::Strace { calls, files: ["oma.db", "oma.db-wal"].map(|file| world.dir.join(file)) }
    }

    /// Starts the control plane with the knife above it. Whether it lives to say that it is ready.
    pub(super) fn start(&self, world: &mut World, n: u32) -> bool {
        match self {
            Self::Strace { calls, files } => {
                // The tracer is a grandchild (-D): the daemon is our child. Without --seccomp-bpf: with it, strace 6.1
                // counts the call and forgets the signal.
                let mut wrapper = vec!["strace", "-D", "-f", "-q", "-o", "/dev/null"];
                let (trace, inject) =
                    (format!("trace={calls}"), format!("inject={calls}:signal=SIGKILL:when={n}"));
                wrapper.extend(["-e", &trace, "-e", &inject]);
                for file in files {
                    wrapper.extend(["-P", file.to_str().unwrap_or_default()]);
                }
                world.oma_restart(&wrapper).is_ok()
            }
            Self::Wire(wire) => {
                world.oma.kill();
                wire.arm(n, &world.dir);
                world.oma_restart(&[]).is_ok()
            }
        }
    }

    /// Starts it without.
    pub(super) fn sheathe(&self, world: &mut World) -> anyhow::Result<()> {
        if let Self::Wire(wire) = self {
            wire.disarm();
        }
        world.oma_restart(&[])
    }
}

/// On which side of the COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It is not sent.
    Before,
    /// It was done, and its answer does not arrive.
    After,
}

#[derive(Debug)]
struct Armed {
    left: u32,
    /// Of the process that is meant: it is named on its command line.
    folder: PathBuf,
}

/// Between the control plane and its server. Ends with the test's runtime.
#[derive(Debug)]
pub(super) struct CommitWire {
    port: u16,
    armed: Arc<Mutex<Option<Armed>>>,
}

impl CommitWire {
    pub(super) async fn start(server: u16, side: Side) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let armed = Arc::<Mutex<Option<Armed>>>::default();
        let shared = Arc::clone(&armed);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                    tokio::spawn(connection(client, server, side, Arc::clone(&shared)));
                }
            }
        });
        Ok(Self { port, armed })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn arm(&self, n: u32, folder: &Path) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Armed { left: n, folder: folder.to_owned() });
    }

    fn disarm(&self) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Whom the knife hits at this COMMIT, if it does.
fn falls(armed: &Mutex<Option<Armed>>) -> Option<PathBuf> {
    let mut armed = armed.lock().unwrap_or_else(PoisonError::into_inner);
    let left = &mut armed.as_mut()?.left;
    *left = left.saturating_sub(1);
    if *left > 0 {
        return None;
    }
    armed.take().map(|armed| armed.folder)
}

/// kill −9 of the control plane whose configuration is in the folder.
fn kill(folder: &Path) {
    let config = folder.join("oma.toml").display().to_string();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if let Some(pid) = pid.filter(|_| line.contains("oma-api") && line.contains(&config)) {
            // Gone already: then it is dead as well.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// One packet: three bytes of length, a number, the rest.
async fn packet(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet).await?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]);
    packet.resize(4 + usize::try_from(length).unwrap_or_default(), 0);
    from.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mute: Mute) -> std::io::Result<()> {
    loop {
        let answer = packet(&mut from).await?;
        if mute.is_on() {
            return Ok(());
        }
        to.write_all(&answer).await?;
    }
}

/// Set when the next answer is the one that is not to arrive.
#[derive(Clone, Default)]
struct Mute(Arc<std::sync::atomic::AtomicBool>);

impl Mute {
    fn on(&self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    fn is_on(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// A statement as text, and the one that counts.
const COMMIT: &[u8] = b"\x03COMMIT";

async fn connection(
    client: TcpStream,
    server: TcpStream,
    side: Side,
    armed: Arc<Mutex<Option<Armed>>>,
) -> std::io::Result<()> {
    // Small packets one by one, each waited for: Nagle would make a day of an hour.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let mute = Mute::default();
    // Ends with this function.
    let mut back = JoinSet::new();
    back.spawn(answers(from_server, to_client, mute.clone()));
    loop {
        let said = packet(&mut from_client).await?;
        let hit = if said.get(4..) == Some(COMMIT) { falls(&armed) } else { None };
        if let Some(folder) = hit {
            if side == Side::After {
                mute.on();
                to_server.write_all(&said).await?;
                // Done: the answer is here, and goes no further.
                back.join_next().await;
            }
            kill(&folder);
            return Ok(());
        }
        to_server.write_all(&said).await?;
    }
}
