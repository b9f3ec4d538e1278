//! What goes on for long, and what is carried by TLS.

use super::server::{NAME, Server, Shows, bearer};
use super::*;
use crate::rest;
use http_body_util::BodyExt as _;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Status};

fn by() -> Caller {
    Caller { name: "test".to_owned(), role: Role::Admin }
}

/// Red when an answer goes on after its token has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_token() {
    let server = Server::start().await;
    let token = server.token("watcher", Role::Viewer).await;
    let mut body = server.open("/grpc.health.v1.Health/Watch", Shows::Token(&token)).await.expect("served");
    let first = body.frame().await.expect("a frame").expect("sound");
    assert!(first.is_data());
    let idle = tokio::time::timeout(Duration::from_millis(300), body.frame()).await;
    assert!(idle.is_err(), "it goes on: {idle:?}");

    let job = server.plant.cycles_at(Timestamp::now(), 1).await.remove(0);
    let path = format!("/api/v1/progress/{job}/watch");
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "30", "-N", "-H"]).args(bearer(&token));
    curl.arg(format!("http://{}{path}", server.rest));
    let begun = Instant::now();
    let watching = tokio::task::spawn_blocking(move || curl.output());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!watching.is_finished(), "it goes on");

    server.plant.app.token_revoke(&by(), "watcher").await.expect("revoked");
    let end = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.expect("at once");
    let trailers = end.expect("an end").expect("sound").into_trailers().expect("trailers");
    assert_eq!(Status::from_header_map(&trailers).map(|s| s.code()), Some(Code::Unauthenticated));
    let watched = watching.await.expect("run").expect("curl");
    assert!(begun.elapsed() < Duration::from_secs(15), "{watched:?}");
    assert!(String::from_utf8_lossy(&watched.stdout).contains("\"sequence\""), "{watched:?}");
}

/// It has left HTTP behind, and ends all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_ends_with_its_token() {
    let server = Server::start().await;
    let token = server.token("watcher", Role::Viewer).await;
    // A watch ends by itself when nothing runs.
    server.plant.act(shared::migration::Action::Sync).await;
    let mut socket = TcpStream::connect(&server.rest).await.expect("open");
    let request = format!(
        "GET /my/migrations/web-1/watch HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.rest
    );
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut head = [0; 12];
    socket.read_exact(&mut head).await.expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 101");
    let mut rest = vec![];
    let open = tokio::time::timeout(Duration::from_millis(500), socket.read_to_end(&mut rest)).await;
    assert!(open.is_err(), "it goes on: {}", String::from_utf8_lossy(&rest));
    server.plant.app.token_revoke(&by(), "watcher").await.expect("revoked");
    let ended = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "at once");
}

/// A token that expires ends what it opened, as a revoked one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_when_its_token_expires() {
    let server = Server::start().await;
    let new =
        crate::service::tokens::NewToken::new("brief", Role::Viewer, Duration::from_secs(2)).expect("usable");
    let (token, _) = server.plant.app.token_create(&by(), new).await.expect("made");
    let body =
        server.open("/grpc.health.v1.Health/Watch", Shows::Token(token.expose())).await.expect("served");
    let ended =
        tokio::time::timeout(Duration::from_secs(20), body.collect()).await.expect("it ends").expect("sound");
    let status = ended.trailers().and_then(Status::from_header_map);
    assert_eq!(status.map(|s| s.code()), Some(Code::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rest_speaks_tls_and_the_silent_hold_up_nobody() {
    let server = Server::start().await;
    let token = server.token("v", Role::Viewer).await;
    let files = server.ca.files(CertificateRole::Oma, NAME);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let tls = Some(files.server_http().expect("files"));
    let (app, until) = (server.plant.app.clone(), stop.clone());
    let serving = tokio::spawn(async move {
        rest::serve_over(tls, &crate::config::Limits::default(), listener, app, until).await;
    });
    let silent = TcpStream::connect(address).await.expect("open");
    let ask = async |scheme: &str, headers: Vec<String>| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(&files.ca);
        for header in headers {
            curl.arg("-H").arg(header);
        }
        curl.arg(format!("{scheme}://localhost:{}/api/v1/replications", address.port()));
        let output = tokio::task::spawn_blocking(move || curl.output()).await.expect("run").expect("curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(ask("https", bearer(&token)).await, "200");
    assert_eq!(ask("https", vec![]).await, "401");
    assert_eq!(ask("http", bearer(&token)).await, "000", "nothing in clear");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), serving).await.expect("it ends").expect("sound");
    drop(silent);
}
