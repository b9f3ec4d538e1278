//! A source whose disks changed: the operator accepts what it has now.
//!
//! Decided here, on the agent's last inventory, and stored as one; the reconciler makes the volumes, the next sync copies.
//! Nothing is asked of the source: were it different again, the next cycle would find so and stop.

#[cfg(test)]
mod tests;

use super::{App, Caller, Error, MigrationView};
use crate::storage::VolumeId;
use crate::store::{self, Accepted, Disk, DiskChange, Migration, NewDisk};
use shared::cycle::{Finding, FindingKind, VmDisk};
use shared::ids::{DiskId, DiskKey};
use shared::migration::Position;
use tracing::info;

impl App {
    /// Takes the VM's disks into the protection as its source has them now: all of them, or those of these keys. Again:
    /// changes nothing.
    ///
    /// # Errors
    /// [`Error::NotBetweenCycles`], [`Error::CycleRunning`], [`Error::AgentAway`], [`Error::DiskUnknown`],
    /// [`Error::NothingToAccept`], [`Error::NoDiskLeft`], [`Error::VmUnknown`], [`Error::Store`]; nothing has changed then.
    pub async fn accept(
        &self,
        caller: &Caller,
        asked: &str,
        keys: &[DiskKey],
    ) -> Result<MigrationView, Error> {
        let Some(mut migration) = self.unfinished(asked).await? else {
            return Err(Error::NotProtected { asked: asked.to_owned() });
        };
        loop {
            match self.accept_once(caller, &migration, keys).await {
                Err(Error::Store(store::Error::Conflict { .. })) => {
                    migration = self.store.migration_fetch(&migration.id).await?;
                }
                Err(Error::Store(store::Error::JobActive { job, .. })) => {
                    return Err(Error::CycleRunning { job });
                }
                Err(error) => return Err(error),
                Ok(()) => return self.migration_view(&migration.id).await,
            }
        }
    }

    async fn accept_once(
        &self,
        caller: &Caller,
        migration: &Migration,
        keys: &[DiskKey],
    ) -> Result<(), Error> {
        if !matches!(migration.position, Position::BeginPaused | Position::SyncPaused | Position::SyncFailed)
        {
            return Err(Error::NotBetweenCycles {
                vm: migration.vm_name.clone(),
                position: migration.position,
            });
        }
        if !self.hub.agent_is_connected(&migration.agent) {
            return Err(Error::AgentAway { agent: migration.agent.clone() });
        }
        let agent = self.store.agent_fetch(&migration.agent).await?;
        let found = agent.inventory.into_iter().find(|vm| vm.uuid == migration.vm);
        let found = found.ok_or_else(|| Error::VmUnknown { asked: migration.vm_name.clone() })?.disks;
        let disks = self.store.disk_list(&migration.id).await?;
        let wanted = |key: &DiskKey| keys.is_empty() || keys.contains(key);
        for key in keys {
            let known = disks.iter().any(|d| d.key == *key) || found.iter().any(|d| d.key == *key);
            if !known && !self.store.disk_was_retired(&migration.id, key).await? {
                return Err(Error::DiskUnknown { vm: migration.vm_name.clone(), key: key.clone() });
            }
        }
        let changes = changes(&disks, &found, wanted);
        if changes.is_empty() {
            return match migration
                .findings
                .iter()
                .find(|f| is_of_disks(f) && f.disk.as_ref().is_none_or(wanted))
            {
                // Done before.
                None => Ok(()),
                Some(finding) => Err(Error::NothingToAccept {
                    vm: migration.vm_name.clone(),
                    finding: finding.kind.as_str(),
                    agent: migration.agent.clone(),
                }),
            };
        }
        let retired: Vec<DiskId> = changes
            .iter()
            .filter_map(|change| match change {
                DiskChange::Retire(disk) => Some(disk.clone()),
                DiskChange::Add(_) | DiskChange::Grow { .. } => None,
            })
            .collect();
        let added = changes.iter().any(|change| matches!(change, DiskChange::Add(_)));
        if retired.len() == disks.len() && !added {
            return Err(Error::NoDiskLeft { vm: migration.vm_name.clone() });
        }
        let mut changed = migration.clone();
        changed.findings.retain(|f| !(is_of_disks(f) && f.disk.as_ref().is_none_or(wanted)));
        if changed.findings.is_empty() {
            changed.error = None;
        }
        let order = found.into_iter().map(|d| d.key).collect();
        let accepted = Accepted { changes, order, by: caller.name.clone() };
        self.store.migration_accept(&changed, &accepted, self.clock.now()).await?;
        self.transfers.close(&retired, "the disk has left the protection").await;
        info!(migration_id = %migration.id, vm = %migration.vm_name, by = %caller, changes = ?accepted.changes,
              "changed disks accepted");
        self.touched(&migration.id).await;
        Ok(())
    }
}

/// Whether it is about disks that came, went or have another size.
pub(super) fn is_of_disks(finding: &Finding) -> bool {
    match finding.kind {
        FindingKind::DiskAdded | FindingKind::DiskRemoved | FindingKind::DiskResized => true,
        FindingKind::ChangeIdUnknown
        | FindingKind::ChangeQueryRefused
        | FindingKind::NoChangeTracking
        | FindingKind::VmUnknown
        | FindingKind::SnapshotLost
        | FindingKind::Unknown => false,
    }
}

/// A finding about disks with both ways out of it, as commands.
pub(super) fn with_ways(mut finding: Finding, migration: &Migration) -> Finding {
    if is_of_disks(&finding) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let usable = !migration.vm_name.starts_with('-') && migration.vm_name.chars().all(plain);
        let vm =
            if usable && !migration.vm_name.is_empty() { &migration.vm_name } else { migration.vm.as_str() };
        let disk = finding.disk.as_ref().map(|key| format!(" --disk {key}")).unwrap_or_default();
        finding.message.push_str(&format!(
            "; `migratekit migration accept {vm}{disk}` protects the VM as it is now, from its next sync on, and \
             `migratekit migration hold {vm}` leaves it as it is"
        ));
    }
    finding
}

/// What makes the protected disks those that were found; of the wanted keys only.
fn changes(protected: &[Disk], found: &[VmDisk], wanted: impl Fn(&DiskKey) -> bool) -> Vec<DiskChange> {
    let mut changes = Vec::new();
    let add = |disk: &VmDisk| {
        let id = DiskId::generate();
        DiskChange::Add(NewDisk {
            volume: VolumeId::of_replica(&id).to_string(),
            id,
            key: disk.key.clone(),
            size: disk.size,
        })
    };
    for disk in protected.iter().filter(|d| wanted(&d.key)) {
        match found.iter().find(|f| f.key == disk.key) {
            None => changes.push(DiskChange::Retire(disk.id.clone())),
            Some(now) if now.size > disk.size => {
                changes.push(DiskChange::Grow { disk: disk.id.clone(), size: now.size });
            }
            // A volume is never cut: its restore points would have to be.
            Some(now) if now.size < disk.size => {
                changes.extend([DiskChange::Retire(disk.id.clone()), add(now)]);
            }
            Some(_) => {}
        }
    }
    let new = found.iter().filter(|f| wanted(&f.key) && !protected.iter().any(|d| d.key == f.key));
    changes.extend(new.map(add));
    changes
}
