//! Volumes on storage: which pool, and what is made there.

use super::Sim;
use super::fault::What;
use super::linstor::Linstor;
use super::linstor_rest::Rest;
use super::plugin;
use super::refusal::Refusal;
use super::state::Volume;
use super::world::LinstorPool;
use serde_json::Value;
use std::sync::Arc;

impl Sim {
    /// The controller of a pool, where it is a LINSTOR pool.
    pub(super) fn linstor_of(&self, pool: &str) -> Option<(Arc<dyn Linstor>, LinstorPool)> {
        let known = self.world.linstor(pool)?;
        let controller: Arc<dyn Linstor> = match &self.linstor {
            Some(instead) => Arc::clone(instead),
            None => Arc::new(Rest::new(&known.url)),
        };
        Some((controller, known))
    }

    /// The controller and the path of a volume that lies on LINSTOR.
    pub(super) fn linstor_volume(&self, volume: &Volume) -> Option<(Arc<dyn Linstor>, String)> {
        let (controller, _) = self.linstor_of(volume.pool.as_deref()?)?;
        Some((controller, volume.path.clone()?))
    }

    /// Pools that the volume may lie on, the best first; only those of a cluster or of the whole zone.
    pub(super) fn pools_of(&self, volume: &Volume, cluster: Option<&str>) -> Vec<&Value> {
        let offering = volume.disk_offering.as_deref().and_then(|id| self.world.get("diskoffering", id));
        let tags = offering.and_then(|offering| offering.get("tags").and_then(Value::as_str));
        let mut pools = self.world.pools_for(tags);
        pools.retain(|pool| {
            cluster.is_none() || pool["scope"] == "ZONE" || pool["clusterid"].as_str() == cluster
        });
        pools
    }

    /// The cluster that a volume's pool is bound to.
    pub(super) fn cluster_of(&self, volume: &Volume) -> Option<String> {
        let pool = self.world.get("storagepool", volume.pool.as_deref()?)?;
        pool["clusterid"].as_str().map(str::to_owned)
    }

    /// Makes a volume that is only allocated. Where that fails on storage, the volume is stuck for good.
    pub(super) fn make_on_storage(
        &self,
        id: &str,
        cluster: Option<&str>,
        fault: Option<&What>,
    ) -> Result<(), Refusal> {
        let (volume, is_stuck) =
            self.read(|state| (state.volume(id).cloned(), state.stuck.iter().any(|stuck| stuck == id)));
        let volume = volume.ok_or_else(|| Refusal::runtime("the volume is gone"))?;
        if volume.state != "Allocated" {
            return Ok(());
        }
        let named = format!("[{{\"name\":\"{}\",\"uuid\":\"{id}\"}}]", volume.name);
        let pool =
            self.pools_of(&volume, cluster).first().and_then(|pool| pool["id"].as_str().map(str::to_owned));
        // One that has a pool already, from a first try or by updateVolume, fits none any more.
        let Some(pool) = pool.filter(|_| !is_stuck && volume.pool.is_none()) else {
            let text = format!("Unable to find suitable primary storage when creating volume {named}.");
            return Err(Refusal::runtime(text));
        };
        let made = match self.linstor_of(&pool) {
            _ if fault == Some(&What::Stuck) => {
                Err("the switchboard says that storage has failed".to_owned())
            }
            Some((linstor, known)) => plugin::create(&*linstor, &known.group, id, &volume.name, volume.size),
            None => Ok(()),
        };
        if let Err(text) = made {
            self.change(|state| {
                state.stuck.push(id.to_owned());
                state.volume_mut(id).into_iter().for_each(|volume| volume.pool = Some(pool.clone()));
            });
            return Err(Refusal::runtime(format!("Failed to create volume {named} due to [{text}].")));
        }
        self.change(|state| {
            if let Some(volume) = state.volume_mut(id) {
                volume.state = "Ready".to_owned();
                volume.path = Some(id.to_owned());
                volume.pool = Some(pool);
                volume.format = Some("QCOW2".to_owned());
            }
        });
        Ok(())
    }

    /// Where a host finds the volume. On LINSTOR the agent makes it available first.
    pub(super) fn connect(&self, volume: &Volume, host: &str) -> Result<String, String> {
        match self.linstor_volume(volume) {
            Some((linstor, path)) => plugin::connect(&*linstor, &path, host),
            None => {
                let pool = volume.pool.as_deref().unwrap_or("none");
                Ok(format!("/mnt/{pool}/{}", volume.path.as_deref().unwrap_or(&volume.id)))
            }
        }
    }

    /// The agent's word after a stop. What fails there, CloudStack does not learn.
    pub(super) fn disconnect(&self, volume: &Volume, host: &str) {
        let Some((linstor, path)) = self.linstor_volume(volume) else { return };
        if let Err(error) = plugin::disconnect(&*linstor, &path, host) {
            tracing::warn!(volume = volume.id, error, "the agent could not let a volume go");
        }
    }

    /// Takes a volume's data off storage.
    pub(super) fn delete_on_storage(&self, volume: &Volume) -> Result<(), String> {
        match self.linstor_volume(volume) {
            Some((linstor, path)) => linstor.delete_definition(&plugin::resource(&path)),
            None => Ok(()),
        }
    }

    /// A host's name, which is LINSTOR's node, too.
    pub(super) fn host_name(&self, id: &str) -> String {
        let host = self.world.get("host", id);
        host.and_then(|host| host["name"].as_str()).unwrap_or(id).to_owned()
    }
}
