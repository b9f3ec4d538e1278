//! What has to be true before anything is made: rules that keep data always, policy unless it is to be skipped.

use super::{Hands, of_compute, of_store, plan};
use crate::failover::Plan;
use crate::storage::PointCost;
use crate::workflow::{Effect, Job, Kind, Problem, Turn};
use serde_json::{Value, json};
use shared::error::chain;
use shared::migration::Phase;
use shared::profile::{Backend, NetworkMap, Settings, check_beside};
use std::collections::BTreeMap;
use std::sync::Arc;

const CODE: &str = "VALIDATION_FAILED";

fn failed(why: impl Into<String>) -> Problem {
    Problem::new(Kind::Permanent, CODE, why)
}

/// The restore point is there, the networks are no live ones, and there is what the machine needs.
pub(crate) struct Validate(pub(crate) Arc<Hands>);

#[async_trait::async_trait]
impl Effect for Validate {
    fn name(&self, _: &Job) -> Option<String> {
        None
    }

    /// Looking changes nothing: it is looked again.
    async fn look_up(&self, _: Turn<'_>) -> Result<Option<Value>, Problem> {
        Ok(None)
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        let plan = plan(turn.job)?;
        turn.check()?;
        self.commit(&plan).await?;
        if plan.live.is_none() {
            self.networks(&plan, turn.job).await?;
        }
        if !plan.skip_validation {
            self.room(&plan).await?;
            self.0.compute()?.check(&plan.machine).await.map_err(of_compute(CODE))?;
            if turn.job.steps.iter().any(|step| step.plan.name == "convert") {
                let checked = self.0.converter()?.converter.check(plan.guest_id.as_deref()).await;
                checked.map_err(|error| {
                    failed(format!("{}; or ask for the failover without virtio injection", chain(&error)))
                })?;
            }
        }
        let age = self.0.clock.now().duration_since(plan.taken_at).as_secs().max(0);
        Ok(json!({ "restore_point": plan.restore_point, "age_seconds": age }))
    }

    async fn undo(&self, _: Turn<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

impl Validate {
    /// DESIGN §6 rules 8 and 14: a whole restore point, of a migration that is not ending.
    async fn commit(&self, plan: &Plan) -> Result<(), Problem> {
        let migration = self.0.store.migration_fetch(&plan.migration).await.map_err(|e| of_store(&e))?;
        match migration.position.phase() {
            Phase::Begin | Phase::Sync | Phase::Switch | Phase::Rollback => {}
            Phase::Abort | Phase::Finalize => {
                return Err(failed(format!("the migration of {} is {}", plan.vm_name, migration.position)));
            }
        }
        let points = self.0.store.restore_point_list(&plan.migration).await.map_err(|e| of_store(&e))?;
        if !points.iter().any(|point| point.id.as_str() == plan.restore_point) {
            return Err(failed(format!("restore point {} has gone: take the newest", plan.restore_point)));
        }
        let there = self.0.storage.snapshots().await.map_err(super::of_storage(CODE))?;
        let snapshot = there.iter().find(|s| s.name.as_str() == plan.point_snapshot);
        let snapshot = snapshot.ok_or_else(|| {
            failed(format!(
                "the storage has no snapshot {} any more: sync, and take the new restore point",
                plan.point_snapshot
            ))
        })?;
        let missing = |d: &&crate::failover::plan::PlannedDisk| {
            !snapshot.volumes.iter().any(|v| v.as_str() == d.volume)
        };
        if let Some(disk) = plan.disks.iter().find(missing) {
            return Err(failed(format!(
                "snapshot {} lacks disk {} ({})",
                snapshot.name, disk.key, disk.volume
            )));
        }
        for disk in &plan.disks {
            let volume = super::volume(&disk.volume)?;
            let there = self.0.storage.snapshot_size(&snapshot.name, &volume).await;
            let size = there.map_err(super::of_storage(CODE))?;
            if size != self.0.storage.rounded(disk.size) {
                return Err(failed(format!(
                    "disk {} has {size} bytes in snapshot {}, and had {} when that was made: the restore point is damaged; \
                     sync, and take the new one",
                    disk.key, snapshot.name, disk.size
                )));
            }
        }
        Ok(())
    }

    /// A test beside the running VM would meet production there.
    async fn networks(&self, plan: &Plan, job: &Job) -> Result<(), Problem> {
        let profiles = self.0.store.profile_list().await.map_err(|e| of_store(&e))?;
        let test = |nic: &crate::compute::Nic| NetworkMap {
            source: nic.network.clone(),
            live: None,
            test: Some(nic.network.clone()),
        };
        let settings = Settings {
            networks: plan.machine.nics.iter().map(test).collect(),
            ..Settings::new(Backend::Local)
        };
        let mine = "this-failover".parse().map_err(|_| failed("no name for its networks"))?;
        let others = profiles.iter().map(|profile| (&profile.name, &profile.settings));
        let record = self.0.store.failover_fetch(&job.id).await.map_err(|e| of_store(&e))?.record;
        let mapped: BTreeMap<String, String> =
            serde_json::from_value(record.network_mappings).unwrap_or_default();
        check_beside((&mine, &settings), others).map_err(|refused| failed(refused.of_test(&mapped)))
    }

    /// Replication must not be stopped for a test.
    async fn room(&self, plan: &Plan) -> Result<(), Problem> {
        let storage = &self.0.storage;
        let space = storage.space().await.map_err(super::of_storage(CODE))?;
        // A clone that shares its blocks takes what is written to it; a final delta needs the floor as any cycle does.
        let needed: u64 = match storage.point_cost().await.map_err(super::of_storage(CODE))? {
            PointCost::Shared => 0,
            PointCost::Whole => plan.disks.iter().map(|d| d.size).sum(),
        };
        let floor = self.0.floor.of(space.total);
        match space.free < needed.saturating_add(floor) {
            true => Err(failed(format!(
                "the clones take up to {needed} bytes of {} free ones, and {floor} are to stay free: free space, or \
                 skip_validation where the disks are mostly empty",
                space.free
            ))),
            false => Ok(()),
        }
    }
}
