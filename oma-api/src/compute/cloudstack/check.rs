//! What keeps a machine from being made there, found out before anything is: all of it at once.

use super::super::{Definition, Error, Firmware};
use super::place::Place;
use super::{CloudStackCompute, fit, place};

/// Commands without which there is no hand-over: that the account lacks one is said before, not in the middle of it. `customid`
/// is for root admins.
const NEEDED: [&str; 16] = [
    "attachVolume",
    "createVolume",
    "createVolume.customid",
    "deleteVolume",
    "deployVirtualMachine",
    "deployVirtualMachine.customid",
    "destroyVirtualMachine",
    "detachVolume",
    "listHosts",
    "listStoragePools",
    "listVirtualMachines",
    "listVolumes",
    "queryAsyncJobResult",
    "startVirtualMachine",
    "stopVirtualMachine",
    "updateVolume.path",
];

impl CloudStackCompute {
    pub(super) async fn fits(&self, machine: &Definition) -> Result<(), Error> {
        let place = self.places.anew(&self.api, &self.settings).await?;
        let mut wrong = self.site(&place).await?;
        let offerings = self.api.offerings().await?;
        wrong.extend(fit::offering(&offerings, self.settings.service_offering.as_deref(), machine).err());
        let networks = self.api.networks(&place.zone).await?;
        let networks = place::networks(&networks, &machine.nics, self.settings.isolated_network.as_deref());
        wrong.extend(networks.err().map(|error| error.to_string()));
        let hosts = self.api.hosts(&place.zone).await?;
        let kvm: Vec<_> = hosts.iter().filter(|host| host.hypervisor == "KVM" && host.is_up()).collect();
        if kvm.is_empty() {
            wrong.push(format!("zone {} has no KVM host that is up", self.settings.zone));
        } else if machine.firmware == Firmware::Efi && !kvm.iter().any(|host| host.ueficapability) {
            wrong.push("the machine boots by UEFI, and no host offers that (host.uefi.enable)".to_owned());
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Error::Unfit { what: wrong.join("; ") }),
        }
    }

    /// What holds for every machine.
    pub(super) async fn site(&self, place: &Place) -> Result<Vec<String>, Error> {
        let mut wrong = Vec::new();
        let missing = self.api.client().capabilities().await?.missing(NEEDED);
        if !missing.is_empty() {
            let missing = missing.join(", ");
            wrong.push(format!("the account may not use {missing}: give it the role of a root admin"));
        }
        let pool = &place.pool;
        if pool.state != "Up" {
            wrong.push(format!("primary storage {} is {}", pool.name, pool.state));
        }
        if pool.provider != "Linstor" {
            wrong.push(format!("primary storage {} is one of {}, not of Linstor", pool.name, pool.provider));
        }
        // Else a volume of a machine that has never run is made at its start only, when nobody can look at it first.
        if pool.scope != "ZONE" {
            wrong.push(format!(
                "primary storage {} is of one {}, not of the whole zone",
                pool.name, pool.scope
            ));
        }
        let own = self.storage.group().as_str();
        if !pool.group().is_some_and(|group| group.eq_ignore_ascii_case(own)) {
            let theirs = pool.group().unwrap_or("none");
            wrong.push(format!(
                "[storage] has resource group {own}, and primary storage {} has {theirs}: they have to be the same",
                pool.name
            ));
        }
        let offering = &place.disk_offering;
        let tags = offering.tags.as_deref().unwrap_or_default();
        if !offering.iscustomized {
            wrong.push(format!("disk offering {} is of one size: name one of any size", offering.name));
        }
        let others = place.other_pools.iter().filter(|other| other.has_tags(tags));
        let others: Vec<_> = others.map(|other| other.name.as_str()).collect();
        if tags.is_empty() || !pool.has_tags(tags) || !others.is_empty() {
            wrong.push(format!(
                "disk offering {} has to have a storage tag that only primary storage {} has: CloudStack may put its volumes \
                 elsewhere",
                offering.name, pool.name
            ));
        }
        if place.template.hypervisor != "KVM" || !place.template.isready {
            wrong.push(format!("template {} is none for KVM that is ready", place.template.name));
        }
        Ok(wrong)
    }
}
