//! A wire between the store and its server that breaks at a COMMIT, in every way a wire can.

use integration_tests::mariadb::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;

/// What happens to the next COMMIT; the ones after it pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Break {
    Nothing,
    /// It does not arrive, and both ends notice.
    Before,
    /// It arrives; its answer does not.
    After,
    /// It does not arrive, and the server does not notice: it holds the locks.
    HalfOpen,
    /// It arrives; then nothing comes any more, and nobody says so.
    Silence,
    /// The server takes the transaction back, as it does after a deadlock.
    GivenUp,
}

impl Break {
    const ALL: [Self; 6] =
        [Self::Nothing, Self::Before, Self::After, Self::HalfOpen, Self::Silence, Self::GivenUp];
}

/// See the module. Ends with the test's runtime.
pub(super) struct Wire {
    pub(super) url: String,
    next: Arc<AtomicU8>,
}

impl Wire {
    /// A database of the process's server, at the end of a wire.
    pub(super) async fn new() -> Self {
        let server = Server::shared();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let url = server.database().expect("a database");
        let url = url.replace(&format!(":{}/", server.port()), &format!(":{port}/"));
        let next = Arc::new(AtomicU8::new(0));
        let breaks = Arc::clone(&next);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server.port())).await.expect("the server");
                tokio::spawn(connection(client, server, Arc::clone(&breaks)));
            }
        });
        Self { url, next }
    }

    pub(super) fn breaks(&self, how: Break) {
        self.next.store(how as u8, Ordering::SeqCst);
    }

    /// Whether the break has happened.
    pub(super) fn is_broken(&self) -> bool {
        self.next.load(Ordering::SeqCst) == 0
    }
}

/// A statement as text: what the driver sends a COMMIT as.
const QUERY: u8 = 3;

/// One packet: three bytes of length, a number, the rest.
async fn packet(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet).await?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]);
    packet.resize(4 + usize::try_from(length).expect("24 bits"), 0);
    from.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

/// From the server to the client; mute while a COMMIT is being tampered with.
async fn answers(
    mut from: OwnedReadHalf,
    to: Arc<Mutex<OwnedWriteHalf>>,
    mute: Arc<AtomicBool>,
    swallowed: Arc<Notify>,
) -> std::io::Result<()> {
    loop {
        let answer = packet(&mut from).await?;
        match mute.load(Ordering::SeqCst) {
            true => swallowed.notify_one(),
            false => to.lock().await.write_all(&answer).await?,
        }
    }
}

async fn connection(client: TcpStream, server: TcpStream, breaks: Arc<AtomicU8>) -> std::io::Result<()> {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let to_client = Arc::new(Mutex::new(to_client));
    let (mute, swallowed) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    // Ends with this function.
    let mut back = JoinSet::new();
    back.spawn(answers(from_server, Arc::clone(&to_client), Arc::clone(&mute), Arc::clone(&swallowed)));
    loop {
        let said = packet(&mut from_client).await?;
        if said.get(4..) != Some(&[&[QUERY], &b"COMMIT"[..]].concat()[..]) {
            to_server.write_all(&said).await?;
            continue;
        }
        let how = Break::ALL[usize::from(breaks.swap(0, Ordering::SeqCst))];
        mute.store(how != Break::Nothing, Ordering::SeqCst);
        match how {
            Break::Nothing => to_server.write_all(&said).await?,
            Break::Before => return Ok(()),
            Break::After => {
                to_server.write_all(&said).await?;
                swallowed.notified().await;
                return Ok(());
            }
            Break::HalfOpen => {
                to_client.lock().await.shutdown().await?;
                // Until the server closes it: when it is told to end the connection.
                while let Some(ended) = back.join_next().await {
                    ended.expect("no panic")?;
                }
            }
            // Mute from here on.
            Break::Silence => to_server.write_all(&said).await?,
            Break::GivenUp => {
                to_server.write_all(&[&[9, 0, 0, 0, QUERY][..], b"ROLLBACK"].concat()).await?;
                swallowed.notified().await;
                mute.store(false, Ordering::SeqCst);
                let why = b"\xff\xbd\x04#40001Deadlock found when trying to get lock";
                let length = u8::try_from(why.len()).expect("short");
                to_client.lock().await.write_all(&[&[length, 0, 0, 1][..], why].concat()).await?;
            }
        }
    }
}
