//! Machines on CloudStack, with volumes that LINSTOR holds.
//!
//! ```text
//!  define: deploy of a template, not started (its id is ours: made of the name) ──► shed: that root detached, deleted
//!  adopt:  createVolume with the clone's uuid ──► attach: look at cs-<uuid> ─ attachVolume ─ look again, read back
//!  start:  look at every volume ─ startVirtualMachine ─ read back
//!  detach ──► release: path changed away, read back, deleteVolume: the record goes, cs-<uuid> stays
//! ```
//!
//! A machine's id is made of its name ([`MachineName::uuid`]), so that it is found, and known as ours, whatever became of an
//! answer; expunged ids cannot be used again, so that there are a few for each name. Commands on one machine go one at a time.
//!
//! CloudStack's plug-in silently makes an empty disk where a volume's resource is missing, and takes whatever bears its name:
//! each is looked at before it is attached, after it, and before the machine starts (DESIGN §9).
//!
//! Not here: consoles and guest agents, which the API does not show.

mod api;
mod check;
mod fit;
mod look;
mod machine;
mod model;
mod os;
mod place;
mod power;
mod settings;
mod survey;
#[cfg(test)]
mod tests;
mod volumes;

pub use settings::{Settings, Unusable};

use super::turns::Turns;
use super::{Compute, Console, Definition, Error, Guard, HandOver, Machine, MachineName, Method, Sees, Stop};
use crate::linstor::Cluster;
use crate::outbound::Standing;
use crate::storage::{LinstorStorage, VolumeId};
use api::Api;
use async_trait::async_trait;
use place::{Place, Places};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long a guest's port is tried.
const REACH: Duration = Duration::from_secs(2);

/// See the module.
pub struct CloudStackCompute {
    api: Api,
    /// The same, for the calls that are LINSTOR's own.
    cluster: Cluster,
    storage: Arc<LinstorStorage>,
    settings: Settings,
    places: Places,
    turns: Turns,
}

impl CloudStackCompute {
    /// As configured; volumes are that storage's. Asks nobody yet.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn open(settings: &Settings, storage: Arc<LinstorStorage>) -> Result<Self, Unusable> {
        let (client, cluster) = (settings.client()?, storage.cluster().clone());
        let api = Api::new(client, settings.job_deadline.0);
        let (places, turns) = (Places::default(), Turns::default());
        Ok(Self { api, cluster, storage, settings: settings.clone(), places, turns })
    }

    async fn place(&self) -> Result<Place, Error> {
        self.places.get(&self.api, &self.settings).await
    }
}

#[async_trait]
impl Compute for CloudStackCompute {
    async fn prepare(&self) {}

    async fn check(&self, machine: &Definition) -> Result<(), Error> {
        self.fits(machine).await
    }

    async fn define(&self, name: &MachineName, machine: &Definition) -> Result<(), Error> {
        let _turn = self.turns.change(name).await;
        self.deploy(name, machine).await
    }

    async fn attach(&self, name: &MachineName, position: usize, volume: &VolumeId) -> Result<(), Error> {
        let _turn = self.turns.change(name).await;
        self.attach_volume(name, position, volume).await
    }

    async fn start(&self, name: &MachineName) -> Result<(), Error> {
        let _turn = self.turns.change(name).await;
        self.power_on(name).await
    }

    async fn stop(&self, name: &MachineName, how: Stop) -> Result<(), Error> {
        let _turn = self.turns.change(name).await;
        self.power_off(name, how).await
    }

    async fn remove(&self, name: &MachineName) -> Result<(), Error> {
        let _turn = self.turns.change(name).await;
        self.expunge(name).await
    }

    async fn find(&self, name: &MachineName) -> Result<Option<Machine>, Error> {
        self.look_for(name).await
    }

    async fn list(&self) -> Result<Vec<Machine>, Error> {
        self.all().await
    }

    async fn console(&self, _: &MachineName, _: u64, _: usize) -> Result<Console, Error> {
        Err(Error::Unsupported { what: "a machine's serial console" })
    }

    async fn type_text(&self, _: &MachineName, _: &str) -> Result<(), Error> {
        Err(Error::Unsupported { what: "a machine's serial console" })
    }

    async fn screenshot(&self, _: &MachineName) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    async fn reach(&self, name: &MachineName, port: u16) -> Result<Option<SocketAddr>, Error> {
        for address in self.addresses(name).await? {
            let at = SocketAddr::new(address, port);
            if let Ok(Ok(_)) = tokio::time::timeout(REACH, tokio::net::TcpStream::connect(at)).await {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    async fn guest_agent(&self, _: &MachineName) -> Result<bool, Error> {
        Err(Error::Unsupported { what: "the answer of a guest agent" })
    }

    fn sees(&self) -> Sees {
        Sees { console: false, guest_agent: false }
    }

    fn standing(&self) -> Option<Standing> {
        Some(self.api.client().circuit().standing())
    }

    fn hand_over(&self) -> Option<&dyn HandOver> {
        Some(self)
    }
}

#[async_trait]
impl HandOver for CloudStackCompute {
    fn method(&self) -> Method {
        Method::Attach
    }

    async fn surplus(&self, name: &MachineName) -> Result<Vec<String>, Error> {
        self.own_disks(name).await
    }

    async fn shed(&self, name: &MachineName, surplus: &str) -> Result<(), Error> {
        let _turn = self.turns.change(name).await;
        self.shed_disk(name, surplus).await
    }

    async fn adopt(
        &self,
        name: &MachineName,
        position: usize,
        volume: &VolumeId,
        guard: Guard,
    ) -> Result<(), Error> {
        self.record(name, position, volume).await?;
        match guard {
            Guard::Deletable => Ok(()),
            Guard::Protected => self.protect(volume, Guard::Protected).await,
        }
    }

    async fn let_go(&self, volume: &VolumeId) -> Result<(), Error> {
        self.protect(volume, Guard::Deletable).await
    }

    async fn is_adopted(&self, volume: &VolumeId) -> Result<bool, Error> {
        Ok(self.recorded(volume).await?.is_some())
    }

    async fn detach(&self, volume: &VolumeId) -> Result<(), Error> {
        self.detach_volume(volume).await
    }

    async fn release(&self, volume: &VolumeId) -> Result<(), Error> {
        self.forget(volume).await
    }
}

impl CloudStackCompute {
    /// Of its cards, as CloudStack gave them.
    async fn addresses(&self, name: &MachineName) -> Result<Vec<IpAddr>, Error> {
        let vm = self.vm(name).await?;
        let cards = vm.into_iter().flat_map(|vm| vm.nic);
        Ok(cards.filter_map(|card| card.ipaddress?.parse().ok()).collect())
    }
}
