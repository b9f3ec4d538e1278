//! What goes over the wire: compressed, and not faster than allowed.

use crate::progress::progress;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, Transport, World, binary, eventually, hash_file};
use integration_tests::link::Shape;
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use shared::tls::Role;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// Lines of text with numbers in them: data that shrinks, and no two leaves alike.
fn text(folder: &Path, bytes: u64) -> anyhow::Result<PathBuf> {
    let path = folder.join("text.img");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    let (mut line, mut written) = (0u64, 0);
    while written < bytes {
        let said = format!("{line:>12} of the log of a machine that has nothing new to say\n");
        let part = &said.as_bytes()[..said.len().min(usize::try_from(bytes - written)?)];
        file.write_all(part)?;
        (line, written) = (line + 1, written + part.len() as u64);
    }
    file.flush()?;
    Ok(path)
}

/// Copies the file by a cycle; bytes of data and on the wire, and how long it took.
async fn copied(file: &Path, transfer: &str) -> anyhow::Result<(u64, u64, Duration)> {
    copied_over(file, transfer, Transport::Tls, None).await
}

async fn copied_over(
    file: &Path,
    transfer: &str,
    transport: Transport,
    link: Option<Shape>,
) -> anyhow::Result<(u64, u64, Duration)> {
    let options =
        Options { transfer: transfer.to_owned(), transport, link, ..Options::files(&[("root", file)]) };
    let world = World::start(&options).await?;
    world.begin().await?;
    let begun = Instant::now();
    let migration = world.sync().await?;
    let took = begun.elapsed();
    ensure!(hash_file(&world.replica(&migration, "root")?)? == hash_file(file)?, "the replica is the source");
    let cycle = migration.cycle.context("a cycle")?;
    let disk = cycle.disks.first().context("a disk")?;
    Ok((disk.data_bytes, disk.wire_bytes, took))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shrinks_is_sent_smaller_and_arrives_whole() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // An odd size: the last leaf is short.
    let file = text(folder.path(), 24 * MIB + 12_345)?;
    for (transfer, most) in
        [("compression = \"strong\"", 0.3), ("compression = \"fast\"", 0.5), ("compression = \"off\"", 1.1)]
    {
        let (data, wire, _) = copied(&file, transfer).await?;
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let ratio = wire as f64 / data as f64;
        ensure!(ratio < most && (most < 1.0 || ratio >= 1.0), "{transfer}: {wire} for {data}: {ratio}");
    }
    Ok(())
}

/// By the defaults: it finds out by itself. In clear, so that both kinds of connection have been here.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_slow_link_it_compresses_by_itself() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = text(folder.path(), 64 * MIB)?;
    let slow = Shape { rate: 20 * MIB, delay: Duration::from_millis(5) };
    let (data, wire, took) = copied_over(&file, "", Transport::Cleartext, Some(slow)).await?;
    ensure!(wire < data * 7 / 10, "{wire} for {data}, in {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = text(folder.path(), 24 * MIB)?;
    let (_, wire, took) = copied(&file, "rate = \"8MiB\"\ncompression = \"off\"").await?;
    // 3 s; less at the beginning, when nothing is owed yet, and more for the commit.
    let at_least = Duration::from_millis(wire * 950 / (8 * MIB));
    ensure!((at_least..at_least + Duration::from_secs(4)).contains(&took), "{took:?} for {wire}");
    Ok(())
}

/// Set while it runs, lifted while it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_migrations_limit_holds_at_once() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = text(folder.path(), 96 * MIB)?;
    let options = Options {
        transfer: "rate = \"32MiB\"\ncompression = \"off\"".to_owned(),
        ..Options::files(&[("root", &file)])
    };
    let world = World::start(&options).await?;
    world.begin().await?;
    let limit = async |rate: u64| {
        let request = v1::LimitRequest { vm: "web".to_owned(), rate_bytes_per_second: rate };
        anyhow::Ok(MigrationServiceClient::new(world.channel().await?).limit(request).await?.into_inner())
    };
    let refused = limit(1000).await.expect_err("too slow to keep");
    ensure!(format!("{refused:#}").contains("64 KiB"), "{refused:#}");
    world.act(v1::Action::Sync).await?;
    let sent = async || {
        let cycle = world.get().await?.cycle;
        anyhow::Ok(cycle.iter().flat_map(|cycle| &cycle.disks).map(|disk| disk.wire_bytes).sum::<u64>())
    };
    eventually("the cycle to be under way", Duration::from_secs(30), || async {
        Ok((sent().await? > 8 * MIB).then_some(()))
    })
    .await?;
    // As an operator does it.
    let files = world.ca.files(Role::Operator, "admin");
    let mut cli = tokio::process::Command::new(binary("migratekit")?);
    cli.args(["migration", "limit", "web", "--rate", "1MiB", "--oma", &world.address]);
    cli.arg("--ca").arg(&files.ca).arg("--cert").arg(&files.cert).arg("--key").arg(&files.key);
    let output = cli.output().await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    let migration = world.get().await?;
    ensure!(migration.rate_bytes_per_second == MIB, "{migration:?}");
    // What was handed over before is counted within the next two reports.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (before, begun) = (sent().await?, Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (bytes, took) = (sent().await? - before, begun.elapsed());
    // A report is up to half a second old, at either end.
    let most = u64::try_from(took.as_millis())? * MIB / 1000 + MIB;
    ensure!((MIB..most).contains(&bytes), "{bytes} in {took:?}");
    limit(0).await?;
    let migration = world.synced().await?;
    // Each of these made another desired state, which is no reason to begin the disk again.
    let cycle = migration.cycle.as_ref().context("the cycle")?;
    let shown = progress(&world, &cycle.job_id)?;
    ensure!(shown["status"] == "Completed" && shown["bytes_transferred"] == 96 * MIB, "{shown}");
    let disk = &cycle.disks[0];
    ensure!(disk.data_bytes == 96 * MIB && disk.done_bytes == disk.planned_bytes, "{disk:?}");
    ensure!(
        hash_file(&world.replica(&migration, "root")?)? == hash_file(&file)?,
        "the replica is the source"
    );
    Ok(())
}

// The link runs in here, and waiting for a line of a log blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_far_agent_gets_windows_that_fill_its_link() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = text(dir.path(), MIB)?;
    let far = Shape { delay: Duration::from_millis(25), ..Shape::GIGABIT };
    let options = Options { link: Some(far), ..Options::files(&[("root", &file)]) };
    let mut world = World::start(&options).await?;
    // The agent knows of the connection before the OMA does.
    let opened = world.oma.wait_for("connection opened", Duration::from_secs(30))?;
    let window = opened.split("window=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let window: u64 = window.with_context(|| format!("no window in {opened:?}"))?.parse()?;
    // What 1 Gbit/s has on its way in 50 ms, and as much again: a window comes back in halves.
    ensure!(window >= 12_500_000, "{opened}");
    Ok(())
}
