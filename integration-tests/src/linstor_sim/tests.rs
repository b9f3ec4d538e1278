//! What can lose data, with real bytes; faults; and a client that nobody here wrote.

mod drbd;
mod faults;
mod life;
mod traps;

use super::{LinstorSim, Options};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tokio::net::TcpStream;

/// Status and body; none: the connection was closed.
pub(crate) type Answered = Option<(u16, Value)>;

/// Sends a request.
pub(crate) async fn ask(
    at: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answered> {
    let stream = TcpStream::connect(at).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "linstor");
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned())))?;
    let Ok(response) = sender.send_request(request).await else { return Ok(None) };
    let status: StatusCode = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Some((status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null))))
}

/// Kind and code of each entry. None: the body is something else.
pub(super) fn entries(body: &Value) -> Option<Vec<(i64, i64)>> {
    let entries = body.as_array()?;
    let codes = entries.iter().map(|entry| entry.get("ret_code").and_then(Value::as_i64));
    codes.map(|code| code.map(|code| (code >> 62, code & 0x7FFF))).collect()
}

/// A simulator on a folder of its own.
struct Bench {
    _folder: tempfile::TempDir,
    options: Options,
    sim: LinstorSim,
}

impl Bench {
    /// With one node, and a group on its thin pool.
    async fn usual() -> anyhow::Result<Self> {
        Self::start(|options| options).await
    }

    async fn start(change: impl FnOnce(Options) -> Options) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let options = change(Options::usual(folder.path()));
        let sim = LinstorSim::start(options.clone()).await?;
        Ok(Self { _folder: folder, options, sim })
    }

    /// Another controller on the same folder.
    async fn restart(&mut self) -> anyhow::Result<()> {
        self.sim = LinstorSim::start(self.options.clone()).await?;
        Ok(())
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> anyhow::Result<(u16, Value)> {
        let answer = self.try_call(method, path, body).await?;
        answer.with_context(|| format!("no answer to {method} {path}"))
    }

    async fn try_call(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Answered> {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        ask(
            self.sim.address(),
            method,
            &format!("/v1/{path}"),
            &body,
            &[("content-type", "application/json")],
        )
        .await
    }

    /// A call that has to work.
    async fn done(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let (status, answer) = self.call(method, path, body).await?;
        ensure!(status < 300, "{method} {path}: {status} {answer}");
        Ok(answer)
    }

    /// A call that has to be refused with this code.
    async fn refused(&self, method: &str, path: &str, body: Value, code: i64) -> anyhow::Result<u16> {
        let (status, answer) = self.call(method, path, body).await?;
        let codes = entries(&answer).context("no entries")?;
        ensure!(codes.contains(&(-1, code)), "{method} {path}: {status} {answer}");
        Ok(status)
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.done("GET", path, Value::Null).await
    }

    async fn spawn(&self, name: &str, size_kib: u64) -> anyhow::Result<PathBuf> {
        let body = json!({"resource_definition_name": name, "volume_sizes": [size_kib]});
        self.done("POST", "resource-groups/cloudstack/spawn", body).await?;
        self.device(name).await?.context("no device")
    }

    async fn snapshot(&self, name: &str, snapshot: &str) -> anyhow::Result<()> {
        self.done("POST", &format!("resource-definitions/{name}/snapshots"), json!({"name": snapshot}))
            .await?;
        Ok(())
    }

    async fn resource(&self, name: &str) -> anyhow::Result<Value> {
        Ok(self.get(&format!("view/resources?resources={name}")).await?[0].clone())
    }

    async fn device(&self, name: &str) -> anyhow::Result<Option<PathBuf>> {
        let resource = self.resource(name).await?;
        Ok(resource["volumes"][0]["device_path"].as_str().map(PathBuf::from))
    }

    /// Names of the snapshots there are of it.
    async fn snapshots(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let all = self.get(&format!("view/snapshots?resources={name}")).await?;
        let names =
            all.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str().map(str::to_owned));
        Ok(names.collect())
    }
}

fn write(device: &Path, text: &str) -> anyhow::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(device)?;
    file.write_all_at(format!("{text:\0<16}").as_bytes(), 4096)?;
    Ok(file)
}

fn read_from(file: &File, length: usize) -> anyhow::Result<String> {
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, 4096)?;
    Ok(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned())
}

/// What [`write`] wrote; empty when nothing did.
fn read(device: &Path) -> anyhow::Result<String> {
    read_from(&File::open(device)?, 16)
}
