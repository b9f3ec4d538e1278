//! What many running cycles cost the OMA: processor time and memory, while each reports twice a second.
//!
//! One real agent with fifty VMs of one disk each, all read from one NBD server; `[transfer] rate` keeps their cycles
//! running. Nobody asks the OMA anything while it is watched.

use super::cpu::Watch;
use super::outcome::{Mark, Outcome};
use super::pair::Sources;
use super::place::Place;
use super::{Options, report, world};
use crate::harness::{self, SourceKind, World, eventually};
use proto::v1;
use proto::v1::inventory_service_client::InventoryServiceClient;
use proto::v1::migration_service_client::MigrationServiceClient;
use serde_json::json;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;
use tonic::transport::Channel;

const VMS: usize = 50;

/// Of all cycles together, MiB a second: a little more than 1 MiB a second each, so that each report has news.
const RATE: u64 = 64;

/// Of a disk, MiB: read for one and a half minutes at that rate.
const DISK: u64 = 128;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let source = Sources::random(options, 1, DISK << 20).await?;
    let replicas = Place::memory(options).folder((RATE << 20) * 120)?;
    let transfer = format!(
        "{}\nrate = \"{RATE}MiB\"\nconnections = 1\nconnections_per_host = {VMS}\nbuffers = \"4MiB\"",
        options.transfer
    );
    let mut world = World::start(&harness::Options {
        source: SourceKind::Uris(source.uris()),
        transfer,
        replicas: Some(replicas.path().to_owned()),
        ..harness::Options::default()
    })
    .await?;
    add_vms(&world, &source)?;
    world.agent_restart()?;
    let channel = world.channel().await?;
    begin_all(&channel).await?;
    let before = eventually("fifty running cycles", PATIENCE, || async {
        let sent = sent(&channel).await?;
        Ok((sent.len() == VMS && sent.iter().all(|&bytes| bytes > 0)).then_some(sent))
    })
    .await?;
    let watch = Watch::start(vec![world.oma.pid(), world.agent.pid()])?;
    tokio::time::sleep(options.sizes.watched).await;
    let used = watch.end()?;
    let memory = world::peak(world.oma.pid())?;
    // What was stored a second ago at most.
    let after = eventually("progress of all cycles", PATIENCE, || async {
        let after = sent(&channel).await?;
        anyhow::ensure!(after.len() == VMS, "only {} cycles are running still", after.len());
        Ok(after.iter().zip(&before).all(|(after, before)| after > before).then_some(after))
    })
    .await?;
    let seconds = used.wall.as_secs_f64();
    let moved = report::float(after.iter().sum::<u64>() - before.iter().sum::<u64>()) / seconds;
    let (oma, agent) = (used.parts[0] / seconds, used.parts[1] / seconds);
    let mib = report::float(memory) / report::float(1 << 20);
    let text = format!(
        "fifty, {VMS} running cycles of one agent, {:.0} MiB/s together, watched for {seconds:.0} s\n  \
         oma-api {oma:.2} cores, {mib:.0} MiB at most; vma-agent {agent:.2} cores\n",
        moved / report::float(1 << 20),
    );
    Ok(Outcome {
        case: "fifty",
        text,
        marks: vec![Mark::at_most("cores", oma, 0.5), Mark::at_most("MiB of RSS", mib, 300.0)],
        runs: json!({
            "cycles": VMS,
            "seconds": seconds,
            "oma_cores": oma,
            "oma_peak_rss": memory,
            "agent_cores": agent,
            "others_cpu_seconds": used.others,
            "bytes_per_second": moved,
        }),
    })
}

fn uuid(number: usize) -> String {
    format!("564d1d3a-0000-4000-8000-{number:012x}")
}

/// The harness knows one VM; here are the others.
fn add_vms(world: &World, source: &Sources) -> anyhow::Result<()> {
    let mut text = String::new();
    for number in 2..=VMS {
        write!(text, "[[vm]]\nuuid = \"{}\"\nname = \"vm-{number}\"\n", uuid(number))?;
        for (key, uri) in source.uris() {
            write!(text, "[[vm.plain.disks]]\nkey = \"{key}\"\nuri = \"{uri}\"\n")?;
        }
    }
    let mut file = OpenOptions::new().append(true).open(world.dir.join("vma.toml"))?;
    Ok(file.write_all(text.as_bytes())?)
}

/// `begin` and `sync` for each VM.
async fn begin_all(channel: &Channel) -> anyhow::Result<()> {
    eventually("fifty VMs in the inventory", PATIENCE, || async {
        let answer =
            InventoryServiceClient::new(channel.clone()).list_vms(v1::ListVmsRequest::default()).await?;
        let connected = answer.into_inner().vms.into_iter().filter(|vm| vm.agent_connected).count();
        Ok((connected == VMS).then_some(()))
    })
    .await?;
    let mut client = MigrationServiceClient::new(channel.clone());
    for action in [v1::Action::Begin, v1::Action::Sync] {
        // A preflight reckons with fifty disks that get full.
        let force =
            if action == v1::Action::Begin { "a benchmark: the disks stay as full as they are" } else { "" };
        for number in 1..=VMS {
            let request = v1::ActRequest {
                vm: uuid(number),
                action: action.into(),
                force_reason: force.to_owned(),
                ..v1::ActRequest::default()
            };
            client.act(request).await?;
        }
        if action == v1::Action::Begin {
            eventually("fifty replicas", PATIENCE, || async {
                let all = list(channel).await?;
                let failed = all.iter().find(|m| m.state() == v1::State::Failed);
                anyhow::ensure!(failed.is_none(), "a begin failed: {failed:?}");
                let prepared = all.iter().filter(|m| m.state() == v1::State::Paused).count();
                Ok((prepared == VMS).then_some(()))
            })
            .await?;
        }
    }
    Ok(())
}

/// Bytes on the wire, of each running cycle.
async fn sent(channel: &Channel) -> anyhow::Result<Vec<u64>> {
    let mut all = list(channel).await?;
    all.sort_by(|a, b| a.vm_uuid.cmp(&b.vm_uuid));
    let running = all.into_iter().filter(|m| m.state() == v1::State::Running);
    let cycles = running.filter_map(|m| m.cycle).filter(|cycle| cycle.status == "running");
    Ok(cycles.map(|cycle| cycle.disks.iter().map(|disk| disk.wire_bytes).sum()).collect())
}

async fn list(channel: &Channel) -> anyhow::Result<Vec<v1::Migration>> {
    let request = v1::ListRequest::default();
    let answer = MigrationServiceClient::new(channel.clone()).list(request).await?;
    Ok(answer.into_inner().migrations)
}
