//! `migrations`: one row a protection of a VM, history included.

use super::error::Doing as _;
use super::row::{Row, findings_json, flag, int, opt_time, sql, stored, time};
use super::{Attempt, Disk, Error, Job, NewDisk, Store, Wishes, Write};
use jiff::Timestamp;
use serde_json::json;
use shared::cycle::Finding;
use shared::ids::{AgentId, MigrationId, ProfileName, VmUuid};
use shared::migration::{Facts, Position};
use shared::vm::Configuration;
use sqlx::any::AnyRow;

/// A row of `migrations`.
#[derive(Clone, Debug, PartialEq)]
pub struct Migration {
    pub id: MigrationId,
    pub vm: VmUuid,
    pub vm_name: String,
    pub agent: AgentId,
    pub position: Position,
    /// No cycle starts by itself.
    pub held: bool,
    /// Bytes a second for all its disks together; 0: no limit of its own.
    pub rate: u64,
    /// At least one cycle was committed; set by [`Store::job_commit`] only.
    pub has_committed: bool,
    /// The source still holds something of ours.
    pub release_pending: bool,
    /// Grows with each change; what compare-and-swap compares.
    pub generation: u64,
    /// Why it failed or waits.
    pub error: Option<Failure>,
    pub findings: Vec<Finding>,
    /// What operators want of it.
    pub wishes: Wishes,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// By which its VM is made; changed by [`Store::migration_profile_set`] only.
    pub target_profile: Option<ProfileName>,
}

/// A migration with what belongs to it, as of one moment.
#[derive(Clone, Debug)]
pub struct Protection {
    pub migration: Migration,
    /// In the VM's order.
    pub disks: Vec<Disk>,
    /// The unfinished cycle.
    pub active: Option<Job>,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Upper snake case.
    pub reason: String,
    /// For a person: the thing, the cause, what to do.
    pub message: String,
}

/// A migration to be made.
#[derive(Clone, Debug)]
pub struct NewMigration {
    pub id: MigrationId,
    pub vm: VmUuid,
    pub vm_name: String,
    pub agent: AgentId,
    /// In the VM's order.
    pub disks: Vec<NewDisk>,
    pub wishes: Wishes,
    /// Recorded with it.
    pub attempt: Option<Attempt>,
    /// As its source has it now; kept whatever becomes of it there.
    pub configuration: Option<Configuration>,
    pub target_profile: Option<ProfileName>,
    /// What its preflight found, for an event of that kind; `None`: there was none.
    pub preflight: Option<serde_json::Value>,
}

/// Which migrations a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that go on.
    Unfinished,
    /// History too.
    All,
}

impl Migration {
    /// What the state machine wants to know.
    pub fn facts(&self) -> Facts {
        Facts { has_committed: self.has_committed, held: self.held, past_no_return: false, has_target: false }
    }
}

macro_rules! columns {
    () => {
        "id, vm_uuid, vm_name, agent_id, phase, state, held, rate_bytes_per_second, has_committed, release_pending, generation, \
         error_reason, error_message, findings, affinity, automatic, automatic_since, max_downtime_ms, max_cycles, scheduled_at, \
         forced_reason, last_action, last_action_by, last_action_at, created_at, updated_at, finished_at, target_profile"
    };
}

pub(super) use columns;

impl Store {
    /// Makes a migration at begin/running with its disks.
    ///
    /// # Errors
    /// [`Error::AlreadyProtected`], also when two begins run at once; [`Error::DiskExists`] when two disks have
    /// one key; [`Error::ProfileUnknown`]; [`Error::Database`].
    pub async fn migration_create(&self, new: &NewMigration, now: Timestamp) -> Result<Migration, Error> {
        self.write(|mut w| async move {
            let made = w.migration_insert(new, now).await?;
            if let Some(body) = &new.preflight {
                w.event(now, Some(&new.id), None, "preflight", body.clone()).await?;
            }
            w.commit().await?;
            Ok(made)
        })
        .await
    }

    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_fetch(&self, id: &MigrationId) -> Result<Migration, Error> {
        self.reading(|| async {
            let mut c = self.read.acquire().await.doing("reading a migration")?;
            of_id(&mut c, id).await
        })
        .await
    }

    /// What the VM was made of when the migration was begun. Apart from the rest: it is long, and seldom wanted.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_configuration(&self, id: &MigrationId) -> Result<Option<Configuration>, Error> {
        self.reading(|| async {
            let row = sql("SELECT id, configuration FROM migrations WHERE id = ?")
                .bind(id.as_str())
                .fetch_optional(&self.read)
                .await
                .doing("reading a VM's configuration")?;
            let row = row.ok_or_else(|| Error::NotFound { what: "migration", id: id.to_string() })?;
            Row::new(&row, "migrations", "id")?.configuration("configuration")
        })
        .await
    }

    /// The unfinished migration of a VM.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn migration_of_vm(&self, vm: &VmUuid) -> Result<Option<Migration>, Error> {
        self.reading(|| async {
            let row = sql(concat!("SELECT ", columns!(), " FROM migrations WHERE unfinished_vm = ?"))
                .bind(vm.as_str())
                .fetch_optional(&self.read)
                .await
                .doing("reading a VM's migration")?;
            row.as_ref().map(migration).transpose()
        })
        .await
    }

    /// Compare-and-swap: stores `changed` (position, hold, rate, error, findings, wishes, release_pending) if the row still
    /// has `changed.generation`, and returns the row as it now is. A position that ends the migration frees its VM.
    ///
    /// # Errors
    /// [`Error::Conflict`]: read again, decide again. [`Error::NotFound`], [`Error::Database`].
    pub async fn migration_transition(
        &self,
        changed: &Migration,
        now: Timestamp,
    ) -> Result<Migration, Error> {
        self.write(|mut w| async move {
            let stored = w.migration_swap(changed, now).await?;
            w.commit().await?;
            Ok(stored)
        })
        .await
    }
}

impl Write {
    /// See [`Store::migration_create`].
    pub(super) async fn migration_insert(
        &mut self,
        new: &NewMigration,
        now: Timestamp,
    ) -> Result<Migration, Error> {
        if let Some(row) = sql("SELECT id FROM migrations WHERE unfinished_vm = ?")
            .bind(new.vm.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .doing("looking for a migration of the VM")?
        {
            let migration = Row::new(&row, "migrations", "id")?.parsed("id")?;
            return Err(Error::AlreadyProtected { vm: new.vm.clone(), migration });
        }
        self.profile_must_be(new.target_profile.as_ref()).await?;
        let position = Position::BeginRunning;
        sql("INSERT INTO migrations (id, vm_uuid, vm_name, agent_id, phase, state, held, has_committed, \
         release_pending, generation, unfinished_vm, findings, configuration, target_profile, \
         created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, 1, ?, '[]', ?, ?, ?, ?)")
        .bind(new.id.as_str())
        .bind(new.vm.as_str())
        .bind(new.vm_name.as_str())
        .bind(new.agent.as_str())
        .bind(position.phase().as_str())
        .bind(position.state().as_str())
        .bind(new.vm.as_str())
        .bind(new.configuration.as_ref().map(Configuration::to_json))
        .bind(new.target_profile.as_ref().map(ProfileName::as_str))
        .bind(time(now))
        .bind(time(now))
        .execute(&mut *self.tx)
        .await
        .doing("making a migration")?;
        for (index, disk) in (0u64..).zip(&new.disks) {
            self.disk_insert(&new.id, index, disk).await?;
        }
        self.wishes_set(&new.id, &new.wishes).await?;
        if let Some(attempt) = &new.attempt {
            self.attempt_insert(attempt, &new.id, now).await?;
        }
        let made = self.migration(&new.id).await?;
        self.history_open(&made, now).await?;
        self.migration_event(&made, now).await?;
        Ok(made)
    }

    pub(super) async fn migration(&mut self, id: &MigrationId) -> Result<Migration, Error> {
        let row = sql(concat!("SELECT ", columns!(), " FROM migrations WHERE id = ?"))
            .bind(id.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .doing("reading a migration")?;
        migration(&row.ok_or_else(|| Error::NotFound { what: "migration", id: id.to_string() })?)
    }

    /// The compare-and-swap, with its event.
    pub(super) async fn migration_swap(
        &mut self,
        changed: &Migration,
        now: Timestamp,
    ) -> Result<Migration, Error> {
        let before = self.migration(&changed.id).await?;
        let ended = changed.position.ended();
        let finished_at = if ended { changed.finished_at.or(Some(now)) } else { None };
        let next = Migration {
            generation: changed.generation.saturating_add(1),
            updated_at: stored(now),
            finished_at: finished_at.map(stored),
            ..changed.clone()
        };
        let done = sql("UPDATE migrations SET phase = ?, state = ?, held = ?, rate_bytes_per_second = ?, has_committed = ?, \
             release_pending = ?, generation = ?, unfinished_vm = ?, error_reason = ?, error_message = ?, findings = ?, updated_at = ?, \
             finished_at = ? WHERE id = ? AND generation = ?")
        .bind(next.position.phase().as_str())
        .bind(next.position.state().as_str())
        .bind(flag(next.held))
        .bind(int("a rate", next.rate)?)
        .bind(flag(next.has_committed))
        .bind(flag(next.release_pending))
        .bind(int("a generation", next.generation)?)
        .bind((!ended).then_some(next.vm.as_str()))
        .bind(next.error.as_ref().map(|e| e.reason.as_str()))
        .bind(next.error.as_ref().map(|e| e.message.as_str()))
        .bind(findings_json(&next.findings))
        .bind(time(now))
        .bind(opt_time(finished_at))
        .bind(next.id.as_str())
        .bind(int("a generation", changed.generation)?)
        .execute(&mut *self.tx)
        .await
        .doing("changing a migration")?;
        if done.rows_affected() == 0 {
            return Err(Error::Conflict { migration: changed.id.clone(), generation: changed.generation });
        }
        if next.wishes != before.wishes {
            self.wishes_set(&next.id, &next.wishes).await?;
        }
        self.history_follow(before.position, &next, now).await?;
        self.migration_event(&next, now).await?;
        Ok(next)
    }

    pub(super) async fn migration_event(&mut self, m: &Migration, now: Timestamp) -> Result<(), Error> {
        let body = json!({
            "phase": m.position.phase().as_str(),
            "state": m.position.state().as_str(),
            "held": m.held,
            "rate_bytes_per_second": m.rate,
            "generation": m.generation,
            "error_reason": m.error.as_ref().map(|e| e.reason.as_str()),
            "scheduled_timestamp": m.wishes.scheduled_at.map(time),
            "last_action": m.wishes.last.as_ref().map(|last| last.action.as_str()),
            "last_action_by": m.wishes.last.as_ref().map(|last| last.by.as_str()),
        });
        self.event(now, Some(&m.id), None, "migration_changed", body).await
    }
}

async fn of_id(c: &mut sqlx::AnyConnection, id: &MigrationId) -> Result<Migration, Error> {
    let row = sql(concat!("SELECT ", columns!(), " FROM migrations WHERE id = ?"))
        .bind(id.as_str())
        .fetch_optional(c)
        .await
        .doing("reading a migration")?;
    migration(&row.ok_or_else(|| Error::NotFound { what: "migration", id: id.to_string() })?)
}

/// Two columns, both or neither.
pub(super) fn failure(row: &Row<'_>) -> Result<Option<Failure>, Error> {
    match (row.opt_text("error_reason")?, row.opt_text("error_message")?) {
        (Some(reason), Some(message)) => Ok(Some(Failure { reason, message })),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => {
            Err(row.corrupt("error_reason", "a reason and a message belong together"))
        }
    }
}

pub(super) fn migration(row: &AnyRow) -> Result<Migration, Error> {
    let row = Row::new(row, "migrations", "id")?;
    let position =
        Position::of(row.parsed("phase")?, row.parsed("state")?).map_err(|e| row.corrupt("state", e))?;
    Ok(Migration {
        id: row.parsed("id")?,
        vm: row.parsed("vm_uuid")?,
        vm_name: row.text("vm_name")?,
        agent: row.parsed("agent_id")?,
        position,
        held: row.flag("held")?,
        rate: row.count("rate_bytes_per_second")?,
        has_committed: row.flag("has_committed")?,
        release_pending: row.flag("release_pending")?,
        generation: row.count("generation")?,
        error: failure(&row)?,
        findings: row.findings("findings")?,
        wishes: super::wishes::wishes(&row)?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        finished_at: row.opt_time("finished_at")?,
        target_profile: row.opt_parsed("target_profile")?,
    })
}
