//! A live failover taken back: what its machine wrote is kept, and change ids are trusted only after they were checked.

use super::volumes::unopened;
use super::{Hands, clones, of_storage, of_store, plan};
use crate::failover::{Plan, names};
use crate::store::{Disk, Job as Cycle, JobKind, JobStatus, NewJob};
use crate::workflow::{Effect, Job, Problem, Turn};
use serde_json::{Value, json};
use shared::cycle::Strategy;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

const KEEP: &str = "SNAPSHOT_FAILED";

/// Between looks, when nobody says that something has changed.
const PERIOD: Duration = Duration::from_secs(1);

/// How long an agent is waited for that is away.
const AWAY: Duration = Duration::from_secs(60);

/// The clones as the machine left them.
pub(crate) struct Keep(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for Keep {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().map(|plan| names::kept(&plan.name))
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        let name = names::snapshot(&names::kept(&plan(turn.job)?.name));
        turn.check()?;
        let there = self.0.storage.snapshots().await.map_err(of_storage(KEEP))?;
        Ok(there.iter().any(|s| s.name == name).then(|| json!({ "snapshot": name.as_str() })))
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let mut there = Vec::new();
        for clone in clones(&plan)? {
            turn.check()?;
            if self.0.storage.volume(&clone).await.map_err(of_storage(KEEP))?.is_none() {
                continue;
            }
            unopened(&*self.0.storage, &clone, KEEP).await?;
            there.push(clone);
        }
        // It failed before any was made.
        if there.is_empty() {
            return Ok(json!({ "snapshot": null }));
        }
        let name = names::snapshot(&names::kept(&plan.name));
        turn.check()?;
        self.0.storage.snapshot(&there, &name).await.map_err(of_storage(KEEP))?;
        Ok(json!({ "snapshot": name.as_str() }))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

/// The source, compared with the manifest where its change tracking says that nothing changed. Where that is not so, or
/// cannot be found out, the next cycle compares all.
pub(crate) struct Verify(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for Verify {
    fn name(&self, _: &Job) -> Option<String> {
        None
    }

    /// A comparison changes nothing: it is made again.
    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let disks = self.0.store.disk_list(&plan.migration).await.map_err(|e| of_store(&e))?;
        match self.compare(&plan, &disks, &turn).await? {
            Ok(()) => Ok(json!({ "trusted": true })),
            Err(why) => {
                for disk in &disks {
                    turn.check()?;
                    self.0.store.disk_hash_diff_require(&disk.id).await.map_err(|e| of_store(&e))?;
                }
                warn!(migration_id = %plan.migration, why, "change ids are not trusted after a rollback");
                Ok(
                    json!({ "trusted": false, "warning": format!("the next cycle compares all of the VM: {why}") }),
                )
            }
        }
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

impl Verify {
    async fn compare(
        &self,
        plan: &Plan,
        disks: &[Disk],
        turn: &Turn<'_>,
    ) -> Result<Result<(), String>, Problem> {
        let store = &self.0.store;
        if disks.iter().any(|d| d.manifest.is_none() || d.committed_size != Some(d.size)) {
            return Ok(Err("a disk of it has no committed content of its size".to_owned()));
        }
        let migration = store.migration_fetch(&plan.migration).await.map_err(|e| of_store(&e))?;
        let mut changes = self.0.hub.watch(&plan.migration);
        let cycle = match store.job_active(&plan.migration).await.map_err(|e| of_store(&e))? {
            Some(cycle) => cycle,
            None => {
                let new = NewJob {
                    migration: plan.migration.clone(),
                    kind: JobKind::VerifySource,
                    disks: disks.iter().map(|d| (d.id.clone(), Strategy::HashDiff)).collect(),
                };
                let made = store.job_create(&new, self.0.clock.now()).await.map_err(|e| of_store(&e))?;
                self.0.hub.agent_changed(&migration.agent);
                self.0.hub.wake();
                made
            }
        };
        let mut away = Duration::ZERO;
        let ended = loop {
            turn.check()?;
            let now = store.job_fetch(&cycle.id).await.map_err(|e| of_store(&e))?;
            if now.status.ended() {
                break now;
            }
            away =
                if self.0.hub.agent_is_connected(&migration.agent) { Duration::ZERO } else { away + PERIOD };
            if away > AWAY {
                self.give_up(&now).await?;
                return Ok(Err(format!("agent {} is away", migration.agent)));
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        };
        if ended.status != JobStatus::Completed {
            let why = ended.error.map_or_else(|| "it was stopped".to_owned(), |e| e.message);
            return Ok(Err(format!("the source could not be compared: {why}")));
        }
        let (mut unequal, mut open) = (Vec::new(), Vec::new());
        for disk in disks {
            let found = self.0.transfers.findings_take(&ended.id, &disk.id);
            let now = store.disk_fetch(&disk.id).await.map_err(|e| of_store(&e))?;
            if now.source_verified_at.is_some_and(|at| at >= ended.started_at) {
                continue;
            }
            let of = if found.different.is_empty() { &mut open } else { &mut unequal };
            of.push(disk.key.to_string());
        }
        Ok(match (unequal.is_empty(), open.is_empty()) {
            (true, true) => Ok(()),
            (false, _) => {
                Err(format!("not all that change tracking calls unchanged is, on {}", unequal.join(", ")))
            }
            // Of a cycle that was cut off: the replica has a part of what it was to bring.
            (true, false) => Err(format!(
                "a cycle that did not end has left blocks open that could not be compared, on {}",
                open.join(", ")
            )),
        })
    }

    async fn give_up(&self, cycle: &Cycle) -> Result<(), Problem> {
        let why = crate::store::Failure {
            reason: "AGENT_NOT_CONNECTED".to_owned(),
            message: "the source is compared by the next cycle".to_owned(),
        };
        let step = crate::store::JobStep::Aborted(why);
        match self.0.store.job_transition(&cycle.id, &step, self.0.clock.now()).await {
            Ok(_) | Err(crate::store::Error::JobStatus { .. }) => Ok(()),
            Err(error) => Err(of_store(&error)),
        }
    }
}
