//! What many migrations, agents and cycles cost the control plane, and how long its answers take meanwhile.
//!
//! ```text
//!  year.sql ──► SQLite ──► oma-api ◄══ 1000 agents over mutual TLS (this process): heartbeats, 50 of them run a cycle each
//!                             ◄── list and get, over gRPC and REST, one question at a time
//! ```
//!
//! The agents are on the same processors as the daemon, so answers wait for them too: the figures are pessimistic.

mod agents;
mod asks;
mod year;

use super::cpu::Watch;
use super::outcome::{Mark, Outcome};
use super::{Options, report, world};
use crate::harness::{self, World, eventually};
use agents::Agents;
use asks::Asked;
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use serde_json::json;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

pub(super) use asks::Rest;
pub(super) use year::Year;

/// Cycles that run.
const CYCLES: usize = 50;

const PATIENCE: Duration = Duration::from_secs(120);

/// A world with a filled store; its control plane is not started again.
async fn filled(year: Year) -> anyhow::Result<World> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(1 << 20)?;
    let mut world = World::start(&harness::Options::files(&[("root", file.path())])).await?;
    world.agent.stop(PATIENCE)?;
    year.fill(&mut world)?;
    Ok(world)
}

pub(super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let year = options.sizes.year;
    let mut world = filled(year).await?;
    world.oma_restart(&[])?;
    let begun = Instant::now();
    let mut agents = Agents::start(&world, year)?;
    while agents.connected().await? < year.agents {
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "only {} agents are connected",
            agents.connected().await?
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let connecting = begun.elapsed().as_secs_f64();
    // What the start and the connecting have left to do is not rest.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let rest = cores(&world, options.sizes.watched).await?;
    begin(&world, &mut agents).await?;
    let busy = cores(&world, options.sizes.watched).await?;
    let asked = asks::all(&world, year, options.sizes.asked).await?;
    let connected = agents.connected().await?;
    anyhow::ensure!(connected == year.agents, "{connected} agents at the end");
    let mib = report::float(world::peak(world.oma.pid())?) / report::float(1 << 20);
    let mut text = format!(
        "crowd, {}\n  {} agents connected within {connecting:.1} s; oma-api {rest:.2} cores at rest, {busy:.2} with {CYCLES} cycles \
         that report each second, {mib:.0} MiB at most\n",
        year.shown(),
        year.agents
    );
    let mut rows = vec![["", "p50 ms", "p99 ms", "most"].map(String::from)];
    let ms = |asked: &Asked, of: usize| format!("{:.1}", asked.percentile(of));
    rows.extend(asked.iter().map(|a| [a.what.to_owned(), ms(a, 50), ms(a, 99), ms(a, 100)]));
    write!(text, "{}", report::table(&rows))?;
    let units =
        ["ms, p99 of list, gRPC", "ms, p99 of list, REST", "ms, p99 of get, gRPC", "ms, p99 of get, REST"];
    let mut marks: Vec<Mark> = asked
        .iter()
        .zip(units)
        .map(|(asked, unit)| Mark::at_most(unit, asked.percentile(99), 50.0))
        .collect();
    marks.push(Mark::at_most("MiB of RSS", mib, 400.0));
    marks.push(Mark::at_most("cores at rest", rest, 0.5));
    Ok(Outcome {
        case: "crowd",
        text,
        marks,
        runs: json!({
            "store": year.shown(),
            "agents_connected_within_s": connecting,
            "cores_at_rest": rest,
            "cores_with_cycles": busy,
            "peak_rss_mib": mib,
            "asked": asked.iter().map(Asked::json).collect::<Vec<_>>(),
        }),
    })
}

/// Of the control plane.
async fn cores(world: &World, time: Duration) -> anyhow::Result<f64> {
    let watch = Watch::start(vec![world.oma.pid()])?;
    tokio::time::sleep(time).await;
    let used = watch.end()?;
    Ok(used.parts[0] / used.wall.as_secs_f64())
}

/// Asks for cycles, and waits until their agents run them.
async fn begin(world: &World, agents: &mut Agents) -> anyhow::Result<()> {
    let mut client = MigrationServiceClient::new(world.channel().await?);
    // Every fifth has ended.
    for vm in (0..).filter(|number| number % 5 != 4).take(CYCLES).map(Year::vm) {
        client
            .act(v1::ActRequest { vm, action: v1::Action::Sync.into(), ..v1::ActRequest::default() })
            .await?;
    }
    let agents = &*agents;
    eventually("fifty running cycles", PATIENCE, || async { Ok((agents.running() >= CYCLES).then_some(())) })
        .await
}

/// How long a control plane takes to start with that store.
pub(super) async fn start(options: &Options) -> anyhow::Result<Outcome> {
    let year = options.sizes.year;
    let mut world = filled(year).await?;
    let mut seconds = Vec::new();
    for _ in 0..options.runs {
        let begun = Instant::now();
        world.oma_restart(&[])?;
        let mut client = MigrationServiceClient::new(world.channel().await?);
        client.get(v1::GetRequest { vm: Year::vm(0), ..v1::GetRequest::default() }).await?;
        seconds.push(begun.elapsed().as_secs_f64());
        world.oma.stop(PATIENCE)?;
    }
    let seconds = report::sorted(seconds.into_iter());
    let (median, worst) =
        (report::median(seconds.iter().copied()), seconds.last().copied().unwrap_or(f64::NAN));
    let text = format!(
        "start, {}\n  from exec to the first answer over gRPC: {median:.2} s in the middle, {worst:.2} s at worst of {}\n",
        year.shown(),
        seconds.len()
    );
    let marks = vec![Mark::at_most("s until it answers, at worst", worst, 2.0)];
    Ok(Outcome { case: "start", text, marks, runs: json!({ "seconds": seconds }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red when the schema has moved on and the year has not: the bench itself runs once in a while only.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_year_fits_the_schema() -> anyhow::Result<()> {
        let mut world = filled(Year { migrations: 50, agents: 5, cycles: 3, events: 100 }).await?;
        world.oma_restart(&[])?;
        let mut client = MigrationServiceClient::new(world.channel().await?);
        let page =
            client.list(v1::ListRequest { page_size: 50, ..v1::ListRequest::default() }).await?.into_inner();
        anyhow::ensure!(page.migrations.len() == 40, "{} go on", page.migrations.len());
        let vm = page.migrations[0].vm_name.clone();
        let one = client.get(v1::GetRequest { vm, ..v1::GetRequest::default() }).await?.into_inner();
        anyhow::ensure!(
            one.migration.is_some_and(|m| m.restore_points.len() == 2),
            "the two newest are kept"
        );
        Ok(())
    }
}
