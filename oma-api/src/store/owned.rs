//! Which names of the backends' inventories a record owns: for what nobody owns.

use super::error::Doing as _;
use super::row::{Row, sql};
use super::{Error, Store};
use crate::failover::{Kind, Standing, names, standing};
use crate::workflow::{JobState, WorkflowId};
use serde_json::Value;
use sqlx::any::AnyRow;
use std::collections::BTreeSet;

/// What one failover has made or may make, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Makes {
    pub job: WorkflowId,
    pub kind: Kind,
    pub vm_name: String,
    /// Of the machine, and of the snapshot of its clones.
    pub name: String,
    pub clones: BTreeSet<String>,
    pub standing: Standing,
}

impl Makes {
    /// Nothing of it should be there.
    pub fn is_gone(&self) -> bool {
        self.standing == Standing::Gone
    }

    /// Whether a machine or a snapshot of this name would be its own.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || names::kept(&self.name) == name
    }
}

/// Every name that a record owns, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// Of all failovers that there ever were.
    pub failovers: Vec<Makes>,
    /// Replicas: of unfinished migrations, and of disks that left one and are kept for its restore points.
    pub replicas: BTreeSet<String>,
    /// Snapshots of restore points, and those that unfinished cycles may be making now.
    pub points: BTreeSet<String>,
}

impl Store {
    /// See [`Owned`].
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn owned(&self) -> Result<Owned, Error> {
        const FAILOVERS: &str = "SELECT f.job_id, f.job_type, f.vm_name, f.name, f.committed_at, j.params, j.state, \
             c.state AS cleanup_state, b.state AS rollback_state FROM failovers f JOIN workflow_jobs j ON j.id = f.job_id \
             LEFT JOIN workflow_jobs c ON c.id = f.cleanup_job_id LEFT JOIN workflow_jobs b ON b.id = f.rollback_job_id \
             ORDER BY f.number";
        const REPLICAS: &str = "SELECT d.id, d.volume FROM disks d JOIN migrations m ON m.id = d.migration_id \
             WHERE m.unfinished_vm IS NOT NULL \
             UNION SELECT d.id, d.volume FROM disks d JOIN retired_disks r ON r.disk_id = d.id WHERE r.volume_gone = 0";
        const POINTS: &str = "SELECT id, snapshot_name FROM restore_points";
        // A commit takes its snapshot first, and is recorded then.
        const CYCLES: &str = "SELECT id FROM replication_jobs WHERE active_migration IS NOT NULL";
        self.reading(|| async {
            // One moment: what is looked for in one list may go over into another.
            let mut tx = self.read.begin().await.doing("listing what is owned")?;
            let failovers = sql(FAILOVERS).fetch_all(&mut *tx).await.doing("listing failovers")?;
            let replicas = sql(REPLICAS).fetch_all(&mut *tx).await.doing("listing volumes")?;
            let points = sql(POINTS).fetch_all(&mut *tx).await.doing("listing snapshots")?;
            let cycles = sql(CYCLES).fetch_all(&mut *tx).await.doing("listing cycles")?;
            tx.rollback().await.doing("listing what is owned")?;
            let text = |row: &AnyRow, column| Row::new(row, "owned", "id")?.text(column);
            Ok(Owned {
                failovers: failovers.iter().map(makes).collect::<Result<_, _>>()?,
                replicas: replicas.iter().map(|row| text(row, "volume")).collect::<Result<_, _>>()?,
                points: points
                    .iter()
                    .map(|row| text(row, "snapshot_name"))
                    .chain(cycles.iter().map(|row| Ok(format!("rp-{}", text(row, "id")?))))
                    .collect::<Result<_, _>>()?,
            })
        })
        .await
    }
}

fn makes(row: &AnyRow) -> Result<Makes, Error> {
    let row = Row::new(row, "failovers", "job_id")?;
    // By the fields alone that every version of a plan has.
    let params: Value = row.parsed("params")?;
    let disks = params.get("disks").and_then(Value::as_array);
    let clone = |disk: &Value| disk.get("clone").and_then(Value::as_str).map(str::to_owned);
    Ok(Makes {
        job: row.parsed("job_id")?,
        kind: row.parsed("job_type")?,
        vm_name: row.text("vm_name")?,
        name: row.text("name")?,
        clones: disks.into_iter().flatten().filter_map(clone).collect(),
        standing: standing(
            row.parsed("state")?,
            row.opt_parsed::<JobState>("cleanup_state")?,
            row.opt_parsed::<JobState>("rollback_state")?,
            row.opt_text("committed_at")?.is_some(),
        ),
    })
}
