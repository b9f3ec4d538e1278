//! Target profiles: what an operator names once for many VMs.

use super::{App, Error};
use crate::store::{self, Migration, Profile};
use jiff::Timestamp;
use shared::ids::{MigrationId, ProfileName};
use shared::profile::Settings;
use tracing::info;

impl App {
    /// Makes a profile.
    ///
    /// # Errors
    /// [`Error::Profile`], [`Error::Store`]; nothing has changed then.
    pub async fn profile_create(&self, name: &ProfileName, settings: Settings) -> Result<Profile, Error> {
        let settings = settings.usable()?;
        let made = self.store.profile_create(name, &settings, Timestamp::now()).await?;
        info!(profile = %name, backend = %made.settings.backend, "target profile made");
        Ok(made)
    }

    /// Replaces all that a profile says, if nobody has changed it since it had this generation.
    ///
    /// # Errors
    /// [`Error::Profile`], [`Error::ProfileUnknown`], [`Error::Store`]; nothing has changed then.
    pub async fn profile_update(
        &self,
        asked: &str,
        settings: Settings,
        generation: u64,
    ) -> Result<Profile, Error> {
        let name = &profile_name(asked)?;
        let settings = settings.usable()?;
        let changed = self.store.profile_update(name, &settings, generation, Timestamp::now()).await?;
        info!(profile = %name, generation = changed.generation, "target profile changed");
        Ok(changed)
    }

    /// Removes a profile; `generation` is that it was read with, where that matters.
    ///
    /// # Errors
    /// [`Error::Store`]; nothing has changed then.
    pub async fn profile_delete(&self, asked: &str, generation: Option<u64>) -> Result<(), Error> {
        let name = &profile_name(asked)?;
        self.store.profile_delete(name, generation, Timestamp::now()).await?;
        info!(profile = %name, "target profile removed");
        Ok(())
    }

    /// # Errors
    /// [`Error::ProfileUnknown`] for a text that is no name either, [`Error::Store`].
    pub async fn profile_get(&self, asked: &str) -> Result<Profile, Error> {
        Ok(self.store.profile_fetch(&profile_name(asked)?).await?)
    }

    /// By name.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn profile_list(&self) -> Result<Vec<Profile>, Error> {
        Ok(self.store.profile_list().await?)
    }

    /// The profile that a begin is to record: the one it names, else the default, else none.
    ///
    /// # Errors
    /// [`Error::ProfileUnknown`], [`Error::Store`].
    pub async fn profile_named(&self, asked: Option<&str>) -> Result<Option<Profile>, Error> {
        match asked {
            Some(asked) => Ok(Some(self.profile_get(asked).await?)),
            None => Ok(self.store.profile_default().await?),
        }
    }

    /// The profile a migration is made by; `None`: none was chosen, or it ended and its profile is gone.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn profile_of(&self, migration: &Migration) -> Result<Option<Profile>, Error> {
        let Some(name) = &migration.target_profile else { return Ok(None) };
        match self.store.profile_fetch(name).await {
            Err(store::Error::ProfileUnknown { .. }) => Ok(None),
            found => Ok(Some(found?)),
        }
    }

    /// Lets an unfinished migration be made by another profile; `None`: by none yet.
    ///
    /// # Errors
    /// [`Error::ProfileUnknown`], [`Error::Store`]; nothing has changed then.
    pub async fn migration_profile_set(
        &self,
        id: &MigrationId,
        asked: Option<&str>,
    ) -> Result<Migration, Error> {
        let name = asked.map(profile_name).transpose()?;
        let set = self.store.migration_profile_set(id, name.as_ref(), Timestamp::now()).await?;
        info!(migration_id = %id, profile = name.as_ref().map(ProfileName::as_str), "target profile chosen");
        self.touched(id).await;
        Ok(set)
    }
}

/// A text that cannot be a name is the name of nothing.
fn profile_name(asked: &str) -> Result<ProfileName, Error> {
    asked.parse().map_err(|why| Error::ProfileUnknown { asked: asked.to_owned(), why })
}
