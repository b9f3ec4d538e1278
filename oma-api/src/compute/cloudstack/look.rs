//! What LINSTOR has under a volume's name: the resource that was handed over, whole, and nothing beside it.

use super::super::Error;
use super::CloudStackCompute;
use super::place::Place;
use crate::linstor::{Fault, Name, Sight};
use crate::storage::VolumeId;

/// The plug-in sets it on what it made itself.
const SPAWNED: &str = "Aux/cs-name";

/// And this one on what it took, with the group behind it.
pub(super) const TAKEN: &str = "Aux/_cs-template-for-";

/// A resource as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Of its definition: another one of that name is another disk.
    pub(super) uuid: String,
    /// Bytes.
    pub(super) size: u64,
}

impl CloudStackCompute {
    /// The volume's resource, if it is what was made here, whole, in the pool's own group, and not opened by anybody on
    /// this host.
    pub(super) async fn look(&self, volume: &VolumeId, place: &Place) -> Result<Seen, Error> {
        let name = Name::parse(volume.as_str()).map_err(|error| Error::Unfit { what: error.to_string() })?;
        let not = |why: String| Error::NotAsMeant { what: format!("volume {volume}"), why };
        // Whole, with a device: the definition alone proves nothing.
        let Sight { definition, resources, beside, .. } = self.cluster.survey(&name).await?;
        if definition.props.contains_key(SPAWNED) {
            return Err(not("CloudStack made it itself: it is empty".to_owned()));
        }
        if place.pool.group().is_none_or(|group| !group.eq_ignore_ascii_case(&definition.resource_group_name))
        {
            let (group, pool) = (&definition.resource_group_name, &place.pool.name);
            return Err(not(format!("it is in resource group {group}, which is not that of pool {pool}")));
        }
        // The plug-in matches by how a name begins.
        if let Some(stray) = beside.first() {
            return Err(not(format!("there is {stray} beside it, which CloudStack might take for it")));
        }
        self.storage.closed_as_seen(volume, resources).await?;
        let size = definition.size().ok_or_else(|| not("it has no size".to_owned()))?;
        Ok(Seen { uuid: definition.uuid, size })
    }

    /// Whether a host has it open, as DRBD says.
    pub(super) async fn is_open_anywhere(&self, volume: &VolumeId) -> Result<bool, Error> {
        let name = Name::parse(volume.as_str()).map_err(|error| Error::Unfit { what: error.to_string() })?;
        let resources = self.cluster.client().resources(&name).await.map_err(Fault::from)?;
        Ok(resources.iter().any(|resource| resource.state.in_use == Some(true)))
    }
}
