//! A cycle of the real daemons, with its times.

use super::cpu::{Used, Watch};
use crate::harness::{VM_UUID, World};
use anyhow::Context as _;
use jiff::Timestamp;
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use std::path::Path;
use std::time::Duration;

/// A cycle that was committed.
pub(super) struct Cycle {
    /// From the operator's `sync` until every disk was flushed and sealed.
    pub(super) durable: Duration,
    /// From there until the restore point was committed.
    pub(super) commit: Duration,
    pub(super) migration: v1::Migration,
    /// Until everything was durable, to a tenth of a second.
    pub(super) used: Used,
}

/// A whole disk on a slow machine.
const DEADLINE: Duration = Duration::from_secs(1800);

/// Syncs once, watching the daemons and these processes. Times are those of the daemons' logs: asking them often would
/// take what is measured.
pub(super) async fn sync(world: &World, pids: &[u32]) -> anyhow::Result<Cycle> {
    let mut client = MigrationServiceClient::new(world.channel().await?);
    let watch = Watch::start([&[world.agent.pid(), world.oma.pid()], pids].concat())?;
    let mut used = None;
    let begun = Timestamp::now();
    client
        .act(v1::ActRequest {
            vm: VM_UUID.to_owned(),
            action: v1::Action::Sync.into(),
            ..v1::ActRequest::default()
        })
        .await?;
    let end = tokio::time::Instant::now() + DEADLINE;
    let migration = loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer =
            client.get(v1::GetRequest { vm: VM_UUID.to_owned(), ..v1::GetRequest::default() }).await?;
        let migration = answer.into_inner().migration.context("no migration in the answer")?;
        let sending = migration.cycle.as_ref().is_none_or(|cycle| cycle.status == "running");
        if !sending || migration.state() != v1::State::Running {
            used = used.or(Some(watch.end()?));
        }
        if migration.state() != v1::State::Running {
            break migration;
        }
        anyhow::ensure!(tokio::time::Instant::now() < end, "the sync did not end within {DEADLINE:?}");
    };
    let said = &migration.error_message;
    anyhow::ensure!(
        migration.state() == v1::State::Paused,
        "the sync ended as {:?}: {said}",
        migration.state()
    );
    let job = migration.cycle.as_ref().context("no cycle in the answer")?.job_id.clone();
    let (agent, oma) = (world.agent.logged()?, world.oma.logged()?);
    let durable = when(&agent, "all disks are sent and durable", &job)?;
    let committed = when(&oma, "cycle committed", &job)?;
    let between = |from: Timestamp, to: Timestamp| Duration::try_from(to.duration_since(from));
    let (durable, commit) = (between(begun, durable)?, between(durable, committed)?);
    Ok(Cycle { durable, commit, migration, used: used.context("the sync never ended")? })
}

fn when(log: &str, what: &str, job: &str) -> anyhow::Result<Timestamp> {
    let line = log.lines().find(|line| line.contains(what) && line.contains(job));
    let line = line.with_context(|| format!("no line {what:?} for {job}"))?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

/// Peak resident memory of a process, in bytes.
pub(super) fn peak(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(Path::new(&path))?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.split_whitespace().nth(1).context("an empty VmHWM")?.parse()?;
    Ok(kib << 10)
}
