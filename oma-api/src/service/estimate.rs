//! Estimates, of a VM that is protected and of one that is not.

use super::migrations::OfferedVm;
use super::{App, Error};
use crate::estimate::{Basics, Estimate, History, Measured, estimate};
use crate::store::{CyclesOf, Disk, Migration};

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
                let (agents, largest) = self.measured(CyclesOf::Agent(&agent)).await?;
                let agents = History { newest: &agents, largest: largest.as_ref() };
                let now = self.clock.now();
                Ok(estimate(&Basics {
                    size,
                    unsettled: false,
                    own: History::default(),
                    agents,
                    limit: 0,
                    now,
                }))
            }
        }
    }

    pub(crate) async fn estimate_of(&self, migration: &Migration) -> Result<Estimate, Error> {
        let disks = self.store.disk_list(&migration.id).await?;
        let size = disks.iter().map(|d| d.size).fold(0, u64::saturating_add);
        // Without a change id it is compared as a whole each time, as those were that were measured.
        let whole = |d: &Disk| d.committed_size != Some(d.size) || d.needs_hash_diff && d.change_id.is_some();
        let unsettled = disks.iter().any(whole);
        let (own, own_largest) = self.measured(CyclesOf::Migration(&migration.id)).await?;
        // Cycles that were paused, and those that brought nothing, do not say how fast it is copied.
        let (agents, agents_largest) = match own_largest.as_ref().is_none_or(|largest| largest.bytes == 0) {
            true => self.measured(CyclesOf::Agent(&migration.agent)).await?,
            false => (Vec::new(), None),
        };
        let (limit, now) = (self.rate_now(migration).await?, self.clock.now());
        let own = History { newest: &own, largest: own_largest.as_ref() };
        let agents = History { newest: &agents, largest: agents_largest.as_ref() };
        Ok(estimate(&Basics { size, unsettled, own, agents, limit, now }))
    }

    async fn measured(&self, of: CyclesOf<'_>) -> Result<(Vec<Measured>, Option<Measured>), Error> {
        Ok((self.store.cycles_measured(of, LATEST).await?, self.store.cycle_largest(of).await?))
    }
}
