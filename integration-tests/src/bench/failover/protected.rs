//! VMs that have a restore point each, of a control plane whose machines are only remembered (`oma-instant`) or of one with
//! targets of its own; and test failovers of them, by gRPC as an operator's.

use super::super::crowd::Rest;
use super::super::place::Place;
use super::super::{Options, report};
use crate::harness::{self, VM_UUID, World, eventually};
use anyhow::Context as _;
use proto::v1;
use proto::v1::failover_service_client::FailoverServiceClient;
use proto::v1::inventory_service_client::InventoryServiceClient;
use proto::v1::migration_service_client::MigrationServiceClient;
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tonic::transport::Channel;

/// VMs, of two disks each, where it is not said.
pub(super) const VMS: usize = 20;

const DISKS: [&str; 2] = ["root", "data"];

/// Of a disk; so much of it is data.
const DISK: u64 = 64 << 20;
const DATA: usize = 1 << 20;

/// Replicas, restore points and a hundred tests with their snapshots, as far as they are data.
const ROOM: u64 = 2 << 30;

const PATIENCE: Duration = Duration::from_secs(300);

/// See the module.
pub(super) struct Protected {
    pub(super) world: World,
    pub(super) folder: TempDir,
}

/// How many transactions the store has written, and how long they took together.
#[derive(Clone, Copy)]
pub(super) struct Journal {
    pub(super) count: f64,
    pub(super) seconds: f64,
}

/// In the place of the backend that a world has: the kind, and where its machines are.
pub(super) fn with_compute(config: &Path, kind: &str, machines: &Path) -> anyhow::Result<()> {
    with_table(config, "compute", &format!("kind = \"{kind}\"\npath = \"{}\"\n", machines.display()))
}

/// The same of any table.
pub(super) fn with_table(config: &Path, table: &str, lines: &str) -> anyhow::Result<()> {
    let (text, heading) = (std::fs::read_to_string(config)?, format!("[{table}]\n"));
    let begin = text.find(&heading).with_context(|| format!("no [{table}]"))?;
    let end = text[begin + 1..].find("\n[").map_or(text.len(), |at| begin + 2 + at);
    Ok(std::fs::write(config, format!("{}{heading}{lines}{}", &text[..begin], &text[end..]))?)
}

impl Protected {
    pub(super) async fn start(options: &Options) -> anyhow::Result<Self> {
        Self::start_with(options, VMS, |world, folder| {
            world.control_plane = "oma-instant";
            with_compute(&world.dir.join("oma.toml"), "instant", &folder.join("machines"))
        })
        .await
    }

    /// With a control plane as it is configured before anything is replicated.
    pub(super) async fn start_with(
        options: &Options,
        vms: usize,
        configure: impl FnOnce(&mut World, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let folder = Place::disk(options).folder(ROOM)?;
        let sources = DISKS.map(|key| folder.path().join(format!("{key}.img")));
        for (seed, source) in (0..).zip(&sources) {
            fill(source, seed)?;
        }
        let files: Vec<_> = DISKS.into_iter().zip(sources.iter().map(std::path::PathBuf::as_path)).collect();
        let how = harness::Options {
            replicas: Some(folder.path().join("replicas")),
            database: Some(format!("sqlite://{}/oma.db", folder.path().display())),
            ..harness::Options::files(&files)
        };
        let mut world = World::start(&how).await?;
        add_vms(&world, vms, &files)?;
        configure(&mut world, folder.path())?;
        world.oma_restart(&[])?;
        world.agent_restart()?;
        replicate(&world.channel().await?, vms).await?;
        Ok(Self { world, folder })
    }

    pub(super) async fn client(&self) -> anyhow::Result<FailoverServiceClient<Channel>> {
        Ok(FailoverServiceClient::new(self.world.channel().await?))
    }

    pub(super) async fn journal(&self) -> anyhow::Result<Journal> {
        // The page is a second old at most.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let page = Rest::connect(&self.world.rest).await?.get("/metrics").await?;
        let page = String::from_utf8_lossy(&page);
        let value = |what: &str| {
            let name = format!("migratekit_store_transaction_duration_seconds_{what} ");
            let found = page.lines().find_map(|line| line.strip_prefix(&name));
            anyhow::Ok(found.with_context(|| format!("no {name}in the metrics"))?.parse()?)
        };
        Ok(Journal { count: value("count")?, seconds: value("sum")? })
    }
}

impl Journal {
    /// Transactions of each of `jobs`, and milliseconds of each of them.
    pub(super) fn since(self, before: Self, jobs: usize) -> (f64, f64) {
        let count = self.count - before.count;
        (count / report::float(jobs as u64), (self.seconds - before.seconds) / count * 1e3)
    }
}

/// Of the n-th VM.
pub(super) async fn begin(
    client: &mut FailoverServiceClient<Channel>,
    vm: usize,
) -> anyhow::Result<v1::Failover> {
    let request = v1::FailoverServiceStartTestRequest {
        vm_id: uuid(vm),
        vm_name: name(vm),
        skip_virtio_injection: true,
        custom_config: r#"{"cpu_count":1,"memory_mb":64}"#.to_owned(),
        ..v1::FailoverServiceStartTestRequest::default()
    };
    client.start_test(request).await?.into_inner().failover.context("no failover in the answer")
}

/// Waits for the end of a test, which has to be a good one.
pub(super) async fn completed(
    client: &mut FailoverServiceClient<Channel>,
    job: &str,
) -> anyhow::Result<v1::Failover> {
    let ended = wait(client, job, |f| ["completed", "failed"].contains(&f.status.as_str())).await?;
    anyhow::ensure!(ended.status == "completed", "{job}: {} {}", ended.error_code, ended.error_message);
    Ok(ended)
}

/// Removes what these tests made.
pub(super) async fn clean(
    client: &mut FailoverServiceClient<Channel>,
    jobs: &[String],
) -> anyhow::Result<()> {
    for job in jobs {
        client.cleanup(v1::FailoverServiceCleanupRequest { job_id: job.clone() }).await?;
    }
    for job in jobs {
        wait(client, job, |f| !f.is_there).await?;
    }
    Ok(())
}

pub(super) async fn wait(
    client: &mut FailoverServiceClient<Channel>,
    job: &str,
    wanted: impl Fn(&v1::Failover) -> bool,
) -> anyhow::Result<v1::Failover> {
    let watch = async {
        let request = v1::FailoverServiceWatchRequest { job_id: job.to_owned() };
        let mut said = client.watch(request).await?.into_inner();
        while let Some(message) = said.message().await? {
            if let Some(failover) = message.failover.filter(&wanted) {
                return Ok(failover);
            }
        }
        anyhow::bail!("the watch of {job} ended")
    };
    tokio::time::timeout(PATIENCE, watch).await.with_context(|| format!("{job}: not within {PATIENCE:?}"))?
}

fn fill(path: &Path, seed: u64) -> anyhow::Result<()> {
    let (file, mut data) = (File::create(path)?, vec![0; DATA]);
    file.set_len(DISK)?;
    SmallRng::seed_from_u64(seed).fill_bytes(&mut data);
    Ok(file.write_all_at(&data, 0)?)
}

/// Unlike from the first digits on, as uuids are: names of tests have eight of them.
fn uuid(number: usize) -> String {
    if number == 0 { VM_UUID.to_owned() } else { format!("564d{number:04x}-0000-4000-8000-{number:012x}") }
}

fn name(number: usize) -> String {
    if number == 0 { "web".to_owned() } else { format!("web-{}", number + 1) }
}

/// The harness knows one VM; here are the others, of the same sources.
fn add_vms(world: &World, vms: usize, files: &[(&str, &Path)]) -> anyhow::Result<()> {
    let mut text = String::new();
    for number in 1..vms {
        write!(text, "[[vm]]\nuuid = \"{}\"\nname = \"{}\"\n", uuid(number), name(number))?;
        for (key, file) in files {
            write!(text, "[[vm.plain.disks]]\nkey = \"{key}\"\nfile = \"{}\"\n", file.display())?;
        }
    }
    let mut config = OpenOptions::new().append(true).open(world.dir.join("vma.toml"))?;
    Ok(config.write_all(text.as_bytes())?)
}

/// A restore point for each VM.
async fn replicate(channel: &Channel, vms: usize) -> anyhow::Result<()> {
    eventually("all VMs in the inventory", PATIENCE, || async {
        let answer =
            InventoryServiceClient::new(channel.clone()).list_vms(v1::ListVmsRequest::default()).await?;
        let connected = answer.into_inner().vms.into_iter().filter(|vm| vm.agent_connected).count();
        Ok((connected == vms).then_some(()))
    })
    .await?;
    let mut client = MigrationServiceClient::new(channel.clone());
    for action in [v1::Action::Begin, v1::Action::Sync] {
        for number in 0..vms {
            let request =
                v1::ActRequest { vm: uuid(number), action: action.into(), ..v1::ActRequest::default() };
            client.act(request).await?;
        }
        eventually("replicas and restore points", PATIENCE, || async {
            let answer =
                MigrationServiceClient::new(channel.clone()).list(v1::ListRequest::default()).await?;
            let all = answer.into_inner().migrations;
            let failed = all.iter().find(|m| m.state() == v1::State::Failed);
            anyhow::ensure!(failed.is_none(), "it failed: {failed:?}");
            Ok((all.iter().filter(|m| m.state() == v1::State::Paused).count() == vms).then_some(()))
        })
        .await?;
    }
    Ok(())
}
