//! From the request for a test failover to the first line on its machine's console, beside QEMU started by hand on copies of
//! the same disks: told what the control plane's own was told, word for word, but for the files.

use super::super::outcome::{Mark, Outcome};
use super::super::place::Place;
use super::super::{Options, report};
use super::protected::{clean, with_compute};
use crate::guest::{Drivers, Image, Sizes, Tools};
use crate::harness::{self, VM_UUID, World};
use anyhow::Context as _;
use proto::v1;
use proto::v1::failover_service_client::FailoverServiceClient;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// A guest that is interpreted, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between looks at a console's log.
const LOOK: Duration = Duration::from_millis(2);

/// Replica, restore point, clones, their snapshot, and copies by hand, if nothing is shared.
const ROOM: u64 = 2 << 30;

/// Seconds until the first line.
struct Pair {
    ours: f64,
    bare: f64,
    /// Of ours, until QEMU was there: the control plane's part.
    before: f64,
}

pub(in super::super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let folder = Place::disk(options).folder(ROOM)?;
    let image = Image::make(&Tools::find()?, folder.path(), Sizes::default(), Drivers::All)?;
    let disks = [("root", image.root.as_path()), ("data", image.data.as_path())];
    let how = harness::Options {
        replicas: Some(folder.path().join("replicas")),
        database: Some(format!("sqlite://{}/oma.db", folder.path().display())),
        ..harness::Options::files(&disks)
    };
    let mut world = World::start(&how).await?;
    let machines = folder.path().join("machines");
    with_compute(&world.dir.join("oma.toml"), "local", &machines)?;
    world.oma_restart(&[])?;
    world.agent_restart()?;
    world.begin().await?;
    world.sync().await?;
    // Once, and in the background: not a part of a failover.
    let processor = world.oma.wait_for("machines run with", PATIENCE)?;
    let processor = if processor.contains("machines run without KVM") { "TCG" } else { "KVM" };
    let mut client = FailoverServiceClient::new(world.channel().await?);
    let mut pairs = Vec::new();
    // The first tells what to start by hand, and warms up what only the first has to read.
    let (_, told) = ours(&mut client, &machines).await?;
    for number in 0..options.runs {
        let by_hand = || bare(&told, &disks.map(|(_, path)| path), folder.path());
        let earlier = if number % 2 == 0 { None } else { Some(by_hand()?) };
        let ((ours, before), _) = ours(&mut client, &machines).await?;
        let bare = earlier.map_or_else(by_hand, Ok)?;
        pairs.push(Pair { ours, bare, before });
    }
    let median = |of: fn(&Pair) -> f64| report::median(pairs.iter().map(of));
    let (ours, bare, before) = (median(|p| p.ours), median(|p| p.bare), median(|p| p.before));
    let ratio = median(|p| p.ours / p.bare);
    Ok(Outcome {
        case: "console",
        text: format!(
            "console, a Linux guest of two disks, by {processor}, {} pairs in turns\n  \
             from the request to the first line of its console {ours:.2} s, of which {before:.2} s before QEMU is begun; \
             QEMU by hand {bare:.2} s\n",
            pairs.len()
        ),
        marks: vec![Mark::at_most("x QEMU by hand, from the request to the guest's first line", ratio, 1.2)],
        runs: json!({
            "processor": processor,
            "ours_s": pairs.iter().map(|p| p.ours).collect::<Vec<_>>(),
            "bare_s": pairs.iter().map(|p| p.bare).collect::<Vec<_>>(),
            "before_qemu_s": pairs.iter().map(|p| p.before).collect::<Vec<_>>(),
        }),
    })
}

/// Seconds to the first line and to the start of QEMU, and what QEMU was told.
async fn ours(
    client: &mut FailoverServiceClient<Channel>,
    machines: &Path,
) -> anyhow::Result<((f64, f64), Vec<String>)> {
    let request = v1::FailoverServiceStartTestRequest {
        vm_id: VM_UUID.to_owned(),
        vm_name: "web".to_owned(),
        skip_virtio_injection: true,
        custom_config: r#"{"cpu_count":1,"memory_mb":256}"#.to_owned(),
        ..v1::FailoverServiceStartTestRequest::default()
    };
    let begun = Instant::now();
    let failover = client.start_test(request).await?.into_inner().failover.context("no failover")?;
    let second = failover.job_id.rsplit('-').next().unwrap_or_default();
    let folder = machines.join("machines").join(format!("test-{}-{second}", &VM_UUID[..8]));
    let log = folder.join("console.log");
    // QEMU makes it when it is started.
    let end = begun + PATIENCE;
    while !log.exists() {
        anyhow::ensure!(Instant::now() < end, "{} did not start", failover.job_id);
        tokio::time::sleep(LOOK).await;
    }
    let before = begun.elapsed().as_secs_f64();
    while !said(&log) {
        anyhow::ensure!(Instant::now() < end, "{} said nothing", failover.job_id);
        tokio::time::sleep(LOOK).await;
    }
    let first = begun.elapsed().as_secs_f64();
    let pid = std::fs::read_to_string(folder.join("pid"))?;
    let told = std::fs::read(format!("/proc/{}/cmdline", pid.trim()))?;
    let told = told.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let told: Vec<_> = told.filter(|word| !word.is_empty()).collect();
    // It has ended, or will at once: the machine says something.
    super::protected::completed(client, &failover.job_id).await?;
    clean(client, &[failover.job_id]).await?;
    Ok(((first, before), told))
}

/// The same by hand, a daemon in a session of its own as well; the copies are made before.
fn bare(told: &[String], disks: &[&Path], folder: &Path) -> anyhow::Result<f64> {
    let folder = tempfile::Builder::new().prefix("by-hand-").tempdir_in(folder)?;
    let mut copies = Vec::new();
    for (number, disk) in disks.iter().enumerate() {
        let copy = folder.path().join(format!("{number}.img"));
        anyhow::ensure!(
            Command::new("cp").arg("--sparse=always").args([disk, &copy.as_path()]).status()?.success(),
            "{} cannot be copied",
            disk.display()
        );
        copies.push(copy);
    }
    let (program, words) = told.split_first().context("QEMU was told nothing")?;
    let log = folder.path().join("console.log");
    let begun = Instant::now();
    let made = Command::new(program)
        .args(instead(words, &copies))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let made = made.context("cannot start QEMU by hand")?;
    anyhow::ensure!(made.success(), "QEMU by hand ended with {made}");
    let pid = std::fs::read_to_string(folder.path().join("pid"))?.trim().parse()?;
    let _machine = Machine(Pid::from_raw(pid).context("QEMU by hand has no process")?);
    while !said(&log) {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the guest of QEMU by hand said nothing");
        std::thread::sleep(LOOK);
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Those files for its disks, in their order.
fn instead(words: &[String], files: &[PathBuf]) -> Vec<String> {
    let mut files = files.iter();
    let changed = |word: &String| match serde_json::from_str::<Value>(word) {
        Ok(mut node) if node.get("filename").is_some() => {
            if let Some(file) = files.next() {
                node["filename"] = json!(file.display().to_string());
            }
            node.to_string()
        }
        _ => word.clone(),
    };
    words.iter().map(changed).collect()
}

/// Whether a whole line is there.
fn said(log: &Path) -> bool {
    std::fs::read(log).is_ok_and(|text| text.contains(&b'\n'))
}

/// Ended when it is dropped.
struct Machine(Pid);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself, a moment ago.
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_disks_are_others() {
        let words = [
            "-daemonize",
            "-m",
            "256M",
            r#"{"driver":"file","filename":"/a"}"#,
            r#"{"driver":"raw","file":"file0"}"#,
        ];
        let words = words.map(str::to_owned);
        let told = instead(&words, &[PathBuf::from("/b")]);
        assert_eq!(
            told,
            [
                "-daemonize",
                "-m",
                "256M",
                r#"{"driver":"file","filename":"/b"}"#,
                r#"{"driver":"raw","file":"file0"}"#
            ]
        );
    }
}
