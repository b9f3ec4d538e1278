//! Dialling an OMA.

use super::cleartext;
use super::identity::{Identity, Role};
use super::reason;
use crate::ids::AgentId;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// Makes connections to one OMA and remembers why the last one was refused.
#[derive(Clone)]
pub struct Dialer {
    address: String,
    server_name: ServerName<'static>,
    over: Over,
    refusal: Arc<Mutex<Option<String>>>,
    window: u32,
}

/// A connection of either kind.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

#[derive(Clone)]
enum Over {
    Tls(Arc<ClientConfig>),
    /// In clear, as this agent.
    Cleartext(AgentId),
}

impl Dialer {
    /// `address` is `host:port`; the OMA's certificate must be valid for the host.
    ///
    /// # Errors
    /// A text for the operator when the address has no such form.
    pub fn new(address: &str, tls: Arc<ClientConfig>) -> Result<Self, String> {
        Self::over(address, Over::Tls(tls))
    }

    /// `address` is the `host:port` where the OMA takes agents in clear, which believes that it is `agent`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn cleartext(address: &str, agent: AgentId) -> Result<Self, String> {
        Self::over(address, Over::Cleartext(agent))
    }

    fn over(address: &str, over: Over) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("OMA address {address:?} {why}; expected HOST:PORT such as oma.example.org:8443")
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
        port.parse::<u16>().map_err(|_| wrong("has no valid port"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server_name = ServerName::try_from(bare).map_err(|_| wrong("has no valid host name"))?;
        Ok(Self { address: address.to_owned(), server_name, over, refusal: Arc::default(), window: 1 << 20 })
    }

    /// Where it dials, as configured.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// One HTTP/2 connection. The text of the error says what is wrong on which side.
    ///
    /// # Errors
    /// Not reachable, not an OMA, or refused; with the reason.
    pub async fn connect(&self) -> Result<Channel, String> {
        self.take_refusal();
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))
            .map_err(|e| format!("OMA address {}: {e}", self.address))?
            .connect_timeout(Duration::from_secs(10))
            .initial_stream_window_size(self.window)
            .initial_connection_window_size(self.window)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        let this = self.clone();
        let connector = tower::service_fn(move |_| {
            let this = this.clone();
            async move { this.stream().await.map(TokioIo::new) }
        });
        endpoint.connect_with_connector(connector).await.map_err(|error| {
            self.take_refusal().unwrap_or_else(|| {
                // The outer ones say "transport error", or what the innermost says.
                let mut innermost: &dyn std::error::Error = &error;
                while let Some(inner) = innermost.source() {
                    innermost = inner;
                }
                let why = innermost.to_string();
                match why.contains(&self.address) {
                    true => why,
                    false => format!("connecting to the OMA at {} failed: {why}", self.address),
                }
            })
        })
    }

    /// Why the OMA ended the connection, if it said so since the last call. With TLS 1.3 a refused client
    /// certificate shows only after the handshake, on the first read.
    pub fn take_refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn stream(&self) -> io::Result<Box<dyn Io>> {
        let making = async {
            let mut tcp = self.tcp().await?;
            let tls = match &self.over {
                Over::Tls(tls) => TlsConnector::from(Arc::clone(tls)),
                Over::Cleartext(agent) => {
                    cleartext::announce(&mut tcp, agent).await?;
                    return Ok(Box::new(tcp) as Box<dyn Io>);
                }
            };
            let inner = tls.connect(self.server_name.clone(), tcp).await.map_err(|e| {
                let reason = format!("TLS with {}: {}", self.address, reason::of_io(&e));
                self.remember(reason.clone());
                io::Error::new(e.kind(), reason)
            })?;
            Ok(Box::new(Watched { inner, dialer: self.clone() }) as Box<dyn Io>)
        };
        tokio::time::timeout(Duration::from_secs(10), making).await.unwrap_or_else(|_| {
            let why = format!("no TLS handshake within 10 s with {}", self.address);
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        })
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let tcp = TcpStream::connect(&self.address).await.map_err(|e| {
            let why = format!("cannot reach the OMA at {}: {e}", self.address);
            io::Error::new(
                e.kind(),
                format!("{why}; does oma-api run there, and may this machine reach the port?"),
            )
        })?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    fn remember(&self, reason: String) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

/// A TLS stream that keeps what the peer's alert said.
struct Watched {
    inner: TlsStream<TcpStream>,
    dialer: Dialer,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &polled
            && let Some(reason) = reason::said_by_peer(error)
        {
            self.dialer.remember(reason);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The usual checks (CA, validity, host name), and that the certificate is an OMA's: another agent's certificate
/// of the same CA must not be able to collect disks.
#[derive(Debug)]
pub(super) struct OmaVerifier(Arc<WebPkiServerVerifier>);

impl OmaVerifier {
    pub(super) fn new(roots: RootCertStore) -> Result<Self, rustls::server::VerifierBuilderError> {
        WebPkiServerVerifier::builder(Arc::new(roots)).build().map(Self)
    }
}

impl ServerCertVerifier for OmaVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        match Identity::of_certificate(end_entity) {
            Ok(identity) if identity.role == Role::Oma => Ok(verified),
            Ok(identity) => Err(rustls::Error::General(format!("the server is not an OMA but {identity}"))),
            Err(why) => {
                tracing::debug!(%why, "server certificate names nobody");
                Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
