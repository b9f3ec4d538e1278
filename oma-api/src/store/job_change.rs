//! What changes a cycle, short of its commit.
//!
//! ```text
//!            ┌──────────► paused
//!  running ──┤   resumed    │
//!     ▲──────┼──────────────┘
//!            └─► committing ─► completed        running, paused, committing ─► failed | aborted
//! ```
//!
//! Where the end of a cycle moves its migration too, both happen in one transaction: a crash between them would
//! make a reconciler start the cycle again that just failed.

use super::error::Doing as _;
use super::row::{counted, int, shown, sql, strategy_columns, time};
use super::words::{JobKind, JobStatus, Wanted};
use super::{Attempt, Error, Failure, Job, Migration, Store};
use jiff::Timestamp;
use shared::cycle::{DiskProgress, SnapshotDisk, Strategy};
use shared::ids::{DiskId, Epoch, JobId, MigrationId};
use shared::migration::{Event, Phase, Position, apply};

/// A cycle to be made.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub migration: MigrationId,
    pub kind: JobKind,
    /// Every disk of the migration.
    pub disks: Vec<(DiskId, Strategy)>,
}

/// A step of a cycle's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStep {
    /// paused → running.
    Resumed,
    /// running → paused at a durable point; a migration at sync/running goes to sync/paused.
    Paused,
    /// running → committing: every disk is sealed.
    Committing,
    /// Ended with an error; a migration at sync/running goes to sync/failed, except for a verification.
    Failed(Failure),
    /// Given up without a word on the migration: it was aborted, or another cycle takes its place.
    Aborted(Failure),
    /// A verification ran to its end; whether it found anything is in `required` checkpoints.
    Compared,
}

impl JobStep {
    pub(super) const fn leads_to(&self) -> JobStatus {
        match self {
            Self::Resumed => JobStatus::Running,
            Self::Paused => JobStatus::Paused,
            Self::Committing => JobStatus::Committing,
            Self::Failed(_) => JobStatus::Failed,
            Self::Aborted(_) => JobStatus::Aborted,
            Self::Compared => JobStatus::Completed,
        }
    }

    /// Whether the step may be taken from there. `completed` of a writing cycle is [`Store::job_commit`]'s alone.
    fn fits(&self, kind: JobKind, from: JobStatus) -> bool {
        match self {
            Self::Resumed => from == JobStatus::Paused,
            Self::Paused => from == JobStatus::Running,
            Self::Committing => from == JobStatus::Running && kind.writes(),
            Self::Compared => from == JobStatus::Running && !kind.writes(),
            Self::Failed(_) | Self::Aborted(_) => !from.ended(),
        }
    }
}

impl Store {
    /// Makes a cycle, running, and raises every disk's epoch to the attempt it is: whoever wrote before is
    /// refused from the COMMIT on. The trace of this moment is kept with it. The id is `job-YYYYMMDD-HHMMSS` of `now`, or of the next second that is free.
    ///
    /// # Errors
    /// [`Error::JobActive`]; [`Error::NotReady`] (a writing cycle needs sync/running or switch/running, a
    /// verification sync/paused, sync/failed or rollback/running); [`Error::DisksDiffer`] unless it has every disk of the
    /// migration; [`Error::VolumePending`] while a volume is to be made; [`Error::NotFound`], [`Error::Database`].
    pub async fn job_create(&self, new: &NewJob, now: Timestamp) -> Result<Job, Error> {
        self.write(|mut w| async move {
            let made = w.job_insert(new, now).await?;
            w.commit().await?;
            Ok(made)
        })
        .await
    }

    /// The agent connected anew: every disk that is not sealed gets a new epoch, so that a stream of the old
    /// connection that still lives somewhere is refused.
    ///
    /// # Errors
    /// [`Error::JobClosed`] when the cycle has ended, [`Error::NotFound`], [`Error::Database`].
    pub async fn job_epochs_raise(&self, id: &JobId, now: Timestamp) -> Result<Job, Error> {
        self.write(|mut w| async move {
            let job = w.job(id).await?;
            if job.status.ended() {
                return Err(Error::JobClosed { job: job.id, status: job.status });
            }
            for d in job.disks.iter().filter(|d| !d.finished) {
                let epoch = w.disk_epoch_raise(&d.disk, id).await?;
                sql("UPDATE job_disks SET epoch = ? WHERE job_id = ? AND disk_id = ?")
                    .bind(int("an epoch", epoch.0)?)
                    .bind(id.as_str())
                    .bind(d.disk.as_str())
                    .execute(&mut *w.tx)
                    .await
                    .doing("raising an epoch")?;
            }
            sql("UPDATE replication_jobs SET attempts = attempts + 1 WHERE id = ?")
                .bind(id.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("counting an attempt")?;
            w.job_event(id, &job.migration, job.status, now).await?;
            let raised = w.job(id).await?;
            w.commit().await?;
            Ok(raised)
        })
        .await
    }

    /// Takes one step of the status; taken again it changes nothing. Ending or pausing a cycle may move its
    /// migration (see [`JobStep`]).
    ///
    /// # Errors
    /// [`Error::JobStatus`] when the step does not fit, `Paused` where none is wanted any more among them; [`Error::Unfinished`] for `Committing` with a disk that
    /// is not sealed; [`Error::NotFound`], [`Error::Database`].
    pub async fn job_transition(
        &self,
        id: &JobId,
        step: &JobStep,
        now: Timestamp,
    ) -> Result<(Job, Migration), Error> {
        self.write(|mut w| async move {
            let job = w.job(id).await?;
            let mut migration = w.migration(&job.migration).await?;
            if job.status == step.leads_to() {
                return Ok((job, migration));
            }
            // Whoever asked for the cycle since does not want the pause that an agent reports late.
            let overtaken = *step == JobStep::Paused && job.wanted == Wanted::Run;
            if overtaken || !step.fits(job.kind, job.status) {
                return Err(Error::JobStatus {
                    job: job.id,
                    status: job.status,
                    asked: step.leads_to().as_str(),
                });
            }
            if let (JobStep::Committing, Some(open)) = (step, job.disks.iter().find(|d| !d.finished)) {
                return Err(Error::Unfinished { job: job.id, disk: open.disk.clone() });
            }
            let (event, error) = match step {
                JobStep::Resumed | JobStep::Committing | JobStep::Compared => (None, None),
                JobStep::Paused => (Some(Event::Done), None),
                JobStep::Failed(failure) => (Some(Event::Failed), Some(failure)),
                JobStep::Aborted(failure) => (None, Some(failure)),
            };
            w.job_status_set(&job, step.leads_to(), error, now).await?;
            if *step == JobStep::Compared {
                w.progress_full(&job, now).await?;
            }
            if let (Some(event), Position::SyncRunning, true) = (event, migration.position, job.kind.writes())
            {
                migration.position = apply(Some(migration.position), event, migration.facts())?.to;
                migration.error = error.cloned();
                migration = w.migration_swap(&migration, now).await?;
            }
            let job = w.job(id).await?;
            w.commit().await?;
            Ok((job, migration))
        })
        .await
    }

    /// As [`migration_transition`](Self::migration_transition), and what the unfinished cycle is to do, as one: no
    /// cycle can begin or end between the two. A pause that comes before its cycle was made is over at once. The
    /// attempt is recorded with it.
    ///
    /// # Errors
    /// As there; [`Error::JobActive`] when a verification is in the way of a cycle, [`Error::FailoverThere`] when a failover
    /// is in the way of an abort.
    pub async fn migration_direct(
        &self,
        changed: &Migration,
        wanted: Option<Wanted>,
        attempt: Option<&Attempt>,
        now: Timestamp,
    ) -> Result<Migration, Error> {
        self.write(|mut w| async move {
            let mut changed = changed.clone();
            match (w.job_active(&changed.id).await?, wanted) {
                (Some(id), Some(wanted)) => {
                    let job = w.job_wanted(&id, wanted, now).await?;
                    if wanted == Wanted::Run && !job.kind.writes() {
                        return Err(Error::JobActive { migration: changed.id, job: id });
                    }
                    // It was not gone on with yet: nobody has anything to stop, and nobody would say that it has.
                    if wanted == Wanted::Pause && job.status == JobStatus::Paused {
                        changed.position = apply(Some(changed.position), Event::Done, changed.facts())?.to;
                    }
                }
                (None, Some(Wanted::Pause)) => {
                    changed.position = apply(Some(changed.position), Event::Done, changed.facts())?.to;
                }
                (_, None) | (None, Some(Wanted::Run)) => {}
            }
            if let Some(attempt) = attempt {
                w.attempt_insert(attempt, &changed.id, now).await?;
            }
            // It would take away what they stand on, and leave what they have made.
            if changed.position.phase() == Phase::Abort {
                let by = changed.wishes.last.as_ref().map_or("abort", |last| last.by.as_str());
                w.failovers_give_way(&changed.id, by, now).await?;
            }
            let stored = w.migration_swap(&changed, now).await?;
            w.commit().await?;
            Ok(stored)
        })
        .await
    }

    /// Stores the snapshot that the cycle copies from, with sizes and change ids. The same one again changes nothing.
    ///
    /// # Errors
    /// [`Error::SnapshotDiffers`] when it has another; [`Error::NoSnapshot`] when `disks` lacks one of the
    /// cycle's; [`Error::JobClosed`], [`Error::NotFound`], [`Error::Database`].
    pub async fn job_snapshot_record(
        &self,
        id: &JobId,
        snapshot: &str,
        taken_at: Timestamp,
        disks: &[SnapshotDisk],
        now: Timestamp,
    ) -> Result<Job, Error> {
        self.write(|mut w| async move {
            let job = w.job_open(id).await?;
            match &job.snapshot {
                Some(have) if have == snapshot => return Ok(job),
                Some(have) => {
                    return Err(Error::SnapshotDiffers {
                        job: job.id,
                        have: have.clone(),
                        got: snapshot.to_owned(),
                    });
                }
                None => {}
            }
            sql(
            "UPDATE replication_jobs SET snapshot_id = ?, snapshot_taken_at = ?, updated_at = ? WHERE id = ?",
        )
        .bind(snapshot)
        .bind(time(taken_at))
        .bind(time(now))
        .bind(id.as_str())
        .execute(&mut *w.tx)
        .await
        .doing("storing a snapshot")?;
            for d in &job.disks {
                let Some(taken) = disks.iter().find(|s| s.key == d.key) else {
                    return Err(Error::NoSnapshot { job: job.id, disk: d.disk.clone() });
                };
                sql(
                "UPDATE job_disks SET new_change_id = ?, new_size_bytes = ? WHERE job_id = ? AND disk_id = ?",
            )
            .bind(taken.change_id.as_deref())
            .bind(int("a disk's size", taken.size)?)
            .bind(id.as_str())
            .bind(d.disk.as_str())
            .execute(&mut *w.tx)
            .await
            .doing("storing a snapshot")?;
            }
            w.job_event(id, &job.migration, job.status, now).await?;
            let job = w.job(id).await?;
            w.commit().await?;
            Ok(job)
        })
        .await
    }

    /// Changes how one disk is brought up to date, as a finding asks (a hash-diff instead of a delta).
    ///
    /// # Errors
    /// [`Error::Sealed`], [`Error::JobClosed`], [`Error::DisksDiffer`] (not a disk of the cycle),
    /// [`Error::NotFound`], [`Error::Database`].
    pub async fn job_strategy_set(
        &self,
        id: &JobId,
        disk: &DiskId,
        strategy: &Strategy,
        now: Timestamp,
    ) -> Result<Job, Error> {
        self.write(|mut w| async move {
            let job = w.job_open(id).await?;
            match job.disks.iter().find(|d| d.disk == *disk) {
                None => return Err(Error::DisksDiffer { job: job.id, disk: disk.clone() }),
                Some(d) if d.finished => return Err(Error::Sealed { job: job.id, disk: disk.clone() }),
                Some(_) => {}
            }
            let (word, since) = strategy_columns(strategy);
            sql("UPDATE job_disks SET strategy = ?, base_change_id = ? WHERE job_id = ? AND disk_id = ?")
                .bind(word)
                .bind(since)
                .bind(id.as_str())
                .bind(disk.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("changing a strategy")?;
            w.job_event(id, &job.migration, job.status, now).await?;
            let job = w.job(id).await?;
            w.commit().await?;
            Ok(job)
        })
        .await
    }

    /// Seals a disk: from the COMMIT on nothing more is recorded for it in this cycle. Again: changes nothing.
    /// `last` are its counters for good; without them they stay as they were recorded.
    ///
    /// # Errors
    /// [`Error::StaleEpoch`] when the attempt was overtaken; [`Error::Unsettled`] when an announced write is not
    /// durable; [`Error::JobClosed`], [`Error::DisksDiffer`], [`Error::NotFound`], [`Error::Database`].
    pub async fn job_disk_finish(
        &self,
        id: &JobId,
        disk: &DiskId,
        epoch: Epoch,
        last: Option<&DiskProgress>,
        now: Timestamp,
    ) -> Result<Job, Error> {
        self.write(|mut w| async move {
            let job = w.job_open(id).await?;
            let Some(d) = job.disks.iter().find(|d| d.disk == *disk) else {
                return Err(Error::DisksDiffer { job: job.id, disk: disk.clone() });
            };
            w.epoch_current(disk, epoch, id).await?;
            if d.finished {
                return Ok(job);
            }
            if job.kind.writes() {
                w.settled(id, disk).await?;
            }
            let last = last.unwrap_or(&d.progress);
            counted(sql("UPDATE job_disks SET finished = 1, plan_complete = 1, planned_bytes = ?, done_bytes = ?, \
                 read_bytes = ?, wire_bytes = ?, data_bytes = ?, resumed_bytes = ? WHERE job_id = ? AND disk_id = ?"), last)
            .bind(id.as_str())
            .bind(disk.as_str())
            .execute(&mut *w.tx)
            .await
            .doing("sealing a disk")?;
            sql("UPDATE replication_jobs SET bytes_transferred = ? WHERE id = ?")
                .bind(shown(w.job(id).await?.moved()))
                .bind(id.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("sealing a disk")?;
            w.job_event(id, &job.migration, job.status, now).await?;
            let job = w.job(id).await?;
            w.commit().await?;
            Ok(job)
        })
        .await
    }
}
