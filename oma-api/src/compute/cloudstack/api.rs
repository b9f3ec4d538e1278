//! The commands that a hand-over takes, one function each, over [`crate::cloudstack::Client`].

use super::model::{
    DiskOffering, Host, Known, Limit, Named, Network, Offering, OsType, Pool, Template, Vm, Volume,
};
use crate::cloudstack::{Client, Error, Params, Reason};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// See the module.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
    /// For a job, until it is looked up what became of it.
    job: Duration,
}

impl Api {
    pub(super) fn new(client: Client, job: Duration) -> Self {
        Self { client, job }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Of one thing by its id: the server tells what was removed (an empty list) from what never was (a refusal).
    async fn known<T: DeserializeOwned>(
        &self,
        command: &str,
        kind: &'static str,
        id: &str,
    ) -> Result<Known<T>, Error> {
        let params = Params::new().with("id", id).with("listall", "true");
        match self.client.list::<T>(command, kind, params).await {
            Ok(found) => Ok(found.into_iter().next().map_or(Known::Removed, Known::There)),
            Err(Error::Refused { refusal, .. }) if refusal.reason() == Reason::Parameter => Ok(Known::Never),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn vm(&self, id: &str) -> Result<Known<Vm>, Error> {
        self.known("listVirtualMachines", "virtualmachine", id).await
    }

    pub(super) async fn volume(&self, id: &str) -> Result<Known<Volume>, Error> {
        self.known("listVolumes", "volume", id).await
    }

    /// In the order of their devices.
    pub(super) async fn volumes_of(&self, vm: &str) -> Result<Vec<Volume>, Error> {
        let params = Params::new().with("virtualmachineid", vm).with("listall", "true");
        let mut all: Vec<Volume> = self.client.list("listVolumes", "volume", params).await?;
        all.sort_by_key(|volume| volume.deviceid);
        Ok(all)
    }

    pub(super) async fn vms(&self, zone: &str) -> Result<Vec<Vm>, Error> {
        let params = Params::new().with("zoneid", zone).with("listall", "true");
        self.client.list("listVirtualMachines", "virtualmachine", params).await
    }

    pub(super) async fn zones(&self) -> Result<Vec<Named>, Error> {
        self.client.list("listZones", "zone", Params::new()).await
    }

    pub(super) async fn templates(&self, zone: &str) -> Result<Vec<Template>, Error> {
        let params = Params::new().with("templatefilter", "executable").with("zoneid", zone);
        self.client.list("listTemplates", "template", params.with("listall", "true")).await
    }

    pub(super) async fn networks(&self, zone: &str) -> Result<Vec<Network>, Error> {
        let params = Params::new().with("zoneid", zone).with("listall", "true");
        self.client.list("listNetworks", "network", params).await
    }

    pub(super) async fn offerings(&self) -> Result<Vec<Offering>, Error> {
        let params = Params::new().with("listall", "true");
        self.client.list("listServiceOfferings", "serviceoffering", params).await
    }

    pub(super) async fn disk_offerings(&self) -> Result<Vec<DiskOffering>, Error> {
        let params = Params::new().with("listall", "true");
        self.client.list("listDiskOfferings", "diskoffering", params).await
    }

    pub(super) async fn pools(&self, zone: &str) -> Result<Vec<Pool>, Error> {
        self.client.list("listStoragePools", "storagepool", Params::new().with("zoneid", zone)).await
    }

    pub(super) async fn hosts(&self, zone: &str) -> Result<Vec<Host>, Error> {
        let params = Params::new().with("zoneid", zone).with("type", "Routing");
        self.client.list("listHosts", "host", params).await
    }

    pub(super) async fn os_types(&self) -> Result<Vec<OsType>, Error> {
        self.client.list("listOsTypes", "ostype", Params::new()).await
    }

    /// Of the account itself.
    pub(super) async fn limits(&self) -> Result<Vec<Limit>, Error> {
        self.client.list("listResourceLimits", "resourcelimit", Params::new()).await
    }

    /// A command that begins a job, and the end of that.
    pub(super) async fn job(&self, command: &str, params: Params) -> Result<Value, Error> {
        let job = self.client.begin(command, params).await?;
        self.client.finish(&job, self.job).await
    }

    /// Not with a job.
    pub(super) async fn call(&self, command: &str, params: Params) -> Result<Value, Error> {
        self.client.call(command, params).await
    }
}
