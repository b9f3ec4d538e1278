//! Adopt: after the loss of the database, volumes on the storage become a VM's replica again.
//!
//! ```text
//!  the VM's disks ─┐
//!                  ├─► choice: one volume a disk, or why not ─► migration at begin, every disk to be compared
//!  the volumes ────┘                                            └─► first cycle: a hash-diff over what they read back
//! ```
//!
//! What a volume holds is not known, whatever its label says: no restore point is made of it before a cycle has compared
//! all of it with the source. Disk ids are new ones, so that no stream of the lost migration fits any of them. Snapshots
//! of the lost migration are named in the answer, and stay: nothing that was committed goes without the operator's word
//! (DESIGN §6 rule 9).

mod choice;

pub use choice::Unfit;

use super::migrations::OfferedVm;
use super::{App, Caller, Error, MigrationView};
use crate::storage::{SnapshotName, VolumeId};
use crate::store::{self, LastAction, NewDisk, NewMigration, Wishes};
use choice::choose;
use shared::ids::{DiskId, DiskKey, MigrationId};
use shared::migration::Action;
use std::collections::BTreeSet;
use tracing::info;

/// A migration with volumes that were there.
#[derive(Debug)]
pub struct Adopted {
    pub view: MigrationView,
    /// Every disk's.
    pub volumes: Vec<(DiskKey, VolumeId)>,
    /// Of these volumes, and of no restore point.
    pub old_snapshots: Vec<SnapshotName>,
}

impl App {
    /// Protects a VM with volumes that are on the storage and nobody's: those that say so, and those `named`.
    ///
    /// # Errors
    /// [`Error::Unfit`] with the disk and its volumes, and as `begin`; nothing has changed then.
    pub async fn adopt(
        &self,
        caller: &Caller,
        asked: &str,
        named: &[(String, String)],
    ) -> Result<Adopted, Error> {
        let OfferedVm { vm, agent, .. } = self.offered(asked).await?;
        if let Some(of_it) = self.store.migration_of_vm(&vm.uuid).await? {
            return Err(store::Error::AlreadyProtected { vm: vm.uuid, migration: of_it.id }.into());
        }
        if !self.hub.agent_is_connected(&agent) {
            return Err(Error::AgentAway { agent });
        }
        let taken = self.store.volumes_in_use().await?;
        let mut free = self.storage.volumes().await?;
        free.retain(|v| !taken.contains(v.volume.as_str()));
        let volumes = choose(&vm, &free, named)?;
        let now = self.clock.now();
        let new = NewMigration {
            id: MigrationId::generate(),
            vm: vm.uuid,
            vm_name: vm.name,
            agent,
            disks: volumes
                .iter()
                .zip(&vm.disks)
                .map(|((key, volume), disk)| NewDisk {
                    id: DiskId::generate(),
                    key: key.clone(),
                    size: disk.size,
                    volume: volume.as_str().to_owned(),
                })
                .collect(),
            wishes: Wishes {
                last: Some(LastAction::new(Action::Begin, &caller.name, now)),
                ..Wishes::default()
            },
            attempt: None,
            configuration: vm.configuration,
            target_profile: self.profile_named(None).await?.map(|p| p.name),
            preflight: None,
        };
        let made = self.store.migration_adopt(&new, now).await?;
        let old_snapshots = self.old_snapshots(&volumes).await?;
        info!(migration_id = %made.id, vm = %made.vm_name, agent = %made.agent, by = %caller, ?volumes,
              ?old_snapshots, "replica adopted");
        self.touched(&made.id).await;
        Ok(Adopted { view: self.migration_view(&made.id).await?, volumes, old_snapshots })
    }

    /// No restore point can name them: their volumes were nobody's.
    async fn old_snapshots(&self, volumes: &[(DiskKey, VolumeId)]) -> Result<Vec<SnapshotName>, Error> {
        let ours: BTreeSet<_> = volumes.iter().map(|(_, volume)| volume).collect();
        let mut all = self.storage.snapshots().await?;
        all.retain(|s| s.volumes.iter().any(|v| ours.contains(v)));
        Ok(all.into_iter().map(|s| s.name).collect())
    }
}
