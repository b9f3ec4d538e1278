//! A client of the tests' own: signs, sends, waits for jobs.

use super::super::CloudStackSim;
use super::super::sign::{Sent, to_sign};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(super) struct Client {
    address: SocketAddr,
    pub(super) key: String,
    pub(super) secret: String,
}

/// What a job came to.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) status: u64,
    pub(super) code: u64,
    pub(super) result: Value,
    /// The whole answer.
    pub(super) shown: Value,
}

impl Done {
    pub(super) fn done(self) -> Value {
        assert_eq!((self.status, self.code), (1, 0), "{:?}", self.shown);
        self.result
    }

    /// The code and the text of a failure.
    pub(super) fn refused(&self) -> (u64, &str) {
        assert_eq!(self.status, 2, "{:?}", self.shown);
        (self.code, self.result["errortext"].as_str().unwrap_or_default())
    }
}

pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

impl Client {
    pub(super) fn new(sim: &CloudStackSim, keys: (PathBuf, PathBuf)) -> Self {
        Self::at(sim.address(), keys)
    }

    pub(super) fn at(address: SocketAddr, (key, secret): (PathBuf, PathBuf)) -> Self {
        let read = |file: PathBuf| std::fs::read_to_string(file).unwrap();
        Self { address, key: read(key), secret: read(secret) }
    }

    pub(super) fn sign(&self, text: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.secret.as_bytes());
        STANDARD.encode(hmac::sign(&key, text.as_bytes()))
    }

    /// A query with its signature.
    pub(super) fn query<K: AsRef<str>, V: AsRef<str>>(&self, command: &str, params: &[(K, V)]) -> String {
        let own = [("command", command), ("response", "json"), ("apiKey", &self.key)];
        let given = params.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        let sent: Sent = given.chain(own).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let signature = self.sign(&to_sign(&sent));
        let pairs = sent.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let pairs: Vec<_> = pairs.chain([format!("signature={}", encode(&signature))]).collect();
        pairs.join("&")
    }

    /// A request as it stands; status and body. No answer: status 0.
    pub(super) async fn raw(&self, method: &str, target: &str, form: Option<&str>) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let kind =
            if target.starts_with("/sim") { "application/json" } else { "application/x-www-form-urlencoded" };
        let body = form.unwrap_or_default();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    /// By POST; what stands in the envelope.
    pub(super) async fn call<K: AsRef<str>, V: AsRef<str>>(
        &self,
        command: &str,
        params: &[(K, V)],
    ) -> (u16, Value) {
        let (status, body) = self.raw("POST", "/client/api", Some(&self.query(command, params))).await;
        let whole: Value = serde_json::from_str(&body).unwrap_or_default();
        let inner = whole.as_object().and_then(|whole| whole.values().next().cloned()).unwrap_or_default();
        (status, inner)
    }

    pub(super) async fn ok<K: AsRef<str>, V: AsRef<str>>(&self, command: &str, params: &[(K, V)]) -> Value {
        let (status, value) = self.call(command, params).await;
        assert_eq!(status, 200, "{command}: {value}");
        value
    }

    /// The code, the exception and the text of a refusal.
    pub(super) async fn refused<K: AsRef<str>, V: AsRef<str>>(
        &self,
        command: &str,
        params: &[(K, V)],
    ) -> (u64, Option<u64>, String) {
        let (status, value) = self.call(command, params).await;
        assert_eq!(value["errorcode"], status, "{command}: {value}");
        let text = value["errortext"].as_str().unwrap().to_owned();
        (value["errorcode"].as_u64().unwrap(), value["cserrorcode"].as_u64(), text)
    }

    pub(super) async fn wait(&self, job: &str) -> Done {
        for _ in 0..2000 {
            let shown = self.ok("queryAsyncJobResult", &[("jobid", job)]).await;
            if shown["jobstatus"] != 0 {
                let number = |name: &str| shown[name].as_u64().unwrap();
                return Done {
                    status: number("jobstatus"),
                    code: number("jobresultcode"),
                    result: shown["jobresult"].clone(),
                    shown,
                };
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("job {job} does not end")
    }

    /// Sends a command and waits for its job.
    pub(super) async fn job<K: AsRef<str>, V: AsRef<str>>(&self, command: &str, params: &[(K, V)]) -> Done {
        let submitted = self.ok(command, params).await;
        self.wait(submitted["jobid"].as_str().unwrap()).await
    }

    pub(super) async fn switch(&self, what: &str, body: Value) -> Value {
        let (status, answer) = self.raw("POST", &format!("/sim/{what}"), Some(&body.to_string())).await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    }

    pub(super) async fn see(&self, what: &str) -> Value {
        serde_json::from_str(&self.raw("GET", &format!("/sim/{what}"), None).await.1).unwrap()
    }
}
