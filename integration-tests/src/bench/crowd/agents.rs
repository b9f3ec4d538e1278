//! A thousand agents in one process: each with its certificate, its TLS connection, its heartbeats, and the cycles that it is
//! told to run. What they report is made up; that they read no disk is all that they lack.

use super::year::Year;
use crate::harness::World;
use anyhow::Context as _;
use migratekit::dev_ca::Leaf;
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::{self, connect_request::Kind as Up, connect_response::Kind as Down};
use shared::cycle::{CAPABILITIES, PROTOCOL_VERSIONS};
use shared::tls::{Dialer, Role};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;

/// Between heartbeats, as the control plane asks for by default.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Handshakes at a time.
const AT_ONCE: usize = 32;

/// Bytes a second of a running cycle's disk.
const SPEED: u64 = 8 << 20;

/// Connected agents; they end when this is dropped.
pub(super) struct Agents {
    tasks: JoinSet<anyhow::Result<()>>,
    counted: Arc<Counted>,
}

#[derive(Default)]
struct Counted {
    connected: AtomicUsize,
    running: AtomicUsize,
}

impl Agents {
    /// Begins to connect all of them.
    pub(super) fn start(world: &World, year: Year) -> anyhow::Result<Self> {
        let ca = world.ca.ca()?.context("the world has no CA")?;
        let (mut tasks, counted) = (JoinSet::new(), Arc::<Counted>::default());
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        for number in 0..year.agents {
            let name = Year::agent(number);
            let files = world.ca.files(Role::Agent, &name);
            world.ca.write(
                &ca.issue(&Leaf::new(Role::Agent, &name, &["localhost"]))?,
                &files.cert,
                &files.key,
            )?;
            let dialer = Dialer::new(&world.address, files.client()?).map_err(anyhow::Error::msg)?;
            let (counted, turns) = (Arc::clone(&counted), Arc::clone(&turns));
            let hello = hello(name, number, year);
            tasks.spawn(async move { agent(dialer, hello, &counted, &turns).await });
        }
        Ok(Self { tasks, counted })
    }

    /// How many are connected; an error when one has ended.
    pub(super) async fn connected(&mut self) -> anyhow::Result<usize> {
        if let Some(ended) = self.tasks.try_join_next() {
            ended??;
            anyhow::bail!("an agent's connection ended");
        }
        Ok(self.counted.connected.load(Ordering::Relaxed))
    }

    /// How many cycles they run.
    pub(super) fn running(&self) -> usize {
        self.counted.running.load(Ordering::Relaxed)
    }
}

fn hello(name: String, number: usize, year: Year) -> v1::Hello {
    let disk = |key: &str, size_bytes| v1::VmDisk { key: key.to_owned(), size_bytes };
    let vm = |number| v1::Vm {
        uuid: Year::vm(number),
        name: format!("web-{number:05}"),
        disks: vec![disk("disk-0", 40 << 30), disk("disk-1", 100 << 30)],
        ..v1::Vm::default()
    };
    v1::Hello {
        agent_id: name,
        software_version: "1.0.0".to_owned(),
        protocol_versions: PROTOCOL_VERSIONS.to_vec(),
        capabilities: CAPABILITIES.iter().map(ToString::to_string).collect(),
        inventory: (number..year.migrations).step_by(year.agents).map(vm).collect(),
    }
}

async fn agent(dialer: Dialer, hello: v1::Hello, counted: &Counted, turns: &Semaphore) -> anyhow::Result<()> {
    let (up, messages) = mpsc::channel(16);
    let say = async |kind: Up| up.send(v1::ConnectRequest { kind: Some(kind) }).await;
    let turn = turns.acquire().await?;
    let channel = dialer.connect().await.map_err(anyhow::Error::msg)?;
    say(Up::Hello(hello)).await?;
    let mut down =
        AgentServiceClient::new(channel).connect(ReceiverStream::new(messages)).await?.into_inner();
    let mut turn = Some(turn);
    let (mut heartbeats, mut reports) = (interval(HEARTBEAT), interval(Duration::from_secs(1)));
    for ticks in [&mut heartbeats, &mut reports] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut cycles: HashMap<String, Vec<v1::DiskProgress>> = HashMap::new();
    loop {
        tokio::select! {
            message = down.message() => match message?.context("the control plane ended the connection")?.kind {
                Some(Down::Welcome(_)) => {
                    counted.connected.fetch_add(1, Ordering::Relaxed);
                    turn = None;
                }
                Some(Down::Desired(desired)) => for cycle in desired.vms.into_iter().filter_map(|vm| vm.cycle) {
                    if let Entry::Vacant(new) = cycles.entry(cycle.job_id.clone()) {
                        say(snapshot(&cycle)).await?;
                        counted.running.fetch_add(1, Ordering::Relaxed);
                        new.insert(cycle.disks.into_iter().map(begun).collect());
                    }
                },
                None => {}
            },
            _ = heartbeats.tick() => {
                let running_job_ids = cycles.keys().cloned().collect();
                say(Up::Heartbeat(v1::Heartbeat { running_job_ids })).await?;
            }
            _ = reports.tick(), if !cycles.is_empty() => for (job, disks) in &mut cycles {
                disks.iter_mut().for_each(moved);
                let progress = v1::CycleProgress { disks: disks.clone() };
                say(report(job, v1::cycle_report::Event::Progress(progress))).await?;
            },
        }
        let _ = &turn;
    }
}

fn report(job: &str, event: v1::cycle_report::Event) -> Up {
    Up::Report(v1::CycleReport { job_id: job.to_owned(), event: Some(event) })
}

fn snapshot(cycle: &v1::DesiredCycle) -> Up {
    let of = |disk: &v1::DesiredDisk| v1::SnapshotDisk {
        key: disk.key.clone(),
        size_bytes: disk.size_bytes,
        change_id: format!("52 3c ec 1d/{}", cycle.job_id),
    };
    let taken = v1::SnapshotTaken {
        snapshot_id: format!("snapshot-{}", cycle.job_id),
        taken_at: jiff::Timestamp::now().to_string(),
        disks: cycle.disks.iter().map(of).collect(),
    };
    report(&cycle.job_id, v1::cycle_report::Event::SnapshotTaken(taken))
}

fn begun(disk: v1::DesiredDisk) -> v1::DiskProgress {
    v1::DiskProgress {
        disk_id: disk.disk_id,
        size_bytes: disk.size_bytes,
        planned_bytes: disk.size_bytes,
        plan_complete: true,
        epoch: disk.epoch,
        ..v1::DiskProgress::default()
    }
}

/// A second later.
fn moved(disk: &mut v1::DiskProgress) {
    for bytes in [&mut disk.done_bytes, &mut disk.read_bytes, &mut disk.data_bytes, &mut disk.wire_bytes] {
        *bytes = (*bytes + SPEED).min(disk.planned_bytes);
    }
}
