//! What keeps a machine from being made there, found out before anything is: all of it at once. The rules of a place are here and
//! nowhere else; `survey` shows them to an operator.

use super::super::{Definition, Error, Firmware};
use super::model::{DiskOffering, Host, Pool, Template};
use super::place::Place;
use super::{CloudStackCompute, fit, place};
use crate::cloudstack::Capabilities;
use crate::targets::Finding;

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
        let mut found = self.site(&place).await?;
        let offerings = self.api.offerings().await?;
        let offering = fit::offering(&offerings, self.settings.service_offering.as_deref(), machine);
        found.extend(offering.err().map(|why| Finding::missing("service offering", why)));
        let networks = self.api.networks(&place.zone).await?;
        let networks = place::networks(&networks, &machine.nics, self.settings.isolated_network.as_deref());
        found.extend(networks.err().map(|error| Finding::unasked("networks", &error)));
        let hosts = self.api.hosts(&place.zone).await?;
        let hosts_of_zone = of_hosts(&self.settings.zone, &hosts);
        if machine.firmware == Firmware::Efi && !hosts_of_zone.is_missing() && !offers_uefi(&hosts) {
            let why = "the machine boots by UEFI, and no host offers that (host.uefi.enable)";
            found.push(Finding::missing("UEFI", why));
        }
        found.push(hosts_of_zone);
        let wrong: Vec<_> =
            found.into_iter().filter(Finding::is_missing).map(|finding| finding.why).collect();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(Error::Unfit { what: wrong.join("; ") }),
        }
    }

    /// What holds for every machine.
    async fn site(&self, place: &Place) -> Result<Vec<Finding>, Error> {
        let mut found = vec![of_rights(&self.api.client().capabilities().await?)];
        found.extend(of_pool(&place.pool, self.storage.group().as_str()));
        found.extend(of_disk_offering(&place.disk_offering, &place.pool, &place.other_pools));
        found.push(of_template(&place.template));
        Ok(found)
    }
}

pub(super) fn of_rights(capabilities: &Capabilities) -> Finding {
    let missing = capabilities.missing(NEEDED);
    let against = (!missing.is_empty())
        .then(|| format!("the account may not use {}: give it the role of a root admin", missing.join(", ")));
    Finding::of(
        "CloudStack rights",
        "the account may use every command that a hand-over takes, customid and updateVolume.path among them",
        against,
    )
}

/// `group` is that of `[storage]`.
pub(super) fn of_pool(pool: &Pool, group: &str) -> [Finding; 4] {
    let name = &pool.name;
    let not = |is_so: bool, why: String| (!is_so).then_some(why);
    let state = not(pool.state == "Up", format!("primary storage {name} is {}: it has to be Up", pool.state));
    let provider = not(
        pool.provider == "Linstor",
        format!("primary storage {name} is one of {}, not of Linstor: name another one", pool.provider),
    );
    // Else a volume of a machine that has never run is made at its start only, when nobody can look at it first.
    let scope = not(
        pool.scope == "ZONE",
        format!(
            "primary storage {name} is of one {}, not of the whole zone: add one of the whole zone",
            pool.scope
        ),
    );
    let theirs = pool.group().unwrap_or("none");
    let same = not(
        theirs.eq_ignore_ascii_case(group),
        format!(
            "[storage] has resource group {group}, and primary storage {name} has {theirs}: they have to be the same"
        ),
    );
    let of = |what: &str, found: &str, against| {
        Finding::of(format!("CloudStack primary storage, {what}"), format!("{name}: {found}"), against)
    };
    [
        of("state", "Up", state),
        of("provider", "Linstor", provider),
        of("scope", "the whole zone", scope),
        of("resource group", &format!("{theirs}, that of [storage]"), same),
    ]
}

/// `pools` are all of the zone.
pub(super) fn of_disk_offering(offering: &DiskOffering, pool: &Pool, pools: &[Pool]) -> [Finding; 2] {
    let (name, tags) = (&offering.name, offering.tags.as_deref().unwrap_or_default());
    let size = (!offering.iscustomized)
        .then(|| format!("disk offering {name} is of one size: name one of any size"));
    let others: Vec<_> = pools
        .iter()
        .filter(|other| other.id != pool.id && other.has_tags(tags))
        .map(|other| other.name.as_str())
        .collect();
    let elsewhere = match others.as_slice() {
        _ if tags.is_empty() => "it has none".to_owned(),
        [] => format!("{} has not {tags:?}", pool.name),
        others => format!("{} have {tags:?} too", others.join(", ")),
    };
    let tag = (tags.is_empty() || !pool.has_tags(tags) || !others.is_empty()).then(|| {
        format!(
            "disk offering {name} has to have a storage tag that only primary storage {} has ({elsewhere}): CloudStack may put \
             its volumes elsewhere",
            pool.name
        )
    });
    [
        Finding::of("CloudStack disk offering, size", format!("{name}: any"), size),
        Finding::of("CloudStack disk offering, tag", format!("{name}: {tags}, of {} alone", pool.name), tag),
    ]
}

pub(super) fn of_template(template: &Template) -> Finding {
    let name = &template.name;
    let against = (template.hypervisor != "KVM" || !template.isready)
        .then(|| format!("template {name} is none for KVM that is ready: name another one, or wait for it"));
    Finding::of("CloudStack template", format!("{name}: for KVM, and ready"), against)
}

pub(super) fn of_hosts(zone: &str, hosts: &[Host]) -> Finding {
    let up = kvm(hosts).count();
    let against = (up == 0).then(|| format!("zone {zone} has no KVM host that is up: look at its agents"));
    Finding::of("CloudStack hosts", format!("{up} for KVM that are up and enabled"), against)
}

pub(super) fn offers_uefi(hosts: &[Host]) -> bool {
    kvm(hosts).any(|host| host.ueficapability)
}

fn kvm(hosts: &[Host]) -> impl Iterator<Item = &Host> {
    hosts.iter().filter(|host| host.hypervisor == "KVM" && host.is_up())
}
