//! Estimates, of a VM that is protected and of one that is not.

use super::migrations::OfferedVm;
use super::{App, Error};
use crate::estimate::{Basics, Estimate, Measured, estimate};
use crate::store::{CyclesOf, Migration};

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
                let largest = largest.as_ref();
                let now = self.clock.now();
                Ok(estimate(&Basics { size, own: &[], agents: &agents, largest, limit: 0, now }))
            }
        }
    }

    pub(crate) async fn estimate_of(&self, migration: &Migration) -> Result<Estimate, Error> {
        let disks = self.store.disk_list(&migration.id).await?;
        let size = disks.iter().map(|d| d.size).fold(0, u64::saturating_add);
        let (own, mut largest) = self.measured(CyclesOf::Migration(&migration.id)).await?;
        let mut agents = Vec::new();
        // Paused cycles alone do not say how fast it is copied.
        if largest.is_none() {
            (agents, largest) = self.measured(CyclesOf::Agent(&migration.agent)).await?;
        }
        let (limit, now) = (self.rate_now(migration).await?, self.clock.now());
        let largest = largest.as_ref();
        Ok(estimate(&Basics { size, own: &own, agents: &agents, largest, limit, now }))
    }

    async fn measured(&self, of: CyclesOf<'_>) -> Result<(Vec<Measured>, Option<Measured>), Error> {
        Ok((self.store.cycles_measured(of, LATEST).await?, self.store.cycle_largest(of).await?))
    }
}
