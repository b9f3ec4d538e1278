//! Clones of a restore point, and their snapshot: what the machine runs on.

use super::{Hands, clones, disk, of_storage, plan, point};
use crate::failover::names;
use crate::failover::plan::PlannedDisk;
use crate::storage::{Storage, VolumeId};
use crate::workflow::{Effect, Job, Kind, Problem, Turn};
use serde_json::{Value, json};
use std::sync::Arc;

const CODE: &str = "SNAPSHOT_FAILED";

/// The clone of the n-th disk.
pub(crate) struct CloneDisk(pub(crate) Arc<Hands>, pub(crate) usize);

#[async_trait::async_trait]
impl Effect for CloneDisk {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().and_then(|plan| Some(plan.disks.get(self.1)?.clone.clone()))
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        let plan = plan(turn.job)?;
        let (disk, clone) = disk(&plan, self.1)?;
        turn.check()?;
        let found = self.0.storage.volume(&clone).await.map_err(of_storage(CODE))?;
        found.map(|info| whole(&*self.0.storage, disk, &clone, info.size)).transpose()
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let (disk, clone) = disk(&plan, self.1)?;
        let (from, snapshot) = (super::volume(&disk.volume)?, point(turn.job, &plan)?);
        turn.check()?;
        let info = self.0.storage.clone_snapshot(&snapshot, &from, &clone).await.map_err(of_storage(CODE))?;
        whole(&*self.0.storage, disk, &clone, info.size)
    }

    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        let plan = plan(turn.job)?;
        let (_, clone) = disk(&plan, self.1)?;
        turn.check()?;
        remove(&*self.0.storage, &clone, CODE).await
    }
}

/// A machine must not start from a part of a disk.
fn whole(storage: &dyn Storage, disk: &PlannedDisk, clone: &VolumeId, size: u64) -> Result<Value, Problem> {
    match size == storage.rounded(disk.size) {
        true => Ok(json!({ "volume": clone.as_str(), "size_bytes": size })),
        false => {
            let why = format!(
                "clone {clone} has {size} bytes, and disk {} {}: look at the storage",
                disk.key, disk.size
            );
            Err(Problem::new(Kind::Permanent, CODE, why))
        }
    }
}

/// The clones as they were before anything changed them, under the name that the failover API's document gives it.
pub(crate) struct SnapshotClones(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for SnapshotClones {
    fn name(&self, job: &Job) -> Option<String> {
        plan(job).ok().map(|plan| plan.name)
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        let plan = plan(turn.job)?;
        let name = names::snapshot(&plan.name);
        turn.check()?;
        let there = self.0.storage.snapshots().await.map_err(of_storage(CODE))?;
        Ok(there.iter().any(|s| s.name == name).then(|| json!({ "snapshot": name.as_str() })))
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        let name = names::snapshot(&plan.name);
        turn.check()?;
        self.0.storage.snapshot(&clones(&plan)?, &name).await.map_err(of_storage(CODE))?;
        Ok(json!({ "snapshot": name.as_str() }))
    }

    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        self.0.storage.delete_snapshot(&names::snapshot(&plan.name)).await.map_err(of_storage(CODE))
    }
}

/// Refused while another process has it open, which is named.
pub(super) async fn unopened(
    storage: &dyn Storage,
    clone: &VolumeId,
    code: &'static str,
) -> Result<(), Problem> {
    let Some(opener) = storage.opener(clone).await.map_err(of_storage(code))? else { return Ok(()) };
    let why = format!("volume {clone} is open in {opener}: end that, and retry");
    Err(Problem::new(Kind::Transient, "VOLUME_IN_USE", why))
}

/// Removes a clone that nobody has open; nothing there is success.
pub(super) async fn remove(
    storage: &dyn Storage,
    clone: &VolumeId,
    code: &'static str,
) -> Result<(), Problem> {
    let there = storage.volume(clone).await.map_err(of_storage(code))?.is_some();
    if there {
        unopened(storage, clone, code).await?;
    }
    storage.delete(clone).await.map_err(of_storage(code))
}
