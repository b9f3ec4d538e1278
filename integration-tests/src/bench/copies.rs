//! The cases that are copies: what each one copies, over what, and what it should come to.

use super::outcome::{Mark, Outcome};
use super::pair::{Setup, Sources};
use super::place::Place;
use super::{Options, image, report};
use crate::harness::Transport;
use crate::link::Shape;
use anyhow::Context as _;
use std::time::Duration;

const NBDCOPY: &str = "x nbdcopy";

/// Disks at once.
const DISKS: usize = 8;

pub(super) async fn tmpfs(options: &Options) -> anyhow::Result<Outcome> {
    encrypted(options, "copy-tmpfs", Place::memory(options)).await
}

pub(super) async fn disk(options: &Options) -> anyhow::Result<Outcome> {
    encrypted(options, "copy-disk", Place::disk(options)).await
}

async fn encrypted(options: &Options, case: &'static str, target: Place) -> anyhow::Result<Outcome> {
    let sources = Sources::random(options, 1, options.sizes.small).await?;
    let title = format!("{case}, {} MiB incompressible, mutual TLS", sources.bytes >> 20);
    let setup = Setup { target, ..over_tls(options, title, sources) };
    against(case, &setup, 1.15, Some(1.3)).await
}

pub(super) async fn plain(options: &Options) -> anyhow::Result<Outcome> {
    let sources = Sources::random(options, 1, options.sizes.small).await?;
    let title = format!("copy-plain, {} MiB incompressible, plain TCP", sources.bytes >> 20);
    let setup = Setup { transport: Transport::Cleartext, ..over_tls(options, title, sources) };
    against("copy-plain", &setup, 0.8, Some(1.1)).await
}

pub(super) async fn sparse(options: &Options) -> anyhow::Result<Outcome> {
    let size = options.sizes.sparse;
    let room = size / 8 + (64 << 20);
    let (sources, data) = Sources::make(options, 1, room, |file| image::sparse(file, size)).await?;
    let title = format!(
        "sparse, {} MiB incompressible in {} MiB, 1 MiB in every 10, mutual TLS",
        data >> 20,
        size >> 20
    );
    let setup = over_tls(options, title, sources);
    let pair = setup.run().await?;
    let wire = report::float(pair.wire()) / report::float(data);
    Ok(Outcome {
        case: "sparse",
        text: setup.table(&pair),
        marks: vec![
            Mark::at_least(NBDCOPY, pair.ratio(), 1.1, None),
            Mark::at_most("x the data on the wire", wire, 1.02),
        ],
        runs: setup.json(&pair),
    })
}

/// What the link is in the tables: see [`crate::link`].
const LINK: &str = "1 Gbit/s (a rate-limiting proxy on loopback)";

pub(super) async fn gigabit(options: &Options) -> anyhow::Result<Outcome> {
    let content = options.sizes.linked;
    let room = content / 3 * 4 + (192 << 20);
    let (sources, what) = Sources::make(options, 1, room, |file| image::file_system(file, content)).await?;
    let title = format!("gigabit, mutual TLS over {LINK}, {what}");
    let runs = options.few();
    let setup = Setup { link: Some(Shape::GIGABIT), runs, ..over_tls(options, title, sources) };
    against("gigabit", &setup, 1.8, Some(1.9)).await
}

pub(super) async fn latency(options: &Options) -> anyhow::Result<Outcome> {
    let sources = Sources::random(options, 1, options.sizes.linked).await?;
    let title = format!(
        "latency, {} MiB incompressible, mutual TLS over {LINK} with 50 ms round trip",
        sources.bytes >> 20
    );
    let shape = Shape { delay: Duration::from_millis(25), ..Shape::GIGABIT };
    let setup = Setup { link: Some(shape), runs: options.few(), ..over_tls(options, title, sources) };
    let pair = setup.run().await?;
    let share = report::float(setup.sources.total()) / pair.seconds() / report::float(shape.rate);
    Ok(Outcome {
        case: "latency",
        text: format!("{}  {:.2} {NBDCOPY}\n", setup.table(&pair), pair.ratio()),
        marks: vec![Mark::at_least("x the link's rate", share, 0.9, None)],
        runs: setup.json(&pair),
    })
}

pub(super) async fn disks(options: &Options) -> anyhow::Result<Outcome> {
    let count = DISKS as u64;
    let wanted = options.sizes.each;
    // Sources, replicas, and the copies of them that a commit makes.
    let fits = |each: &u64| Place::memory(options).room() >= 3 * count * each + (1 << 30);
    let mut sizes = [wanted, wanted / 2, wanted / 4].into_iter();
    let each = sizes.find(fits).context("the tmpfs has no room for eight disks three times")?;
    let sources = Sources::random(options, DISKS, each).await?;
    let smaller = if each < wanted { " (no room here for the size of the floor)" } else { "" };
    let title = format!("disks, {DISKS} of {} MiB at once{smaller}, incompressible, mutual TLS", each >> 20);
    let setup = over_tls(options, title, sources);
    against("disks", &setup, 1.0, Some(1.2)).await
}

/// On tmpfs, without a link.
fn over_tls(options: &Options, title: String, sources: Sources) -> Setup<'_> {
    Setup {
        options,
        title,
        sources,
        target: Place::memory(options),
        transport: Transport::Tls,
        link: None,
        runs: options.runs,
    }
}

async fn against(
    case: &'static str,
    setup: &Setup<'_>,
    floor: f64,
    aim: Option<f64>,
) -> anyhow::Result<Outcome> {
    let pair = setup.run().await?;
    Ok(Outcome {
        case,
        text: setup.table(&pair),
        marks: vec![Mark::at_least(NBDCOPY, pair.ratio(), floor, aim)],
        runs: setup.json(&pair),
    })
}
