//! The accept loop.

use super::identity::{Identity, Peer, Unnamed};
use super::window::Windows;
use super::{cleartext, preface, reason};
use crate::error::chain;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::{Service, ServiceExt as _};
use tracing::{debug, info, warn};

/// For a refused peer to close its side.
const PARTING: Duration = Duration::from_secs(1);

/// What a listener lets a peer take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// From there to the whole HTTP/2 preface.
    pub preface: Duration,
    /// Connections at a time; more are closed at once.
    pub connections: usize,
    /// Flow-control windows of a connection and its streams.
    pub windows: Windows,
    /// Largest HTTP/2 frame we take, in bytes.
    pub frame: u32,
    /// Ping after this much silence; the peer has as long to answer.
    pub keep_alive: Duration,
    /// For requests in flight at shutdown.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            preface: Duration::from_secs(5),
            connections: 4096,
            windows: Windows::default(),
            // Measured over loopback: above that nothing is gained, memory is lost.
            frame: 256 << 10,
            keep_alive: Duration::from_secs(10),
            grace: Duration::from_secs(5),
        }
    }
}

/// What protects a listener's connections.
#[derive(Clone)]
pub enum Protection {
    /// Mutual TLS: certificates say who the peers are.
    Tls(Arc<ServerConfig>),
    /// TLS as this says at the time of each connection.
    Chosen(Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>),
    /// None of ours: agents say who they are, and are believed.
    Cleartext,
}

/// Serves `service` on `listener` until `shutdown`, then waits up to `limits.grace` for the requests in flight.
///
/// Every request carries its [`Peer`] in its extensions.
pub async fn serve<S>(
    listener: TcpListener,
    protection: Protection,
    limits: Limits,
    service: S,
    shutdown: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let room = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => match Arc::clone(&room).try_acquire_owned() {
                Ok(permit) => {
                    let one = Connection {
                        protection: protection.clone(),
                        limits: limits.clone(),
                        address,
                        permit,
                    };
                    tasks.spawn(one.run(stream, service.clone(), shutdown.clone()));
                }
                Err(_) => warn!(%address, limit = limits.connections, "connection closed: too many are open"),
            },
            // Out of file descriptors, or the peer was gone already: neither ends the daemon.
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(limits.grace, tasks.wait()).await.is_err() {
        debug!(left = tasks.len(), "connections cut at the end of the grace period");
    }
}

/// Lets the peer read why it is refused: closed with bytes of it unread, TCP would throw our alert away.
async fn part(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let rest = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {} };
    let _ = tokio::time::timeout(PARTING, rest).await;
}

struct Connection {
    protection: Protection,
    limits: Limits,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run<S>(self, stream: TcpStream, service: S, shutdown: CancellationToken)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let refused = |reason: String| warn!(address = %self.address, %reason, "connection refused");
        let tls = match &self.protection {
            Protection::Tls(tls) => Some(Arc::clone(tls)),
            Protection::Chosen(choose) => Some(choose()),
            Protection::Cleartext => None,
        };
        match tls {
            Some(tls) => match self.establish(tls, stream).await {
                Ok((io, identity, round_trip)) => {
                    let window = self.limits.windows.of(round_trip);
                    self.requests(io, identity, window, service, shutdown).await;
                }
                Err(reason) => refused(reason),
            },
            None => match self.greeted(stream).await {
                Ok((io, identity)) => {
                    let window = self.limits.windows.unknown();
                    self.requests(io, Ok(identity), window, service, shutdown).await;
                }
                Err(reason) => refused(reason),
            },
        }
    }

    async fn requests<S, Io>(
        self,
        io: Io,
        identity: Result<Identity, Unnamed>,
        window: u32,
        service: S,
        shutdown: CancellationToken,
    ) where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let address = self.address;
        match &identity {
            Ok(identity) => debug!(%address, %identity, window, "connection opened"),
            Err(Unnamed::NoCertificate) => {
                debug!(%address, window, "connection opened without a certificate")
            }
            Err(reason) => warn!(%address, %reason, "certificate names nobody; its requests are refused"),
        }
        let peer = Peer { address, identity };
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            service.clone().oneshot(request)
        });
        let connection = self.http2(window).serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(self.limits.grace, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        match ended {
            Ok(()) => debug!(%address, "connection ended"),
            Err(error) => info!(%address, error = %chain(&error), "connection broke"),
        }
        drop(self.permit);
    }

    async fn greeted(
        &self,
        mut stream: TcpStream,
    ) -> Result<(preface::Rewound<TcpStream>, Identity), String> {
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let greeting = async {
            let identity = cleartext::announced(&mut stream).await?;
            Ok((preface::read(stream).await?, identity))
        };
        let greeted = tokio::time::timeout(self.limits.preface, greeting).await;
        greeted
            .map_err(|_| format!("no HTTP/2 preface within {:?}", self.limits.preface))?
            .map_err(|error: io::Error| error.to_string())
    }

    /// With how long our part of the handshake took to be answered: a round trip, and the cryptography.
    async fn establish(
        &self,
        tls: Arc<ServerConfig>,
        stream: TcpStream,
    ) -> Result<
        (preface::Rewound<tokio_rustls::server::TlsStream<TcpStream>>, Result<Identity, Unnamed>, Duration),
        String,
    > {
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let handshake = async {
            // What is wrong with the stream shows below as well.
            let _ = stream.readable().await;
            let begun = Instant::now();
            let shaken = TlsAcceptor::from(tls).accept(stream).into_fallible().await;
            shaken.map(|stream| (stream, begun.elapsed()))
        };
        let (stream, round_trip) = match tokio::time::timeout(self.limits.handshake, handshake).await {
            Ok(Ok(shaken)) => shaken,
            Ok(Err((error, _))) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err("the peer closed the connection during the TLS handshake".to_owned());
            }
            Ok(Err((error, stream))) => {
                part(stream).await;
                return Err(reason::of_io(&error));
            }
            Err(_) => return Err(format!("no TLS handshake within {:?}", self.limits.handshake)),
        };
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = match leaf {
            Some(leaf) => Identity::of_certificate(leaf).map_err(Unnamed::Certificate),
            None => Err(Unnamed::NoCertificate),
        };
        match tokio::time::timeout(self.limits.preface, preface::read(stream)).await {
            Ok(Ok(stream)) => Ok((stream, identity, round_trip)),
            Ok(Err(error)) => Err(reason::of_io(&error)),
            Err(_) => Err(format!("no HTTP/2 preface within {:?}", self.limits.preface)),
        }
    }

    fn http2(&self, window: u32) -> hyper::server::conn::http2::Builder<TokioExecutor> {
        let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(window)
            .max_frame_size(self.limits.frame)
            .max_concurrent_streams(256)
            .keep_alive_interval(self.limits.keep_alive)
            .keep_alive_timeout(self.limits.keep_alive);
        http2
    }
}
