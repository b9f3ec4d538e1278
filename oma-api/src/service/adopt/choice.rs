//! Which volume is which disk's; pure.

use crate::storage::{Listed, VolumeId};
use shared::cycle::Vm;
use shared::ids::{DiskKey, VmUuid};

/// Why volumes cannot be a VM's replica.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unfit {
    #[error(
        "no volume says that it is disk {disk} of this VM: name it with --disk {disk}=VOLUME, or begin anew to copy \
         all of it; volumes that are nobody's: {}",
        list(free)
    )]
    None { disk: DiskKey, free: Vec<VolumeId> },
    #[error(
        "several volumes say that they are disk {disk} of this VM: name one with --disk {disk}=VOLUME; they are {}",
        list(volumes)
    )]
    Several { disk: DiskKey, volumes: Vec<VolumeId> },
    #[error("volume {volume} is the replica of disk {disk} of the VM {vm_name} ({vm}), not of this one")]
    OfAnother { volume: VolumeId, vm: VmUuid, vm_name: String, disk: DiskKey },
    #[error(
        "volume {volume} has {have} bytes and disk {disk} {need}: the disk was {} since; begin anew to copy all of it",
        if have < need { "grown" } else { "replaced by a smaller one" }
    )]
    Size { disk: DiskKey, volume: VolumeId, have: u64, need: u64 },
    #[error(
        "there is no volume {volume:?} that is nobody's: it is not on the storage, or the replica of an unfinished migration"
    )]
    NoVolume { volume: String },
    #[error("the VM has no disk {disk:?}; its disks are {}", list(disks))]
    NoDisk { disk: String, disks: Vec<DiskKey> },
    #[error("volume {volume} cannot be two disks, and a disk cannot have two volumes")]
    Twice { volume: VolumeId },
}

fn list<T: ToString>(all: &[T]) -> String {
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// A volume for every disk, in the VM's order: the one that was named for it, else the only one that says it is that.
pub(super) fn choose(
    vm: &Vm,
    free: &[Listed],
    named: &[(String, String)],
) -> Result<Vec<(DiskKey, VolumeId)>, Unfit> {
    for (key, _) in named {
        if !vm.disks.iter().any(|d| d.key.as_str() == key) {
            let disks = vm.disks.iter().map(|d| d.key.clone()).collect();
            return Err(Unfit::NoDisk { disk: key.clone(), disks });
        }
    }
    let mut chosen: Vec<(DiskKey, VolumeId)> = Vec::new();
    for disk in &vm.disks {
        let mut names = named.iter().filter(|(key, _)| key == disk.key.as_str()).map(|(_, volume)| volume);
        let of_disk = match names.next() {
            Some(name) => by_name(vm, &disk.key, free, name)?,
            None => by_label(vm, &disk.key, free)?,
        };
        if names.next().is_some() || chosen.iter().any(|(_, volume)| *volume == of_disk.volume) {
            return Err(Unfit::Twice { volume: of_disk.volume.clone() });
        }
        if of_disk.size != disk.size {
            let volume = of_disk.volume.clone();
            return Err(Unfit::Size { disk: disk.key.clone(), volume, have: of_disk.size, need: disk.size });
        }
        chosen.push((disk.key.clone(), of_disk.volume.clone()));
    }
    Ok(chosen)
}

/// A label is believed before a person: two names that were mixed up would be two disks that are overwritten.
fn by_name<'a>(vm: &Vm, key: &DiskKey, free: &'a [Listed], name: &str) -> Result<&'a Listed, Unfit> {
    let found = free.iter().find(|v| v.volume.as_str() == name);
    let found = found.ok_or_else(|| Unfit::NoVolume { volume: name.to_owned() })?;
    match &found.label {
        Some(label) if label.vm != vm.uuid || label.disk != *key => Err(Unfit::OfAnother {
            volume: found.volume.clone(),
            vm: label.vm.clone(),
            vm_name: label.vm_name.clone(),
            disk: label.disk.clone(),
        }),
        Some(_) | None => Ok(found),
    }
}

fn by_label<'a>(vm: &Vm, key: &DiskKey, free: &'a [Listed]) -> Result<&'a Listed, Unfit> {
    let is_it = |v: &&Listed| v.label.as_ref().is_some_and(|label| label.vm == vm.uuid && label.disk == *key);
    let found: Vec<_> = free.iter().filter(is_it).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let unsaid = free.iter().filter(|v| v.label.is_none()).map(|v| v.volume.clone()).collect();
            Err(Unfit::None { disk: key.clone(), free: unsaid })
        }
        several => {
            let volumes = several.iter().map(|v| v.volume.clone()).collect();
            Err(Unfit::Several { disk: key.clone(), volumes })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Label;
    use shared::cycle::VmDisk;
    use shared::ids::MigrationId;

    const OURS: &str = "00000000-0000-4000-8000-000000000001";
    const OTHER: &str = "00000000-0000-4000-8000-000000000002";

    fn vm() -> Vm {
        let disk = |key: &str, size| VmDisk { key: key.parse().expect("a key"), size };
        Vm {
            uuid: OURS.parse().expect("a uuid"),
            name: "web".to_owned(),
            disks: vec![disk("root", 100), disk("data", 200)],
            configuration: None,
        }
    }

    fn volume(name: &str, size: u64, of: Option<(&str, &str)>) -> Listed {
        let label = of.map(|(vm, disk)| Label {
            vm: vm.parse().expect("a uuid"),
            vm_name: "some".to_owned(),
            disk: disk.parse().expect("a key"),
            size,
            migration: MigrationId::generate(),
        });
        Listed { volume: VolumeId::parse(name).expect("a name"), size, label }
    }

    fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(key, volume)| (key.to_owned(), volume.to_owned())).collect()
    }

    fn chosen(free: &[Listed], by_hand: &[(&str, &str)]) -> Result<Vec<String>, Unfit> {
        choose(&vm(), free, &named(by_hand)).map(|all| all.iter().map(|(_, v)| v.to_string()).collect())
    }

    #[test]
    fn labels_say_which_is_which_and_the_operator_the_rest() {
        let mut free = vec![
            volume("a", 200, Some((OURS, "data"))),
            volume("b", 100, Some((OTHER, "root"))),
            volume("c", 100, None),
        ];
        assert_eq!(chosen(&free, &[("root", "c")]), Ok(vec!["c".to_owned(), "a".to_owned()]));
        let none = chosen(&free, &[]).expect_err("nothing says it is root");
        assert_eq!(
            none,
            Unfit::None { disk: "root".parse().expect("a key"), free: vec![free[2].volume.clone()] }
        );
        assert!(
            none.to_string().contains("--disk root=VOLUME") && none.to_string().ends_with(": c"),
            "{none}"
        );
        free.push(volume("d", 100, Some((OURS, "root"))));
        assert_eq!(chosen(&free, &[]), Ok(vec!["d".to_owned(), "a".to_owned()]));
        free.push(volume("e", 100, Some((OURS, "root"))));
        assert!(matches!(chosen(&free, &[]), Err(Unfit::Several { .. })));
        assert_eq!(chosen(&free, &[("root", "e")]), Ok(vec!["e".to_owned(), "a".to_owned()]));
    }

    #[test]
    fn what_is_anothers_or_does_not_fit_is_refused() {
        let free = vec![
            volume("a", 200, Some((OURS, "data"))),
            volume("b", 100, Some((OTHER, "root"))),
            volume("c", 101, None),
            volume("d", 100, None),
        ];
        let refused = |by_hand: &[(&str, &str)]| chosen(&free, by_hand).expect_err("unfit");
        assert!(matches!(refused(&[("root", "b")]), Unfit::OfAnother { vm, .. } if vm.as_str() == OTHER));
        assert!(
            matches!(refused(&[("root", "a")]), Unfit::OfAnother { disk, .. } if disk.as_str() == "data")
        );
        assert!(matches!(refused(&[("root", "c")]), Unfit::Size { have: 101, need: 100, .. }));
        assert!(matches!(refused(&[("root", "x")]), Unfit::NoVolume { .. }));
        assert!(matches!(refused(&[("boot", "d")]), Unfit::NoDisk { .. }));
        assert!(matches!(refused(&[("root", "d"), ("data", "d")]), Unfit::Twice { .. }));
        assert!(matches!(refused(&[("root", "d"), ("root", "d")]), Unfit::Twice { .. }));
    }
}
