//! The machine's record: deployed under an id of ours, found by it, expunged.

use super::super::{Definition, Error, Fingerprint, Machine, MachineName, State};
use super::model::{Known, Vm, Volume};
use super::{CloudStackCompute, fit, place};
use crate::cloudstack::{Params, Reason};
use crate::storage::VolumeId;
use std::time::Duration;

/// The detail that says what a machine was defined as.
const DEFINED_AS: &str = "mk-machine";

/// And this one what its source calls the guest.
pub(super) const GUEST: &str = "mk-guest";

/// Ids that a name has, as an expunged one cannot be used again.
const ATTEMPTS: u32 = 4;

/// How long an expunged machine may take to leave the list.
const GOING: Duration = Duration::from_secs(60);

/// What a server says of an id that it has expunged, inside of code 530.
const BURNT: &str = "Entity already exists";

impl CloudStackCompute {
    /// The machine of that name; and the ids that it could still have, where there is none.
    async fn seek(&self, name: &MachineName) -> Result<Result<Vm, Vec<String>>, Error> {
        let mut free = Vec::new();
        for attempt in 0..ATTEMPTS {
            let id = name.uuid(attempt).to_string();
            match self.api.vm(&id).await? {
                Known::There(vm) => return Ok(Ok(vm)),
                Known::Removed => {}
                Known::Never => free.push(id),
            }
        }
        Ok(Err(free))
    }

    pub(super) async fn vm(&self, name: &MachineName) -> Result<Option<Vm>, Error> {
        Ok(self.seek(name).await?.ok())
    }

    pub(super) async fn deploy(&self, name: &MachineName, machine: &Definition) -> Result<(), Error> {
        let free = match self.seek(name).await? {
            Ok(vm) if fingerprint(&vm) == machine.fingerprint() => return Ok(()),
            Ok(_) => {
                let what = "it was defined as something else".to_owned();
                return Err(Error::OtherMachine { name: name.clone(), what });
            }
            Err(free) => free,
        };
        let place = self.place().await?;
        let fitted =
            fit::offering(&self.api.offerings().await?, self.settings.service_offering.as_deref(), machine);
        let fitted = fitted.map_err(|what| Error::Unfit { what })?;
        let networks = self.api.networks(&place.zone).await?;
        let networks = place::networks(&networks, &machine.nics, self.settings.isolated_network.as_deref())?;
        let fingerprint = machine.fingerprint();
        // All in one call: what is set later replaces all of them.
        let mut details = vec![
            (DEFINED_AS, fingerprint.as_str()),
            ("rootDiskController", fit::controller(machine.bus)),
            ("nicAdapter", "virtio"),
        ];
        if let Some(guest) = &machine.guest_id {
            details.push((GUEST, guest.as_str()));
        }
        details.extend(fitted.details.iter().map(|(key, value)| (*key, value.as_str())));
        let mut params = Params::new()
            .with("zoneid", &place.zone)
            .with("templateid", &place.template.id)
            .with("serviceofferingid", &fitted.offering)
            .with("name", name.as_str())
            .with("displayname", machine.title.as_str())
            .with("startvm", "false")
            .with_map("details", details);
        for (at, (network, mac)) in networks.iter().enumerate() {
            params = params.with(format!("iptonetworklist[{at}].networkid"), network);
            if let Some(mac) = mac {
                params = params.with(format!("iptonetworklist[{at}].mac"), mac);
            }
        }
        if let Some((boot_type, boot_mode)) = fit::boot(machine.firmware) {
            params = params.with("boottype", boot_type).with("bootmode", boot_mode);
        }
        for id in free {
            let deployed = self.api.job("deployVirtualMachine", params.clone().with("customid", &id)).await;
            match deployed {
                Err(error) if error.refusal().is_some_and(|refusal| refusal.text.contains(BURNT)) => continue,
                deployed => deployed?,
            };
            return match self.api.vm(&id).await? {
                Known::There(vm) if fingerprint_is(&vm, machine) => Ok(()),
                Known::There(_) | Known::Removed | Known::Never => Err(Error::NotAsMeant {
                    what: format!("machine {name}"),
                    why: "it is not there with what it was deployed with".to_owned(),
                }),
            };
        }
        let what =
            format!("all {ATTEMPTS} ids of machine {name} were used and expunged: begin the failover anew");
        Err(Error::Unfit { what })
    }

    pub(super) async fn look_for(&self, name: &MachineName) -> Result<Option<Machine>, Error> {
        match self.vm(name).await? {
            Some(vm) => Ok(Some(self.machine(name.clone(), vm).await?)),
            None => Ok(None),
        }
    }

    async fn machine(&self, name: MachineName, vm: Vm) -> Result<Machine, Error> {
        let volumes = self.api.volumes_of(&vm.id).await?;
        let named = |volume: &Volume| VolumeId::parse(format!("cs-{}", volume.id)).ok();
        Ok(Machine {
            name,
            fingerprint: fingerprint(&vm),
            cards: vm.nic.len(),
            disks: volumes.iter().filter_map(named).collect(),
            state: state(&vm.state),
        })
    }

    /// Of the zone, those whose id is made of their name: nobody else's is.
    pub(super) async fn all(&self) -> Result<Vec<Machine>, Error> {
        let zone = self.place().await?.zone;
        let mut all = Vec::new();
        for vm in self.api.vms(&zone).await? {
            let Ok(name) = MachineName::parse(vm.name.as_str()) else { continue };
            if (0..ATTEMPTS).any(|attempt| name.uuid(attempt).to_string() == vm.id) {
                all.push(self.machine(name, vm).await?);
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Disks that came with it.
    pub(super) async fn own_disks(&self, name: &MachineName) -> Result<Vec<String>, Error> {
        let vm = self.vm(name).await?.ok_or_else(|| Error::NoMachine { name: name.clone() })?;
        let volumes = self.api.volumes_of(&vm.id).await?;
        Ok(volumes.into_iter().filter(is_of_template).map(|volume| volume.id).collect())
    }

    pub(super) async fn shed_disk(&self, name: &MachineName, id: &str) -> Result<(), Error> {
        let Some(volume) = self.api.volume(id).await?.there() else { return Ok(()) };
        // What a guest may have written was placed somewhere; what came with a template is known by it.
        if !is_of_template(&volume) {
            let what = format!("disk {id} of machine {name}");
            let why = "it is none that came with its template and was never written".to_owned();
            return Err(Error::NotAsMeant { what, why });
        }
        if let Some(holder) = &volume.virtualmachineid {
            let vm = self.vm(name).await?.ok_or_else(|| Error::NoMachine { name: name.clone() })?;
            if vm.id != *holder {
                let what = format!("disk {id} of machine {name}");
                return Err(Error::NotAsMeant { what, why: "another machine has it".to_owned() });
            }
            self.api.job("detachVolume", Params::new().with("id", id)).await?;
        }
        self.api.call("deleteVolume", Params::new().with("id", id)).await?;
        match self.api.volume(id).await?.there() {
            None => Ok(()),
            Some(volume) => {
                let why = format!("it is {} after its deletion", volume.state);
                Err(Error::NotAsMeant { what: format!("disk {id} of machine {name}"), why })
            }
        }
    }

    /// Volumes of ours are taken from it first: CloudStack deletes a machine's root with it.
    pub(super) async fn expunge(&self, name: &MachineName) -> Result<(), Error> {
        let Some(vm) = self.vm(name).await? else { return Ok(()) };
        if state(&vm.state) == State::Running {
            return Err(Error::Running { name: name.clone() });
        }
        for volume in self.api.volumes_of(&vm.id).await? {
            if !is_of_template(&volume) {
                self.detach_from(&volume, &vm).await?;
            }
        }
        let left = self.api.volumes_of(&vm.id).await?;
        if let Some(volume) = left.iter().find(|volume| !is_of_template(volume)) {
            let why = format!("machine {name} still has it");
            return Err(Error::VolumeHeld { volume: self.id_of(volume), why });
        }
        let going = Params::new().with("id", &vm.id).with("expunge", "true");
        match self.api.job("destroyVirtualMachine", going).await {
            Err(error) if error.refusal().is_some_and(|r| r.reason() == Reason::Invalid) => {}
            done => {
                done?;
            }
        }
        let deadline = tokio::time::Instant::now() + GOING;
        while let Known::There(vm) = self.api.vm(&vm.id).await? {
            if tokio::time::Instant::now() >= deadline {
                let why = format!("it is {} and not expunged: look at it in CloudStack", vm.state);
                return Err(Error::NotAsMeant { what: format!("machine {name}"), why });
            }
            tokio::time::sleep(self.settings.poll.0).await;
        }
        Ok(())
    }

    /// As the storage calls it.
    pub(super) fn id_of(&self, volume: &Volume) -> VolumeId {
        VolumeId::parse(format!("cs-{}", volume.id)).unwrap_or_else(|_| self.unnamed())
    }

    fn unnamed(&self) -> VolumeId {
        VolumeId::parse("unnamed").expect("a plain word")
    }
}

/// Made of a template and placed nowhere: nobody can have written it.
fn is_of_template(volume: &Volume) -> bool {
    volume.templateid.is_some() && !volume.is_placed()
}

fn fingerprint(vm: &Vm) -> Fingerprint {
    Fingerprint::read(vm.details.get(DEFINED_AS).map(String::as_str).unwrap_or_default())
}

fn fingerprint_is(vm: &Vm, machine: &Definition) -> bool {
    fingerprint(vm) == machine.fingerprint()
}

/// On its way, broken, or of a kind that this version does not know: neither.
pub(super) fn state(text: &str) -> State {
    match text {
        "Running" => State::Running,
        // Expunged by and by; it has nothing open.
        "Stopped" | "Destroyed" | "Expunging" => State::Stopped,
        _ => State::Unknown,
    }
}
