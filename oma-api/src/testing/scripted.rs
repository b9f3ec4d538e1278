//! A server that says what it was told to say, one answer a request.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::request::Parts;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// What a request is answered with.
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Said {
    pub(crate) fn ok(body: impl ToString) -> Self {
        Self::with(200, body)
    }

    pub(crate) fn with(status: u16, body: impl ToString) -> Self {
        Self { status, headers: vec![], body: body.to_string() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) head: Parts,
    pub(crate) body: String,
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Said>>,
    asked: Mutex<Vec<Asked>>,
}

/// It ends with the test's runtime.
pub(crate) struct Scripted {
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    script: Arc<Script>,
}

impl Scripted {
    pub(crate) async fn start(answers: impl IntoIterator<Item = Said>) -> anyhow::Result<Self> {
        let script =
            Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, script })
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(State(script): State<Arc<Script>>, request: http::Request<axum::body::Body>) -> Response {
    let (head, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    script.asked.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { head, body });
    let said = script.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let said = said.unwrap_or_else(|| Said::with(599, "the script is over"));
    let response =
        said.headers.iter().fold(Response::builder().status(said.status), |r, (k, v)| r.header(*k, v));
    response.body(said.body.into()).expect("a status and headers that the test wrote")
}
