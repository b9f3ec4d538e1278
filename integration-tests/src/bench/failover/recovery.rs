//! A control plane that is killed while it drives a hundred jobs: how long after its next start the last of them has ended.

use super::super::outcome::{Mark, Outcome};
use super::super::{Options, report};
use super::protected::{Protected, VMS, clean, completed, wait};
use super::{begin_all, time};
use jiff::Timestamp;
use proto::v1::failover_service_client::FailoverServiceClient;
use serde_json::json;
use tonic::transport::Channel;

/// As many as five tests of each VM.
const JOBS: usize = 100;

/// What a run came to.
struct Run {
    /// From the start of the program to the end of the last job, and of the first.
    last: f64,
    first: f64,
    /// Steps that were under way, so that they had to be looked up.
    looked_up: usize,
}

pub(in super::super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let mut there = Protected::start(options).await?;
    let mut runs = Vec::new();
    for _ in 0..options.few() {
        runs.push(once(&mut there).await?);
    }
    let seconds = report::sorted(runs.iter().map(|run| run.last));
    let worst = seconds.last().copied().unwrap_or(f64::NAN);
    let all: Vec<_> = runs
        .iter()
        .map(|r| {
            format!(
                "  from exec: first end {:.2} s, last {:.2} s; {} steps were under way\n",
                r.first, r.last, r.looked_up
            )
        })
        .collect();
    Ok(Outcome {
        case: "recovery",
        text: format!(
            "recovery, {JOBS} test failovers cut by kill -9, the control plane started again\n{}",
            all.concat()
        ),
        marks: vec![Mark::at_most("s until all interrupted jobs have ended, at worst", worst, 5.0)],
        runs: json!({
            "jobs": JOBS,
            "seconds": seconds,
            "looked_up": runs.iter().map(|run| run.looked_up).collect::<Vec<_>>(),
        }),
    })
}

async fn once(there: &mut Protected) -> anyhow::Result<Run> {
    // Each comes to its machine, and no further.
    let hold = there.folder.path().join("machines/hold");
    std::fs::write(&hold, "")?;
    let client = there.client().await?;
    let jobs = begin_all(&client, JOBS, VMS).await?;
    for job in &jobs {
        under_way(&mut client.clone(), job).await?;
    }
    there.world.oma.kill();
    std::fs::remove_file(&hold)?;
    let begun = Timestamp::now();
    there.world.oma_restart(&[])?;
    let client = there.client().await?;
    let (mut ends, mut looked_up) = (Vec::new(), 0);
    for job in &jobs {
        let ended = completed(&mut client.clone(), job).await?;
        let end = time(&ended.completed_at)?;
        anyhow::ensure!(end >= begun, "{job} had ended before the control plane was killed");
        ends.push(end);
        for part in ended.steps.iter().flat_map(|step| &step.parts) {
            looked_up += usize::from(time(&part.started_at)? < begun && time(&part.completed_at)? >= begun);
        }
    }
    nothing_twice(there)?;
    let after = |end: Option<&Timestamp>| end.map_or(f64::NAN, |end| end.duration_since(begun).as_secs_f64());
    let run = Run { last: after(ends.iter().max()), first: after(ends.iter().min()), looked_up };
    clean(&mut client.clone(), &jobs).await?;
    Ok(run)
}

/// Waits until its machine is being made.
async fn under_way(client: &mut FailoverServiceClient<Channel>, job: &str) -> anyhow::Result<()> {
    wait(client, job, |f| {
        let parts = f.steps.iter().flat_map(|step| &step.parts);
        parts.filter(|part| part.state == "started").any(|part| {
            let name = part.name.as_str();
            name == "define" || name == "start" || name.starts_with("attach-")
        })
    })
    .await?;
    Ok(())
}

/// As many clones and machines as the jobs have.
fn nothing_twice(there: &Protected) -> anyhow::Result<()> {
    let count = |folder: &str, start: &str, end: &str| {
        let entries = std::fs::read_dir(there.folder.path().join(folder))?.collect::<Result<Vec<_>, _>>()?;
        let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
        anyhow::Ok(names.filter(|name| name.starts_with(start) && name.ends_with(end)).count())
    };
    let (clones, machines) =
        (count("replicas/volumes", "cs-", ".img")?, count("machines", "test-", ".json")?);
    anyhow::ensure!(clones == 2 * JOBS && machines == JOBS, "{clones} clones and {machines} machines");
    Ok(())
}
