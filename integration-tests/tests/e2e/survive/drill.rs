//! A VM is tested, moved and taken back under the knife, each with its clean-up. Nothing that was asked for happens twice, one
//! side runs at a time, and after all of it there is what there was.

use super::Days;
use super::books::Books;
use super::knife::Knife;
use crate::findings::SOON;
use crate::live::Site;
use anyhow::{Context as _, ensure};
use integration_tests::harness::VM_UUID;
use proto::v1;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Power is cut and no boot is waited for: what the control plane does is all that takes time.
const LIVE: [&str; 6] = ["live", VM_UUID, "--override", "drill", "--power-off-timeout", "0s"];
const TEST: [&str; 2] = ["test", VM_UUID];

/// Workflows of one round.
const JOBS: u64 = 5;

pub(super) struct Drill {
    pub(super) site: Site,
    pub(super) books: Books,
    pub(super) knife: Knife,
    pub(super) fell: bool,
}

impl Days for Drill {
    const SUPPOSED: u32 = 150;

    async fn live_through(&mut self, n: u32, round: u32) -> anyhow::Result<bool> {
        self.fell = false;
        if !self.knife.start(&mut self.site.world, n) {
            self.revive()?;
        }
        let test = self.begin(&TEST).await?;
        self.until(&test, "the end of the test", |j| j["status"] == "completed").await?;
        let there = self.site.machines.processes();
        ensure!(there.len() == 1 && self.site.is_on()?, "the test beside its source: {there:?}");
        self.clean_up(&test).await?;

        let live = self.begin(&[&LIVE[..], &["--force-power-off"]].concat()).await?;
        self.until(&live, "the end of the move", |j| j["status"] == "completed").await?;
        let there = self.site.machines.processes();
        ensure!(there.len() == 1 && !self.site.is_on()?, "the VM at the target only: {there:?}");
        self.said(&["failover", "rollback", &live]).await?;
        self.until(&live, "its way back", |j| j["standing"] == "kept").await?;
        let there = self.site.machines.processes();
        ensure!(there.is_empty() && self.site.is_on()?, "the VM at its source only: {there:?}");
        self.clean_up(&live).await?;

        let fell = self.fell;
        if !fell {
            self.knife.sheathe(&mut self.site.world)?;
        }
        self.books.drilled(u64::from(round), JOBS * u64::from(round))?;
        self.goes_on(round).await?;
        Ok(fell)
    }
}

impl Drill {
    /// It was killed: started again, the knife put away.
    fn revive(&mut self) -> anyhow::Result<()> {
        ensure!(!self.fell, "it ended a second time, and nobody killed it");
        self.fell = true;
        self.knife.sheathe(&mut self.site.world)
    }

    fn revive_if_dead(&mut self) -> anyhow::Result<()> {
        if self.site.world.oma.is_running() { Ok(()) } else { self.revive() }
    }

    /// Asks until there is an answer. Its agent may be on its way back.
    async fn said(&mut self, arguments: &[&str]) -> anyhow::Result<Value> {
        let end = Instant::now() + SOON;
        loop {
            match self.site.world.said_json(arguments).await {
                Ok(said) => return Ok(said),
                Err(error) => ensure!(Instant::now() < end, "no answer: {error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.revive_if_dead()?;
        }
    }

    /// All failovers there have been.
    async fn jobs(&mut self) -> anyhow::Result<Vec<String>> {
        let said = self.said(&["failover", "list", "--limit", "20"]).await?;
        let jobs = said["data"].as_array().with_context(|| format!("no list: {said}"))?;
        Ok(jobs.iter().filter_map(|job| Some(job["job_id"].as_str()?.to_owned())).collect())
    }

    /// Begins one. Whose answer was lost may have begun all the same: the list says so, and it is not asked for again.
    async fn begin(&mut self, what: &[&str]) -> anyhow::Result<String> {
        let before = self.jobs().await?;
        let arguments = [&["failover"][..], what, &["--skip-virtio-injection"]].concat();
        let end = Instant::now() + SOON;
        loop {
            let error = match self.site.world.said_json(&arguments).await {
                Ok(begun) => {
                    let id = begun["job_id"].as_str();
                    return Ok(id.with_context(|| format!("no job in {begun}"))?.to_owned());
                }
                Err(error) => error,
            };
            self.revive_if_dead()?;
            let mut new = self.jobs().await?;
            new.retain(|job| !before.contains(job));
            ensure!(new.len() < 2, "begun twice: {new:?}");
            if let Some(job) = new.pop() {
                return Ok(job);
            }
            ensure!(Instant::now() < end, "{what:?} does not begin: {error:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until(&mut self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + 2 * SOON;
        loop {
            let job = self.said(&["failover", "get", id]).await?;
            if wanted(&job) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{what}: {job}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Nothing of it is left, by the folders, by the processes and by what the control plane says itself.
    async fn clean_up(&mut self, id: &str) -> anyhow::Result<()> {
        self.said(&["failover", "cleanup", id]).await?;
        self.until(id, "the end of the clean-up", |j| j["is_there"] == false).await?;
        let left = self.site.machines.left()?;
        ensure!(left.is_empty(), "{left:?} is left of {id}");
        let orphans = self.said(&["orphans", "list"]).await?;
        ensure!(orphans["orphans"].as_array().is_some_and(Vec::is_empty), "{orphans}");
        Ok(())
    }

    /// Replication, incrementally, on a replica that is what was committed.
    async fn goes_on(&self, round: u32) -> anyhow::Result<()> {
        let world = &self.site.world;
        let m =
            world.wait("sync/paused", SOON, |m| m.agent_connected && m.state() == v1::State::Paused).await?;
        ensure!(m.phase() == v1::Phase::Sync, "{m:?}");
        let m = world.sync().await?;
        let kind = m.cycle.as_ref().map(|cycle| cycle.kind());
        ensure!(kind == Some(v1::CycleKindName::Incremental), "{m:?}");
        for source in [false, true].iter().take(if round.is_multiple_of(3) { 2 } else { 1 }) {
            let (verdict, mismatches) = world.verify(*source).await?;
            ensure!(verdict.equal, "{mismatches:?}");
        }
        Ok(())
    }
}
