//! `migration_history`: a row a run of a phase, written by the transaction that moves the migration.

use super::error::Doing as _;
use super::row::{Row, int, shown, sql, time};
use super::words::JobStatus;
use super::{Error, Job, Migration, Store, Write};
use jiff::Timestamp;
use shared::ids::{JobId, MigrationId};
use shared::migration::{Phase, Position, State};
use sqlx::any::AnyRow;

/// Runs of a migration that are kept.
const KEPT: u64 = 1000;

/// A run of a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// From 1.
    pub number: u64,
    pub phase: Phase,
    /// How it ended, or `running`.
    pub state: State,
    /// The cycle, of a sync.
    pub job: Option<JobId>,
    /// Bytes that are known to be on the replica, of those that the cycle is to bring; of a sync that has ended.
    pub done: u64,
    pub total: u64,
    /// Bytes a second.
    pub speed: u64,
    pub error: Option<String>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

impl Store {
    /// The newest runs, at most `limit`, oldest of them first.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn history_list(&self, id: &MigrationId, limit: u32) -> Result<Vec<HistoryEntry>, Error> {
        self.reading(|| async {
            let rows = sql("SELECT migration_id, number, phase, state, job_id, done_bytes, total_bytes, speed_bps, error, \
                 started_at, finished_at FROM migration_history WHERE migration_id = ? ORDER BY number DESC LIMIT ?")
            .bind(id.as_str())
            .bind(i64::from(limit))
            .fetch_all(&self.read)
            .await
            .doing("reading a migration's history")?;
            rows.iter().rev().map(entry).collect()
        })
        .await
    }
}

/// How the run that is over ended, when a migration moves; `None`: it goes on, or there was none.
fn ended(before: Position, after: Position) -> Option<State> {
    if before.state() != State::Running || before.phase() == after.phase() && before.state() == after.state()
    {
        return None;
    }
    Some(match after.state() {
        // Another phase took over.
        State::Running | State::Aborted if before.phase() != Phase::Abort => State::Aborted,
        State::Running | State::Aborted | State::Paused | State::Successful => State::Successful,
        State::Failed => State::Failed,
    })
}

impl Write {
    /// Follows a move: ends the run that is over, begins the one that starts.
    pub(super) async fn history_follow(
        &mut self,
        before: Position,
        next: &Migration,
        now: Timestamp,
    ) -> Result<(), Error> {
        if let Some(state) = ended(before, next.position) {
            self.history_close(before.phase(), state, next, now).await?;
        }
        let runs = next.position.state() == State::Running;
        if runs && (before.state() != State::Running || before.phase() != next.position.phase()) {
            self.history_open(next, now).await?;
        }
        Ok(())
    }

    pub(super) async fn history_open(&mut self, m: &Migration, now: Timestamp) -> Result<(), Error> {
        let last = sql("SELECT migration_id, number FROM migration_history WHERE migration_id = ? ORDER BY number DESC LIMIT 1")
            .bind(m.id.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .doing("writing a migration's history")?;
        let last = match last {
            Some(row) => Row::new(&row, "migration_history", "migration_id")?.count("number")?,
            None => 0,
        };
        sql(
            "INSERT INTO migration_history (migration_id, number, phase, state, done_bytes, total_bytes, speed_bps, started_at) \
             VALUES (?, ?, ?, ?, 0, 0, 0, ?)",
        )
        .bind(m.id.as_str())
        .bind(int("a history's number", last.saturating_add(1))?)
        .bind(m.position.phase().as_str())
        .bind(State::Running.as_str())
        .bind(time(now))
        .execute(&mut *self.tx)
        .await
        .doing("writing a migration's history")?;
        if last >= KEPT {
            sql("DELETE FROM migration_history WHERE migration_id = ? AND number <= ?")
                .bind(m.id.as_str())
                .bind(int("a history's number", last.saturating_add(1) - KEPT)?)
                .execute(&mut *self.tx)
                .await
                .doing("forgetting a migration's history")?;
        }
        Ok(())
    }

    async fn history_close(
        &mut self,
        phase: Phase,
        state: State,
        m: &Migration,
        now: Timestamp,
    ) -> Result<(), Error> {
        let job = match phase {
            Phase::Sync => self.job_newest(&m.id).await?,
            _ => None,
        };
        // A cycle that stopped where it was asked to.
        let state = match &job {
            Some(job) if job.status == JobStatus::Paused && state == State::Successful => State::Paused,
            _ => state,
        };
        let (done, total, speed) = job.as_ref().map_or((0, 0, 0), |job| {
            let done = job.disks.iter().map(|d| d.progress.done).fold(0, u64::saturating_add);
            // What was committed is all there was to do, whatever was thought before its plan was complete.
            let total = if state == State::Successful { done } else { job.progress.total.max(done) };
            (done, total, average(job, now))
        });
        let error = m.error.as_ref().filter(|_| state == State::Failed);
        sql("UPDATE migration_history SET state = ?, job_id = ?, done_bytes = ?, total_bytes = ?, speed_bps = ?, error = ?, \
             finished_at = ? WHERE migration_id = ? AND finished_at IS NULL")
            .bind(state.as_str())
            .bind(job.as_ref().map(|job| job.id.as_str()))
            .bind(shown(done))
            .bind(shown(total))
            .bind(shown(speed))
            .bind(error.map(|e| e.message.as_str()))
            .bind(time(now))
            .bind(m.id.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("writing a migration's history")?;
        Ok(())
    }
}

/// Bytes of data a second since the cycle began.
fn average(job: &Job, now: Timestamp) -> u64 {
    let millis = u128::try_from(now.duration_since(job.started_at).as_millis()).unwrap_or(0).max(1);
    u64::try_from(u128::from(job.progress.transferred) * 1000 / millis).unwrap_or(u64::MAX)
}

fn entry(row: &AnyRow) -> Result<HistoryEntry, Error> {
    let row = Row::new(row, "migration_history", "migration_id")?;
    Ok(HistoryEntry {
        number: row.count("number")?,
        phase: row.parsed("phase")?,
        state: row.parsed("state")?,
        job: row.opt_parsed("job_id")?,
        done: row.count("done_bytes")?,
        total: row.count("total_bytes")?,
        speed: row.count("speed_bps")?,
        error: row.opt_text("error")?,
        started_at: row.time("started_at")?,
        finished_at: row.opt_time("finished_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_as_the_migration_moves() {
        use Position as P;
        for (before, after, state) in [
            (P::BeginRunning, P::BeginPaused, Some(State::Successful)),
            (P::BeginRunning, P::BeginFailed, Some(State::Failed)),
            (P::SyncRunning, P::SyncRunning, None),
            (P::SyncRunning, P::SyncPaused, Some(State::Successful)),
            (P::SyncRunning, P::SyncFailed, Some(State::Failed)),
            (P::SyncRunning, P::AbortRunning, Some(State::Aborted)),
            (P::SyncPaused, P::SyncRunning, None),
            (P::SyncPaused, P::AbortRunning, None),
            (P::AbortRunning, P::AbortAborted, Some(State::Successful)),
            (P::AbortRunning, P::AbortFailed, Some(State::Failed)),
            (P::SwitchRunning, P::SwitchSuccessful, Some(State::Successful)),
        ] {
            assert_eq!(ended(before, after), state, "{before} {after}");
        }
    }
}
