//! Estimates, of a VM that is protected and of one that is not.

use super::migrations::OfferedVm;
use super::{App, Error};
use crate::estimate::{Basics, Estimate, estimate};
use crate::store::{CyclesOf, Migration};
use jiff::Timestamp;

/// Cycles that are looked at.
const LATEST: u32 = 20;

impl App {
    /// # Errors
    /// [`Error::VmUnknown`], [`Error::VmAmbiguous`], [`Error::Store`].
    pub async fn estimate(&self, asked: &str) -> Result<Estimate, Error> {
        match self.unfinished(asked).await? {
            Some(migration) => self.estimate_of(&migration).await,
            None => {
                let OfferedVm { vm, agent, .. } = self.offered(asked).await?;
                let size = vm.disks.iter().map(|d| d.size).fold(0, u64::saturating_add);
                let agents = self.store.cycles_measured(CyclesOf::Agent(&agent), LATEST).await?;
                let now = Timestamp::now();
                Ok(estimate(&Basics { size, own: &[], agents: &agents, limit: 0, now }))
            }
        }
    }

    pub(crate) async fn estimate_of(&self, migration: &Migration) -> Result<Estimate, Error> {
        let disks = self.store.disk_list(&migration.id).await?;
        let size = disks.iter().map(|d| d.size).fold(0, u64::saturating_add);
        let own = self.store.cycles_measured(CyclesOf::Migration(&migration.id), LATEST).await?;
        let agents = match own.is_empty() {
            true => self.store.cycles_measured(CyclesOf::Agent(&migration.agent), LATEST).await?,
            false => Vec::new(),
        };
        let now = Timestamp::now();
        Ok(estimate(&Basics { size, own: &own, agents: &agents, limit: migration.rate, now }))
    }
}
