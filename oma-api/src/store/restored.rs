//! What a database is after its restore: what happened since the backup is unknown.
//!
//! - *Epochs.* A transfer is admitted under the one epoch that the database has for its disk, in a cycle that runs. A
//!   restored number was given out again would admit a stream of before the restore. So every epoch is raised to the
//!   seconds since 1970 × 2^20: above all that were given out in between (fewer than a million a second), and above what
//!   an earlier restore of the same backup began with. A clock that is behind that gives the old one + 2^32.
//! - *Cycles* that had not ended are closed: whether they were committed since is unknown. A snapshot that has the name of
//!   one may be a restore point, and is not removed (see `reconcile::leftovers`).
//! - *Disks* are compared by their next cycle; what the volume holds is unknown, and so is what a verification said.
//! - *Restore points* whose snapshot is gone are dropped.
//! - *Workflow jobs* that had not ended wait for somebody: any of their steps may have been taken since, or taken back,
//!   and is looked up before anything is done about it.
//! - *Nothing starts by itself*: every migration is on hold, what was to happen at a time or automatically is forgotten.

use super::error::Doing as _;
use super::job::active;
use super::row::{Row, int, sql};
use super::words::JobStatus;
use super::{Error, Failure, Store, Write};
use jiff::Timestamp;
use serde_json::json;
use shared::ids::MigrationId;
use shared::migration::{Event, Position, apply};
use std::collections::BTreeSet;

/// Why a cycle ended that was unfinished in a backup.
pub const INTERRUPTED_BY_RESTORE: &str = "INTERRUPTED_BY_RESTORE";

/// Epochs, and events, of a second.
const A_SECOND: u64 = 1 << 20;

/// Above an epoch of a clock that was ahead.
const AHEAD: u64 = 1 << 32;

/// What a restore changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Unfinished ones; all are on hold.
    pub migrations: Vec<String>,
    /// Cycles that were closed.
    pub cycles: Vec<String>,
    /// VM and snapshot of restore points that were dropped.
    pub dropped: Vec<(String, String)>,
    /// VM, disk and volume of replicas that are gone.
    pub lost: Vec<(String, String, String)>,
    /// Snapshots that restore points name.
    pub snapshots: BTreeSet<String>,
    /// Volumes of unfinished migrations.
    pub volumes: BTreeSet<String>,
    /// Tokens that can be used: those too that were revoked since.
    pub tokens: u64,
}

impl Store {
    /// Once, after the rows are in and the schema is the newest. `snapshots` and `volumes` are those of the storage.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`].
    pub async fn restored(
        &self,
        snapshots: &BTreeSet<String>,
        volumes: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Restored, Error> {
        self.write(|mut w| async move {
            let mut found = Restored::default();
            w.numbers_raise(now).await?;
            let rows = sql("SELECT id FROM migrations WHERE unfinished_vm IS NOT NULL ORDER BY id")
                .fetch_all(&mut *w.tx)
                .await
                .doing("listing migrations")?;
            for row in rows {
                let id = Row::new(&row, "migrations", "id")?.parsed("id")?;
                w.migration_restored(&id, snapshots, volumes, &mut found, now).await?;
            }
            w.workflows_restored().await?;
            let tokens =
                sql("SELECT id FROM tokens WHERE living_name IS NOT NULL").fetch_all(&mut *w.tx).await;
            found.tokens = u64::try_from(tokens.doing("listing tokens")?.len()).unwrap_or(u64::MAX);
            sql("DELETE FROM counters WHERE name = 'restoring'")
                .execute(&mut *w.tx)
                .await
                .doing("ending a restore")?;
            w.commit().await?;
            Ok(found)
        })
        .await
    }
}

impl Write {
    /// See the module.
    async fn numbers_raise(&mut self, now: Timestamp) -> Result<(), Error> {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let floor = int("an epoch", seconds.saturating_mul(A_SECOND))?;
        for (statement, above) in [
            (
                "UPDATE disks SET epoch = epoch + ?, epoch_job_id = NULL WHERE epoch >= ?",
                int("an epoch", AHEAD)?,
            ),
            ("UPDATE disks SET epoch = ?, epoch_job_id = NULL WHERE epoch < ?", floor),
            // Whoever watched goes on from a number of before the restore.
            ("UPDATE counters SET value = ? WHERE name = 'events' AND value < ?", floor),
        ] {
            sql(statement)
                .bind(above)
                .bind(floor)
                .execute(&mut *self.tx)
                .await
                .doing("raising the epochs")?;
        }
        sql("UPDATE disks SET needs_hash_diff = 1, reads_zero = 0, replica_verified_at = NULL, source_verified_at = NULL")
            .execute(&mut *self.tx)
            .await
            .doing("asking for comparisons")?;
        Ok(())
    }

    /// The epoch: a driver of before the restore has one that was given out again otherwise.
    async fn workflows_restored(&mut self) -> Result<(), Error> {
        for statement in [
            "UPDATE workflow_steps SET state = 'started' WHERE state IN ('pending', 'undone') AND job_id IN \
             (SELECT id FROM workflow_jobs WHERE ended_at IS NULL)",
            "UPDATE workflow_jobs SET state = 'needs_attention', wish = NULL, generation = generation + 1, \
             lease_owner = NULL, error_reason = 'INTERRUPTED_BY_RESTORE', \
             error_message = 'the database was restored from a backup that was taken while this job ran' \
             WHERE ended_at IS NULL",
        ] {
            sql(statement).execute(&mut *self.tx).await.doing("closing workflow jobs")?;
        }
        sql("UPDATE workflow_jobs SET lease_epoch = lease_epoch + ?")
            .bind(int("an epoch", AHEAD)?)
            .execute(&mut *self.tx)
            .await
            .doing("raising the epochs")?;
        Ok(())
    }

    async fn migration_restored(
        &mut self,
        id: &MigrationId,
        snapshots: &BTreeSet<String>,
        volumes: &BTreeSet<String>,
        found: &mut Restored,
        now: Timestamp,
    ) -> Result<(), Error> {
        if let Some(job) = active(&mut self.tx, id).await? {
            let failure = Failure {
                reason: INTERRUPTED_BY_RESTORE.to_owned(),
                message: "the database was restored from a backup that was taken while this cycle ran"
                    .to_owned(),
            };
            self.job_status_set(&job, JobStatus::Aborted, Some(&failure), now).await?;
            found.cycles.push(job.id.to_string());
        }
        let mut changed = self.migration(id).await?;
        let kept = self.points_keep(id, snapshots, &changed.vm_name, found, now).await?;
        for disk in self.disk_list(id).await? {
            if !volumes.contains(&disk.volume) && changed.position != Position::BeginRunning {
                found.lost.push((changed.vm_name.clone(), disk.key.to_string(), disk.volume.clone()));
            }
            found.volumes.insert(disk.volume);
        }
        changed.has_committed &= kept > 0;
        changed.held = true;
        changed.wishes.automatic = None;
        changed.wishes.scheduled_at = None;
        if changed.position == Position::SyncRunning {
            changed.position = apply(Some(changed.position), Event::Done, changed.facts())?.to;
        }
        sql("DELETE FROM system_pauses WHERE migration_id = ?")
            .bind(id.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("forgetting pauses")?;
        found.migrations.push(changed.vm_name.clone());
        self.migration_swap(&changed, now).await?;
        Ok(())
    }

    /// Drops restore points without a snapshot; gives how many are left.
    async fn points_keep(
        &mut self,
        id: &MigrationId,
        snapshots: &BTreeSet<String>,
        vm: &str,
        found: &mut Restored,
        now: Timestamp,
    ) -> Result<usize, Error> {
        let mut kept = 0;
        for point in super::restore_point::list(&mut self.tx, id).await? {
            if snapshots.contains(&point.snapshot_name) {
                found.snapshots.insert(point.snapshot_name);
                kept += 1;
                continue;
            }
            for statement in [
                "DELETE FROM restore_point_disks WHERE restore_point_id = ?",
                "DELETE FROM restore_points WHERE id = ?",
            ] {
                sql(statement)
                    .bind(point.id.as_str())
                    .execute(&mut *self.tx)
                    .await
                    .doing("dropping a restore point")?;
            }
            let body = json!({ "restore_point_id": point.id.as_str() });
            self.event(now, Some(id), None, "restore_point_deleted", body).await?;
            found.dropped.push((vm.to_owned(), point.snapshot_name));
        }
        Ok(kept)
    }
}
