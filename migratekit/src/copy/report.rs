//! `--progress-url`: tells a progress API how the copy stands, and is never waited for.
//!
//! The copy leaves the newest numbers in one place; a task of its own sends them. What it does not get to send is
//! overtaken by newer numbers, and a server that does not answer costs a line on stderr.
//!
//! Bytes transferred are bytes of data that were read and written, of runs before this one too; the percentage is of all
//! that is to be done, zeros included: as the cycles of an agent say it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// For one answer while the copy runs.
const PATIENCE: Duration = Duration::from_secs(2);

/// For the last word, connecting included, and for what is still on its way before it: so long is the copy over already.
const LAST_WORD: Duration = Duration::from_millis(300);

/// What is to be told, in bytes.
#[derive(Clone, Copy, Default)]
struct Said {
    /// Of the source.
    size: u64,
    /// Data that was moved.
    moved: u64,
    /// Of `planned`: data and zeros that are durable.
    done: u64,
    planned: u64,
    /// Whether it ended, and whether well.
    ended: Option<bool>,
}

/// Data that was read and written, in bytes: of this run, and of those that it resumes. What was in flight when one was
/// killed is moved again.
#[derive(Clone, Default)]
pub(super) struct Moved(Arc<AtomicU64>);

impl Moved {
    pub(super) fn new(before: u64) -> Self {
        Self(Arc::new(AtomicU64::new(before)))
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a report is about, in bytes.
pub(super) struct About {
    /// Of the source.
    pub(super) size: u64,
    /// Still to be copied.
    pub(super) planned: u64,
    /// Copied by earlier runs.
    pub(super) resumed: u64,
}

/// Tells of one copy; nothing where nobody asked for it.
pub(super) struct Report(Option<Telling>);

struct Telling {
    place: Uri,
    said: watch::Sender<Said>,
    every: u64,
    /// What was last told.
    told: AtomicU64,
    /// Whether the operator knows that it does not work.
    complained: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Report {
    /// As the arguments say. Nothing is sent yet.
    pub(super) fn new(args: &Args) -> Result<Self, Error> {
        let (Some(url), Some(job)) = (&args.progress_url, &args.job_id) else { return Ok(Self(None)) };
        let place = place(url, job)?;
        let said = watch::Sender::new(Said::default());
        let complained = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(tell(place.clone(), said.subscribe(), Arc::clone(&complained)));
        let told = AtomicU64::new(0);
        Ok(Self(Some(Telling { place, said, every: args.progress_every, told, complained, task })))
    }

    pub(super) fn begin(&self, about: &About, moved: &Moved) {
        let Some(Telling { said, told, .. }) = &self.0 else { return };
        let &About { size, planned, resumed } = about;
        told.store(resumed, Ordering::Relaxed);
        said.send_modify(|said| {
            *said = Said {
                size,
                moved: moved.bytes().min(size),
                done: resumed,
                planned: resumed.saturating_add(planned),
                ended: None,
            }
        });
    }

    /// So many bytes of this run are durable, of `resumed` before it.
    pub(super) fn done(&self, resumed: u64, done: u64, moved: &Moved) {
        let Some(Telling { said, every, told, .. }) = &self.0 else { return };
        let done = resumed.saturating_add(done);
        let news = done >= told.load(Ordering::Relaxed).saturating_add(*every);
        if news {
            told.store(done, Ordering::Relaxed);
        }
        // The last word has the newest numbers, whether they were news or not.
        said.send_if_modified(|said| {
            (said.done, said.moved) = (done, moved.bytes().min(said.size));
            news
        });
    }

    /// All is written and flushed.
    pub(super) fn sealed(&self, moved: &Moved) {
        let Some(Telling { said, .. }) = &self.0 else { return };
        said.send_if_modified(|said| {
            (said.done, said.moved) = (said.planned, moved.bytes().min(said.size));
            false
        });
    }

    /// Ends without a word.
    pub(super) fn withdraw(self) {
        if let Some(Telling { task, .. }) = self.0 {
            task.abort();
        }
    }

    /// The last word; waits for its answer, for a moment.
    pub(super) async fn end(self, well: bool) {
        let Some(Telling { place, said, complained, task, .. }) = self.0 else { return };
        said.send_modify(|said| said.ended = Some(well));
        let abort = task.abort_handle();
        if timeout(LAST_WORD, task).await.is_err() {
            abort.abort();
            complain(&complained, &place, &format!("no answer within {LAST_WORD:?} of the copy's end"));
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

/// The first time to the operator.
fn complain(complained: &AtomicBool, place: &Uri, why: &str) {
    if complained.swap(true, Ordering::Relaxed) {
        tracing::debug!(%place, why, "progress was not told");
        return;
    }
    // A closed stderr is no reason to stop.
    let _ = writeln!(
        std::io::stderr(),
        "progress cannot be told to {place}: {why}; the copy does not wait for it"
    );
}

async fn tell(place: Uri, mut said: watch::Receiver<Said>, complained: Arc<AtomicBool>) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut known = false;
    while said.changed().await.is_ok() {
        let now = *said.borrow_and_update();
        if let Err(why) = send(&client, &place, &now, &mut known).await {
            complain(&complained, &place, &why);
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
        let about = json!({ "total_bytes": said.size });
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
        "stage": stage, "status": status, "bytes_transferred": said.moved, "total_bytes": said.size,
        "throughput_bps": 0, "percent": percent(said.done, said.planned),
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
