//! Twenty cycles of one agent at once, and the control plane killed and restarted among them: none of them fails.

use crate::seed::Seed;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, World, eventually, hash_file};
use proto::v1;
use proto::v1::inventory_service_client::InventoryServiceClient;
use proto::v1::migration_service_client::MigrationServiceClient;
use rand::Rng as _;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const CROWD: usize = 20;
const SIZE: u64 = 5 * MIB + 512;
const SOON: Duration = Duration::from_secs(60);

struct Vm {
    uuid: String,
    file: PathBuf,
}

/// Each its own noise.
fn vms(folder: &Path) -> anyhow::Result<Vec<Vm>> {
    let one = |index: usize| {
        let file = folder.join(format!("{index}.raw"));
        let mut noise = vec![0; usize::try_from(SIZE)?];
        blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof().fill(&mut noise);
        std::fs::write(&file, noise)?;
        Ok(Vm { uuid: format!("564d1d3a-0000-4000-8000-0000000001{index:02}"), file })
    };
    (0..CROWD).map(one).collect()
}

/// The agent's inventory is the crowd.
fn configure(world: &World, vms: &[Vm]) -> anyhow::Result<()> {
    let config = world.dir.join("vma.toml");
    let text = std::fs::read_to_string(&config)?;
    let mut text = text.split("[[vm]]").next().unwrap_or_default().to_owned();
    for vm in vms {
        let (uuid, file) = (&vm.uuid, vm.file.display());
        write!(
            text,
            "[[vm]]\nuuid = \"{uuid}\"\nname = \"{uuid}\"\n[[vm.plain.disks]]\nkey = \"root\"\nfile = \"{file}\"\n"
        )?;
    }
    Ok(std::fs::write(config, text)?)
}

async fn act(world: &World, vm: &Vm, action: v1::Action) -> anyhow::Result<()> {
    let request = v1::ActRequest { vm: vm.uuid.clone(), action: action.into(), ..v1::ActRequest::default() };
    MigrationServiceClient::new(world.channel().await?).act(request).await?;
    Ok(())
}

/// All of them, when each is as `wanted` says. None may have failed by then.
async fn all(
    world: &World,
    what: &str,
    deadline: Duration,
    wanted: impl Fn(&v1::Migration) -> bool,
) -> anyhow::Result<Vec<v1::Migration>> {
    eventually(what, deadline, || async {
        // A control plane that is away is asked again.
        let Ok(channel) = world.channel().await else { return Ok(None) };
        let request = v1::ListRequest { all: true, ..v1::ListRequest::default() };
        let Ok(answer) = MigrationServiceClient::new(channel).list(request).await else { return Ok(None) };
        let migrations = answer.into_inner().migrations;
        if let Some(failed) = migrations.iter().find(|m| m.state() == v1::State::Failed) {
            anyhow::bail!("failed: {failed:?}");
        }
        Ok((migrations.len() == CROWD && migrations.iter().all(&wanted)).then_some(migrations))
    })
    .await
}

fn done(m: &v1::Migration) -> u64 {
    m.cycle.iter().flat_map(|cycle| &cycle.disks).map(|disk| disk.done_bytes).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cycle_of_twenty_fails_when_the_control_plane_is_killed_among_them() -> anyhow::Result<()> {
    let name = "crowd::no_cycle_of_twenty_fails_when_the_control_plane_is_killed_among_them";
    let mut seed = Seed::new(51, name);
    let folder = tempfile::tempdir()?;
    let vms = vms(folder.path())?;
    let mut options = Options::files(&[("root", &vms[0].file)]);
    // All of them together take nine seconds, and none of them much less.
    options.transfer = "connections = 1\nbuffers = \"4MiB\"\nrate = \"12MiB\"\n".to_owned();
    let mut world = World::start(&options).await?;
    configure(&world, &vms)?;
    world.agent_restart()?;
    eventually("the crowd in the inventory", SOON, || async {
        let channel = world.channel().await?;
        let answer = InventoryServiceClient::new(channel).list_vms(v1::ListVmsRequest::default()).await?;
        let connected = answer.into_inner().vms.into_iter().filter(|vm| vm.agent_connected).count();
        Ok((connected == CROWD).then_some(()))
    })
    .await?;
    for vm in &vms {
        act(&world, vm, v1::Action::Begin).await?;
    }
    all(&world, "all begun", SOON, |m| m.state() == v1::State::Paused).await?;
    for vm in &vms {
        act(&world, vm, v1::Action::Sync).await?;
    }
    let under_way = |m: &v1::Migration| m.cycle.as_ref().is_some_and(|c| !c.snapshot_taken_at.is_empty());
    let before = all(&world, "twenty cycles under way", SOON, under_way).await?;
    let running = before.iter().filter(|m| m.state() == v1::State::Running && done(m) < SIZE).count();
    ensure!(running >= CROWD - 2, "only {running} of {CROWD} were running: nothing was tested");
    // Not waits for something: the points themselves.
    tokio::time::sleep(Duration::from_millis(seed.random.random_range(0..1000))).await;
    world.oma.kill();
    world.oma_restart(&[])?;
    // And once more, while they are coming back.
    all(&world, "all connected again", SOON, |m| m.agent_connected).await?;
    tokio::time::sleep(Duration::from_millis(seed.random.random_range(0..300))).await;
    world.oma.kill();
    world.oma_restart(&[])?;
    // And as `systemctl restart` does it.
    all(&world, "all connected once more", SOON, |m| m.agent_connected).await?;
    let ended = world.oma.stop(Duration::from_secs(10))?;
    ensure!(ended.success(), "it ended with {ended}");
    world.oma_restart(&[])?;
    let after = all(&world, "twenty commits", Duration::from_secs(120), |m| {
        m.state() == v1::State::Paused && m.restore_points.len() == 1
    })
    .await?;
    for m in &after {
        let was = before.iter().find(|b| b.migration_id == m.migration_id).context("the migration")?;
        let job = |m: &v1::Migration| m.cycle.as_ref().map(|c| c.job_id.clone());
        ensure!(job(m) == job(was), "the cycle went on, no new one came: {m:?}");
        ensure!(m.error_reason.is_empty() && m.findings.is_empty(), "{m:?}");
        let vm = vms.iter().find(|vm| vm.uuid == m.vm_uuid).context("the VM")?;
        let hash = hash_file(&vm.file)?;
        ensure!(hash_file(&world.replica(m, "root")?)? == hash, "the replica of {}", vm.uuid);
        ensure!(hash_file(&world.restore_point(m, "root")?)? == hash, "the restore point of {}", vm.uuid);
    }
    seed.survived();
    Ok(())
}
