//! `--progress-url`: tells a progress API how the copy stands, and is never waited for.
//!
//! The copy leaves the newest numbers in one place; a task of its own sends them. What it does not get to send is
//! overtaken by newer numbers, and a server that does not answer costs a line on stderr.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use shared::progress::{ROOT, percent};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Args, Error};

/// For one answer; and, at the end of the copy, for the last one.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is to be told.
#[derive(Clone, Copy, Default)]
struct Said {
    done: u64,
    total: u64,
    /// Whether it ended, and whether well.
    ended: Option<bool>,
}

/// Tells of one copy; nothing where nobody asked for it.
pub(super) struct Report(Option<Telling>);

struct Telling {
    said: watch::Sender<Said>,
    every: u64,
    /// What was last told.
    told: AtomicU64,
    task: JoinHandle<()>,
}

impl Report {
    /// As the arguments say. Nothing is sent yet.
    pub(super) fn new(args: &Args) -> Result<Self, Error> {
        let (Some(url), Some(job)) = (&args.progress_url, &args.job_id) else { return Ok(Self(None)) };
        let place = place(url, job)?;
        let said = watch::Sender::new(Said::default());
        let task = tokio::spawn(tell(place, said.subscribe()));
        Ok(Self(Some(Telling { said, every: args.progress_every, told: AtomicU64::new(0), task })))
    }

    pub(super) fn begin(&self, total: u64) {
        if let Some(Telling { said, .. }) = &self.0 {
            said.send_modify(|said| said.total = total);
        }
    }

    /// So many bytes are durable.
    pub(super) fn done(&self, done: u64) {
        let Some(Telling { said, every, told, .. }) = &self.0 else { return };
        if done >= told.load(Ordering::Relaxed).saturating_add(*every) {
            told.store(done, Ordering::Relaxed);
            said.send_modify(|said| said.done = done);
        }
    }

    /// The last word; waits for its answer, for a moment.
    pub(super) async fn end(self, well: bool) {
        let Some(Telling { said, task, .. }) = self.0 else { return };
        said.send_modify(|said| {
            said.done = if well { said.total } else { said.done };
            said.ended = Some(well);
        });
        let abort = task.abort_handle();
        if timeout(PATIENCE, task).await.is_err() {
            abort.abort();
        }
    }
}

/// `http://HOST[:PORT]`, or with the API's path, and the job's id behind it.
fn place(url: &str, job: &str) -> Result<Uri, Error> {
    let wrong = || Error::ProgressUrl { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() || uri.query().is_some() {
        return Err(wrong());
    }
    let path = match uri.path().trim_end_matches('/') {
        "" => ROOT,
        path => path,
    };
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    format!("http://{authority}{path}/{job}").parse().map_err(|_| wrong())
}

async fn tell(place: Uri, mut said: watch::Receiver<Said>) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (mut known, mut complained) = (false, false);
    while said.changed().await.is_ok() {
        let now = *said.borrow_and_update();
        match send(&client, &place, &now, &mut known).await {
            Ok(()) => {}
            Err(why) if complained => tracing::debug!(%place, why, "progress was not told"),
            Err(why) => {
                complained = true;
                // A closed stderr is no reason to stop.
                let _ = writeln!(
                    std::io::stderr(),
                    "progress cannot be told to {place}: {why}; the copy goes on"
                );
            }
        }
        if now.ended.is_some() {
            return;
        }
    }
}

/// Makes the job known if it is not, and sends the update.
async fn send(
    client: &Client<HttpConnector, Full<Bytes>>,
    place: &Uri,
    said: &Said,
    known: &mut bool,
) -> Result<(), String> {
    if !*known {
        let about = json!({ "total_bytes": said.total });
        match ask(client, Method::PUT, place.to_string(), about).await? {
            (StatusCode::OK | StatusCode::CREATED, _) => *known = true,
            (status, body) => return Err(format!("{status} {body}")),
        }
    }
    let (stage, status) = match said.ended {
        None => ("Transfer", "Running"),
        Some(true) => ("Complete", "Completed"),
        Some(false) => ("Transfer", "Failed"),
    };
    let update = json!({
        "stage": stage, "status": status, "bytes_transferred": said.done, "total_bytes": said.total,
        "throughput_bps": 0, "percent": percent(said.done, said.total),
    });
    match ask(client, Method::POST, format!("{place}/update"), update).await? {
        (StatusCode::OK, _) => Ok(()),
        (status, body) => {
            // Forgotten, by a server that was started again: it is told of the job anew with the next numbers.
            *known = status != StatusCode::NOT_FOUND;
            Err(format!("{status} {body}"))
        }
    }
}

async fn ask(
    client: &Client<HttpConnector, Full<Bytes>>,
    method: Method,
    url: String,
    body: Value,
) -> Result<(StatusCode, String), String> {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let answer = client.request(request).await.map_err(|error| shared::error::chain(&error))?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), 4096).collect().await.map_err(|error| error.to_string())?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_or_the_whole_path_may_be_named() {
        let whole = "http://localhost:8081/api/v1/progress/job-1";
        for url in
            ["http://localhost:8081", "http://localhost:8081/", "http://localhost:8081/api/v1/progress/"]
        {
            assert_eq!(place(url, "job-1").unwrap().to_string(), whole);
        }
        for wrong in ["localhost:8081", "https://localhost", "http://", "/api", "http://h/?q", ""] {
            assert!(place(wrong, "job-1").is_err(), "{wrong}");
        }
    }
}
