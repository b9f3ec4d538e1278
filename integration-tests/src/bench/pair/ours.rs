//! By the real daemons.

use super::{Daemons, Run, Setup};
use crate::bench::world;
use crate::harness::{self, SourceKind, World};

/// Fresh daemons and an empty replica each time.
pub(super) async fn run(setup: &Setup<'_>) -> anyhow::Result<Run> {
    let sources = &setup.sources;
    // The replica, and the copy of it that a commit makes where blocks cannot be shared.
    let target = setup.target.folder(2 * sources.allocated + (64 << 20))?;
    let world = World::start(&harness::Options {
        source: SourceKind::Uris(sources.uris()),
        transfer: setup.options.transfer.clone(),
        transport: setup.transport,
        link: setup.link,
        replicas: Some(target.path().to_owned()),
        ..harness::Options::default()
    })
    .await?;
    // A preflight reckons with a disk that gets full, and with a restore point that shares nothing.
    world.begin_forced("a benchmark: the disk stays as full as it is").await?;
    rustix::fs::sync();
    let cycle = world::sync(&world, &sources.pids()).await?;
    let disks = cycle.migration.cycle.iter().flat_map(|cycle| &cycle.disks);
    let daemons = Daemons {
        agent: world::peak(world.agent.pid())?,
        oma: world::peak(world.oma.pid())?,
        wire: disks.map(|disk| disk.wire_bytes).sum(),
    };
    let keys = sources.keys();
    let replicas = keys.iter().map(|key| world.replica(&cycle.migration, key));
    sources.compare(&replicas.collect::<anyhow::Result<Vec<_>>>()?, "the product's")?;
    let parts = &cycle.used.parts;
    let parts = [parts[0], parts[1], parts[2..2 + sources.disks.len()].iter().sum()];
    Ok(Run { copy: cycle.durable, then: cycle.commit, used: cycle.used, parts, daemons: Some(daemons) })
}
