//! Both edges of a plant, really served, and clients that show what they are told to.

use super::*;
use crate::service::tokens::NewToken;
use crate::testing::Plant;
use crate::{grpc, oma, rest};
use http::header::AUTHORIZATION;
use http_body_util::BodyExt as _;
use migratekit::dev_ca::{Existing, Folder, Holder, make};
use shared::ids::AgentId;
use shared::tls::{self, Dialer, Limits, client_without_certificate};
use std::process::Command;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service as _;

/// What a client shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows<'a> {
    Nothing,
    Token(&'a str),
    Certificate(CertificateRole),
    Both(CertificateRole, &'a str),
}

pub(super) struct Server {
    pub(super) plant: Plant,
    pub(super) rest: String,
    grpc: String,
    pub(super) ca: Folder,
    _stop: DropGuard,
}

/// Of everybody here.
pub(super) const NAME: &str = "somebody";

impl Server {
    pub(super) async fn start() -> Self {
        Self::listening("127.0.0.1:0").await
    }

    /// With its REST API at that address.
    pub(super) async fn listening(rest: &str) -> Self {
        let plant = Plant::begun().await;
        let ca = Folder::new(plant.folder.path().join("ca"));
        let hosts = vec!["localhost".to_owned()];
        let roles = [
            CertificateRole::Agent,
            CertificateRole::Oma,
            CertificateRole::Viewer,
            CertificateRole::Operator,
            CertificateRole::Admin,
        ];
        let name: AgentId = NAME.parse().expect("a name");
        let holders = roles.map(|role| Holder { role, name: name.clone(), hosts: hosts.clone() });
        make(&ca, &holders, 1, Existing::Refuse).expect("certificates");
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let grpc = format!("localhost:{}", listener.local_addr().expect("bound").port());
        let routes = grpc::routes(&plant.app, &stop).expect("services");
        let protection = oma::protection(&ca.files(CertificateRole::Oma, NAME), &plant.app).expect("TLS");
        tokio::spawn(tls::serve(listener, protection, Limits::default(), routes, stop.clone()));
        let listener = TcpListener::bind(rest).await.expect("a port");
        let rest = format!("127.0.0.1:{}", listener.local_addr().expect("bound").port());
        tokio::spawn(rest::serve(listener, plant.app.clone(), stop.clone()));
        Self { plant, rest, grpc, ca, _stop: stop.drop_guard() }
    }

    /// A token of that role, good for an hour.
    pub(super) async fn token(&self, name: &str, role: Role) -> String {
        let by = Caller { name: "test".to_owned(), role: Role::Admin };
        let new = NewToken::new(name, role, Duration::from_secs(3600)).expect("usable");
        let (token, _) = self.plant.app.token_create(&by, new).await.expect("made");
        token.expose().to_owned()
    }

    pub(super) async fn channel(&self, shows: Shows<'_>) -> Result<Channel, String> {
        let config = match shows {
            Shows::Certificate(role) | Shows::Both(role, _) => self.ca.files(role, NAME).client(),
            Shows::Nothing | Shows::Token(_) => {
                client_without_certificate(&self.ca.files(CertificateRole::Oma, NAME).ca)
            }
        };
        Dialer::new(&self.grpc, config.expect("files")).expect("an address").connect().await
    }

    /// Begins a call with an empty message; the answer's body, or how it was refused at once.
    pub(super) async fn open(&self, path: &str, shows: Shows<'_>) -> Result<Body, Status> {
        let mut channel = self.channel(shows).await.map_err(Status::unavailable)?;
        let mut request = http::Request::post(format!("http://{}{path}", self.grpc))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Shows::Token(token) | Shows::Both(_, token) = shows {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let empty = http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5]));
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.expect("connected");
        let answered = channel.call(request.body(Body::new(empty)).expect("a request")).await;
        let answer = answered.map_err(|e| Status::unavailable(shared::error::chain(&e)))?;
        match Status::from_header_map(answer.headers()) {
            Some(status) => Err(status),
            None => Ok(answer.into_body()),
        }
    }

    /// Calls a method with an empty message; how it ended. A stream that goes on counts as served.
    pub(super) async fn call(&self, path: &str, shows: Shows<'_>) -> Result<(), Status> {
        let body = self.open(path, shows).await?;
        let rest = tokio::time::timeout(Duration::from_secs(1), body.collect()).await;
        match rest
            .ok()
            .and_then(Result::ok)
            .and_then(|body| body.trailers().and_then(Status::from_header_map))
        {
            Some(status) if status.code() != tonic::Code::Ok => Err(status),
            _ => Ok(()),
        }
    }

    /// Status, headers and body of a request.
    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[String]) -> (u16, String, String) {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-i", "--max-time", "2", "-X", method, "-w", "\n%{http_code}"]);
        for header in headers {
            curl.arg("-H").arg(header);
        }
        curl.arg(format!("http://{}{path}", self.rest));
        let output = tokio::task::spawn_blocking(move || curl.output()).await.expect("run").expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (answer, status) = text.rsplit_once('\n').expect("a status");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
        (status.parse().expect("a number"), head.to_owned(), body.to_owned())
    }
}

pub(super) fn bearer(token: &str) -> Vec<String> {
    vec![format!("Authorization: Bearer {token}")]
}
