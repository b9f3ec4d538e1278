//! One GET of a guest's web server, in clear: its status and, where asked for, the beginning of its body.
//!
//! The guest is a stranger: of its answer nothing is kept, redirections are not followed, and no more is read than
//! [`BODY`]. The caller has the deadline.

use crate::failover::request::Http;
use ::http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use ::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use shared::error::chain;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Most bytes of a body in which a text is looked for.
const BODY: usize = 64 << 10;

/// Whether the answer is as wanted; if not, what it was.
pub(super) async fn get(at: SocketAddr, wanted: &Http) -> Result<(), String> {
    let stream = TcpStream::connect(at).await.map_err(|e| chain(&e))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
    let request = Request::get(wanted.path.as_str())
        // By that name a server answers that knows no other; what the VM is called by its users is not known here.
        .header(HOST, "localhost")
        .header(USER_AGENT, "migratekit")
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| chain(&e))?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(|e| chain(&e))?;
        judge(answer.status(), answer.into_body(), wanted).await
    };
    // The connection does the work, and ends with this look; what it brought before it ended is judged.
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        biased;
        judged = &mut answered => judged,
        _ = connection => answered.await,
    }
}

async fn judge(status: StatusCode, body: Incoming, wanted: &Http) -> Result<(), String> {
    let good = match wanted.status {
        Some(wanted) => status.as_u16() == wanted,
        None => (200..400).contains(&status.as_u16()),
    };
    if !good {
        return Err(format!("HTTP status {}", status.as_u16()));
    }
    let Some(text) = &wanted.text else { return Ok(()) };
    let (mut body, mut read) = (body, Vec::new());
    while read.len() < BODY {
        // It may have begun at the end of what was there before.
        let from = (read.len() + 1).saturating_sub(text.len());
        match body.frame().await {
            Some(Ok(frame)) => read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..])),
            Some(Err(error)) => return Err(chain(&error)),
            None => break,
        }
        if read[from..].windows(text.len()).any(|window| window == text.as_bytes()) {
            return Ok(());
        }
    }
    Err(format!("HTTP status {}, without {text:?} in its body", status.as_u16()))
}
