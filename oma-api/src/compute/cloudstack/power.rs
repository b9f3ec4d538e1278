//! On and off, read back.

use super::super::{Error, MachineName, State, Stop};
use super::machine::{GUEST, state};
use super::model::Vm;
use super::{CloudStackCompute, os};
use crate::cloudstack::Params;
use std::time::Duration;
use tokio::time::Instant;

/// How long the hosts may take to close a stopped machine's volumes.
const CLOSING: Duration = Duration::from_secs(60);

/// A machine whose start failed and left it so.
const BROKEN: &str = "Error";

impl CloudStackCompute {
    /// After what is on its way has arrived, if that is in time.
    async fn settled(&self, name: &MachineName) -> Result<Option<Vm>, Error> {
        let deadline = Instant::now() + self.settings.job_deadline.0;
        loop {
            let vm = self.vm(name).await?;
            let is_going = |vm: &Vm| matches!(vm.state.as_str(), "Starting" | "Stopping" | "Migrating");
            if !vm.as_ref().is_some_and(is_going) || Instant::now() >= deadline {
                return Ok(vm);
            }
            tokio::time::sleep(self.settings.poll.0.max(Duration::from_millis(100))).await;
        }
    }

    pub(super) async fn power_on(&self, name: &MachineName) -> Result<(), Error> {
        let vm = self.settled(name).await?.ok_or_else(|| Error::NoMachine { name: name.clone() })?;
        match state(&vm.state) {
            State::Running => return Ok(()),
            State::Stopped => {}
            State::Unknown => return Err(Error::Stuck { name: name.clone(), status: vm.state }),
        }
        let place = self.place().await?;
        let volumes = self.api.volumes_of(&vm.id).await?;
        if volumes.is_empty() {
            let why = "it has no disks".to_owned();
            return Err(Error::Start { name: name.clone(), why });
        }
        for (position, volume) in volumes.iter().enumerate() {
            let id = self.id_of(volume);
            self.is_as_meant(&id, volume, &vm, position, &place)?;
            self.look(&id, &place).await?;
        }
        self.tell_os(&vm).await?;
        self.api.job("startVirtualMachine", Params::new().with("id", &vm.id)).await?;
        match self.settled(name).await? {
            Some(vm) if state(&vm.state) == State::Running => Ok(()),
            Some(vm) => {
                let why = format!("CloudStack says that it is {}", vm.state);
                Err(Error::Start { name: name.clone(), why })
            }
            None => Err(Error::NoMachine { name: name.clone() }),
        }
    }

    /// CloudStack tunes a machine to what it takes its guest for; a guest that it does not know stays what its template is.
    async fn tell_os(&self, vm: &Vm) -> Result<(), Error> {
        let Some(guest) = vm.details.get(GUEST) else { return Ok(()) };
        let Some(os) = os::of(guest, &self.api.os_types().await?) else { return Ok(()) };
        if vm.ostypeid.as_ref() != Some(&os) {
            self.api
                .call("updateVirtualMachine", Params::new().with("id", &vm.id).with("ostypeid", os))
                .await?;
        }
        Ok(())
    }

    pub(super) async fn power_off(&self, name: &MachineName, how: Stop) -> Result<(), Error> {
        let Some(vm) = self.settled(name).await? else { return Ok(()) };
        if vm.state == BROKEN {
            // Neither stopped nor started: what it has is taken from it only when it is destroyed, which keeps all of its disks.
            self.api.job("destroyVirtualMachine", Params::new().with("id", &vm.id)).await?;
        } else if state(&vm.state) != State::Stopped {
            let stop = Params::new().with("id", &vm.id);
            let graceful = match how {
                Stop::Now => None,
                Stop::Graceful { patience } => {
                    let asked = self.api.client().begin("stopVirtualMachine", stop.clone()).await?;
                    Some(self.api.client().finish(&asked, patience).await)
                }
            };
            // A guest that does not hear, or a host that does not say.
            let is_off = graceful.is_some()
                && self.vm(name).await?.is_none_or(|vm| state(&vm.state) == State::Stopped);
            if !is_off {
                self.api.job("stopVirtualMachine", stop.with("forced", "true")).await?;
            }
        }
        match self.settled(name).await? {
            Some(vm) if state(&vm.state) != State::Stopped => {
                return Err(Error::Stuck { name: name.clone(), status: vm.state });
            }
            Some(_) | None => {}
        }
        self.closed(name, &vm).await
    }

    /// Until no host has a volume of it open.
    async fn closed(&self, name: &MachineName, vm: &Vm) -> Result<(), Error> {
        let deadline = Instant::now() + CLOSING;
        for volume in self.api.volumes_of(&vm.id).await? {
            let id = self.id_of(&volume);
            // Of the template's, which no storage has, nothing is open.
            while volume.is_placed() && self.is_open_anywhere(&id).await? {
                if Instant::now() >= deadline {
                    return Err(Error::VolumeInUse { name: name.clone(), volume: id });
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Ok(())
    }
}
