//! `target_profiles`, and which migration refers to which.

use super::error::Doing as _;
use super::row::{Row, int, sql, stored, time};
use super::{Error, Migration, Store, Write};
use jiff::Timestamp;
use serde_json::json;
use shared::ids::{MigrationId, ProfileName};
use shared::profile::{Settings, check_beside};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;

/// A row of `target_profiles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: ProfileName,
    pub settings: Settings,
    /// Grows with each change; what compare-and-swap compares.
    pub generation: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

macro_rules! columns {
    () => {
        "name, backend, zone, compute_offering, disk_offering, storage_pool, networks, nics, live_mac, addresses, notes, \
         default_slot, generation, created_at, updated_at"
    };
}

const ALL: &str = concat!("SELECT ", columns!(), " FROM target_profiles ORDER BY name");
const ONE: &str = concat!("SELECT ", columns!(), " FROM target_profiles WHERE name = ?");

impl Store {
    /// Makes a profile, if its networks may stand beside those of all others.
    ///
    /// # Errors
    /// [`Error::ProfileExists`], [`Error::Profile`], [`Error::Database`].
    pub async fn profile_create(
        &self,
        name: &ProfileName,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Profile, Error> {
        self.write(|mut w| async move {
            if w.profile(name).await?.is_some() {
                return Err(Error::ProfileExists { name: name.clone() });
            }
            w.profile_admit(name, settings, now).await?;
            let insert = sql("INSERT INTO target_profiles (backend, zone, compute_offering, disk_offering, storage_pool, \
                 networks, nics, live_mac, addresses, notes, default_slot, generation, updated_at, created_at, name) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
            bound(insert, settings, 1, now)?
                .bind(time(now))
                .bind(name.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("making a target profile")?;
            w.profile_event(name, "target_profile_created", 1, now).await?;
            w.commit().await?;
            let (name, settings, now) = (name.clone(), settings.clone(), stored(now));
            Ok(Profile { name, settings, generation: 1, created_at: now, updated_at: now })
        })
        .await
    }

    /// Compare-and-swap: replaces all that a profile says, if it still has this generation.
    ///
    /// # Errors
    /// [`Error::ProfileUnknown`], [`Error::ProfileChanged`], [`Error::Profile`], [`Error::Database`].
    pub async fn profile_update(
        &self,
        name: &ProfileName,
        settings: &Settings,
        generation: u64,
        now: Timestamp,
    ) -> Result<Profile, Error> {
        self.write(|mut w| async move {
            let old = w.profile_of_generation(name, Some(generation)).await?;
            w.profile_admit(name, settings, now).await?;
            let next = generation.saturating_add(1);
            let update = sql("UPDATE target_profiles SET backend = ?, zone = ?, compute_offering = ?, disk_offering = ?, \
                 storage_pool = ?, networks = ?, nics = ?, live_mac = ?, addresses = ?, notes = ?, default_slot = ?, \
                 generation = ?, updated_at = ? WHERE name = ?");
            bound(update, settings, next, now)?
                .bind(name.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("changing a target profile")?;
            w.profile_event(name, "target_profile_changed", next, now).await?;
            w.commit().await?;
            Ok(Profile { settings: settings.clone(), generation: next, updated_at: stored(now), ..old })
        })
        .await
    }

    /// Removes a profile that no unfinished migration refers to; `generation` is that it was read with, where it was.
    ///
    /// # Errors
    /// [`Error::ProfileUnknown`], [`Error::ProfileChanged`], [`Error::ProfileInUse`], [`Error::Database`].
    pub async fn profile_delete(
        &self,
        name: &ProfileName,
        generation: Option<u64>,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.write(|mut w| async move {
            let old = w.profile_of_generation(name, generation).await?;
            let used = sql(
                "SELECT id, vm_name FROM migrations WHERE target_profile = ? AND unfinished_vm IS NOT NULL \
                 ORDER BY created_at, id",
            );
            let used =
                used.bind(name.as_str()).fetch_all(&mut *w.tx).await.doing("looking who uses a profile")?;
            if let Some(row) = used.first() {
                let row = Row::new(row, "migrations", "id")?;
                let (vm, migration) = (row.text("vm_name")?, row.parsed("id")?);
                return Err(Error::ProfileInUse { name: name.clone(), vm, migration, count: used.len() });
            }
            sql("DELETE FROM target_profiles WHERE name = ?")
                .bind(name.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("removing a target profile")?;
            w.profile_event(name, "target_profile_deleted", old.generation, now).await?;
            w.commit().await
        })
        .await
    }

    /// # Errors
    /// [`Error::ProfileUnknown`], [`Error::Corrupt`], [`Error::Database`].
    pub async fn profile_fetch(&self, name: &ProfileName) -> Result<Profile, Error> {
        self.reading(|| async {
            let row = sql(ONE).bind(name.as_str()).fetch_optional(&self.read).await;
            let row = row.doing("reading a target profile")?;
            profile(&row.ok_or_else(|| Error::ProfileUnknown { name: name.clone() })?)
        })
        .await
    }

    /// By name.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn profile_list(&self) -> Result<Vec<Profile>, Error> {
        self.reading(|| async {
            let rows = sql(ALL).fetch_all(&self.read).await.doing("listing target profiles")?;
            rows.iter().map(profile).collect()
        })
        .await
    }

    /// The one that a begin takes that names none.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Database`].
    pub async fn profile_default(&self) -> Result<Option<Profile>, Error> {
        Ok(self.profile_list().await?.into_iter().find(|p| p.settings.is_default))
    }

    /// Which profile an unfinished migration is made by; `None`: none yet.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::ProfileUnknown`], [`Error::MigrationEnded`], [`Error::Database`].
    pub async fn migration_profile_set(
        &self,
        id: &MigrationId,
        name: Option<&ProfileName>,
        now: Timestamp,
    ) -> Result<Migration, Error> {
        self.write(|mut w| async move {
            let old = w.migration(id).await?;
            if old.position.ended() {
                return Err(Error::MigrationEnded { migration: id.clone() });
            }
            w.profile_must_be(name).await?;
            let next = Migration {
                target_profile: name.cloned(),
                generation: old.generation.saturating_add(1),
                updated_at: stored(now),
                ..old
            };
            sql("UPDATE migrations SET target_profile = ?, generation = ?, updated_at = ? WHERE id = ?")
                .bind(name.map(ProfileName::as_str))
                .bind(int("a generation", next.generation)?)
                .bind(time(now))
                .bind(id.as_str())
                .execute(&mut *w.tx)
                .await
                .doing("changing a migration's target profile")?;
            w.migration_event(&next, now).await?;
            w.commit().await?;
            Ok(next)
        })
        .await
    }
}

impl Write {
    async fn profile(&mut self, name: &ProfileName) -> Result<Option<Profile>, Error> {
        let row = sql(ONE).bind(name.as_str()).fetch_optional(&mut *self.tx).await;
        row.doing("reading a target profile")?.as_ref().map(profile).transpose()
    }

    /// Refuses a name that is none, in the transaction that refers to it.
    pub(super) async fn profile_must_be(&mut self, name: Option<&ProfileName>) -> Result<(), Error> {
        let Some(name) = name else { return Ok(()) };
        match self.profile(name).await? {
            Some(_) => Ok(()),
            None => Err(Error::ProfileUnknown { name: name.clone() }),
        }
    }

    async fn profile_of_generation(
        &mut self,
        name: &ProfileName,
        generation: Option<u64>,
    ) -> Result<Profile, Error> {
        let found = self.profile(name).await?.ok_or_else(|| Error::ProfileUnknown { name: name.clone() })?;
        match generation.is_none_or(|read| read == found.generation) {
            true => Ok(found),
            false => Err(Error::ProfileChanged { name: name.clone(), generation: found.generation }),
        }
    }

    /// Looks at all others here, where nobody else writes; and takes the default from the one that had it.
    async fn profile_admit(
        &mut self,
        name: &ProfileName,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(), Error> {
        let rows = sql(ALL).fetch_all(&mut *self.tx).await.doing("listing target profiles")?;
        let others = rows.iter().map(profile).collect::<Result<Vec<_>, _>>()?;
        check_beside((name, settings), others.iter().map(|p| (&p.name, &p.settings)))?;
        let had = others.iter().find(|other| other.name != *name && other.settings.is_default);
        let Some(had) = had.filter(|_| settings.is_default) else { return Ok(()) };
        let generation = had.generation.saturating_add(1);
        sql("UPDATE target_profiles SET default_slot = NULL, generation = ?, updated_at = ? WHERE name = ?")
            .bind(int("a generation", generation)?)
            .bind(time(now))
            .bind(had.name.as_str())
            .execute(&mut *self.tx)
            .await
            .doing("changing a target profile")?;
        self.profile_event(&had.name, "target_profile_changed", generation, now).await
    }

    async fn profile_event(
        &mut self,
        name: &ProfileName,
        kind: &'static str,
        generation: u64,
        now: Timestamp,
    ) -> Result<(), Error> {
        let body = json!({ "name": name.as_str(), "generation": generation });
        self.event(now, None, None, kind, body).await
    }
}

/// In the order of both statements: what it says, its generation, when that was said.
fn bound<'q>(
    query: Query<'q, sqlx::Any, AnyArguments>,
    settings: &Settings,
    generation: u64,
    now: Timestamp,
) -> Result<Query<'q, sqlx::Any, AnyArguments>, Error> {
    const JSON: &str = "strings and lists have a JSON form";
    Ok(query
        .bind(settings.backend.as_str())
        .bind(settings.zone.clone())
        .bind(settings.compute_offering.clone())
        .bind(settings.disk_offering.clone())
        .bind(settings.storage_pool.clone())
        .bind(serde_json::to_string(&settings.networks).expect(JSON))
        .bind(serde_json::to_string(&settings.nics).expect(JSON))
        .bind(settings.live_mac.as_str())
        .bind(settings.addresses.as_str())
        .bind(settings.notes.clone())
        .bind(settings.is_default.then_some("default"))
        .bind(int("a generation", generation)?)
        .bind(time(now)))
}

fn profile(row: &AnyRow) -> Result<Profile, Error> {
    let row = Row::new(row, "target_profiles", "name")?;
    let networks = serde_json::from_str(&row.text("networks")?).map_err(|e| row.corrupt("networks", e))?;
    let nics = serde_json::from_str(&row.text("nics")?).map_err(|e| row.corrupt("nics", e))?;
    Ok(Profile {
        name: row.parsed("name")?,
        settings: Settings {
            backend: row.parsed("backend")?,
            zone: row.opt_text("zone")?,
            compute_offering: row.opt_text("compute_offering")?,
            disk_offering: row.opt_text("disk_offering")?,
            storage_pool: row.opt_text("storage_pool")?,
            networks,
            nics,
            live_mac: row.parsed("live_mac")?,
            addresses: row.parsed("addresses")?,
            notes: row.opt_text("notes")?,
            is_default: row.opt_text("default_slot")?.is_some(),
        },
        generation: row.count("generation")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
