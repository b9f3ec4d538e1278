//! By `nbdcopy`, one for each disk, at once.

use super::sources::hash_all;
use super::{Run, Setup};
use crate::bench::cpu::Watch;
use crate::bench::servers::{Certificates, Nbdkit, nbdcopy, uri};
use crate::harness::Transport;
use crate::link::Link;
use anyhow::Context as _;
use std::fs::File;
use std::time::Instant;
use tokio::task::JoinSet;

pub(super) async fn run(setup: &Setup<'_>) -> anyhow::Result<Run> {
    let sources = &setup.sources;
    let target = setup.target.folder(sources.allocated + (64 << 20))?;
    let tls = match setup.transport {
        Transport::Tls => Some(Certificates::make(target.path())?),
        Transport::Cleartext => None,
    };
    let (mut servers, mut links, mut copies, mut jobs) = (vec![], vec![], vec![], vec![]);
    for (number, disk) in sources.disks.iter().enumerate() {
        let copy = target.path().join(format!("copy-{number}.img"));
        File::create(&copy)?.set_len(sources.bytes)?;
        let server = Nbdkit::target(&copy, tls.as_ref()).await?;
        let mut to = server.uri.clone();
        if let Some(shape) = setup.link {
            let link = Link::start(server.address.context("a server on TCP")?, shape).await?;
            to = uri(link.address().port(), tls.as_ref());
            links.push(link);
        }
        jobs.push((disk.server.uri.clone(), to));
        servers.push(server);
        copies.push(copy);
    }
    rustix::fs::sync();
    let targets: Vec<u32> = servers.iter().map(Nbdkit::pid).collect();
    let watch = Watch::start([sources.pids(), targets].concat())?;
    let begun = Instant::now();
    let mut copying = JoinSet::new();
    for (from, to) in jobs {
        copying.spawn_blocking(move || nbdcopy(&from, &to));
    }
    while let Some(ended) = copying.join_next().await {
        ended??;
    }
    let copy = begun.elapsed();
    let used = watch.end()?;
    // Each side on its own machine, at the same time.
    let begun = Instant::now();
    let files: Vec<_> = sources.disks.iter().map(|disk| disk.file.clone()).chain(copies.clone()).collect();
    let hashes = hash_all(&files)?;
    let then = begun.elapsed();
    let (here, there) = hashes.split_at(sources.disks.len());
    anyhow::ensure!(here == there, "nbdcopy's copy is not the source");
    let disks = sources.disks.len();
    let sum = |parts: &[f64]| parts.iter().sum();
    let parts =
        [sum(&used.parts[..disks]), sum(&used.parts[disks..2 * disks]), sum(&used.parts[2 * disks..])];
    Ok(Run { copy, then, used, parts, daemons: None })
}
