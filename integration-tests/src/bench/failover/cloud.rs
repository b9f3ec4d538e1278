//! Test failovers on the real targets' terms, through both simulators, without a guest: what they ask of CloudStack and LINSTOR,
//! and what is left that is the control plane's own.
//!
//! ```text
//!  gRPC ──► oma-api ── SQLite ──┬── cloudstack-sim: jobs of 200 ms, machines in memory     | in this process, on the
//!                               └── linstor-sim: real bytes, in sparse files               | same processors
//!
//!  alone:    one test and its clean-up                  calls of both
//!  at once:  fifty tests, then their clean-ups          calls of both, polls of each job, memory
//!  singles:  twenty tests, one after the other          what is own: all but the targets' answers and the waits for jobs
//! ```
//!
//! What the simulated plug-in asks LINSTOR is among LINSTOR's calls, and so is what the control plane asks on its own account
//! meanwhile (its reconcilers).

mod asked;
mod own;

use super::super::outcome::{Mark, Outcome};
use super::super::{Options, report, world};
use super::protected::{Protected, begin, clean, completed, with_table};
use super::{begin_all, time};
use crate::cloudstack_sim;
use crate::harness::World;
use crate::zone::{self, GROUP, OMA, Zone};
use asked::{Asked, Polls};
use jiff::Timestamp;
use own::Own;
use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;

const JOB: Duration = Duration::from_millis(200);

/// Of each host's pool; what is in it is sparse.
const POOL_KIB: u64 = 2 << 30;

/// Bytes of each host.
const HOST_MEMORY: u64 = 1 << 40;

/// As it is delivered, and for what is measured of one alone, where a wait for a job is only waited.
const POLL: &str = "1s";
const QUICK_POLL: &str = "100ms";

/// What tests took that ran together.
struct Together {
    first: f64,
    last: f64,
    /// With their clean-ups.
    all: f64,
    jobs: Vec<String>,
}

pub(in super::super) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let (at_once, singles) = (options.sizes.tests.div_ceil(2), options.sizes.tests.div_ceil(5));
    let folder = super::super::place::Place::disk(options).folder(2 << 30)?;
    let with = zone::Options {
        capacity_kib: POOL_KIB,
        job_time: JOB,
        adjust: with_room,
        ..zone::Options::new(folder.path())
    };
    let zone = Zone::start_with(with).await?;
    let mut there = Protected::start_with(options, at_once, |world, _| configure(world, &zone, POLL)).await?;

    let before = Asked::of(&zone);
    let alone = together(&there, 1).await?;
    let one = Asked::of(&zone).since(&before);

    let before = Asked::of(&zone);
    let many = together(&there, at_once).await?;
    let fifty = Asked::of(&zone).since(&before);
    let polls = Polls::of(&zone, before.cloudstack)?;
    let crowded = own_parts(&there, &many.jobs).await?;
    let mib = report::float(world::peak(there.world.oma.pid())?) / report::float(1 << 20);

    configure(&there.world, &zone, QUICK_POLL)?;
    there.world.oma_restart(&[])?;
    there.world.agent_restart()?;
    let single = one_by_one(&there, singles).await?;
    drop(there);

    let times = |asked: &Asked, one: &Asked| asked.times(one, at_once);
    let (cloudstack, linstor) = times(&fifty, &one);
    let mut text = format!(
        "cloud, {at_once} VMs of two disks, {at_once} test failovers at a time through both simulators, jobs of 200 ms, no guest\n  \
         alone: ended after {:.1} s; with its clean-up {one}\n  \
         {at_once} at a time: the first ended after {:.1} s, the last after {:.1} s, all clean-ups after {:.1} s; oma-api {mib:.0} \
         MiB at most\n  \
         with their clean-ups {fifty}: {cloudstack:.2} and {linstor:.2} × those of one, times {at_once}\n  \
         {polls}\n",
        alone.last, many.first, many.last, many.all,
    );
    writeln!(text, "  one after the other, asked about jobs after {QUICK_POLL}: {}", single.said())?;
    writeln!(text, "  at a time, with the simulators on the same processors: {}", crowded.said())?;
    writeln!(
        text,
        "  subtracted: from each request to the last byte of its answer, as oma-api saw it, and its sleeps between two \
         questions about a job"
    )?;
    Ok(Outcome {
        case: "cloud",
        text,
        marks: vec![
            Mark::at_most("MiB of RSS, 50 at a time on both targets", mib, 400.0),
            Mark::at_most("x the calls of one to CloudStack, each of 50", cloudstack, 2.0),
            Mark::at_most("x the calls of one to LINSTOR, each of 50", linstor, 2.0),
            Mark::at_most("polls a second of a waiting job, at most", polls.worst, 1.0),
            Mark::at_most("ms, p99 of what is oma-api's own of one test failover", single.p99(), 500.0),
        ],
        runs: json!({
            "at_once": at_once,
            "alone_s": alone.last,
            "first_s": many.first,
            "last_s": many.last,
            "cleaned_s": many.all,
            "peak_rss_mib": mib,
            "calls_of_one": one.json(),
            "calls_of_all": fifty.json(),
            "polls_per_s": polls.worst,
            "polls_of_a_job": polls.most,
            "own": single.json(),
            "own_at_once": crowded.json(),
        }),
    })
}

/// The recorded hosts have memory for forty of these machines.
fn with_room(world: &mut cloudstack_sim::World) {
    world.retain("host", |host| {
        host["memorytotal"] = json!(HOST_MEMORY);
        true
    });
}

/// Both backends in the place of a world's own.
fn configure(world: &World, zone: &Zone, poll: &str) -> anyhow::Result<()> {
    let (ids, (key, secret)) = (zone.ids()?, zone.admin_keys());
    let config = world.dir.join("oma.toml");
    let storage = format!(
        "kind = \"linstor\"\ncontrollers = [{:?}]\nresource_group = {GROUP:?}\nnode = {OMA:?}\n",
        zone.linstor_url()
    );
    with_table(&config, "storage", &storage)?;
    let compute = format!(
        "kind = \"cloudstack\"\nendpoint = {:?}\napi_key_file = {key:?}\nsecret_key_file = {secret:?}\nzone = {:?}\n\
         pool = \"linstor\"\ndisk_offering = \"linstor-custom\"\ntemplate = {:?}\nisolated_network = \"l2a\"\npoll = {poll:?}\n",
        zone.cloudstack_url(),
        ids.zone,
        ids.template,
    );
    with_table(&config, "compute", &compute)
}

/// All that are asked for at once end well and are cleaned up, or it fails.
async fn together(there: &Protected, count: usize) -> anyhow::Result<Together> {
    let client = there.client().await?;
    let begun = Timestamp::now();
    let jobs = begin_all(&client, count, count).await?;
    let mut ends = Vec::new();
    for job in &jobs {
        ends.push(time(&completed(&mut client.clone(), job).await?.completed_at)?);
    }
    clean(&mut client.clone(), &jobs).await?;
    let after = |end: Option<&Timestamp>| end.map_or(f64::NAN, |end| end.duration_since(begun).as_secs_f64());
    let all = after(Some(&Timestamp::now()));
    Ok(Together { first: after(ends.iter().min()), last: after(ends.iter().max()), all, jobs })
}

/// From the request on.
async fn one_by_one(there: &Protected, count: usize) -> anyhow::Result<Own> {
    let mut client = there.client().await?;
    let mut spans = Vec::new();
    for number in 0..count {
        let begun = Timestamp::now();
        let job = begin(&mut client, number).await?.job_id;
        let ended = time(&completed(&mut client, &job).await?.completed_at)?;
        spans.push((job.clone(), begun, ended));
        clean(&mut client, &[job]).await?;
    }
    Own::of(&there.world.oma.logged()?, &spans)
}

/// Of jobs that have ended, from their acceptance on.
async fn own_parts(there: &Protected, jobs: &[String]) -> anyhow::Result<Own> {
    let mut client = there.client().await?;
    let mut spans = Vec::new();
    for job in jobs {
        let request = proto::v1::FailoverServiceGetRequest { job_id: job.clone() };
        let of = client.get(request).await?.into_inner().failover;
        let of = anyhow::Context::context(of, "no failover in the answer")?;
        spans.push((job.clone(), time(&of.created_at)?, time(&of.completed_at)?));
    }
    Own::of(&there.world.oma.logged()?, &spans)
}
