//! Requests and answers on their way, message by message.

use super::catalog::Direction;
use super::plan::{Fault, Moment};
use super::wire::{Link, Wire};
use super::{Kind, Shared};
use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;

/// For what was handed to HTTP/2 to reach the other side. Not a wait for something: it may come too late as well, and
/// then the fault lies before the message.
const ON_ITS_WAY: Duration = Duration::from_millis(25);

/// How long a late message waits for one to overtake it.
const LATE: Duration = Duration::from_millis(700);

/// What is on its way in one direction of one stream.
type Frames = mpsc::Sender<Result<Frame<Bytes>, hyper::Error>>;
type Body = StreamBody<ReceiverStream<Result<Frame<Bytes>, hyper::Error>>>;

/// Both sides' keys.
pub(super) struct Certificates {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.ended.cancelled() => return,
        };
        let Ok((agent, _)) = accepted else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let link = Arc::<Link>::default();
            shared.lock().links.push(Arc::clone(&link));
            // Either side may vanish at any moment: then the other side's connection ends too.
            let served = serve(agent, &shared, &link);
            let ended = tokio::select! {
                ended = served => ended,
                () = link.was_cut() => Ok(()),
            };
            tracing::debug!(?ended, "a connection through the middle ended");
            if !link.is_cut() {
                link.cut(super::How::Close);
            }
        });
    }
}

async fn serve(agent: TcpStream, shared: &Arc<Shared>, link: &Arc<Link>) -> anyhow::Result<()> {
    // An OMA that is away is away for the agent as well.
    let oma = Wire::new(TcpStream::connect(&shared.oma).await?, link)?;
    let name = ServerName::try_from("localhost").context("a name")?;
    let oma = TlsConnector::from(Arc::clone(&shared.tls.client)).connect(name, oma).await?;
    let (requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(4 << 20)
        .handshake::<_, Body>(TokioIo::new(oma))
        .await?;
    let broken = Arc::clone(link);
    tokio::spawn(async move {
        let _ = connection.await;
        if !broken.is_cut() {
            broken.cut(super::How::Close);
        }
    });
    let agent = Wire::new(agent, link)?;
    let agent = TlsAcceptor::from(Arc::clone(&shared.tls.server)).accept(agent).await?;
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        forward(request, requests.clone(), Arc::clone(shared), Arc::clone(link))
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(256)
        .serve_connection(TokioIo::new(agent), service);
    Ok(served.await?)
}

async fn forward(
    request: Request<Incoming>,
    mut requests: SendRequest<Body>,
    shared: Arc<Shared>,
    link: Arc<Link>,
) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let way = |direction| Way {
        shared: Arc::clone(&shared),
        link: Arc::clone(&link),
        path: path.clone(),
        direction,
    };
    let (parts, up) = request.into_parts();
    let response = requests.send_request(Request::from_parts(parts, way(Direction::Up).body(up))).await?;
    let (parts, down) = response.into_parts();
    Ok(Response::from_parts(parts, way(Direction::Down).body(down)))
}

/// One direction of one stream.
struct Way {
    shared: Arc<Shared>,
    link: Arc<Link>,
    path: String,
    direction: Direction,
}

impl Way {
    fn body(self, from: Incoming) -> Body {
        // Little of it: what waits here is neither said nor unsaid.
        let (to, frames) = mpsc::channel(2);
        tokio::spawn(self.run(from, to));
        StreamBody::new(ReceiverStream::new(frames))
    }

    async fn run(self, mut from: Incoming, to: Frames) {
        let (mut buffer, mut late) = (BytesMut::new(), None::<Bytes>);
        loop {
            let frame = tokio::select! {
                frame = from.frame() => frame,
                () = to.closed() => return,
                () = tokio::time::sleep(LATE), if late.is_some() => {
                    // Nothing came to overtake it.
                    if !send(&to, late.take()).await { return; }
                    continue;
                }
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                other => {
                    let _ = send(&to, late.take()).await;
                    if let Some(Err(error)) = other {
                        let _ = to.send(Err(error)).await;
                    }
                    return;
                }
            };
            match frame.into_data() {
                Ok(data) => buffer.put(data),
                Err(trailers) => {
                    let told = send(&to, late.take()).await;
                    if !told || to.send(Ok(trailers)).await.is_err() {
                        return;
                    }
                }
            }
            while let Some(message) = take(&mut buffer) {
                if !self.pass(message, &to, &mut late).await {
                    return;
                }
            }
        }
    }

    /// One message; `false` when there is no more to be done here.
    async fn pass(&self, message: Bytes, to: &Frames, late: &mut Option<Bytes>) -> bool {
        let rewrite = self.shared.lock().rewrite.clone();
        let messages = match rewrite {
            Some(rewrite) => rewrite(self.kind_of(&message).as_ref(), message),
            None => vec![message],
        };
        for message in messages {
            if !self.meet(&message, to, late).await {
                return false;
            }
        }
        true
    }

    fn kind_of(&self, message: &Bytes) -> Option<Kind> {
        self.shared.catalog.kind_of(&self.path, self.direction, message)
    }

    async fn meet(&self, message: &Bytes, to: &Frames, late: &mut Option<Bytes>) -> bool {
        let kind = self.kind_of(message);
        let fault = kind.as_ref().and_then(|kind| self.shared.lock().plan.meet(kind));
        if let (Some(fault), Some(kind)) = (fault, &kind) {
            tracing::info!(%kind, ?fault, "fault");
            self.shared.fired.notify_one();
        }
        match fault {
            Some(Fault::Cut(Moment::Before, how)) => {
                self.link.cut(how);
                return false;
            }
            Some(Fault::Stall(Moment::Before)) => {
                self.link.stall();
                self.link.was_cut().await;
                return false;
            }
            Some(Fault::Late) => {
                let before = late.replace(framed([message]));
                return send(to, before).await;
            }
            _ => {}
        }
        let copies = if fault == Some(Fault::Twice) { 2 } else { 1 };
        for _ in 0..copies {
            if !send(to, Some(framed([message]))).await {
                return false;
            }
        }
        match fault {
            Some(Fault::Cut(Moment::After, how)) => {
                self.arrived(to).await;
                self.link.cut(how);
                false
            }
            Some(Fault::Stall(Moment::After)) => {
                self.arrived(to).await;
                self.link.stall();
                self.link.was_cut().await;
                false
            }
            _ => send(to, late.take()).await,
        }
    }

    /// Waits until HTTP/2 has taken all that was sent, and a moment.
    async fn arrived(&self, to: &Frames) {
        let taken = async {
            while to.capacity() < to.max_capacity() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(ON_ITS_WAY).await;
        };
        tokio::select! {
            () = taken => {}
            () = self.link.was_cut() => {}
        }
    }
}

/// `false`: nobody takes it.
async fn send(to: &Frames, message: Option<Bytes>) -> bool {
    match message {
        Some(message) => to.send(Ok(Frame::data(message))).await.is_ok(),
        None => true,
    }
}

/// A whole message out of what came, without its prefix. Compressed ones are not expected: both sides send none.
fn take(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(u32::from_be_bytes(buffer.get(1..5)?.try_into().ok()?)).ok()?;
    if buffer.len() < 5 + length {
        return None;
    }
    buffer.advance(5);
    Some(buffer.split_to(length).freeze())
}

/// With their prefixes.
fn framed<'a>(messages: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
    let mut out = BytesMut::new();
    for message in messages {
        out.put_u8(0);
        out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        out.put_slice(message);
    }
    out.freeze()
}
