//! A migration driven from a terminal, with both daemons.

use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, SourceKind, World, eventually};
use proto::v1;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// What the operator of the README does, and what each command says of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_driven_from_a_terminal() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("disk.raw");
    std::fs::write(&file, vec![7; 3 << 20])?;
    let world = World::start(&Options::files(&[("root", &file)])).await?;
    let guess = world.said_json(&["migration", "estimate", "web"]).await?;
    ensure!(guess["basis"] == "default" && guess["size"] == 3 << 20, "{guess}");
    let (code, error) = world.refused(&["migration", "sync", "web"]).await?;
    ensure!(code == 1 && error.contains("[NOT_PROTECTED]"), "{error}");
    world.said(&["migration", "start", "web", "--wait", "--affinity", "instance!=db"]).await?;
    world.said(&["migration", "sync", "web", "--wait"]).await?;
    std::fs::write(&file, [vec![7; 1 << 20], vec![8; 2 << 20]].concat())?;
    world.said(&["migration", "sync", "web", "--wait"]).await?;
    let measured = world.said_json(&["migration", "estimate", "web"]).await?;
    ensure!(measured["basis"] == "measured" && measured["predicted_downtime_ms"].is_u64(), "{measured}");
    ensure!(world.said(&["migration", "estimate", "web"]).await?.contains("this migration's own cycles"));

    let shown = world.said_json(&["migration", "get", "web", "--history", "10"]).await?;
    let runs: Vec<_> = shown["progress_history"].as_array().context("runs")?.iter().collect();
    let phases: Vec<_> = runs.iter().map(|run| (&run["phase"], &run["state"])).collect();
    let expected = [("begin", "successful"), ("sync", "successful"), ("sync", "successful")];
    ensure!(
        phases == expected.map(|(p, s)| (Value::from(p), Value::from(s))).each_ref().map(|(p, s)| (p, s))
    );
    for run in &runs[1..] {
        let (done, total, speed) =
            (&run["current_progress"], &run["total_progress"], &run["transfer_bytes_second"]);
        ensure!(
            done == total && done.as_u64() > Some(0) && speed.as_u64() > Some(0),
            "all of it was done: {run}"
        );
    }
    ensure!(shown["last_action"]["by"] == "admin" && shown["affinity"][0] == "instance!=db", "{shown}");
    let wide = world.said(&["migration", "list", "-o", "wide", "--state", "paused", "--text", "WEB"]).await?;
    ensure!(wide.contains("LAST ASKED") && wide.contains("sync by admin") && wide.contains(" ago"), "{wide}");
    let none = world.said(&["migration", "list", "--phase", "switch"]).await?;
    ensure!(none.is_empty(), "{none}");

    let (code, error) = world.refused(&["migration", "switch", "web"]).await?;
    ensure!(code == 1 && error.contains("[CHAIN_POLICY]") && error.contains("failover test web"), "{error}");
    let (code, error) = world.refused(&["migration", "rollback", "web"]).await?;
    ensure!(code == 1 && error.contains("[NOT_SWITCHED]") && error.contains("possible now: sync"), "{error}");
    let at = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2)).to_string();
    let later = world.said(&["migration", "switch", "web", "--at", &at]).await?;
    ensure!(later.contains("switch      in "), "{later}");
    world.said(&["migration", "switch", "web", "--cancel"]).await?;

    // Up to the switch: then it says why that was refused.
    let (code, error) =
        world.refused(&["migration", "automatic", "web", "--wait", "--max-downtime", "10m"]).await?;
    ensure!(code == 1 && error.contains("CHAIN_POLICY"), "{error}");
    let m = world.get().await?;
    ensure!(
        m.automatic.is_none() && m.error_reason == "CHAIN_POLICY" && m.state() == v1::State::Paused,
        "{m:?}"
    );

    world.said(&["migration", "wait", "web"]).await?;
    world.said(&["migration", "abort", "web"]).await?;
    let (code, error) = world.refused(&["migration", "wait", &m.migration_id]).await?;
    ensure!(code == 3 && error.contains("was aborted"), "{error}");
    Ok(())
}

/// The downtime that is allowed cannot be kept: it stops by itself, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn automatic_gives_up_when_its_cycles_do_not_get_short_enough() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("disk.raw");
    std::fs::write(&file, vec![7; 64 << 20])?;
    // 2 MB/s, and every cycle brings all of it, since a file has no change tracking and changes as a whole.
    let mut options = Options::files(&[("root", &file)]);
    options.transfer.push_str("rate = \"16MiB\"\ncompression = \"off\"\n");
    let world = World::start(&options).await?;
    let stop = tokio_util::sync::CancellationToken::new();
    let changing = tokio::spawn(change(file.clone(), stop.clone()));
    let (code, error) = world
        .refused(&["migration", "automatic", "web", "--wait", "--max-downtime", "1s", "--max-cycles", "3"])
        .await?;
    stop.cancel();
    changing.await??;
    ensure!(code == 1 && error.contains("NON_CONVERGING") && error.contains("after 3 cycles"), "{error}");
    Ok(())
}

/// Writes other bytes all over the file, again and again.
async fn change(file: std::path::PathBuf, stop: tokio_util::sync::CancellationToken) -> anyhow::Result<()> {
    for round in 0u8.. {
        if stop.is_cancelled() {
            break;
        }
        let file = file.clone();
        tokio::task::spawn_blocking(move || {
            use std::os::unix::fs::FileExt as _;
            let disk = std::fs::OpenOptions::new().write(true).open(file)?;
            let mut state = u64::from(round) + 1;
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_le_bytes()[7]
            })
            .take(64 << 20)
            .collect();
            disk.write_all_at(&noise, 0)
        })
        .await??;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

/// Red when a pause waits for reads that the source holds up.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_there_within_five_seconds_though_the_source_is_slow() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, socket) = (folder.path().join("disk.raw"), folder.path().join("nbd.sock"));
    std::fs::write(&file, vec![7; 32 << 20])?;
    let mut slow = tokio::process::Command::new("nbdkit")
        .args(["-f", "--exit-with-parent", "-U"])
        .arg(&socket)
        .args(["--filter=delay", "file"])
        .arg(&file)
        .arg("delay-read=20")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("nbdkit")?;
    eventually("nbdkit's socket", SOON, || async { Ok(socket.exists().then_some(())) }).await?;
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let options = Options {
        source: SourceKind::Uris(vec![("root".to_owned(), uri)]),
        ..Options::files(&[("root", Path::new(""))])
    };
    let world = World::start(&options).await?;
    world.begin().await?;
    world.act(v1::Action::Sync).await?;
    world
        .wait("its snapshot", SOON, |m| m.cycle.as_ref().is_some_and(|c| !c.snapshot_taken_at.is_empty()))
        .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    world.said(&["migration", "pause", "web", "--wait"]).await?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(5), "it took {took:?}");
    let m = world.get().await?;
    ensure!(m.state() == v1::State::Paused && m.cycle.is_some_and(|c| c.status == "paused"));
    slow.kill().await?;
    Ok(())
}
