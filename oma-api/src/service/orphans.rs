//! What the backends have that no record owns: looked for by their own inventories, shown, and removed where that is safe.
//!
//! ```text
//!  compute, storage: what is there ──┐
//!  store: which names are owned ─────┴─► judge (pure) ──► orphans ── remove: looked at anew before each ──► gone
//! ```
//!
//! It removes only what is provably a failover's. Replicas and restore points are shown and never touched: that takes
//! `abort`, `finalize` or `adopt` of a migration (DESIGN §6 rule 9). A machine of the local backend is its process, and goes with
//! it: one whose folder somebody removed under it is in its inventory still.

mod judge;
#[cfg(test)]
mod tests;

use super::{App, Caller, Error};
use crate::compute::{Held, MachineName, Stop};
use crate::storage::{Listed, Snapshot, SnapshotName, VolumeId};
use crate::store::{Migration, Owned, Which};
use shared::error::chain;
use shared::words;
use std::collections::BTreeSet;
use tracing::{info, warn};

/// Names of one request, at most.
const MOST_NAMES: usize = 1000;

words!(
    /// What an orphan is; in the order in which they are removed.
    OrphanKind, "kind of orphan", {
        Machine = "machine",
        /// Of a storage.
        Snapshot = "snapshot",
        /// A volume that a failover made of a restore point.
        Clone = "clone",
        /// A volume that a migration writes.
        Replica = "replica",
        /// What a source still holds of an ended migration.
        SourceSnapshot = "source_snapshot",
    }
);

/// Something that no record owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub kind: OrphanKind,
    pub name: String,
    /// Bytes, of volumes.
    pub size: Option<u64>,
    /// Why it is thought to be one.
    pub why: String,
    /// Why it is not removed here, and what to do instead; `None`: it may be removed.
    pub keep: Option<String>,
}

/// Which ones are to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// Everything of these names.
    Named(Vec<String>),
    /// All that may be.
    All,
}

/// What became of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// `None`: there is nothing of this name.
    pub kind: Option<OrphanKind>,
    pub name: String,
    /// `None`: it is gone. Otherwise why it is not.
    pub kept: Option<String>,
}

/// What there is, and whose it is.
struct Sight {
    machines: Vec<Held>,
    snapshots: Vec<Snapshot>,
    volumes: Vec<Listed>,
    owned: Owned,
    /// Migrations of which the source still has something.
    unreleased: Vec<Migration>,
}

impl App {
    /// All of them, in the order of their kinds and names.
    ///
    /// # Errors
    /// [`Error::Compute`], [`Error::Storage`], [`Error::Store`].
    pub async fn orphans(&self) -> Result<Vec<Orphan>, Error> {
        Ok(judge::judge(&self.sight().await?))
    }

    /// Removes them, one by one; what cannot be removed does not keep the others.
    ///
    /// # Errors
    /// [`Error::Argument`]; and before anything is removed [`Error::Compute`], [`Error::Storage`], [`Error::Store`].
    pub async fn orphans_remove(&self, caller: &Caller, chosen: &Chosen) -> Result<Vec<Removal>, Error> {
        let sight = self.sight().await?;
        let found = judge::judge(&sight);
        let mut removals = Vec::new();
        let mut meant: Vec<Orphan> = match chosen {
            Chosen::All => found.into_iter().filter(|orphan| orphan.keep.is_none()).collect(),
            Chosen::Named(names) => {
                let wrong = |why: &str| Error::Argument { what: "names", why: why.to_owned() };
                match names.len() {
                    0 => return Err(wrong("name what is to be removed, or say all")),
                    1..=MOST_NAMES => {}
                    _ => return Err(wrong("at most 1000 at a time")),
                }
                let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
                let unknown = |name: &&str| found.iter().all(|orphan| orphan.name != **name);
                removals.extend(names.iter().copied().filter(unknown).map(|name| Removal {
                    kind: None,
                    name: name.chars().take(80).collect(),
                    kept: Some(judge::owner(&sight, name)),
                }));
                found.into_iter().filter(|orphan| names.contains(orphan.name.as_str())).collect()
            }
        };
        // A machine holds its disks, and a snapshot may share blocks with its volumes.
        meant.sort_by_key(|orphan| orphan.kind);
        for orphan in meant {
            let kept = self.orphan_remove(&orphan).await.err();
            match &kept {
                None => info!(kind = %orphan.kind, name = orphan.name, by = %caller, "an orphan is removed"),
                Some(why) => warn!(kind = %orphan.kind, name = orphan.name, why, "an orphan stays"),
            }
            removals.push(Removal { kind: Some(orphan.kind), name: orphan.name, kept });
        }
        Ok(removals)
    }

    /// One, if it is one still. `Err`: why it stays.
    async fn orphan_remove(&self, orphan: &Orphan) -> Result<(), String> {
        let told = |error: Error| chain(&error);
        // A job may have begun since it was listed, or since the one before was removed.
        let sight = self.sight().await.map_err(told)?;
        let is_it = |o: &Orphan| o.kind == orphan.kind && o.name == orphan.name;
        let now = judge::judge(&sight).into_iter().find(is_it);
        let Some(now) = now else {
            return match judge::is_there(&sight, orphan) {
                true => Err(judge::owner(&sight, &orphan.name)),
                false => Ok(()),
            };
        };
        if let Some(why) = now.keep {
            return Err(why);
        }
        match orphan.kind {
            OrphanKind::Machine => self.orphan_machine(&orphan.name).await.map_err(told),
            OrphanKind::Snapshot => {
                let name = SnapshotName::parse(&*orphan.name).map_err(|error| error.to_string())?;
                self.storage.delete_snapshot(&name).await.map_err(|error| chain(&error))
            }
            OrphanKind::Clone => {
                let volume = VolumeId::parse(&*orphan.name).map_err(|error| error.to_string())?;
                if let Some(machine) = sight.machines.iter().find(|m| m.disks.contains(&volume)) {
                    return Err(format!("it is a disk of machine {}: remove that first", machine.name));
                }
                if let Some(opener) = self.storage.opener(&volume).await.map_err(|error| chain(&error))? {
                    return Err(format!("it is open in {opener}: end that, and try again"));
                }
                // A backend with a record of it would have one of nothing.
                if let Some(hand_over) = self.compute.as_ref().and_then(|compute| compute.hand_over()) {
                    hand_over.release(&volume).await.map_err(|error| chain(&error))?;
                }
                self.storage.delete(&volume).await.map_err(|error| chain(&error))
            }
            // Judged as kept already: nothing below this line may ever delete one (DESIGN §6 rule 9).
            OrphanKind::Replica | OrphanKind::SourceSnapshot => Err("it is never removed here".to_owned()),
        }
    }

    async fn orphan_machine(&self, name: &str) -> Result<(), Error> {
        let compute = self.compute.as_ref().ok_or(super::failovers::Refused::NoCompute)?;
        let Ok(name) = MachineName::parse(name) else { return Ok(()) };
        compute.stop(&name, Stop::Now).await?;
        Ok(compute.remove(&name).await?)
    }

    /// The inventories first: what is made is recorded before, so what is there has its record then. The other way round, what
    /// a job makes between the two looks would be nobody's.
    async fn sight(&self) -> Result<Sight, Error> {
        let machines = match &self.compute {
            Some(compute) => compute.inventory().await?,
            None => Vec::new(),
        };
        let snapshots = self.storage.snapshots().await?;
        let volumes = self.storage.volumes().await?;
        let owned = self.store.owned().await?;
        let mut unreleased = self.store.migration_list(Which::All).await?;
        unreleased.retain(|migration| migration.release_pending && migration.position.ended());
        Ok(Sight { machines, snapshots, volumes, owned, unreleased })
    }
}
