//! How long answers take, over gRPC and over REST, on one connection each.

use super::super::report;
use super::year::Year;
use crate::harness::World;
use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Milliseconds of one kind of question.
pub(super) struct Asked {
    pub(super) what: &'static str,
    times: Vec<f64>,
}

impl Asked {
    fn new(what: &'static str, times: &[Duration]) -> Self {
        Self { what, times: report::sorted(times.iter().map(|time| time.as_secs_f64() * 1e3)) }
    }

    /// The time that so many of a hundred did not exceed.
    pub(super) fn percentile(&self, of_hundred: usize) -> f64 {
        report::percentile(&self.times, of_hundred)
    }

    pub(super) fn json(&self) -> Value {
        json!({ "what": self.what, "count": self.times.len(), "p50_ms": self.percentile(50),
                "p99_ms": self.percentile(99), "max_ms": self.percentile(100) })
    }
}

/// A page of 50, and single migrations, `count` times each.
pub(super) async fn all(world: &World, year: Year, count: usize) -> anyhow::Result<Vec<Asked>> {
    let mut grpc = MigrationServiceClient::new(world.channel().await?);
    let mut rest = Rest::connect(&world.rest).await?;
    let mut random = SmallRng::seed_from_u64(7);
    // Some page: half of them behind the newest 50.
    let mut pages = vec![String::new()];
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..count {
        let token = pages[random.random_range(0..pages.len())].clone();
        let begun = Instant::now();
        let request =
            v1::ListRequest { page_size: 50, page_token: token.clone(), ..v1::ListRequest::default() };
        let page = grpc.list(request).await?.into_inner();
        times[0].push(begun.elapsed());
        anyhow::ensure!(page.migrations.len() == 50, "{} migrations on a page", page.migrations.len());
        if pages.len() < 100 {
            pages.push(page.next_page_token);
        }
        let begun = Instant::now();
        let after = if token.is_empty() { String::new() } else { format!("&page_token={token}") };
        let body = rest.get(&format!("/api/v1/migrations?limit=50{after}")).await?;
        times[1].push(begun.elapsed());
        anyhow::ensure!(body.len() > 10_000, "a short page: {}", String::from_utf8_lossy(&body));
        let vm = Year::vm(random.random_range(0..year.migrations));
        let begun = Instant::now();
        grpc.get(v1::GetRequest { vm: vm.clone(), history: 20 }).await?;
        times[2].push(begun.elapsed());
        let begun = Instant::now();
        rest.get(&format!("/api/v1/migrations/{vm}")).await?;
        times[3].push(begun.elapsed());
    }
    let names = ["list, gRPC", "list, REST", "get, gRPC", "get, REST"];
    Ok(names.into_iter().zip(&times).map(|(what, times)| Asked::new(what, times)).collect())
}

/// A connection that is kept.
pub(in super::super) struct Rest {
    host: String,
    sender: SendRequest<Empty<Bytes>>,
}

impl Rest {
    pub(in super::super) async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { host: address.to_owned(), sender })
    }

    /// The answer, as soon as it begins.
    pub(in super::super) async fn open(&mut self, path: &str) -> anyhow::Result<hyper::body::Incoming> {
        let request = http::Request::get(path).header(http::header::HOST, &self.host);
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Empty::new())?).await?;
        anyhow::ensure!(answer.status().is_success(), "GET {path}: {}", answer.status());
        Ok(answer.into_body())
    }

    pub(in super::super) async fn get(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let body = self.open(path).await?;
        Ok(body.collect().await.with_context(|| format!("GET {path}"))?.to_bytes())
    }
}
