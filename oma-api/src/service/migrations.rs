//! The operator's actions.

use super::{App, Error, MigrationView};
use crate::store::{self, Migration, NewDisk, NewMigration, Wanted, Which};
use jiff::Timestamp;
use shared::cycle::Vm;
use shared::ids::{AgentId, DiskId, MigrationId, VmUuid};
use shared::migration::{Action, Effect, apply};
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
}

impl App {
    /// Does what the operator says, or says why not and what is allowed instead. The work itself is done by the
    /// reconcilers.
    ///
    /// # Errors
    /// See [`Error`]; nothing has changed then.
    pub async fn act(&self, asked: &str, action: Action) -> Result<MigrationView, Error> {
        let id = match (action, self.unfinished(asked).await?) {
            (_, Some(migration)) => self.act_on(migration, action).await?,
            (Action::Begin, None) => self.begin(asked).await?,
            (_, None) => return Err(self.refuse_unprotected(asked, action).await),
        };
        self.touched(&id).await;
        self.migration_view(&id).await
    }

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
            match self.store.migration_transition(&changed, Timestamp::now()).await {
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
        let all = self.store.migration_list(Which::All).await?;
        let newest = all.into_iter().find(|m| names(m, asked));
        newest.ok_or_else(|| Error::NotProtected { asked: asked.to_owned() })
    }

    /// VMs that agents have offered, in the agents' order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn vm_list(&self) -> Result<Vec<OfferedVm>, Error> {
        let mut offered = Vec::new();
        for agent in self.store.agent_list().await? {
            for vm in agent.inventory {
                let migration = self.store.migration_of_vm(&vm.uuid).await?.map(|m| m.id);
                let agent_connected = self.hub.agent_is_connected(&agent.id);
                offered.push(OfferedVm { vm, agent: agent.id.clone(), agent_connected, migration });
            }
        }
        Ok(offered)
    }

    async fn unfinished(&self, asked: &str) -> Result<Option<Migration>, Error> {
        if let Ok(vm) = VmUuid::parse(asked)
            && let Some(migration) = self.store.migration_of_vm(&vm).await?
        {
            return Ok(Some(migration));
        }
        let mut found: Vec<_> = self.store.migration_list(Which::Unfinished).await?;
        found.retain(|m| names(m, asked));
        match found.len() {
            // A VM that has another name at its source by now.
            0 => match self.offered(asked).await {
                Ok(vm) => Ok(self.store.migration_of_vm(&vm.vm.uuid).await?),
                Err(_) => Ok(None),
            },
            1 => Ok(found.pop()),
            count => Err(Error::VmAmbiguous { asked: asked.to_owned(), count }),
        }
    }

    async fn refuse_unprotected(&self, asked: &str, action: Action) -> Error {
        match (self.offered(asked).await, apply(None, action, Default::default())) {
            (Err(error), _) => error,
            (Ok(_), Err(denied)) => Error::Denied(denied),
            // `automatic` begins, and ends in a switch.
            (Ok(_), Ok(_)) => Error::NoTarget { action },
        }
    }

    async fn offered(&self, asked: &str) -> Result<OfferedVm, Error> {
        let mut found = self.vm_list().await?;
        found.retain(|o| o.vm.uuid.as_str() == asked || o.vm.name == asked);
        match found.len() {
            0 => Err(Error::VmUnknown { asked: asked.to_owned() }),
            1 => Ok(found.remove(0)),
            count => Err(Error::VmAmbiguous { asked: asked.to_owned(), count }),
        }
    }

    async fn begin(&self, asked: &str) -> Result<MigrationId, Error> {
        let OfferedVm { vm, agent, .. } = self.offered(asked).await?;
        if !self.hub.agent_is_connected(&agent) {
            return Err(Error::AgentAway { agent });
        }
        let id = MigrationId::generate();
        let disks = vm.disks.into_iter().map(|disk| {
            let id = DiskId::generate();
            NewDisk { volume: format!("mk-{id}"), id, key: disk.key, size: disk.size }
        });
        let new =
            NewMigration { id: id.clone(), vm: vm.uuid, vm_name: vm.name, agent, disks: disks.collect() };
        let made = self.store.migration_create(&new, Timestamp::now()).await?;
        info!(migration_id = %made.id, vm = %made.vm_name, agent = %made.agent, "migration begun");
        Ok(id)
    }

    /// Compare-and-swap until it is decided on what is there.
    async fn act_on(&self, mut migration: Migration, action: Action) -> Result<MigrationId, Error> {
        loop {
            let next = apply(Some(migration.position), action, migration.facts())?;
            match next.effect {
                Effect::RunSwitch | Effect::RunRollback | Effect::RunFinalize => {
                    return Err(Error::NoTarget { action });
                }
                Effect::Nothing
                | Effect::Prepare
                | Effect::RunCycle
                | Effect::StopCycle
                | Effect::TearDown
                | Effect::Hold
                | Effect::Release => {}
            }
            if action == Action::Automatic {
                return Err(Error::NoTarget { action });
            }
            let mut changed = migration.clone();
            changed.position = next.to;
            changed.held = match next.effect {
                Effect::Hold => true,
                Effect::Release => false,
                _ => changed.held,
            };
            changed.error = None;
            if next.effect == Effect::RunCycle {
                changed.findings.clear();
            }
            let now = Timestamp::now();
            let stored = match next.effect {
                Effect::StopCycle => self.store.migration_direct(&changed, Wanted::Pause, now).await,
                Effect::RunCycle => self.store.migration_direct(&changed, Wanted::Run, now).await,
                _ => self.store.migration_transition(&changed, now).await,
            };
            match stored {
                Ok(now) => {
                    info!(migration_id = %now.id, vm = %now.vm_name, %action, position = %now.position, "action taken");
                    return Ok(now.id);
                }
                Err(store::Error::Conflict { .. }) => {
                    migration = self.store.migration_fetch(&migration.id).await?
                }
                Err(store::Error::JobActive { job, .. }) => return Err(Error::CycleRunning { job }),
                Err(error) => return Err(error.into()),
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

fn names(migration: &Migration, asked: &str) -> bool {
    migration.vm_name == asked || migration.vm.as_str() == asked || migration.id.as_str() == asked
}
