//! What must be so after a cycle, whatever happened on the way.

use crate::cycles::{Hashes, assert_replicated};
use crate::findings::{SOON, ours_at_the_source};
use anyhow::{Context as _, ensure};
use integration_tests::harness::{World, eventually};
use proto::v1;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Names in a folder.
fn names(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Keeps what has to grow from cycle to cycle.
#[derive(Default)]
pub(super) struct Proof {
    /// By disk.
    epochs: BTreeMap<String, u64>,
    jobs: BTreeSet<String>,
}

impl Proof {
    /// A cycle has ended: it is committed once, the replica is what the source was, and nothing is left of it.
    pub(super) async fn of(
        &mut self,
        world: &World,
        m: &v1::Migration,
        source: &Hashes,
    ) -> anyhow::Result<()> {
        ensure!(m.state() == v1::State::Paused && m.error_reason.is_empty(), "{m:?}");
        let job = m.cycle.as_ref().context("a cycle")?;
        ensure!(job.status == "completed" && self.jobs.insert(job.job_id.clone()), "{m:?}");
        assert_replicated(world, m, source)?;
        let points = m.restore_points.iter().filter(|point| point.job_id == job.job_id).count();
        ensure!(points == 1, "{points} restore points of one commit: {m:?}");
        for disk in &m.disks {
            let before = self.epochs.insert(disk.disk_id.clone(), disk.epoch).unwrap_or(0);
            ensure!(disk.epoch > before, "epoch {} after {before}: {m:?}", disk.epoch);
        }
        let (verdict, mismatches) = world.verify(false).await?;
        ensure!(verdict.equal, "{mismatches:?}");
        nothing_left(world, m).await
    }
}

/// Of the source nothing but the committed change ids, of the target nothing but replicas, restore points and their
/// manifests.
async fn nothing_left(world: &World, m: &v1::Migration) -> anyhow::Result<()> {
    let ids: BTreeSet<_> = m.disks.iter().map(|disk| disk.change_id.clone()).collect();
    let last = std::cell::RefCell::new(String::new());
    let clean = || async {
        // Commit first, then what it made superfluous goes.
        let now = world.get().await?;
        let points: BTreeSet<_> = now.restore_points.iter().map(|p| format!("rp-{}", p.job_id)).collect();
        let volumes: BTreeSet<_> = now.disks.iter().map(|d| format!("mk-{}.img", d.disk_id)).collect();
        let manifests = now.restore_points.len() * now.disks.len();
        let source: BTreeSet<_> = ours_at_the_source(world.live()?)?.into_iter().collect();
        let there = (
            source,
            names(&world.dir.join("replicas/volumes"))?,
            names(&world.dir.join("replicas/snapshots"))?,
            names(&world.dir.join("oma/manifests"))?.len(),
        );
        *last.borrow_mut() = format!("{there:#?}");
        Ok((there == (ids.clone(), volumes, points, manifests)).then_some(()))
    };
    eventually("nothing left behind", SOON, clean).await.with_context(|| last.borrow().clone())
}
