//! Which of the things that are there nobody owns, and which of those may be removed. Pure.

use super::{Orphan, OrphanKind, Sight};
use crate::compute::{Held, State};
use crate::failover::{Kind, Standing, names};
use crate::storage::{Listed, Snapshot};
use crate::store::{Makes, Migration};

/// In the order of their kinds, then as the inventories have them.
pub(super) fn judge(sight: &Sight) -> Vec<Orphan> {
    let machines = sight.machines.iter().filter_map(|m| machine(sight, m));
    let snapshots = sight.snapshots.iter().filter_map(|s| snapshot(sight, s));
    let volumes = sight.volumes.iter().filter_map(|v| volume(sight, v));
    let sources = sight.unreleased.iter().map(source);
    let mut all: Vec<_> = machines.chain(snapshots).chain(volumes).chain(sources).collect();
    all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    all
}

/// Whether something of this kind and name is there at all.
pub(super) fn is_there(sight: &Sight, orphan: &Orphan) -> bool {
    let name = orphan.name.as_str();
    match orphan.kind {
        OrphanKind::Machine => sight.machines.iter().any(|m| m.name.as_str() == name),
        OrphanKind::Snapshot => sight.snapshots.iter().any(|s| s.name.as_str() == name),
        OrphanKind::Clone | OrphanKind::Replica => sight.volumes.iter().any(|v| v.volume.as_str() == name),
        OrphanKind::SourceSnapshot => sight.unreleased.iter().any(|m| m.vm_name == name),
    }
}

/// Why a name that is no orphan's is none.
pub(super) fn owner(sight: &Sight, name: &str) -> String {
    let owned = &sight.owned;
    let named = |f: &&Makes| f.is_called(name) || f.clones.contains(name) || f.job.as_str() == name;
    let mine = |f: &&Makes| !f.is_gone() && named(f);
    if let Some(failover) = owned.failovers.iter().find(mine) {
        let job = &failover.job;
        return match failover.standing {
            Standing::HandedOver => format!("it is production: the live failover {job} was committed"),
            _ if failover.kind == Kind::Live => format!("it belongs to the live failover {job}"),
            _ => format!("it belongs to the failover {job}: `migratekit failover cleanup {job}` removes it"),
        };
    }
    match (owned.replicas.contains(name), owned.points.contains(name)) {
        (true, _) => "it is the replica of a migration: `migratekit migration abort` removes it".to_owned(),
        (_, true) => "it is a restore point of a migration, or of a cycle that runs".to_owned(),
        _ if owned.failovers.iter().any(|f| named(&f)) => {
            "nothing of this name is there any more: its failover is cleaned up".to_owned()
        }
        (false, false) => {
            "nothing of this name is there that nobody owns: `migratekit orphans list` shows what is"
                .to_owned()
        }
    }
}

fn machine(sight: &Sight, machine: &Held) -> Option<Orphan> {
    let name = machine.name.as_str();
    let mut why = of_failover(sight, name)?;
    why.push_str(match machine.state {
        State::Running => "; it runs: its process ends with it",
        State::Stopped => "",
        State::Unknown => "; whether it runs cannot be told",
    });
    let foreign = machine.disks.iter().find(|disk| is_owned(sight, disk.as_str()));
    let keep = match foreign {
        // Whatever its name says: somebody needs what it has open.
        Some(disk) => Some(format!("{disk}, which it has as a disk, is owned: look at it before anything")),
        None => form(sight, name),
    };
    Some(Orphan { kind: OrphanKind::Machine, name: name.to_owned(), size: None, why, keep })
}

fn snapshot(sight: &Sight, snapshot: &Snapshot) -> Option<Orphan> {
    let name = snapshot.name.as_str();
    if sight.owned.points.contains(name) {
        return None;
    }
    let why = of_failover(sight, name)?;
    let orphan =
        |why, keep| Some(Orphan { kind: OrphanKind::Snapshot, name: name.to_owned(), size: None, why, keep });
    if name.starts_with("rp-") {
        let keep = "it is named as a restore point is, and may be all that is left of its data: `migratekit migration adopt` \
                    first; removed at the storage only";
        return orphan("no restore point has it".to_owned(), Some(keep.to_owned()));
    }
    let replica = snapshot.volumes.iter().find(|v| is_replica(sight, v.as_str()));
    let keep = match replica {
        Some(volume) => {
            Some(format!("it is a snapshot of the replica {volume}: removed at the storage only"))
        }
        None => form(sight, name),
    };
    orphan(why, keep)
}

fn volume(sight: &Sight, listed: &Listed) -> Option<Orphan> {
    let name = listed.volume.as_str();
    if is_owned(sight, name) {
        return None;
    }
    let orphan =
        |kind, why, keep| Some(Orphan { kind, name: name.to_owned(), size: Some(listed.size), why, keep });
    // A clone has no label: one that has became somebody's replica.
    if let Some(label) = &listed.label {
        let why = format!(
            "disk {} of {} ({}), by migration {}, and no unfinished migration has it",
            label.disk, label.vm_name, label.vm, label.migration
        );
        return orphan(OrphanKind::Replica, why, Some(KEEP_REPLICA.to_owned()));
    }
    if name.starts_with("mk-") {
        let why = "it is named as a replica is, and no unfinished migration has it".to_owned();
        return orphan(OrphanKind::Replica, why, Some(KEEP_REPLICA.to_owned()));
    }
    // Other names were never ours.
    let _ = name.strip_prefix("cs-")?;
    match sight.owned.failovers.iter().find(|f| f.clones.contains(name)) {
        Some(failover) => {
            let holder = sight.machines.iter().find(|m| m.disks.contains(&listed.volume));
            let keep = holder.filter(|m| machine(sight, m).is_none_or(|m| m.keep.is_some()));
            let keep =
                keep.map(|m| format!("machine {}, which is not removed here, has it as a disk", m.name));
            orphan(OrphanKind::Clone, ended(failover), keep)
        }
        None => {
            let keep = "it may be another control plane's, or CloudStack's: removed at the storage only";
            let why = "no failover of this database made it".to_owned();
            orphan(OrphanKind::Clone, why, Some(keep.to_owned()))
        }
    }
}

const KEEP_REPLICA: &str = "a replica goes with `abort` or `finalize` of its migration: `migratekit migration adopt VM` takes it \
     back; removed at the storage only";

/// Of an ended migration.
fn source(migration: &Migration) -> Orphan {
    Orphan {
        kind: OrphanKind::SourceSnapshot,
        name: migration.vm_name.clone(),
        size: None,
        why: format!(
            "migration {} of {} has ended, and agent {} has not said that its source holds nothing of it any more",
            migration.id, migration.vm, migration.agent
        ),
        keep: Some(format!(
            "agent {} removes it by itself once it is connected: look at `migratekit vm list` and at its log; where it is gone for \
             good, remove the snapshots mk-… of this VM at the source",
            migration.agent
        )),
    }
}

/// Why the machine or the snapshot of this name is nobody's; `None`: it is a failover's.
fn of_failover(sight: &Sight, name: &str) -> Option<String> {
    // The name is unique: a job that was made since has it, or no one.
    match sight.owned.failovers.iter().find(|f| f.is_called(name)) {
        Some(failover) if !failover.is_gone() => None,
        Some(failover) => Some(ended(failover)),
        None => Some("no failover of this database has this name".to_owned()),
    }
}

fn ended(failover: &Makes) -> String {
    format!(
        "the failover {} of {} has ended, and nothing of it should be there",
        failover.job, failover.vm_name
    )
}

/// Why a machine or a snapshot is not removed by its name.
fn form(sight: &Sight, name: &str) -> Option<String> {
    let known = sight.owned.failovers.iter().any(|f| f.is_called(name));
    match names::kind_of(name) {
        _ if known => None,
        Some(Kind::Test) => None,
        // After a restore of the database it may be the VM itself, moved since the backup was made.
        Some(Kind::Live) => Some(
            "it is named as a live failover's, which this database does not know: it may be the VM itself; look at it, \
             and remove it at the backend"
                .to_owned(),
        ),
        None => Some("it is not named as a failover's: removed where it was made only".to_owned()),
    }
}

fn is_replica(sight: &Sight, volume: &str) -> bool {
    volume.starts_with("mk-") || sight.owned.replicas.contains(volume)
}

/// A volume that a record owns.
fn is_owned(sight: &Sight, volume: &str) -> bool {
    let there = |f: &Makes| !f.is_gone() && f.clones.contains(volume);
    sight.owned.replicas.contains(volume) || sight.owned.failovers.iter().any(there)
}
