//! A thousand who watch one migration, one of whom reads nothing: when a change reaches them, what they cost, and whether
//! who changes something waits for them.
//!
//! ```text
//!  hold, release, hold, … ──► oma-api ──► 799 gRPC streams over eight connections
//!                                    ├──► 200 Server-Sent Events, a connection each
//!                                    └──► the last, of events, on which nothing is ever read
//! ```

use super::crowd::Rest;
use super::outcome::{Mark, Outcome};
use super::{Options, report, world};
use crate::harness::{self, VM_UUID, World};
use anyhow::Context as _;
use http_body_util::BodyExt as _;
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// One less of them watches, and one more stream of events reads nothing: a thousand.
const GRPC: usize = 800;
const EVENTS: usize = 200;

/// Streams of a connection.
const STREAMS: usize = 100;

/// All have it within this, or the case fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who saw that the migration is held, or is not any more.
type Saw = mpsc::Sender<(usize, bool, Instant)>;

pub(super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(1 << 20)?;
    let world = World::start(&harness::Options::files(&[("root", file.path())])).await?;
    world.begin().await?;
    let mut client = MigrationServiceClient::new(world.channel().await?);
    let alone = writes(&mut client, options.sizes.changes).await?;
    let before = world::peak(world.oma.pid())?;
    let (saw, mut seen) = mpsc::channel(4 * (GRPC + EVENTS));
    let mut watchers = JoinSet::new();
    let silent = start(&world, &saw, &mut watchers).await?;
    // Each has the first state: nobody is held.
    let none = wait(&mut seen, false).await?;
    anyhow::ensure!(none.len() == GRPC + EVENTS - 1, "{} watchers", none.len());
    let (mut latencies, mut writes) = (Vec::new(), Vec::new());
    for change in 0..options.sizes.changes {
        let held = change % 2 == 0;
        let begun = Instant::now();
        act(&mut client, held).await?;
        writes.push(begun.elapsed());
        for at in wait(&mut seen, held).await? {
            latencies.push(at.saturating_duration_since(begun).as_secs_f64());
        }
    }
    let after = world::peak(world.oma.pid())?;
    anyhow::ensure!(watchers.try_join_next().is_none(), "a watcher has ended");
    drop(silent);
    let latencies = report::sorted(latencies.into_iter());
    let of = |hundred: usize| latencies[(latencies.len() - 1) * hundred / 100];
    let ms = |times: &[Duration]| report::median(times.iter().map(|time| time.as_secs_f64() * 1e3));
    let (alone, watched) = (ms(&alone), ms(&writes));
    let mib = report::float(after.saturating_sub(before)) / report::float(1 << 20);
    let text = format!(
        "watchers, {} over gRPC ({} connections), {EVENTS} Server-Sent Events, and one that reads nothing; {} changes\n  \
         a change reaches them within {:.3} s (p50), {:.3} s (p99), {:.3} s at most; {mib:.1} MiB more than before\n  \
         an action takes {alone:.1} ms without watchers and {watched:.1} ms with them\n",
        GRPC - 1,
        GRPC / STREAMS,
        writes.len(),
        of(50),
        of(99),
        of(100),
    );
    Ok(Outcome {
        case: "watchers",
        text,
        marks: vec![
            Mark::at_most("s until a change is seen, p99", of(99), 1.0),
            Mark::at_most("MiB of RSS more", mib, 100.0),
            Mark::at_most("ms more that an action takes, in the middle", (watched - alone).max(0.0), 10.0),
        ],
        runs: json!({
            "changes": writes.len(), "p50_s": of(50), "p99_s": of(99), "max_s": of(100), "rss_more_mib": mib,
            "action_ms_alone": alone, "action_ms_watched": watched,
        }),
    })
}

async fn act(client: &mut MigrationServiceClient<Channel>, held: bool) -> anyhow::Result<()> {
    let action = if held { v1::Action::Hold } else { v1::Action::Release };
    let request =
        v1::ActRequest { vm: VM_UUID.to_owned(), action: action.into(), ..v1::ActRequest::default() };
    client.act(request).await?;
    Ok(())
}

/// How long actions take that nobody watches.
async fn writes(client: &mut MigrationServiceClient<Channel>, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for change in 0..count {
        let begun = Instant::now();
        act(client, change % 2 == 0).await?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// Starts them all; what it gives is the connection on which nothing is read.
async fn start(
    world: &World,
    saw: &Saw,
    watchers: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<TcpStream> {
    let mut channel = world.channel().await?;
    for number in 0..GRPC - 1 {
        if number % STREAMS == 0 {
            channel = world.channel().await?;
        }
        let (client, saw) = (MigrationServiceClient::new(channel.clone()), saw.clone());
        watchers.spawn(grpc(client, number, saw));
    }
    for number in GRPC..GRPC + EVENTS {
        let (rest, saw) = (Rest::connect(&world.rest).await?, saw.clone());
        watchers.spawn(events(rest, number, saw));
    }
    // The events of all, and not a byte of the answer is ever taken.
    let mut silent = TcpStream::connect(&world.rest).await?;
    silent.write_all(b"GET /api/v1/events/stream HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    Ok(silent)
}

async fn grpc(mut client: MigrationServiceClient<Channel>, number: usize, saw: Saw) -> anyhow::Result<()> {
    let request = v1::WatchRequest { vm: VM_UUID.to_owned(), after_sequence: 0 };
    let mut states = client.watch(request).await?.into_inner();
    while let Some(state) = states.message().await? {
        let held = state.migration.context("a state without a migration")?.held;
        saw.send((number, held, Instant::now())).await?;
    }
    anyhow::bail!("a watch ended")
}

async fn events(mut rest: Rest, number: usize, saw: Saw) -> anyhow::Result<()> {
    let mut body = rest.open(&format!("/api/v1/events/stream?vm={VM_UUID}")).await?;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let text = String::from_utf8_lossy(&data).into_owned();
        for held in [true, false] {
            if text.contains(&format!("\"held\":{held}")) {
                saw.send((number, held, Instant::now())).await?;
            }
        }
    }
    anyhow::bail!("a stream of events ended")
}

/// Until all have seen it; when each did.
async fn wait(seen: &mut mpsc::Receiver<(usize, bool, Instant)>, held: bool) -> anyhow::Result<Vec<Instant>> {
    let mut when = vec![None; GRPC + EVENTS];
    let mut missing = GRPC + EVENTS - 1;
    let end = tokio::time::Instant::now() + PATIENCE;
    while missing > 0 {
        let next = tokio::time::timeout_at(end, seen.recv()).await;
        let (number, what, at) =
            next.with_context(|| format!("{missing} watchers have not seen it"))?.context("all ended")?;
        if what == held && when[number].is_none() {
            when[number] = Some(at);
            missing -= 1;
        }
    }
    Ok(when.into_iter().flatten().collect())
}
