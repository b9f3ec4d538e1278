//! `failovers`: what each failover job is about, made and ended in one transaction with the journal's jobs.

use super::error::Doing as _;
use super::row::{Row, flag, int, sql};
use super::workflow::workflow;
use super::{Error, Store, Write};
use crate::failover::{Failover, Kind, Record};
use crate::workflow::{Job, JobState, NewJob, WorkflowId};
use jiff::Timestamp;
use serde_json::Value;
use shared::ids::{MigrationId, RestorePointId};
use shared::migration::Phase;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::time::Duration;

/// Tests of one VM that may be there at a time.
pub const MOST_TESTS: usize = 5;

/// Which failovers a list shows; the newest come first.
#[derive(Clone, Debug, Default)]
pub struct FailoversOf {
    /// As the API shows it.
    pub status: Option<&'static str>,
    pub kind: Option<Kind>,
    pub vm: Option<String>,
    /// Older than this one.
    pub before: Option<WorkflowId>,
    pub limit: u32,
}

macro_rules! columns {
    () => {
        "job_id, job_type, migration_id, vm_uuid, vm_name, restore_point_id, name, protected, machine_uuid, source_vm_spec, \
         network_mappings, custom_config, notification_config, auto_cleanup, keep_seconds, test_duration, requested_by, \
         cleanup_job_id, rollback_job_id, final_job_id, committed_at"
    };
}

/// Those at [`Standing::There`](crate::failover::Standing::There).
const THERE: &str = "SELECT f.job_id, f.job_type FROM failovers f JOIN workflow_jobs j ON j.id = f.job_id \
     LEFT JOIN workflow_jobs c ON c.id = f.cleanup_job_id LEFT JOIN workflow_jobs b ON b.id = f.rollback_job_id \
     WHERE j.state <> 'rolled_back' AND f.committed_at IS NULL AND (c.state IS NULL OR c.state <> 'succeeded') \
     AND (b.state IS NULL OR b.state <> 'succeeded')";

impl Store {
    /// Makes a failover and its job, if its migration and the others of its VM let it.
    ///
    /// # Errors
    /// [`Error::WorkflowExists`]: its names are taken. [`Error::NotCommitted`], [`Error::MigrationEnded`],
    /// [`Error::NotFound`] for a restore point that has gone, [`Error::FailoverThere`], [`Error::TooManyTests`],
    /// [`Error::Database`].
    pub async fn failover_create(
        &self,
        record: &Record,
        new: &NewJob,
        now: Timestamp,
    ) -> Result<Failover, Error> {
        self.write(|mut w| async move {
            w.failover_allowed(record).await?;
            let job = w.workflow_insert(new, now).await?;
            w.failover_insert(record).await?;
            let made = failover(&mut w.tx, &job.id).await?;
            w.commit().await?;
            Ok(made)
        })
        .await
    }

    /// Makes the job that removes what is there of a failover. One that has such a job keeps it, and that is given, unless it
    /// was cancelled.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Database`].
    pub async fn failover_clean(&self, of: &WorkflowId, new: &NewJob, now: Timestamp) -> Result<Job, Error> {
        self.write(|mut w| async move {
            let before = failover(&mut w.tx, of).await?.cleanup;
            if let Some(job) = before.filter(|job| job.state != JobState::RolledBack) {
                return Ok(job);
            }
            let job = w.workflow_insert(new, now).await?;
            sql("UPDATE failovers SET cleanup_job_id = ? WHERE job_id = ?")
                .bind(job.id.as_str())
                .bind(of.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("recording a clean-up")?;
            w.commit().await?;
            Ok(job)
        })
        .await
    }

    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Database`].
    pub async fn failover_fetch(&self, job: &WorkflowId) -> Result<Failover, Error> {
        self.reading(|| async {
            // One moment: what it is about, and how it stands.
            let mut tx = self.read.begin().await.doing("reading a failover")?;
            let found = failover(&mut tx, job).await?;
            tx.rollback().await.doing("reading a failover")?;
            Ok(found)
        })
        .await
    }

    /// At most `limit` of those that were asked for, and how many there are in all.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn failover_page(&self, of: &FailoversOf) -> Result<(Vec<Failover>, u64), Error> {
        const WHERE: &str = "FROM failover_jobs v JOIN failovers f ON f.job_id = v.job_id \
             WHERE (? = '' OR v.status = ?) AND (? = '' OR v.job_type = ?) AND (? = '' OR v.vm_id = ?)";
        let (status, kind) = (of.status.unwrap_or_default(), of.kind.map_or("", Kind::as_str));
        let vm = of.vm.as_deref().unwrap_or_default();
        let bound = [status, status, kind, kind, vm, vm];
        self.reading(|| async {
            let mut tx = self.read.begin().await.doing("listing failovers")?;
            let count = sqlx::AssertSqlSafe(format!("SELECT 'failovers' AS id, COUNT(*) AS number {WHERE}"));
            let counted = bound.iter().fold(sqlx::query(count), |q, text| q.bind((*text).to_owned()));
            let counted = counted.fetch_one(&mut *tx).await.doing("counting failovers")?;
            let total = Row::new(&counted, "failovers", "id")?.count("number")?;
            let before = match &of.before {
                None => i64::MAX,
                Some(job) => number_of(&mut tx, job).await?,
            };
            let page = format!("SELECT f.job_id {WHERE} AND f.number < ? ORDER BY f.number DESC LIMIT ?");
            let page =
                bound.iter().fold(sqlx::query(sqlx::AssertSqlSafe(page)), |q, t| q.bind((*t).to_owned()));
            let rows = page.bind(before).bind(i64::from(of.limit)).fetch_all(&mut *tx).await;
            let mut found = Vec::new();
            for row in rows.doing("listing failovers")? {
                let id = Row::new(&row, "failovers", "job_id")?.parsed("job_id")?;
                found.push(failover(&mut tx, &id).await?);
            }
            tx.rollback().await.doing("listing failovers")?;
            Ok((found, total))
        })
        .await
    }

    /// Tests that are cleaned up by themselves, and live ones that were rolled back, without a clean-up.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn failover_list_expiring(&self) -> Result<Vec<Failover>, Error> {
        self.reading(|| async {
            let mut tx = self.read.begin().await.doing("listing tests")?;
            let rows = sql("SELECT f.job_id FROM failovers f JOIN workflow_jobs j ON j.id = f.job_id \
                 LEFT JOIN workflow_jobs b ON b.id = f.rollback_job_id WHERE f.cleanup_job_id IS NULL AND \
                 ((f.job_type = 'test' AND f.auto_cleanup = 1 AND j.state = 'succeeded') OR b.state = 'succeeded') \
                 ORDER BY f.number")
            .fetch_all(&mut *tx)
            .await
            .doing("listing tests")?;
            let mut found = Vec::new();
            for row in rows {
                let id = Row::new(&row, "failovers", "job_id")?.parsed("job_id")?;
                found.push(failover(&mut tx, &id).await?);
            }
            tx.rollback().await.doing("listing tests")?;
            Ok(found)
        })
        .await
    }
}

impl Write {
    pub(super) async fn failover_allowed(&mut self, record: &Record) -> Result<(), Error> {
        let migration = self.migration(&record.migration).await?;
        if !migration.has_committed {
            return Err(Error::NotCommitted { migration: migration.id });
        }
        match migration.position.phase() {
            Phase::Begin | Phase::Sync | Phase::Switch | Phase::Rollback => {}
            Phase::Abort | Phase::Finalize => return Err(Error::MigrationEnded { migration: migration.id }),
        }
        let point = sql("SELECT id FROM restore_points WHERE id = ? AND migration_id = ?")
            .bind(record.restore_point.as_str())
            .bind(record.migration.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .doing("looking for a restore point")?;
        if point.is_none() {
            return Err(Error::NotFound { what: "restore point", id: record.restore_point.to_string() });
        }
        let named = sql("SELECT job_id FROM failovers WHERE name = ?").bind(record.name.as_str());
        if named.fetch_optional(&mut *self.tx).await.doing("looking for a failover")?.is_some() {
            return Err(Error::WorkflowExists { id: record.job.clone() });
        }
        let there = self.failovers_there(&record.migration).await?;
        if let Some((job, kind)) =
            there.iter().find(|(_, kind)| Kind::Live == *kind || Kind::Live == record.kind)
        {
            let (migration, job) = (migration.id, job.clone());
            return Err(match kind {
                Kind::Test => Error::FailoverThere { migration, job },
                Kind::Live => Error::LiveFailoverThere { migration, job },
            });
        }
        match there.len() >= MOST_TESTS {
            true => Err(Error::TooManyTests { vm: record.vm_name.clone(), most: MOST_TESTS }),
            false => Ok(()),
        }
    }

    /// Failovers of a migration of which something may be there.
    pub(super) async fn failovers_there(
        &mut self,
        migration: &MigrationId,
    ) -> Result<Vec<(WorkflowId, Kind)>, Error> {
        let query =
            sqlx::query(sqlx::AssertSqlSafe(format!("{THERE} AND f.migration_id = ? ORDER BY f.number")));
        let rows = query.bind(migration.as_str().to_owned()).fetch_all(&mut *self.tx).await;
        rows.doing("listing failovers")?.iter().map(there).collect()
    }

    /// A failover that needs this restore point.
    pub(super) async fn failover_from(
        &mut self,
        point: &RestorePointId,
    ) -> Result<Option<WorkflowId>, Error> {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("{THERE} AND f.restore_point_id = ?")));
        let row = query.bind(point.as_str().to_owned()).fetch_optional(&mut *self.tx).await;
        Ok(row.doing("looking for a failover")?.as_ref().map(there).transpose()?.map(|(job, _)| job))
    }

    pub(super) async fn failover_insert(&mut self, record: &Record) -> Result<(), Error> {
        let json = |value: &Option<Value>| value.as_ref().map(Value::to_string);
        sql("INSERT INTO failovers (number, job_id, job_type, migration_id, vm_uuid, vm_name, restore_point_id, name, protected, \
             machine_uuid, source_vm_spec, network_mappings, custom_config, notification_config, auto_cleanup, keep_seconds, \
             test_duration, requested_by) \
             SELECT COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM failovers")
        .bind(record.job.as_str())
        .bind(record.kind.as_str())
        .bind(record.migration.as_str())
        .bind(record.vm.as_str())
        .bind(record.vm_name.as_str())
        .bind(record.restore_point.as_str())
        .bind(record.name.as_str())
        .bind(flag(record.protected))
        .bind(record.machine.to_string())
        .bind(record.source_vm_spec.to_string())
        .bind(record.network_mappings.to_string())
        .bind(json(&record.custom_config))
        .bind(json(&record.notification_config))
        .bind(flag(record.auto_cleanup))
        .bind(int("a duration", record.keep.as_secs())?)
        .bind(record.test_duration.as_deref())
        .bind(record.requested_by.as_str())
        .execute(&mut *self.tx)
        .await
        .doing("recording a failover")?;
        Ok(())
    }
}

fn there(row: &AnyRow) -> Result<(WorkflowId, Kind), Error> {
    let row = Row::new(row, "failovers", "job_id")?;
    Ok((row.parsed("job_id")?, row.parsed("job_type")?))
}

async fn number_of(c: &mut AnyConnection, job: &WorkflowId) -> Result<i64, Error> {
    let row = sql("SELECT job_id, number FROM failovers WHERE job_id = ?").bind(job.as_str());
    let row = row.fetch_optional(c).await.doing("looking for a failover")?;
    let row = row.ok_or_else(|| Error::NotFound { what: "failover job", id: job.to_string() })?;
    int("a number", Row::new(&row, "failovers", "job_id")?.count("number")?)
}

pub(super) async fn failover(c: &mut AnyConnection, job: &WorkflowId) -> Result<Failover, Error> {
    let row = sql(concat!("SELECT ", columns!(), " FROM failovers WHERE job_id = ?")).bind(job.as_str());
    let row = row.fetch_optional(&mut *c).await.doing("reading a failover")?;
    let row = row.ok_or_else(|| Error::NotFound { what: "failover job", id: job.to_string() })?;
    let row = Row::new(&row, "failovers", "job_id")?;
    let record = record(&row)?;
    let mut others = Vec::new();
    for column in ["cleanup_job_id", "rollback_job_id"] {
        others.push(match row.opt_parsed::<WorkflowId>(column)? {
            Some(id) => Some(workflow(&mut *c, &id).await?),
            None => None,
        });
    }
    let (rollback, cleanup) = (others.pop().flatten(), others.pop().flatten());
    let (final_job, committed_at) = (row.opt_parsed("final_job_id")?, row.opt_time("committed_at")?);
    Ok(Failover { job: workflow(c, &record.job).await?, record, cleanup, rollback, final_job, committed_at })
}

fn record(row: &Row<'_>) -> Result<Record, Error> {
    Ok(Record {
        job: row.parsed("job_id")?,
        kind: row.parsed("job_type")?,
        migration: row.parsed("migration_id")?,
        vm: row.parsed("vm_uuid")?,
        vm_name: row.text("vm_name")?,
        restore_point: row.parsed("restore_point_id")?,
        name: row.text("name")?,
        protected: row.flag("protected")?,
        machine: row.parsed("machine_uuid")?,
        source_vm_spec: row.parsed("source_vm_spec")?,
        network_mappings: row.parsed("network_mappings")?,
        custom_config: row.opt_parsed("custom_config")?,
        notification_config: row.opt_parsed("notification_config")?,
        auto_cleanup: row.flag("auto_cleanup")?,
        keep: Duration::from_secs(row.count("keep_seconds")?),
        test_duration: row.opt_text("test_duration")?,
        requested_by: row.text("requested_by")?,
    })
}
