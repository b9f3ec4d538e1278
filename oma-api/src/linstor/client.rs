//! One call at a time, over HTTP, to whichever controller answers.

use super::error::Error;
use super::reply::Replies;
use crate::outbound::{Circuit, excerpt, hide, milliseconds};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// For what only asks: it waits for no satellite. A controller that is stuck must not hold up who has others to ask.
const ASK: Duration = Duration::from_secs(30);

/// Where the controllers are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `http://host:3370` or `https://host:3371`, one each. One is active at a time; the others answer nothing, or redirect.
    pub controllers: Vec<String>,
    /// Read anew for every call: an operator may replace it.
    pub token_file: Option<PathBuf>,
    /// For one call, from the first byte to the last. Calls that make something answer when the satellites are done.
    pub deadline: Duration,
}

/// The controllers of one cluster. Clones share what is known of who answers.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    settings: Settings,
    /// Which one answered last.
    active: AtomicUsize,
    /// Of all of them together: one that is away is passed over.
    circuit: Circuit,
}

/// What somebody said.
struct Answered {
    controller: String,
    status: u16,
    body: bytes::Bytes,
}

/// Nothing was carried out there.
enum Passed {
    /// Nobody there, or a standby.
    On(String),
    Failed(Error),
}

impl Client {
    /// Connects to nobody yet. `http` must follow no redirects.
    pub fn new(settings: Settings, http: reqwest::Client) -> Self {
        Self(Arc::new(Inner {
            http,
            settings,
            active: AtomicUsize::new(0),
            circuit: Circuit::new("linstor"),
        }))
    }

    /// How it stands with the controllers.
    pub fn circuit(&self) -> &Circuit {
        &self.0.circuit
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Refused`] with [`NotFound`](super::Problem::NotFound) where there is none.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let call = format!("GET {path}");
        let answered = self.send(&call, &Method::GET, path, None).await?;
        if !(200..300).contains(&answered.status) {
            return Err(answered.refusal(call));
        }
        serde_json::from_slice(&answered.body).map_err(|source| Error::Unreadable { call, source })
    }

    /// Changes something. What warnings there are, are logged.
    ///
    /// # Errors
    /// [`Error`], whose [`outcome`](Error::outcome) says whether the change may have been made.
    pub async fn change(
        &self,
        method: &Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Replies, Error> {
        let call = format!("{method} {path}");
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|source| Error::Unreadable { call: call.clone(), source })?;
        let answered = self.send(&call, method, path, body).await?;
        let replies = match serde_json::from_slice::<Replies>(&answered.body) {
            Ok(replies) if (200..300).contains(&answered.status) && replies.error().is_none() => replies,
            Ok(_) | Err(_) => return Err(answered.refusal(call)),
        };
        for warning in replies.warnings() {
            warn!(call, said = %warning, "LINSTOR warns");
        }
        Ok(replies)
    }

    async fn send(
        &self,
        call: &str,
        method: &Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answered, Error> {
        let token = self.token()?;
        let pass = self.0.circuit.enter()?;
        let sent = self.send_to_any(call, method, path, body, token.as_deref()).await;
        match &sent {
            Err(error) if error.is_silence() => pass.failed(&shared::error::chain(error)),
            Ok(_) | Err(_) => pass.answered(),
        }
        sent
    }

    async fn send_to_any(
        &self,
        call: &str,
        method: &Method,
        path: &str,
        body: Option<Vec<u8>>,
        token: Option<&str>,
    ) -> Result<Answered, Error> {
        let Inner { settings, active, .. } = &*self.0;
        let (first, all) = (active.load(Ordering::Relaxed), settings.controllers.len());
        let mut tried = Vec::new();
        for at in (first..first + all).map(|at| at % all) {
            let controller = &settings.controllers[at];
            match self.send_to(controller, call, method, path, body.clone(), token).await {
                Ok(answered) => {
                    if active.swap(at, Ordering::Relaxed) != at {
                        info!(controller, "another LINSTOR controller answers now");
                    }
                    return Ok(answered);
                }
                Err(Passed::On(why)) => tried.push(format!("{controller}: {why}")),
                Err(Passed::Failed(error)) => return Err(error),
            }
        }
        Err(Error::NoController { tried })
    }

    async fn send_to(
        &self,
        controller: &str,
        call: &str,
        method: &Method,
        path: &str,
        body: Option<Vec<u8>>,
        token: Option<&str>,
    ) -> Result<Answered, Passed> {
        let begun = Instant::now();
        let url = format!("{}{path}", controller.trim_end_matches('/'));
        // What only asks may be asked of the next one; a change that was sent may be under way.
        let asks_only = method == Method::GET;
        let deadline = self.0.settings.deadline;
        let deadline = if asks_only { deadline.min(ASK) } else { deadline };
        let mut request = self.0.http.request(method.clone(), url).timeout(deadline);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header(http::header::CONTENT_TYPE, "application/json").body(body);
        }
        let no_answer = |source: reqwest::Error| {
            let (controller, call, source) = (controller.to_owned(), call.to_owned(), source.without_url());
            match asks_only {
                true => Passed::On(shared::error::chain(&source)),
                false => Passed::Failed(Error::NoAnswer { controller, call, source }),
            }
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(source) if source.is_connect() || source.is_builder() => {
                return Err(Passed::On(shared::error::chain(&source.without_url())));
            }
            Err(source) => return Err(no_answer(source)),
        };
        let status = response.status().as_u16();
        if response.status().is_redirection() {
            let to =
                response.headers().get(http::header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("?");
            return Err(Passed::On(format!(
                "it sends everybody to {to}: name that one in the configuration"
            )));
        }
        let body = hide(response.bytes().await.map_err(no_answer)?, token.as_slice());
        debug!(call, controller, status, ms = milliseconds(begun.elapsed()), "asked LINSTOR");
        match status {
            401 | 412 => Err(Passed::Failed(Error::Denied {
                controller: controller.to_owned(),
                call: call.to_owned(),
                status,
            })),
            // Something before a controller that is away: with 503 it asked nobody.
            502 | 504 if asks_only => Err(Passed::On(format!("HTTP {status}"))),
            503 => Err(Passed::On(format!("HTTP {status}"))),
            _ => Ok(Answered { controller: controller.to_owned(), status, body }),
        }
    }

    fn token(&self) -> Result<Option<String>, Error> {
        let read = |path: &PathBuf| match std::fs::read_to_string(path) {
            Ok(token) => Ok(token.trim().to_owned()),
            Err(source) => Err(Error::Token { path: path.clone(), source }),
        };
        self.0.settings.token_file.as_ref().map(read).transpose()
    }
}

impl Answered {
    fn refusal(self, call: String) -> Error {
        let Self { controller, status, body } = self;
        match serde_json::from_slice::<Replies>(&body) {
            Ok(replies) if replies.error().is_some() => Error::Refused { call, status, replies },
            Ok(_) | Err(_) => Error::Strange { controller, call, status, excerpt: excerpt(&body) },
        }
    }
}
