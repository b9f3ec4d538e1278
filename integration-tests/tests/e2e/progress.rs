//! The progress API of a running agent and the REST API of the OMA, asked by `curl`: of cycles, and of a copy that is none.

use anyhow::{Context as _, ensure};
use integration_tests::harness::{Options, World, binary};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// What the agent's API says of the job.
pub(crate) fn progress(world: &World, job: &str) -> anyhow::Result<Value> {
    get(&world.progress, &format!("progress/{job}"))
}

fn get(address: &str, path: &str) -> anyhow::Result<Value> {
    let url = format!("http://{address}/api/v1/{path}");
    let output = Command::new("curl").args(["-sf", "--max-time", "10", &url]).output()?;
    ensure!(output.status.success(), "curl {url}: {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_and_its_disks_are_shown_while_they_run_and_afterwards() -> anyhow::Result<()> {
    let world = World::start(&Options::live(&[("root", 384 * MIB), ("data", 8 * MIB)])).await?;
    for (key, bytes) in [("root", 384 * MIB), ("data", 4 * MIB)] {
        crate::findings::guest_writes(world.live()?, key, 0, bytes, 1)?;
    }
    world.begin().await?;
    world.act(proto::v1::Action::Sync).await?;
    let (mut seen, mut last, begun) = (0, 0.0, Instant::now());
    // At the OMA: how often its row was another one, what it said last, and whether it was asked on the way.
    let (mut written, mut row, mut running) = (0, Value::Null, 0);
    let m = loop {
        let m = world.get().await?;
        let view = m.cycle.as_ref().and_then(|cycle| progress(&world, &cycle.job_id).ok());
        if let Some(view) = view {
            let percent = view["percentage"].as_f64().context("a number")?;
            ensure!((last..=100.0).contains(&percent), "from {last} to {percent}");
            let bytes = view["bytes_transferred"].as_u64().context("a number")?;
            ensure!(bytes <= 388 * MIB, "more than there is: {bytes}");
            seen += u32::from(percent > last && percent < 100.0);
            last = percent;
        }
        if let Some(cycle) = &m.cycle {
            let now = get(&world.rest, &format!("replications/{}", cycle.job_id))?;
            ensure!(now["progress_percent"].as_f64() >= row["progress_percent"].as_f64(), "{row} {now}");
            ensure!(now["bytes_transferred"].as_u64() >= row["bytes_transferred"].as_u64(), "{row} {now}");
            written += u32::from(now["bytes_transferred"] != row["bytes_transferred"]);
            running += u32::from(now["status"] == "running");
            row = now;
        }
        if m.state() == proto::v1::State::Paused {
            break m;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // Told twice a second: on a very quick machine it is over before.
    ensure!(seen > 0 || begun.elapsed() < Duration::from_secs(1), "it was not shown on its way");
    let job = &m.cycle.as_ref().context("a cycle")?.job_id;
    // The first, one a second, and the end.
    ensure!(running > 0 && f64::from(written) <= begun.elapsed().as_secs_f64() + 3.0, "{running} {written}");
    let listed = get(&world.rest, "replications?status=completed&limit=1")?;
    let row = &listed["replications"][0];
    ensure!(row["id"] == job.as_str() && row["vm_name"] == "web" && row["kind"] == "full", "{listed}");
    ensure!(row["bytes_transferred"] == 388 * MIB && row["progress_percent"] == 100.0, "{listed}");
    let view = get(&world.rest, &format!("progress/{job}"))?;
    ensure!(view["status"] == "Completed" && view["bytes_transferred"] == 388 * MIB, "{view}");
    let view = progress(&world, job)?;
    ensure!(view["status"] == "Completed" && view["bytes_transferred"] == 388 * MIB, "{view}");
    ensure!(view["vm_info"]["name"] == "web" && view["vm_info"]["cbt_enabled"] == true, "{view}");
    let data = m.disks.iter().find(|disk| disk.key == "data").context("data")?;
    let view = progress(&world, &format!("migration-vol-{}", data.disk_id))?;
    ensure!(view["bytes_transferred"] == 4 * MIB && view["total_bytes"] == 8 * MIB, "{view}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_tells_an_agent_and_does_not_wait_for_it() -> anyhow::Result<()> {
    const JOB: &str = "migration-vol-c290646c-41ba-4d50-a31f-f497320ca0bd";
    let world = World::start(&Options::live(&[("root", MIB)])).await?;
    let source = world.dir.join("outside.img");
    let mut noise = vec![0; usize::try_from(64 * MIB)?];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    std::fs::write(&source, noise)?;
    let copy = |url: &str, target: &str| {
        let mut command = Command::new(binary("migratekit")?);
        command.arg("copy").args([&source, &world.dir.join(target)]);
        command.args(["--progress-url", url, "--job-id", JOB]);
        let begun = Instant::now();
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        anyhow::Ok((begun.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    copy(&format!("http://{}", world.progress), "one.img")?;
    let view = progress(&world, JOB)?;
    ensure!(view["status"] == "Completed" && view["bytes_transferred"] == 64 * MIB, "{view}");
    // Nobody there; and somebody who takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    for url in ["http://127.0.0.1:9".to_owned(), format!("http://{}", silent.local_addr()?)] {
        let (took, said) = copy(&url, "two.img")?;
        ensure!(took < Duration::from_secs(20), "{took:?}");
        ensure!(said.matches("progress cannot be told").count() == 1, "{said}");
    }
    Ok(())
}
