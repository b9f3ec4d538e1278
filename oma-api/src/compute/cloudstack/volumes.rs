//! A volume's record: made, attached, taken off, and removed without what it holds.

use super::super::{Error, Guard, MachineName, State};
use super::CloudStackCompute;
use super::fit::device;
use super::look::{Seen, TAKEN};
use super::machine::state;
use super::model::{Known, Vm, Volume};
use super::place::Place;
use crate::cloudstack::Params;
use crate::linstor::Name;
use crate::storage::VolumeId;

/// CloudStack counts in these.
const GIB: u64 = 1 << 30;

impl CloudStackCompute {
    /// CloudStack's id of a volume: the uuid in its name.
    fn uuid<'a>(&self, volume: &'a VolumeId) -> Result<&'a str, Error> {
        let uuid = volume.as_str().strip_prefix("cs-").filter(|text| uuid::Uuid::try_parse(text).is_ok());
        uuid.ok_or_else(|| Error::Unfit {
            what: format!("volume {volume} is none that CloudStack can take: cs-<uuid>"),
        })
    }

    pub(super) async fn recorded(&self, volume: &VolumeId) -> Result<Option<Volume>, Error> {
        Ok(self.api.volume(self.uuid(volume)?).await?.there())
    }

    pub(super) async fn record(
        &self,
        name: &MachineName,
        position: usize,
        volume: &VolumeId,
    ) -> Result<(), Error> {
        let (id, place) = (self.uuid(volume)?, self.place().await?);
        let seen = self.look(volume, &place).await?;
        match self.api.volume(id).await? {
            Known::There(there) => return same_size(volume, &there, &seen),
            Known::Removed => {
                let why = "its id was used and expunged".to_owned();
                return Err(Error::VolumeStuck { volume: volume.clone(), why });
            }
            Known::Never => {}
        }
        if !seen.size.is_multiple_of(GIB) {
            let why = format!("it has {} bytes, and CloudStack counts in whole GiB", seen.size);
            return Err(Error::NotAsMeant { what: format!("volume {volume}"), why });
        }
        let params = Params::new()
            .with("customid", id)
            .with("name", format!("{name}-disk-{position}"))
            .with("zoneid", &place.zone)
            .with("diskofferingid", &place.disk_offering.id)
            .with("size", (seen.size / GIB).to_string());
        self.api.job("createVolume", params).await?;
        let there = self.api.volume(id).await?.there();
        let there = there.ok_or_else(|| Error::NotAsMeant {
            what: format!("volume {volume}"),
            why: "CloudStack has no record of it after making one".to_owned(),
        })?;
        same_size(volume, &there, &seen)
    }

    /// Before the volume is attached, or whenever: it changes nothing else.
    pub(super) async fn protect(&self, volume: &VolumeId, guard: Guard) -> Result<(), Error> {
        let Some(there) = self.recorded(volume).await? else { return Ok(()) };
        let wanted = guard == Guard::Protected;
        if there.deleteprotection != wanted {
            let params = Params::new().with("id", &there.id).with("deleteprotection", wanted.to_string());
            self.api.job("updateVolume", params).await?;
        }
        Ok(())
    }

    pub(super) async fn attach_volume(
        &self,
        name: &MachineName,
        position: usize,
        volume: &VolumeId,
    ) -> Result<(), Error> {
        let (id, place) = (self.uuid(volume)?, self.place().await?);
        let vm = self.vm(name).await?.ok_or_else(|| Error::NoMachine { name: name.clone() })?;
        let missing = || Error::NotAsMeant {
            what: format!("volume {volume}"),
            why: "CloudStack has no record of it".to_owned(),
        };
        let there = self.api.volume(id).await?.there().ok_or_else(missing)?;
        let before = self.look(volume, &place).await?;
        same_size(volume, &there, &before)?;
        match &there.virtualmachineid {
            Some(holder) if *holder == vm.id => {}
            Some(_) => {
                let why = "another machine has it".to_owned();
                return Err(Error::VolumeHeld { volume: volume.clone(), why });
            }
            None => {
                if state(&vm.state) != State::Stopped {
                    return Err(Error::Running { name: name.clone() });
                }
                let attach = Params::new().with("id", id).with("virtualmachineid", &vm.id);
                let attach = attach.with("deviceid", device(position).to_string());
                self.api.job("attachVolume", attach).await?;
            }
        }
        let there = self.api.volume(id).await?.there().ok_or_else(missing)?;
        self.is_as_meant(volume, &there, &vm, position, &place)?;
        let after = self.look(volume, &place).await?;
        if after != before {
            let why = "its resource was replaced while it was attached".to_owned();
            return Err(Error::NotAsMeant { what: format!("volume {volume}"), why });
        }
        // What the plug-in noted there would be inherited by clones of it.
        let note = place.pool.group().map(|group| format!("{TAKEN}{group}"));
        let name = Name::parse(volume.as_str()).map_err(|error| Error::Unfit { what: error.to_string() })?;
        Ok(self.cluster.unset(&name, note.as_deref().as_slice()).await?)
    }

    /// Of a volume that is said to be attached.
    pub(super) fn is_as_meant(
        &self,
        volume: &VolumeId,
        there: &Volume,
        vm: &Vm,
        position: usize,
        place: &Place,
    ) -> Result<(), Error> {
        let device = u64::try_from(device(position)).unwrap_or(u64::MAX);
        let wrong = [
            (there.virtualmachineid.as_ref() != Some(&vm.id), "it is not attached to its machine"),
            (there.deviceid != Some(device), "it is another device"),
            (there.state != "Ready", "it is not Ready"),
            (there.path.as_ref() != Some(&there.id), "it lies at another path"),
            (there.storageid.as_ref() != Some(&place.pool.id), "it lies in another pool"),
            (position == 0 && there.kind != "ROOT", "it is no root"),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            None => Ok(()),
            Some((_, why)) => {
                let why = format!("{why}: {there:?}");
                Err(Error::NotAsMeant { what: format!("volume {volume}"), why })
            }
        }
    }

    pub(super) async fn detach_volume(&self, volume: &VolumeId) -> Result<(), Error> {
        let Some(there) = self.recorded(volume).await? else { return Ok(()) };
        let Some(holder) = &there.virtualmachineid else { return Ok(()) };
        match self.api.vm(holder).await?.there() {
            Some(vm) => self.detach_from(&there, &vm).await,
            None => Ok(()),
        }
    }

    pub(super) async fn detach_from(&self, volume: &Volume, vm: &Vm) -> Result<(), Error> {
        let id = self.id_of(volume);
        let held = |why: String| Err(Error::VolumeHeld { volume: id.clone(), why });
        if state(&vm.state) != State::Stopped {
            return held(format!("its machine {} is {}: stop that first", vm.name, vm.state));
        }
        self.api.job("detachVolume", Params::new().with("id", &volume.id)).await?;
        match self.api.volume(&volume.id).await?.there() {
            Some(Volume { virtualmachineid: Some(_), .. }) => {
                held(format!("machine {} still has it after it was taken off", vm.name))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// `deleteVolume` deletes `cs-<path>`: the path is changed away first, and that is read back.
    pub(super) async fn forget(&self, volume: &VolumeId) -> Result<(), Error> {
        let Some(there) = self.recorded(volume).await? else { return Ok(()) };
        if there.virtualmachineid.is_some() {
            let why = "a machine has it: detach it first".to_owned();
            return Err(Error::VolumeHeld { volume: volume.clone(), why });
        }
        let away = format!("released-{}", there.id);
        if there.path.as_deref().is_some_and(|path| path != away) || there.deleteprotection {
            let mut params = Params::new().with("id", &there.id).with("path", &away);
            if there.deleteprotection {
                params = params.with("deleteprotection", "false");
            }
            self.api.job("updateVolume", params).await?;
        }
        let Some(there) = self.recorded(volume).await? else { return Ok(()) };
        if there.path.as_deref().is_some_and(|path| path != away) {
            let why = "its path could not be changed, and its deletion would delete what it holds".to_owned();
            return Err(Error::NotAsMeant { what: format!("volume {volume}"), why });
        }
        self.api.call("deleteVolume", Params::new().with("id", &there.id)).await?;
        match self.recorded(volume).await? {
            None => Ok(()),
            Some(there) => {
                let why = format!("it is {} after its deletion", there.state);
                Err(Error::NotAsMeant { what: format!("the record of volume {volume}"), why })
            }
        }
    }
}

fn same_size(volume: &VolumeId, there: &Volume, seen: &Seen) -> Result<(), Error> {
    if there.size == seen.size {
        return Ok(());
    }
    let why = format!("CloudStack has it with {} bytes, and LINSTOR with {}", there.size, seen.size);
    Err(Error::NotAsMeant { what: format!("volume {volume}"), why })
}
