//! The way between two daemons, over loopback: mutual TLS 1.3, HTTP/2 and the push codec of the product, both ends in
//! this process, with certificates made for it. What arrives is counted, or written.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use shared::leaf::LeafHash;
use shared::tls::{Dialer, Limits, Protection, Role, serve};
use shared::wire::push::{Incoming, Out, Receiver, Sender, channel, request};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::codegen::Service;

use super::Error;
use crate::dev_ca::{Existing, Folder, Holder, make};
use crate::piece::pieces_from_wire;
use crate::replica::ReplicaStream;

fn broken(why: impl std::fmt::Display) -> Error {
    Error::Wire { why: why.to_string() }
}

/// A connection, and the server at its other end; both end when it is dropped.
pub(super) struct Wire {
    sender: Option<Sender>,
    answer: JoinHandle<Result<(), Error>>,
    failed: Failed,
    _server: DropGuard,
}

/// Why the receiving end gave up.
type Failed = Arc<Mutex<Option<Error>>>;

impl Wire {
    /// What arrives is written to `to`; without it, it is thrown away.
    pub(super) async fn open(to: Option<ReplicaStream>) -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("migratekit-bench-").tempdir().map_err(broken)?;
        let holder = |role, hosts: &[&str]| {
            let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
            Ok::<_, Error>(Holder { role, name: "bench".parse().map_err(broken)?, hosts })
        };
        let holders = [holder(Role::Oma, &["localhost"])?, holder(Role::Agent, &[])?];
        let made = make(&Folder::new(folder.path()), &holders, 1, Existing::Refuse).map_err(broken)?;
        let [server, client] = &made.files[..] else { return Err(broken("two certificates were asked for")) };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(broken)?;
        let port = listener.local_addr().map_err(broken)?.port();
        let failed = Failed::default();
        let stop = CancellationToken::new();
        let service = Receive { to, failed: Arc::clone(&failed) };
        let tls = server.server().map_err(broken)?;
        tokio::spawn(serve(listener, Protection::Tls(tls), Limits::default(), service, stop.clone()));
        let dialer = Dialer::new(&format!("localhost:{port}"), client.client().map_err(broken)?);
        let mut connection = dialer.map_err(broken)?.connect().await.map_err(broken)?;
        // As an agent does: two messages wait at most.
        let (sender, frames) = channel(2);
        let answer = tokio::spawn(async move {
            std::future::poll_fn(|cx| connection.poll_ready(cx)).await.map_err(broken)?;
            connection.call(request(frames)).await.map(|_| ()).map_err(broken)
        });
        Ok(Self { sender: Some(sender), answer, failed, _server: stop.drop_guard() })
    }

    pub(super) async fn send(&mut self, offset: u64, data: Bytes, hashes: &[LeafHash]) -> Result<(), Error> {
        let hashes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        let Some(sender) = &self.sender else { return Err(broken("it was closed")) };
        match sender.send(Out::chunk(offset, &hashes, data)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.why().unwrap_or_else(|| broken("the receiver ended"))),
        }
    }

    /// Returns when all has arrived (and was accepted by the session).
    pub(super) async fn finish(mut self) -> Result<(), Error> {
        drop(self.sender.take());
        let answered = (&mut self.answer).await.map_err(broken)?;
        self.why().map_or(answered, Err)
    }

    fn why(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

/// The receiving end.
#[derive(Clone)]
struct Receive {
    to: Option<ReplicaStream>,
    failed: Failed,
}

impl Service<Request<Body>> for Receive {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            if let Err(error) = this.receive(Receiver::new(request.into_body())).await {
                this.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
            Ok(Response::new(Body::empty()))
        })
    }
}

impl Receive {
    async fn receive(&self, mut messages: Receiver) -> Result<(), Error> {
        while let Some(incoming) = messages.next().await.map_err(broken)? {
            let Incoming::Chunk { offset, leaf_hashes, data } = incoming else { continue };
            if let Some(to) = &self.to {
                for piece in pieces_from_wire(offset, &leaf_hashes, data).map_err(broken)? {
                    to.write(piece).await?;
                }
            }
        }
        Ok(())
    }
}
