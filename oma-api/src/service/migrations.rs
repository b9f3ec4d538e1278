//! Migrations and VMs as operators name them.

use super::{App, Error, MigrationView};
use crate::store::{self, Migration, Which};
use shared::cycle::Vm;
use shared::ids::{AgentId, MigrationId, VmUuid};
use shared::vm::{Difference, differences};
use tracing::info;

/// Bytes a second: below it a leaf takes more than a second.
const LOWEST_RATE: u64 = 64 << 10;

/// A VM that some agent offers.
#[derive(Clone, Debug)]
pub struct OfferedVm {
    pub vm: Vm,
    pub agent: AgentId,
    pub agent_connected: bool,
    /// Its unfinished migration.
    pub migration: Option<MigrationId>,
    /// What is not as that migration's begin recorded it.
    pub changes: Vec<Difference>,
}

impl App {
    /// Bounds what the migration's transfers take of the network, at once: bytes a second, 0 for no limit of its own.
    ///
    /// # Errors
    /// [`Error::Rate`], and as [`act`](Self::act); nothing has changed then.
    pub async fn migration_limit(&self, asked: &str, rate: u64) -> Result<MigrationView, Error> {
        if (1..LOWEST_RATE).contains(&rate) || i64::try_from(rate).is_err() {
            return Err(Error::Rate { asked: rate });
        }
        let Some(mut migration) = self.unfinished(asked).await? else {
            return Err(Error::NotProtected { asked: asked.to_owned() });
        };
        loop {
            let changed = Migration { rate, ..migration };
            match self.store.migration_transition(&changed, self.clock.now()).await {
                Ok(now) => {
                    info!(migration_id = %now.id, vm = %now.vm_name, rate, "rate set");
                    self.touched(&now.id).await;
                    return self.migration_view(&now.id).await;
                }
                Err(store::Error::Conflict { .. }) => {
                    migration = self.store.migration_fetch(&changed.id).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The unfinished migration of a VM named by uuid, name or migration id, else its newest one.
    ///
    /// # Errors
    /// [`Error::NotProtected`], [`Error::VmAmbiguous`], [`Error::Store`].
    pub async fn migration_find(&self, asked: &str) -> Result<Migration, Error> {
        if let Some(migration) = self.unfinished(asked).await? {
            return Ok(migration);
        }
        let newest = self.store.migration_named(asked, Which::All).await?.into_iter().next();
        newest.ok_or_else(|| Error::NotProtected { asked: asked.to_owned() })
    }

    /// VMs that agents have offered, in the agents' order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn vm_list(&self) -> Result<Vec<OfferedVm>, Error> {
        self.with_changes(self.offers().await?).await
    }

    async fn offers(&self) -> Result<Vec<OfferedVm>, Error> {
        let migrations = self.store.migration_of_vms().await?;
        let mut offered = Vec::new();
        for agent in self.store.agent_list().await? {
            let agent_connected = self.hub.agent_is_connected(&agent.id);
            for vm in agent.inventory {
                let (agent, migration) = (agent.id.clone(), migrations.get(&vm.uuid).cloned());
                offered.push(OfferedVm { vm, agent, agent_connected, migration, changes: vec![] });
            }
        }
        Ok(offered)
    }

    /// The VMs of this uuid or name; several agents may offer one.
    ///
    /// # Errors
    /// [`Error::VmUnknown`], [`Error::Store`].
    pub async fn vm_find(&self, asked: &str) -> Result<Vec<OfferedVm>, Error> {
        self.with_changes(self.offers_of(asked).await?).await
    }

    async fn offers_of(&self, asked: &str) -> Result<Vec<OfferedVm>, Error> {
        let mut found = Vec::new();
        for (agent, vm) in self.store.vms_called(asked).await? {
            let migration = self.store.migration_of_vm(&vm.uuid).await?.map(|m| m.id);
            let agent_connected = self.hub.agent_is_connected(&agent);
            found.push(OfferedVm { vm, agent, agent_connected, migration, changes: vec![] });
        }
        match found.is_empty() {
            true => Err(Error::VmUnknown { asked: asked.to_owned() }),
            false => Ok(found),
        }
    }

    /// What begin recorded of the VMs, beside what their source has now. Nothing where either is not known.
    async fn with_changes(&self, mut offered: Vec<OfferedVm>) -> Result<Vec<OfferedVm>, Error> {
        for of in &mut offered {
            let (Some(id), Some(present)) = (&of.migration, &of.vm.configuration) else { continue };
            if let Some(recorded) = self.store.migration_configuration(id).await? {
                of.changes = differences(&recorded, present);
            }
        }
        Ok(offered)
    }

    pub(super) async fn unfinished(&self, asked: &str) -> Result<Option<Migration>, Error> {
        if let Ok(vm) = VmUuid::parse(asked)
            && let Some(migration) = self.store.migration_of_vm(&vm).await?
        {
            return Ok(Some(migration));
        }
        let mut found = self.store.migration_named(asked, Which::Unfinished).await?;
        match found.len() {
            // A VM that has another name at its source by now.
            0 => match self.offered(asked).await {
                Ok(vm) => Ok(self.store.migration_of_vm(&vm.vm.uuid).await?),
                Err(_) => Ok(None),
            },
            1 => Ok(found.pop()),
            _ => {
                let vms = found.into_iter().map(|m| m.vm).collect();
                Err(Error::VmAmbiguous { asked: asked.to_owned(), vms })
            }
        }
    }

    pub(super) async fn offered(&self, asked: &str) -> Result<OfferedVm, Error> {
        let mut found = self.offers_of(asked).await?;
        match found.len() {
            1 => Ok(found.remove(0)),
            _ => {
                let vms = found.into_iter().map(|of| of.vm.uuid).collect();
                Err(Error::VmAmbiguous { asked: asked.to_owned(), vms })
            }
        }
    }

    /// Something about the migration changed: agent, watchers and reconcilers look again.
    pub(crate) async fn touched(&self, id: &MigrationId) {
        if let Ok(migration) = self.store.migration_fetch(id).await {
            self.hub.agent_changed(&migration.agent);
        }
        self.hub.migration_changed(id);
        self.hub.wake();
    }
}
