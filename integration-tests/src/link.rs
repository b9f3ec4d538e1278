//! A network link on loopback: a TCP proxy with a bandwidth and a delay.
//!
//! ```text
//! client ──► read ─ bandwidth (all connections of a direction) ─ queue (delay) ─ write ──► server
//!        ◄── the same, with a bandwidth of its own ──────────────────────────────────────◄
//! ```
//!
//! What is on the way is bounded by what fits into the delay, and a switch's buffer besides; then the sender waits, as
//! TCP would make it. Its own TCP connections are over loopback: nothing is lost, and no congestion control is tried.

use migratekit::rate::Limit;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What the link is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes a second in each direction.
    pub rate: u64,
    /// Of each direction: half a round trip.
    pub delay: Duration,
}

impl Shape {
    /// 1 Gbit/s of payload.
    pub const GIGABIT: Self = Self { rate: 125_000_000, delay: Duration::ZERO };
}

/// Read at once.
const PART: usize = 64 << 10;

/// What a switch keeps for a connection.
const BUFFER: u64 = 256 << 10;

/// A running link; dropping it cuts its connections.
pub struct Link {
    address: SocketAddr,
    _connections: JoinSet<()>,
}

impl Link {
    /// A link to `server`; clients connect to its [`address`](Self::address).
    ///
    /// # Errors
    /// No port is left.
    pub async fn start(server: SocketAddr, shape: Shape) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let (up, down) = (Arc::new(Limit::new(shape.rate)), Arc::new(Limit::new(shape.rate)));
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while open.try_join_next().is_some() {}
                let Ok(server) = TcpStream::connect(server).await else { continue };
                if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
                    continue;
                }
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                open.spawn(one_way(from_client, to_server, Arc::clone(&up), shape));
                open.spawn(one_way(from_server, to_client, Arc::clone(&down), shape));
            }
        });
        Ok(Self { address, _connections: connections })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Until one of the two ends; the other side sees the end as well.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bandwidth: Arc<Limit>,
    shape: Shape,
) {
    let on_the_way = BUFFER + shape.rate / 1000 * u64::try_from(shape.delay.as_millis()).unwrap_or(0);
    let room = Arc::new(Semaphore::new(usize::try_from(on_the_way).unwrap_or(usize::MAX >> 4)));
    let (queue, mut arriving) = mpsc::channel::<(Instant, Vec<u8>, _)>(1 << 14);
    let read = async move {
        let mut part = vec![0; PART];
        while let Ok(count @ 1..) = from.read(&mut part).await {
            bandwidth.take(count as u64).await;
            let permits = u32::try_from(count).unwrap_or(u32::MAX);
            let Ok(permit) = Arc::clone(&room).acquire_many_owned(permits).await else { return };
            if queue.send((Instant::now() + shape.delay, part[..count].to_vec(), permit)).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((due, part, permit)) = arriving.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&part).await.is_err() {
                return;
            }
            drop(permit);
        }
        // A half-close travels too.
        let _ = to.shutdown().await;
    };
    // Whoever writes into nothing need not be read any more; what was read is still written.
    tokio::pin!(read, write);
    tokio::select! {
        () = &mut read => write.await,
        () = &mut write => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Ok(address)
    }

    #[tokio::test]
    async fn a_round_trip_takes_both_delays_and_all_bytes_arrive() -> anyhow::Result<()> {
        let shape = Shape { rate: 100 << 20, delay: Duration::from_millis(30) };
        let link = Link::start(echo().await?, shape).await?;
        let mut stream = TcpStream::connect(link.address()).await?;
        let begun = Instant::now();
        stream.write_all(b"?").await?;
        stream.read_u8().await?;
        assert!(begun.elapsed() >= Duration::from_millis(60), "{:?}", begun.elapsed());
        let sent: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
        let (mut from, mut to) = stream.split();
        let mut got = vec![];
        let (written, read) = tokio::join!(
            async {
                to.write_all(&sent).await?;
                to.shutdown().await
            },
            from.read_to_end(&mut got)
        );
        written?;
        read?;
        assert!(got == sent);
        Ok(())
    }

    #[tokio::test]
    async fn the_bandwidth_is_shared_and_kept() -> anyhow::Result<()> {
        let link = Link::start(echo().await?, Shape { rate: 8 << 20, delay: Duration::ZERO }).await?;
        let begun = Instant::now();
        let one = async || {
            let mut stream = TcpStream::connect(link.address()).await?;
            let (mut from, mut to) = stream.split();
            let data = vec![7; 2 << 20];
            let (written, read) = tokio::join!(
                async {
                    to.write_all(&data).await?;
                    to.shutdown().await
                },
                async { tokio::io::copy(&mut from, &mut tokio::io::sink()).await }
            );
            written?;
            anyhow::ensure!(read? == 2 << 20, "all of it");
            anyhow::Ok(())
        };
        tokio::try_join!(one(), one())?;
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(450), "4 MiB at 8 MiB/s: {took:?}");
        Ok(())
    }
}
