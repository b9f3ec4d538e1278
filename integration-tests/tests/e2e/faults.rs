//! Sources and targets that fail: a cycle waits and goes on, and never succeeds with a difference.

use crate::fencing::{DISKS, by_hand};
use crate::hand::{Hand, LEAF, open_of};
use crate::progress::progress;
use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, SourceKind, World, eventually, hash_file};
use proto::v1::{self, cycle_report::Event};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

/// Noise all over, with a hole in the middle third.
pub(crate) fn source_file(path: &Path, size: u64, seed: u8) -> anyhow::Result<()> {
    let file = std::fs::File::create(path)?;
    file.set_len(size)?;
    let mut noise = vec![0; usize::try_from(size / 3)?];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut noise);
    file.write_all_at(&noise, 0)?;
    Ok(file.write_all_at(&noise, size - size / 3)?)
}

/// An NBD server of the test's own, killed with it.
struct Server {
    child: Child,
}

impl Server {
    /// Fails all reads while `errors` exists, and serves 4 MiB a second when not: long enough to be disturbed.
    fn start(socket: &Path, file: &Path, errors: &Path) -> anyhow::Result<Self> {
        let _ = std::fs::remove_file(socket);
        let mut command = Command::new("nbdkit");
        command.args(["-f", "--exit-with-parent", "-U"]).arg(socket);
        command.args(["--filter=error", "--filter=rate", "file"]).arg(file);
        command.args(["error-pread=EIO", "error-pread-rate=100%", "rate=32M"]);
        command.arg(format!("error-file={}", errors.display()));
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("nbdkit")?;
        Ok(Self { child })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_and_goes_away_is_waited_for() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let [file, socket, errors] = ["disk.raw", "nbd.sock", "fail"].map(|name| temp.path().join(name));
    source_file(&file, 24 * MIB + 512, 1)?;
    std::fs::write(&errors, "")?;
    let server = Server::start(&socket, &file, &errors)?;
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let mut options = Options::files(&[]);
    options.source = SourceKind::Uris(vec![("root".to_owned(), uri)]);
    let socket_made = || async { Ok(socket.exists().then_some(())) };
    eventually("the NBD server", SOON, socket_made).await?;
    let world = World::start(&options).await?;
    world.begin().await?;
    world.act(v1::Action::Sync).await?;
    let waits = |m: &v1::Migration| m.state() == v1::State::Running && m.error_reason.starts_with("SOURCE_");
    let m = world.wait("waiting for the source", SOON, waits).await?;
    ensure!(m.restore_points.is_empty(), "nothing can be committed of a source that cannot be read");
    std::fs::remove_file(&errors)?;
    let goes_on = |m: &v1::Migration| m.cycle.iter().flat_map(|c| &c.disks).any(|d| d.done_bytes > 0);
    world.wait("progress", SOON, |m| goes_on(m) || m.state() != v1::State::Running).await?;
    drop(server);
    let m = world.wait("waiting or done", SOON, |m| waits(m) || m.state() != v1::State::Running).await?;
    ensure!(m.state() == v1::State::Running, "the cycle ended before its source did: nothing was tested");
    let _server = Server::start(&socket, &file, &errors)?;
    let m = world.synced().await?;
    ensure!(m.error_reason.is_empty(), "{m:?}");
    ensure!(hash_file(&world.replica(&m, "root")?)? == hash_file(&file)?, "the replica is not the source");
    ensure!(world.verify(false).await?.0.equal);
    Ok(())
}

/// A server that takes five seconds for a read is given two: the reason is said, and it goes on when it is quick again.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_slower_than_its_deadline_is_waited_for() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let [file, socket, data] = ["disk.raw", "nbd.sock", "data.raw"].map(|name| temp.path().join(name));
    source_file(&file, 9 * MIB + 512, 4)?;
    source_file(&data, 2 * MIB, 5)?;
    let start = |delay: &str| {
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new("nbdkit");
        command.args(["-f", "--exit-with-parent", "-U"]).arg(&socket).args(["--filter=delay", "file"]);
        command.arg(&file).arg(format!("delay-read={delay}"));
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("nbdkit")?;
        anyhow::Ok(Server { child })
    };
    let there = || async { Ok(socket.exists().then_some(())) };
    let slow = start("5")?;
    eventually("the NBD server", SOON, there).await?;
    let mut options = Options::files(&[]);
    let uri = |socket: &Path| format!("nbd+unix:///?socket={}", socket.display());
    // The other disk is finished in the first attempt, and not wanted in the next ones.
    let [errors, other] = ["no-errors", "data.sock"].map(|name| temp.path().join(name));
    let _other = Server::start(&other, &data, &errors)?;
    eventually("the other NBD server", SOON, || async { Ok(other.exists().then_some(())) }).await?;
    options.source =
        SourceKind::Uris(vec![("root".to_owned(), uri(&socket)), ("data".to_owned(), uri(&other))]);
    options.transfer.push_str("source_deadline = \"2s\"\n");
    let world = World::start(&options).await?;
    world.begin().await?;
    world.act(v1::Action::Sync).await?;
    let waits = |m: &v1::Migration| m.error_reason == "SOURCE_READ_FAILED";
    let m = world.wait("the reason", SOON, |m| waits(m) || m.state() != v1::State::Running).await?;
    ensure!(m.state() == v1::State::Running && m.restore_points.is_empty(), "{m:?}");
    ensure!(
        m.error_message.contains("has not answered for 2 s"),
        "the deadline is named: {}",
        m.error_message
    );
    said_in_the_database(&world, "Waiting: SOURCE_READ_FAILED").await?;
    let job = m.cycle.as_ref().context("the cycle")?.job_id.clone();
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        let m = world.get().await?;
        ensure!(m.error_reason.is_empty() || m.error_reason.starts_with("SOURCE_"), "{m:?}");
        let shown = progress(&world, &job)?.to_string();
        ensure!(!shown.contains("finished already") && !shown.contains("DISK_FINISHED"), "{shown}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(slow);
    let _quick = start("0")?;
    let m = world.synced().await?;
    ensure!(m.error_reason.is_empty(), "{m:?}");
    let other = m.cycle.iter().flat_map(|cycle| &cycle.disks).find(|disk| disk.key == "data");
    let other = other.context("the other disk")?;
    ensure!(other.data_bytes > MIB && other.done_bytes == 2 * MIB, "what was moved stays so: {other:?}");
    ensure!(hash_file(&world.replica(&m, "root")?)? == hash_file(&file)?, "the replica is not the source");
    ensure!(hash_file(&world.replica(&m, "data")?)? == hash_file(&data)?, "the other is not its source");
    ensure!(world.verify(false).await?.0.equal);
    Ok(())
}

/// A small file system, gone with the guard.
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    /// `None` without the rights.
    pub(crate) fn mount(at: &Path, size: &str) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(at)?;
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status()?;
        Ok(mounted.success().then(|| Self(at.to_owned())))
    }

    fn grow(&self, size: &str) -> anyhow::Result<()> {
        let options = format!("remount,size={size}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).status()?;
        ensure!(done.success(), "remount failed");
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What the only cycle does, as an operator would ask it of the database.
async fn said_in_the_database(world: &World, operation: &str) -> anyhow::Result<()> {
    let query = "SELECT current_operation FROM replication_jobs";
    eventually(operation, SOON, || async {
        let mut sqlite = Command::new("sqlite3");
        let asked =
            sqlite.args(["-readonly", "-cmd", ".timeout 5000"]).arg(world.dir.join("oma.db")).arg(query);
        let said = String::from_utf8(asked.output()?.stdout)?;
        Ok((said.trim() == operation).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_target_is_waited_for() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let file = temp.path().join("disk.raw");
    source_file(&file, 24 * MIB, 2)?;
    let Some(disk) = SmallDisk::mount(&temp.path().join("small"), "6m")? else {
        eprintln!("skipped: mounting a file system needs root");
        return Ok(());
    };
    let mut options = Options::files(&[("root", &file)]);
    options.replicas = Some(disk.0.clone());
    let world = World::start(&options).await?;
    world.begin_forced("room is made meanwhile").await?;
    world.act(v1::Action::Sync).await?;
    let full = |m: &v1::Migration| m.error_reason == "TARGET_FULL" || m.state() != v1::State::Running;
    let m = world.wait("waiting for room", SOON, full).await?;
    ensure!(m.state() == v1::State::Running, "the cycle ended on a full target: {m:?}");
    said_in_the_database(&world, "Waiting: TARGET_FULL").await?;
    // Room for the replica (16 MiB of data), not for its restore point.
    disk.grow("20m")?;
    let sent = |m: &v1::Migration| m.cycle.as_ref().is_some_and(|c| c.status == "committing");
    world.wait("all of it sent", SOON, sent).await?;
    let m = world.wait("waiting for room again", SOON, full).await?;
    ensure!(m.state() == v1::State::Running && m.restore_points.is_empty(), "{m:?}");
    said_in_the_database(&world, "Waiting: TARGET_FULL").await?;
    disk.grow("100m")?;
    let m = world.synced().await?;
    said_in_the_database(&world, "Complete").await?;
    ensure!(hash_file(&world.replica(&m, "root")?)? == hash_file(&file)?, "the replica is not the source");
    ensure!(hash_file(&world.restore_point(&m, "root")?)? == hash_file(&file)?, "nor is the restore point");
    ensure!(world.verify(false).await?.0.equal);
    Ok(())
}

/// What was there before does not shine through where the source has zeros: `begin` takes a volume as it finds it.
#[tokio::test(flavor = "multi_thread")]
async fn old_data_on_the_target_is_overwritten_by_zeros() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let (file, replicas) = (temp.path().join("disk.raw"), temp.path().join("replicas"));
    source_file(&file, 12 * MIB + 512, 3)?;
    let mut options = Options::files(&[("root", &file)]);
    options.replicas = Some(replicas.clone());
    let world = World::start(&options).await?;
    // The volume's name is known once there is a migration: let the first begin fail.
    let volumes = replicas.join("volumes");
    std::fs::remove_dir(&volumes)?;
    let m = world.begin().await?;
    ensure!(m.state() == v1::State::Failed && m.error_reason == "REPLICA_NOT_MADE", "{m:?}");
    std::fs::create_dir(&volumes)?;
    std::fs::write(world.replica(&m, "root")?, vec![0xaa; usize::try_from(12 * MIB + 512)?])?;
    let m = world.begin().await?;
    ensure!(m.state() == v1::State::Paused, "{m:?}");
    let m = world.sync().await?;
    ensure!(hash_file(&world.replica(&m, "root")?)? == hash_file(&file)?, "old data shines through");
    let (verdict, mismatches) = world.verify(false).await?;
    ensure!(verdict.equal, "{mismatches:?}");
    Ok(())
}

/// A full copy that never commits leaves its data; the next one, onto the same target, is of a source that has zeros
/// there. The volume read zero when it was made, and does no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_full_copy_takes_nothing_of_the_first_for_granted() -> anyhow::Result<()> {
    let (mut world, mut agent, cycle) = by_hand().await?;
    let size = DISKS[0].1;
    let mut push = Hand::open(&agent.channel, open_of(&cycle, size)).await?;
    for leaf in [0, 1, 7, 31] {
        ensure!(push.leaf(leaf, 0xaa).await);
    }
    push.wait_durable(4 * LEAF).await?;
    // This one is announced and written, and nobody ever hears that it is durable.
    ensure!(push.leaf(12, 0xaa).await);
    let finding = v1::Finding {
        kind: v1::FindingKind::SnapshotLost.into(),
        disk_key: String::new(),
        message: "the test says so".to_owned(),
    };
    let lost = v1::FindingReport { findings: vec![finding] };
    agent.report(&cycle.job_id, Event::Finding(lost)).await?;
    let next = agent.cycle(DISKS).await?;
    ensure!(next.job_id != cycle.job_id && next.disks[0].epoch > cycle.disks[0].epoch, "{next:?}");
    let mut push = Hand::open(&agent.channel, open_of(&next, size)).await?;
    ensure!(push.prior.0 == 0, "nothing of the first copy counts as durable in the second");
    ensure!(push.prior.1 >= 4 * LEAF, "and all of what it announced has to be sent");
    ensure!(
        push.leaf(1, 0xbb).await && push.zero(0, LEAF).await && push.zero(2 * LEAF, size - 2 * LEAF).await
    );
    push.finish().await?;
    let m = world.synced().await?;
    let replica = std::fs::read(world.replica(&m, "root")?)?;
    let fills: Vec<u8> = replica.iter().step_by(usize::try_from(LEAF)?).copied().collect();
    let mut expected = vec![0; 32];
    expected[1] = 0xbb;
    assert_eq!(fills, expected);
    let (verdict, mismatches) = world.verify(false).await?;
    ensure!(verdict.equal, "{mismatches:?}");
    world.agent.kill();
    Ok(())
}

/// Chunks come in any order, again and again, on several streams of one transfer.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_in_any_order_and_more_than_once() -> anyhow::Result<()> {
    let (world, agent, cycle) = by_hand().await?;
    let size = DISKS[0].1;
    let leaves = size / LEAF;
    let mut one = Hand::open(&agent.channel, open_of(&cycle, size)).await?;
    let mut two = Hand::open(&agent.channel, open_of(&cycle, size)).await?;
    ensure!(one.intent(0, size).await);
    let fill = |leaf: u64| u8::try_from(leaf * 7 + 1).unwrap_or(0);
    // 13 and 32 have no common divisor: every leaf, in leaps.
    for step in 0..leaves {
        let leaf = step * 13 % leaves;
        ensure!(one.leaf(leaf, fill(leaf)).await);
        if step % 3 == 0 {
            ensure!(two.leaf(leaf, fill(leaf)).await && one.leaf(leaf, fill(leaf)).await);
        }
    }
    // Two leaves in one chunk, over what is there already.
    let mut both = vec![fill(4); usize::try_from(LEAF)?];
    both.resize(usize::try_from(2 * LEAF)?, fill(5));
    ensure!(two.chunk(4 * LEAF, both).await);
    two.wait_durable(LEAF).await?;
    // A range may be told once for each time it was sent.
    one.wait_durable(size).await?;
    one.finish().await?;
    let m = world.synced().await?;
    let replica = std::fs::read(world.replica(&m, "root")?)?;
    for (leaf, bytes) in (0..).zip(replica.chunks(usize::try_from(LEAF)?)) {
        ensure!(bytes.iter().all(|byte| *byte == fill(leaf)), "leaf {leaf}");
    }
    let (verdict, mismatches) = world.verify(false).await?;
    ensure!(verdict.equal, "{mismatches:?}");
    Ok(())
}
