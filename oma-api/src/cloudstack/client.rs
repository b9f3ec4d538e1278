//! One command at a time, over HTTP.

use super::answer::Answer;
use super::capabilities::Capabilities;
use super::credentials::Credentials;
use super::error::{Error, Reason, Refusal};
use super::job::{Job, Poll, patience};
use super::sign::Params;
use crate::outbound::{Circuit, excerpt, hide, milliseconds};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::debug;

/// How long a signed request may be used. Clocks that are further apart than that fail it.
pub const EXPIRES: Duration = Duration::from_secs(120);

/// The most that a server's own wish to be left alone is waited for, over all of one command.
const MOST_THROTTLED: Duration = Duration::from_secs(60);

/// Items of a list that are asked for at a time, where the server takes as many.
const PAGE: usize = 500;

/// What a server says of a page that is too large for it, before the number that is not.
const PAGE_TOO_LARGE: &str = "max allowed page size value: ";

/// Where a server is, and as whom to speak to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://host:port/client/api`.
    pub endpoint: String,
    pub api_key_file: PathBuf,
    pub secret_key_file: PathBuf,
    /// For one command, from the first byte to the last.
    pub deadline: Duration,
    /// Before the first question how a job stands; a second, so that a server is asked about each once a second at most.
    pub poll: Duration,
}

/// A connection to one management server. Clones share it.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    settings: Settings,
    credentials: Mutex<Credentials>,
    circuit: Circuit,
    /// At its last answer, as far as it said what time it has.
    apart: Mutex<Option<Duration>>,
}

impl Client {
    /// Reads the credentials; connects to nobody yet.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn new(settings: Settings, http: reqwest::Client) -> Result<Self, Error> {
        let credentials = Credentials::read(&settings.api_key_file, &settings.secret_key_file)?;
        let (credentials, circuit) = (Mutex::new(credentials), Circuit::new("cloudstack"));
        Ok(Self(Arc::new(Inner { http, settings, credentials, circuit, apart: Mutex::default() })))
    }

    /// How far the server's clock is from ours, to a second, as its last answer said. `None`: it did not, or gave none yet.
    pub fn clocks_apart(&self) -> Option<Duration> {
        *self.0.apart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands with the server.
    pub fn circuit(&self) -> &Circuit {
        &self.0.circuit
    }

    /// Carries a command out, and gives what stands in its answer. Waits where the server asks for it (429); never sends a
    /// command twice of which it is not known that it was refused.
    ///
    /// # Errors
    /// [`Error`], whose [`outcome`](Error::outcome) says whether the command may have been carried out.
    pub async fn call(&self, command: &str, params: Params) -> Result<Value, Error> {
        let (mut throttled, mut renewed) = (Duration::ZERO, false);
        loop {
            let error = match self.call_once(command, params.clone()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Error::Refused { refusal, .. } = &error else { return Err(error) };
            match (refusal.reason(), refusal.wait()) {
                (Reason::Throttled, Some(wait)) if throttled + wait <= MOST_THROTTLED => {
                    debug!(command, wait_ms = wait.as_millis(), "the server asks to be left alone");
                    throttled += wait;
                    tokio::time::sleep(wait).await;
                }
                // The files may hold new ones by now.
                (Reason::Credentials, _) if !renewed && self.renew()? => renewed = true,
                _ => return Err(error),
            }
        }
    }

    async fn call_once(&self, command: &str, params: Params) -> Result<Value, Error> {
        let pass = self.0.circuit.enter()?;
        let sent = self.send(command, params).await;
        match &sent {
            Err(error) if error.is_silence() => pass.failed(&shared::error::chain(error)),
            Ok(_) | Err(_) => pass.answered(),
        }
        sent
    }

    async fn send(&self, command: &str, params: Params) -> Result<Value, Error> {
        let Inner { http, settings, .. } = &*self.0;
        let endpoint = || settings.endpoint.clone();
        let begun = Instant::now();
        let request = http
            .post(&settings.endpoint)
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .timeout(settings.deadline)
            .body(self.sign(command, params, Timestamp::now()));
        let response = match request.send().await {
            Ok(response) => response,
            Err(source) if source.is_connect() || source.is_builder() => {
                return Err(Error::Unreachable { endpoint: endpoint(), source: source.without_url() });
            }
            Err(source) => return Err(self.no_answer(command, source)),
        };
        let status = response.status().as_u16();
        let date =
            response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok()).and_then(instant);
        let apart = date.map(|date| Timestamp::now().duration_since(date).unsigned_abs());
        *self.0.apart.lock().unwrap_or_else(PoisonError::into_inner) = apart;
        let body = self.hide(response.bytes().await.map_err(|source| self.no_answer(command, source))?);
        debug!(command, status, ms = milliseconds(begun.elapsed()), "asked CloudStack");
        match Answer::of(&body) {
            Answer::Value(value) if (200..300).contains(&status) => Ok(value),
            Answer::Value(value) => Err(Error::Strange {
                endpoint: endpoint(),
                command: command.to_owned(),
                status,
                excerpt: excerpt(value.to_string().as_bytes()),
            }),
            Answer::Refusal(refusal) => Err(refused(command, refusal, apart.unwrap_or_default())),
            Answer::Strange(excerpt) => {
                Err(Error::Strange { endpoint: endpoint(), command: command.to_owned(), status, excerpt })
            }
        }
    }

    fn hide(&self, body: bytes::Bytes) -> bytes::Bytes {
        let credentials = self.0.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        hide(body, &[&credentials.key, &credentials.secret])
    }

    fn no_answer(&self, command: &str, source: reqwest::Error) -> Error {
        let endpoint = self.0.settings.endpoint.clone();
        Error::NoAnswer { endpoint, command: command.to_owned(), source: source.without_url() }
    }

    fn sign(&self, command: &str, params: Params, now: Timestamp) -> String {
        let credentials = self.0.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let expires =
            now.saturating_add(EXPIRES).unwrap_or(now).strftime("%Y-%m-%dT%H:%M:%S+0000").to_string();
        params
            .with("command", command)
            .with("response", "json")
            .with("signatureVersion", "3")
            .with("expires", expires)
            .with("apiKey", credentials.key.as_str())
            .signed(&credentials.secret)
            .form()
    }

    /// Whether the files hold others than those in use.
    fn renew(&self) -> Result<bool, Error> {
        let settings = &self.0.settings;
        let now = Credentials::read(&settings.api_key_file, &settings.secret_key_file)?;
        let mut held = self.0.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = (&now.key, &now.secret) != (&held.key, &held.secret);
        *held = now;
        Ok(is_other)
    }

    /// All items of a list, page by page. `kind` is the name under which the answer holds them. What comes or goes meanwhile
    /// may be left out or stand there twice: a decision about one thing asks for that one by its id.
    ///
    /// # Errors
    /// As [`call`](Self::call), or [`Error::Incomplete`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        command: &str,
        kind: &'static str,
        params: Params,
    ) -> Result<Vec<T>, Error> {
        match self.list_by(command, kind, &params, PAGE).await {
            Err(error) => match error.refusal().and_then(largest_page) {
                Some(largest) if largest < PAGE => self.list_by(command, kind, &params, largest).await,
                Some(_) | None => Err(error),
            },
            listed => listed,
        }
    }

    async fn list_by<T: DeserializeOwned>(
        &self,
        command: &str,
        kind: &'static str,
        params: &Params,
        size: usize,
    ) -> Result<Vec<T>, Error> {
        let incomplete = || Error::Incomplete { command: command.to_owned(), missing: kind };
        let mut items = Vec::new();
        for page in 1.. {
            let asked = params.clone().with("page", page.to_string()).with("pagesize", size.to_string());
            let mut answer = self.call(command, asked).await?;
            let total = answer.get("count").and_then(Value::as_u64).unwrap_or(0);
            let Some(of_page) = answer.get_mut(kind).map(Value::take) else {
                // Behind the last page, or an empty list. Of things that are there, something has to be shown.
                match total == 0 || page > 1 {
                    true => break,
                    false => return Err(incomplete()),
                }
            };
            let of_page: Vec<T> = serde_json::from_value(of_page).map_err(|_| incomplete())?;
            let is_last = of_page.len() < size;
            items.extend(of_page);
            if is_last {
                break;
            }
        }
        Ok(items)
    }

    /// What this account can do there.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn capabilities(&self) -> Result<Capabilities, Error> {
        Ok(Capabilities::of(&self.call("listApis", Params::new()).await?))
    }

    /// Begins a job. It may be there although this fails ([`Error::outcome`]).
    ///
    /// # Errors
    /// As [`call`](Self::call), or [`Error::Incomplete`].
    pub async fn begin(&self, command: &str, params: Params) -> Result<Job, Error> {
        let answer = self.call(command, params).await?;
        Job::of(command, &answer)
            .ok_or_else(|| Error::Incomplete { command: command.to_owned(), missing: "jobid" })
    }

    /// How a job stands.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn poll(&self, job: &Job) -> Result<Poll, Error> {
        match self.call("queryAsyncJobResult", Params::new().with("jobid", job.id.as_str())).await {
            Ok(answer) => Ok(Poll::of(&answer)),
            // An id of nothing.
            Err(Error::Refused { refusal, .. }) if refusal.reason() == Reason::Parameter => {
                Ok(Poll::expired())
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for the end of a job, and gives its result. A server that is away meanwhile is asked again, until `most` is over.
    ///
    /// # Errors
    /// [`Error::JobFailed`], [`Error::JobLost`], [`Error::JobSlow`]; it may have been carried out with each of them. As
    /// [`call`](Self::call) where the server refuses to be asked.
    pub async fn finish(&self, job: &Job, most: Duration) -> Result<Value, Error> {
        let begun = tokio::time::Instant::now();
        let of = || (job.id.clone(), job.command.clone());
        for polls in 0.. {
            let wait = patience(self.0.settings.poll, polls);
            if begun.elapsed() + wait > most {
                break;
            }
            debug!(job = %job.id, job.command, ms = milliseconds(wait), "a job is waited for");
            tokio::time::sleep(wait).await;
            let polled = self.poll(job).await;
            let (job, command) = of();
            match polled {
                Ok(Poll::Pending) => {}
                Ok(Poll::Done(result)) => return Ok(result),
                Ok(Poll::Failed(refusal)) => return Err(Error::JobFailed { job, command, refusal }),
                Ok(Poll::Lost(why)) => return Err(Error::JobLost { job, command, why }),
                Err(
                    Error::Unreachable { .. }
                    | Error::Away(_)
                    | Error::NoAnswer { .. }
                    | Error::Strange { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        let (job, command) = of();
        Err(Error::JobSlow { job, command, waited: most })
    }
}

/// The server does not say whether it is the key, the signature or the time: its own clock does.
fn refused(command: &str, refusal: Refusal, apart: Duration) -> Error {
    match refusal.reason() == Reason::Credentials && apart >= EXPIRES {
        true => Error::Clock { command: command.to_owned(), apart },
        false => Error::Refused { command: command.to_owned(), refusal },
    }
}

/// Of the header `Date`.
fn instant(date: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(date).ok().map(|date| date.timestamp())
}

/// How large a page may be, of a refusal of one that is too large.
fn largest_page(refusal: &Refusal) -> Option<usize> {
    let (_, most) = refusal.text.split_once(PAGE_TOO_LARGE)?;
    most.trim().parse().ok().filter(|most| *most > 0)
}
