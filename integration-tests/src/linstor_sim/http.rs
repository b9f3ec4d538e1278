//! The port: a request becomes a call, a call an answer, or the end of the connection.
//!
//! On hyper itself and not on axum: what drops an answer has to close the connection before a byte of it was sent.

use super::Sim;
use super::call::{Answer, Call};
use super::entries::Frame;
use super::faults::{Logged, Rule, What};
use super::routes;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(super) async fn accept(listener: TcpListener, sim: Arc<Sim>, ended: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ended.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (sim, ended) = (Arc::clone(&sim), ended.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| serve(request, Arc::clone(&sim)));
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                served = served => { let _ = served; }
                () = ended.cancelled() => {}
            }
        });
    }
}

async fn serve(request: Request<Incoming>, sim: Arc<Sim>) -> std::io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    // In a thread of its own: it writes to disk, waits when told to, and goes on when the client hangs up.
    let handled =
        tokio::task::spawn_blocking(move || handle(&sim, &parts.method, &parts.uri, &parts.headers, body));
    let Ok(Some(answer)) = handled.await else {
        return Err(std::io::Error::other("dropped as told"));
    };
    let mut response = Response::builder().status(answer.status);
    let body = match answer.body {
        None => Bytes::new(),
        Some(body) => {
            response = response.header("content-type", "application/json");
            Bytes::from(body.to_string())
        }
    };
    response.body(Full::new(body)).map_err(std::io::Error::other)
}

fn handle(sim: &Sim, method: &Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Option<Answer> {
    if sim.is_dead() {
        return None;
    }
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    if let Some(rest) = path.strip_prefix("/sim/") {
        return Some(switchboard(sim, method.as_str(), rest, &body));
    }
    let began = Instant::now();
    let rules = sim.board().meet(method.as_str(), path);
    let call = Call {
        sim,
        method: method.as_str().to_owned(),
        segments: path.split('/').filter(|part| !part.is_empty()).map(decoded).collect(),
        query: pairs(query),
        body,
        rules,
    };
    let answer = unacceptable(headers).unwrap_or_else(|| answer(&call, path));
    let answer = (!call.drops_answer()).then_some(answer);
    sim.board().log(Logged {
        method: call.method,
        path: uri.path_and_query().map_or_else(|| path.to_owned(), ToString::to_string),
        status: answer.as_ref().map(|answer| answer.status),
        ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        at: jiff::Timestamp::now().as_millisecond() - i64::try_from(began.elapsed().as_millis()).unwrap_or(0),
    });
    answer
}

fn answer(call: &Call<'_>, path: &str) -> Answer {
    let answered = call.point("before").and_then(|()| routes::answer(call, path));
    let answer = answered.unwrap_or_else(|refusal| refusal);
    match call.point("after") {
        Ok(()) => answer,
        Err(refusal) => refusal,
    }
}

/// Neither asked nor told in JSON.
fn unacceptable(headers: &HeaderMap) -> Option<Answer> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let refusal = |details| {
        Answer::refusal(&Frame::bare().error(998, "An unknown error occurred.").details(details).reported())
    };
    if text("content-type").is_some_and(|given| !given.contains("json")) {
        return Some(refusal("HTTP 415 Unsupported Media Type"));
    }
    let taken = text("accept").unwrap_or("*/*");
    (!taken.contains("json") && !taken.contains("*/*")).then(|| refusal("HTTP 406 Not Acceptable"))
}

fn switchboard(sim: &Sim, method: &str, path: &str, body: &[u8]) -> Answer {
    let wrong = |error: &dyn std::fmt::Display| Answer {
        status: 400,
        body: Some(json!({"error": error.to_string()})),
    };
    match (method, path) {
        ("GET", "rules") => Answer::json(json!(sim.board().armed())),
        ("DELETE", "rules") => {
            sim.board().disarm();
            Answer::json(json!([]))
        }
        ("POST", "rules") => {
            let parsed = serde_json::from_slice::<Value>(body).and_then(|value| match value {
                Value::Array(_) => serde_json::from_value::<Vec<Rule>>(value),
                one => serde_json::from_value::<Rule>(one).map(|rule| vec![rule]),
            });
            match parsed {
                Ok(rules) => {
                    if let Some(why) = rules.iter().find_map(Rule::wrong) {
                        return wrong(&why);
                    }
                    sim.board().arm(rules);
                    Answer::json(json!(sim.board().armed()))
                }
                Err(error) => wrong(&error),
            }
        }
        ("POST", "now") => match serde_json::from_slice::<What>(body) {
            Ok(what @ (What::Pool { .. } | What::Node { .. } | What::InUse { .. })) => {
                sim.happen(&what);
                Answer::json(json!({}))
            }
            Ok(What::Die) => {
                sim.die();
                Answer::json(json!({}))
            }
            Ok(_) => wrong(&"this takes a rule: it happens at a call"),
            Err(error) => wrong(&error),
        },
        ("GET", "calls") => Answer::json(json!(sim.board().calls())),
        ("POST", "reset-calls") => {
            sim.board().forget_calls();
            Answer::json(json!([]))
        }
        _ => Answer { status: 404, body: Some(json!({"error": "no such switch: see linstor-sim --help"})) },
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(&value.replace('+', " ")))
        })
        .collect()
}

/// Without its percent signs.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits: Vec<u8> = bytes.by_ref().take(2).collect();
        let digits = std::str::from_utf8(&digits).unwrap_or_default();
        out.push(u8::from_str_radix(digits, 16).unwrap_or(b'%'));
    }
    String::from_utf8_lossy(&out).into_owned()
}
