//! A full copy of incompressible data over mutual TLS, through the real daemons and by `nbdcopy`.

use super::cpu::{Used, Watch};
use super::place::Place;
use super::servers::{Certificates, Nbdkit, nbdcopy};
use super::{Options, report, world};
use crate::harness::{self, SourceKind, World, hash_file};
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// All runs on one kind of storage.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    pub(super) place: &'static str,
    pub(super) bytes: u64,
    pub(super) ours: Vec<Run>,
    pub(super) theirs: Vec<Run>,
}

/// One copy.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Until everything was durable.
    pub(super) copy: Duration,
    /// Ours: the commit. Theirs: hashing both sides.
    pub(super) then: Duration,
    pub(super) used: Used,
    /// Peak RSS of agent and OMA, bytes; ours only.
    pub(super) peak: Option<(u64, u64)>,
}

pub(super) async fn run(options: &Options, place: &Place) -> anyhow::Result<Copied> {
    let bytes = options.sizes.small;
    let at = Place { name: "tmpfs", folder: options.memory.clone() }.folder(bytes + (64 << 20))?;
    let file = at.path().join("source.img");
    fill(&file, bytes)?;
    let source = Nbdkit::source(&file, &at.path().join("source.sock")).await?;
    let mut copied = Copied { place: place.name, bytes, ours: vec![], theirs: vec![] };
    // Whoever comes second finds warm memory and a busy disk: they take turns at it.
    for round in 0..options.runs {
        if round % 2 == 1 {
            copied.theirs.push(theirs(place, &source, &file).await?);
        }
        copied.ours.push(ours(options, place, &source, &file).await?);
        if round % 2 == 0 {
            copied.theirs.push(theirs(place, &source, &file).await?);
        }
    }
    Ok(copied)
}

/// Fresh daemons and an empty replica each time.
async fn ours(options: &Options, place: &Place, source: &Nbdkit, file: &Path) -> anyhow::Result<Run> {
    // The replica, and the copy of it that a commit makes where blocks cannot be shared.
    let target = place.folder(2 * options.sizes.small + (64 << 20))?;
    let world = World::start(&harness::Options {
        source: SourceKind::Uris(vec![("root".to_owned(), source.uri.clone())]),
        transfer: options.transfer.clone(),
        replicas: Some(target.path().to_owned()),
        ..harness::Options::default()
    })
    .await?;
    world.begin().await?;
    rustix::fs::sync();
    let cycle = world::sync(&world, &[source.pid()]).await?;
    let peak = Some((world::peak(world.agent.pid())?, world::peak(world.oma.pid())?));
    let replica = world.replica(&cycle.migration, "root")?;
    anyhow::ensure!(hash_file(&replica)? == hash_file(file)?, "the replica is not the source");
    Ok(Run { copy: cycle.durable, then: cycle.commit, used: cycle.used, peak })
}

async fn theirs(place: &Place, source: &Nbdkit, file: &Path) -> anyhow::Result<Run> {
    let bytes = file.metadata()?.len();
    let target = place.folder(bytes + (64 << 20))?;
    let copy = target.path().join("copy.img");
    File::create(&copy)?.set_len(bytes)?;
    let server = Nbdkit::tls_target(&copy, &Certificates::make(target.path())?).await?;
    rustix::fs::sync();
    let watch = Watch::start(vec![source.pid(), server.pid()])?;
    let (from, to) = (source.uri.clone(), server.uri.clone());
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || nbdcopy(&from, &to)).await??;
    let copied = begun.elapsed();
    let used = watch.end()?;
    // Each side on its own machine, at the same time, by one thread.
    let begun = Instant::now();
    let there = std::thread::spawn(move || hash_file(&copy));
    let here = hash_file(file)?;
    let there = there.join().map_err(|_| anyhow::anyhow!("the hashing thread panicked"))??;
    let then = begun.elapsed();
    anyhow::ensure!(here == there, "nbdcopy's copy is not the source");
    Ok(Run { copy: copied, then, used, peak: None })
}

/// Random, so that neither zeros nor repetitions help anybody.
fn fill(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    let mut random = SmallRng::seed_from_u64(bytes);
    let mut block = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left.min(1 << 20))?;
        random.fill_bytes(&mut block[..part]);
        file.write_all(&block[..part])?;
        left -= part as u64;
    }
    Ok(())
}

impl Copied {
    /// Theirs over ours: above 1, ours is faster.
    pub(super) fn ratio(&self) -> f64 {
        median(&self.theirs, |r| r.copy) / median(&self.ours, |r| r.copy)
    }

    /// The same against nbdcopy with hashing both sides.
    pub(super) fn ratio_hashed(&self) -> f64 {
        median(&self.theirs, |r| r.copy + r.then) / median(&self.ours, |r| r.copy)
    }

    pub(super) fn table(&self) -> String {
        let mib = self.bytes >> 20;
        let title = format!(
            "copy, {mib} MiB incompressible, mutual TLS, to a file on {}, {} runs each",
            self.place,
            self.ours.len()
        );
        let mut rows = vec![
            ["", "seconds", "min..max", "MiB/s", "cpu s", "of it", "others' cpu s", "then s", "peak RSS MiB"]
                .map(String::from),
        ];
        for (name, runs) in [("vma-agent → oma-api", &self.ours), ("nbdcopy --flush nbds", &self.theirs)] {
            let seconds = median(runs, |r| r.copy);
            let all = report::sorted(runs.iter().map(|r| r.copy.as_secs_f64()));
            let peak = |which: fn((u64, u64)) -> u64| runs.iter().filter_map(|r| r.peak.map(which)).max();
            let peaks = peak(|p| p.0).zip(peak(|p| p.1));
            rows.push([
                name.to_owned(),
                format!("{seconds:.2}"),
                format!("{:.2}..{:.2}", all.first().unwrap_or(&0.0), all.last().unwrap_or(&0.0)),
                format!("{:.0}", report::float(mib) / seconds),
                format!("{:.2}", report::median(runs.iter().map(|r| r.used.ours()))),
                of_it(runs),
                format!("{:.2}", report::median(runs.iter().map(|r| r.used.others))),
                format!("{:.2}", median(runs, |r| r.then)),
                peaks
                    .map_or(String::new(), |(agent, oma)| format!("agent {} oma {}", agent >> 20, oma >> 20)),
            ]);
        }
        let hashed = median(&self.theirs, |r| r.copy + r.then);
        let verdict = report::verdict(self.ratio() >= 1.0);
        format!(
            "{title}\n{}  'of it': agent, OMA, source; source, target, nbdcopy\n  'then' is not in 'seconds': ours, the commit (a copy of the file where blocks cannot be shared);\n  \
             nbdcopy's, BLAKE3 of both sides, at the same time, one thread each, from the page cache\n  \
             {:.2} x nbdcopy (floor 1.0 x): {verdict}\n  {:.2} x nbdcopy plus hashing both sides ({hashed:.2} s), to know as much\n",
            report::table(&rows),
            self.ratio(),
            self.ratio_hashed(),
        )
    }
}

/// Medians of the parts, but for this program where nothing else ran under it.
fn of_it(runs: &[Run]) -> String {
    let part = |index: usize| report::median(runs.iter().filter_map(|r| r.used.parts.get(index)).copied());
    [part(0), part(1), part(2)].map(|seconds| format!("{seconds:.1}")).join("+")
}

fn median(runs: &[Run], of: impl Fn(&Run) -> Duration) -> f64 {
    report::median(runs.iter().map(|run| of(run).as_secs_f64()))
}
