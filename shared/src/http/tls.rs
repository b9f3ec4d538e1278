//! Connections of an HTTP server over TLS: shaken hands with side by side, so that a peer that says nothing holds up nobody.

use super::PeerAddress;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// For the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Handshakes at a time; further connections wait in the system's queue.
const AT_ONCE: usize = 64;

/// See the module.
pub(super) struct TlsListener {
    address: SocketAddr,
    shaken: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    /// Begins to accept; ends with `shutdown`.
    pub(super) fn start(
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, shaken) = mpsc::channel(AT_ONCE);
        let hands = tasks.clone();
        tasks.spawn(async move {
            let room = Arc::new(Semaphore::new(AT_ONCE));
            loop {
                let permit = Arc::clone(&room).acquire_owned().await.expect("never closed");
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = shutdown.cancelled() => break,
                };
                let (stream, peer) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let (acceptor, sender) = (TlsAcceptor::from(Arc::clone(&tls)), sender.clone());
                let shutdown = shutdown.clone();
                hands.spawn(async move {
                    let _permit = permit;
                    let shaking = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
                    let shaken = tokio::select! {
                        shaken = shaking => shaken,
                        () = shutdown.cancelled() => return,
                    };
                    match shaken {
                        // Nobody takes it once the server has ended.
                        Ok(Ok(stream)) => drop(sender.send((stream, peer)).await),
                        Ok(Err(error)) => debug!(%peer, %error, "connection refused"),
                        Err(_) => debug!(%peer, "connection refused: no TLS handshake within {HANDSHAKE:?}"),
                    }
                });
            }
        });
        Ok(Self { address, shaken })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.shaken.recv().await {
            Some(accepted) => accepted,
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for PeerAddress {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(*stream.remote_addr())
    }
}
