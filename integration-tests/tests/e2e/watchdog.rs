//! A cycle that hangs is stopped, and the place is named: each of the three hangs for real.

use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, SourceKind, World, eventually, hash_file};
use integration_tests::middle::{Fault, Middle, Moment, Rule};
use proto::v1;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const MIB: usize = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

fn noise(path: &Path, bytes: usize) -> anyhow::Result<()> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(b"watchdog").finalize_xof().fill(&mut noise);
    Ok(std::fs::write(path, &noise)?)
}

/// The OMA again, which loses its patience soon; under `wrapper` if there is one.
fn impatient(world: &mut World, heartbeat: &str, wrapper: &[&str]) -> anyhow::Result<()> {
    let file = world.dir.join("oma.toml");
    let text = std::fs::read_to_string(&file)?;
    let short =
        text.replacen("[limits]\n", &format!("[limits]\nstalled = \"4s\"\nheartbeat = \"{heartbeat}\"\n"), 1);
    ensure!(short != text, "no limits in {text}");
    std::fs::write(&file, short)?;
    world.oma_restart(wrapper)
}

async fn stalled(world: &World, place: &str) -> anyhow::Result<v1::Migration> {
    let ended = world.wait("the cycle to be stopped", SOON, |m| m.state() != v1::State::Running).await;
    let m = ended.with_context(|| world.oma.logged().unwrap_or_default())?;
    ensure!(m.error_reason == "CYCLE_STALLED", "{m:?}\n{}", world.oma.logged()?);
    ensure!(m.error_message.contains(&format!("it hangs at the {place}:")), "{}", m.error_message);
    let logged = world.oma.logged()?;
    ensure!(logged.contains("does not get on and is interrupted"), "it was tried again first");
    Ok(m)
}

/// An NBD server that can be stopped where it stands.
struct Server(Child);

impl Server {
    fn start(socket: &Path, file: &Path) -> anyhow::Result<Self> {
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.args(["--foreground", "--exit-with-parent", "--unix"]).arg(socket).arg("file").arg(file);
        Ok(Self(nbdkit.stdin(Stdio::null()).spawn().context("nbdkit")?))
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).context("a process")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_hangs_is_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, socket) = (folder.path().join("disk.raw"), folder.path().join("nbd.sock"));
    noise(&file, 32 * MIB)?;
    let server = Server::start(&socket, &file)?;
    eventually("the server", SOON, || async { Ok(socket.exists().then_some(())) }).await?;
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let mut options =
        Options { source: SourceKind::Uris(vec![("root".to_owned(), uri)]), ..Options::default() };
    options.transfer = "connections = 2\nrate = \"4MiB\"\n".to_owned();
    let mut world = World::start(&options).await?;
    impatient(&mut world, "1s", &[])?;
    world.begin().await?;
    world.act(v1::Action::Sync).await?;
    let moving =
        |m: &v1::Migration| m.cycle.as_ref().is_some_and(|c| c.disks.iter().any(|d| d.done_bytes > 0));
    world.wait("data to move", SOON, moving).await?;
    server.signal(Signal::STOP)?;
    stalled(&world, "source").await?;
    server.signal(Signal::CONT)?;
    let m = world.sync().await?;
    ensure!(hash_file(&world.replica(&m, "root")?)? == hash_file(&file)?, "the next cycle is whole");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_wire_is_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("disk.raw");
    noise(&file, 32 * MIB)?;
    let mut options = Options::files(&[("root", &file)]);
    options.transfer.push_str("rate = \"4MiB\"\n");
    let mut world = World::start(&options).await?;
    // The watchdog is there before the agent is taken for gone, which it is after four heartbeats.
    impatient(&mut world, "5s", &[])?;
    let middle = Middle::between(&mut world).await?;
    world.begin().await?;
    middle.arm([Rule::at("PushRequest.chunk", Fault::Stall(Moment::After))]);
    world.act(v1::Action::Sync).await?;
    middle.all_fired(SOON).await?;
    stalled(&world, "wire").await?;
    middle.disarm();
    // Both sides find out about the connection by themselves, after longer than this watchdog waits.
    world.wait("the silent connection is given up", SOON, |m| !m.agent_connected).await?;
    world.wait("the agent", SOON, |m| m.agent_connected).await?;
    let m = world.sync().await?;
    ensure!(hash_file(&world.replica(&m, "root")?)? == hash_file(&file)?, "the next cycle is whole");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_hangs_is_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("disk.raw");
    noise(&file, 32 * MIB)?;
    let mut world = World::start(&Options::files(&[("root", &file)])).await?;
    let m = world.begin().await?;
    let path = world.replica(&m, "root")?.display().to_string();
    let out = world.dir.join("oma.trace").display().to_string();
    // Each flush of the replica takes half a minute.
    let tracer =
        "strace -D -f --seccomp-bpf -q -s 0 -e trace=fdatasync -e inject=fdatasync:delay_enter=30000000";
    let wrapper: Vec<_> = tracer.split_whitespace().chain(["-P", &path, "-o", &out]).collect();
    impatient(&mut world, "1s", &wrapper)?;
    world.act(v1::Action::Sync).await?;
    stalled(&world, "target").await?;
    Ok(())
}
