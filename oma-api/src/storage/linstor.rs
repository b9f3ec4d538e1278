//! Volumes as LINSTOR's resources, one volume each, in one resource group: that of the pool which CloudStack uses.
//!
//! A volume's id is its resource's name: `mk-…` of replicas, `cs-…` of clones. A restore point is one snapshot of that name of
//! each of its resources, taken at one moment. What keeps data is [`crate::linstor::Cluster`]'s part.
//!
//! Nothing may have a volume open when it is deleted or reset: without DRBD LINSTOR does not look, and the open one becomes a deleted
//! file. So who opens and who takes away take turns, and before anything is taken away it is looked who has it open.
//!
//! A change goes on when whoever asked for it is gone: LINSTOR does, and the locks have to last as long.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use migratekit::replica::ReadsZero;
use migratekit::target::Target;
use tokio::sync::OwnedMutexGuard;
use tracing::{Instrument as _, warn};

use super::{
    Error, Label, Listed, Opener, PointCost, Snapshot, SnapshotName, Space, Storage, VolumeId, VolumeInfo,
    openers,
};
use crate::linstor::{Age, Cluster, Device, Fault, Locks, Made, Name, Pool, Resource};
use crate::outbound::Standing;
use device::Claims;

mod device;
mod settings;
mod survey;
#[cfg(test)]
mod tests;

pub use settings::Settings;

/// CloudStack counts in whole GiB.
const GIB: u64 = 1 << 30;

/// Key of the property that says whose a volume is; the resource's own name follows, as clones inherit properties.
const LABEL: &str = "Aux/mk-label/";

type Turn = Vec<OwnedMutexGuard<()>>;

/// Resources of one group.
pub struct LinstorStorage {
    cluster: Cluster,
    group: Name,
    /// Who opens a volume, and who takes it away.
    turns: Arc<Locks>,
    claims: Arc<Claims>,
}

impl LinstorStorage {
    pub fn new(cluster: Cluster, group: Name) -> Self {
        Self { cluster, group, turns: Arc::default(), claims: Arc::default() }
    }

    /// As configured. Nobody is asked yet: it may be away when this program starts.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub fn open(settings: &Settings) -> Result<Self, crate::outbound::Error> {
        Ok(Self::new(settings.cluster()?, settings.resource_group.clone()))
    }

    /// For whoever hands its volumes over, under the same locks.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// In which its volumes are.
    pub fn group(&self) -> &Name {
        &self.group
    }

    async fn device(&self, volume: &VolumeId) -> Result<Device, Error> {
        self.cluster.device(&name(volume)?).await.map_err(|fault| of(fault, volume))
    }

    /// Its turn, with nobody who has it open.
    async fn alone(&self, volume: &VolumeId) -> Result<(Name, Turn), Error> {
        let name = name(volume)?;
        let turn = self.turns.hold([&name]).await;
        self.closed(volume).await?;
        Ok((name, turn))
    }

    /// As [`Storage::closed`], of what was just seen of it on all nodes.
    ///
    /// # Errors
    /// [`Error::InUse`].
    pub async fn closed_as_seen(&self, volume: &VolumeId, resources: Vec<Resource>) -> Result<(), Error> {
        match self.holder_of(resources).await? {
            None => Ok(()),
            Some(_) => self.closed(volume).await,
        }
    }

    async fn holder_of(&self, resources: Vec<Resource>) -> Result<Option<String>, Error> {
        let is_elsewhere = |r: &&Resource| r.node_name != self.cluster.node() && r.state.in_use == Some(true);
        if let Some(there) = resources.iter().find(is_elsewhere) {
            return Ok(Some(format!("something on node {}", there.node_name)));
        }
        let here = resources.into_iter().filter(|r| r.node_name == self.cluster.node());
        let paths: Vec<_> = here
            .flat_map(|r| r.volumes)
            .filter_map(|v| v.device_path)
            .filter(|p| !p.as_os_str().is_empty())
            .collect();
        blocking(move || {
            for path in paths {
                if let Some(holder) = device::holder(&path)? {
                    return Ok(Some(holder));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Those that the group places volumes in, on all their nodes.
    async fn pools(&self) -> Result<Vec<Pool>, Error> {
        let group = self.cluster.client().group(&self.group).await.map_err(Fault::from)?;
        let group = group.ok_or_else(|| Fault::NoGroup { group: self.group.clone() })?;
        let wanted = group.select_filter.storage_pool_list;
        let pools = self.cluster.client().pools().await.map_err(Fault::from)?.into_iter();
        let is_one = |pool: &Pool| match wanted.is_empty() {
            true => pool.provider_kind != "DISKLESS",
            false => wanted.contains(&pool.storage_pool_name),
        };
        Ok(pools.filter(is_one).collect())
    }
}

#[async_trait]
impl Storage for LinstorStorage {
    fn rounded(&self, size: u64) -> u64 {
        size.div_ceil(GIB).max(1).saturating_mul(GIB)
    }

    async fn create(&self, volume: &VolumeId, size: u64) -> Result<VolumeInfo, Error> {
        let made = self.cluster.create(&name(volume)?, &self.group, self.rounded(size) / 1024).await;
        let (device, age) = made.map_err(|fault| of(fault, volume))?;
        let reads_zero = match age {
            Age::New => zeros_of(&device.provider),
            Age::Found => ReadsZero::Unknown,
        };
        Ok(VolumeInfo { size: device.size, reads_zero })
    }

    async fn resize(&self, volume: &VolumeId, size: u64) -> Result<(), Error> {
        let grown = self.cluster.grow(&name(volume)?, self.rounded(size) / 1024).await;
        grown.map(|_| ()).map_err(|fault| of(fault, volume))
    }

    async fn volume(&self, volume: &VolumeId) -> Result<Option<VolumeInfo>, Error> {
        let found = self.cluster.find(&name(volume)?).await.map_err(|fault| of(fault, volume))?;
        let size = found.and_then(|definition| definition.size());
        Ok(size.map(|size| VolumeInfo { size, reads_zero: ReadsZero::Unknown }))
    }

    async fn label(&self, volume: &VolumeId, label: &Label) -> Result<(), Error> {
        let name = name(volume)?;
        let text = serde_json::to_string(label).expect("plain texts and numbers");
        let props = BTreeMap::from([(format!("{LABEL}{name}"), text)]);
        self.cluster.set(&name, &props).await.map_err(|fault| of(fault, volume))
    }

    async fn volumes(&self) -> Result<Vec<Listed>, Error> {
        let listed = |(name, definition): (Name, crate::linstor::Definition)| {
            let label = definition.props.get(&format!("{LABEL}{name}"));
            Some(Listed {
                volume: VolumeId::parse(name.as_str()).ok()?,
                size: definition.size()?,
                label: label.and_then(|label| serde_json::from_str(label).ok()),
            })
        };
        let mut all: Vec<_> = self.cluster.all().await?.into_iter().filter_map(listed).collect();
        all.sort_by(|a, b| a.volume.cmp(&b.volume));
        Ok(all)
    }

    async fn open(&self, volume: &VolumeId) -> Result<Arc<dyn Target>, Error> {
        let turn = self.turns.hold([&name(volume)?]).await;
        let device = self.device(volume).await?;
        let (claims, volume) = (Arc::clone(&self.claims), volume.clone());
        blocking(move || {
            let _turn = turn;
            claims.open(&volume, &device.path, device.size)
        })
        .await
    }

    async fn path(&self, volume: &VolumeId) -> Result<PathBuf, Error> {
        Ok(self.device(volume).await?.path)
    }

    async fn opener(&self, volume: &VolumeId) -> Result<Option<Opener>, Error> {
        let path = match self.device(volume).await {
            Err(Error::NoVolume { .. }) => return Ok(None),
            device => device?.path,
        };
        let place = path.display().to_string();
        let look = move || {
            openers::first(&path).map_err(|source| Error::Io { what: "look for users of", place, source })
        };
        blocking(look).await
    }

    /// Another node's use is known with DRBD.
    async fn in_use(&self, volume: &VolumeId) -> Result<bool, Error> {
        let resources = self.cluster.client().resources(&name(volume)?).await.map_err(Fault::from)?;
        let elsewhere = resources.iter().any(|resource| resource.state.in_use == Some(true));
        Ok(elsewhere || self.opener(volume).await?.is_some())
    }

    /// Of whatever has its name: what is half-made may be open, too. Another node's use is known with DRBD.
    async fn holder(&self, volume: &VolumeId) -> Result<Option<String>, Error> {
        self.holder_of(self.cluster.client().resources(&name(volume)?).await.map_err(Fault::from)?).await
    }

    async fn delete(&self, volume: &VolumeId) -> Result<(), Error> {
        let ((name, turn), cluster) = (self.alone(volume).await?, self.cluster.clone());
        let deleted = to_its_end(async move {
            let _turn = turn;
            cluster.delete(&name).await
        });
        deleted.await?.map_err(|fault| of(fault, volume))
    }

    async fn snapshot(&self, volumes: &[VolumeId], snapshot: &SnapshotName) -> Result<(), Error> {
        let names = volumes.iter().map(name).collect::<Result<Vec<_>, _>>()?;
        let (cluster, snapshot) = (self.cluster.clone(), named(snapshot)?);
        Ok(to_its_end(async move { cluster.snapshot(&names, &snapshot).await }).await??)
    }

    async fn snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        let ours: Vec<_> = self.cluster.all().await?.into_iter().map(|(name, _)| name).collect();
        let all = self.cluster.client().all_snapshots().await.map_err(Fault::from)?;
        let mut sets = BTreeMap::<SnapshotName, Vec<VolumeId>>::new();
        for of in all.into_iter().filter(|snapshot| snapshot.made() == Made::Whole) {
            let is_ours = ours.iter().any(|name| name.as_str() == of.resource_name);
            if let (true, Ok(name), Ok(volume)) =
                (is_ours, SnapshotName::parse(of.name), VolumeId::parse(of.resource_name))
            {
                sets.entry(name).or_default().push(volume);
            }
        }
        let sorted = |(name, mut volumes): (_, Vec<_>)| {
            volumes.sort();
            Snapshot { name, volumes }
        };
        Ok(sets.into_iter().map(sorted).collect())
    }

    async fn snapshot_size(&self, snapshot: &SnapshotName, volume: &VolumeId) -> Result<u64, Error> {
        let all = self.cluster.client().snapshots(&name(volume)?).await.map_err(Fault::from)?;
        let is_it = |s: &&crate::linstor::Snapshot| s.name == snapshot.as_str() && s.made() == Made::Whole;
        let size = all.iter().find(is_it).and_then(crate::linstor::Snapshot::size);
        size.ok_or_else(|| Error::NoSnapshot { snapshot: snapshot.clone(), volume: volume.clone() })
    }

    /// Of a volume whose reset is not done it stays: that may be being made of it. It goes with the volume.
    async fn delete_snapshot(&self, snapshot: &SnapshotName) -> Result<(), Error> {
        let (cluster, snapshot) = (self.cluster.clone(), named(snapshot)?);
        let deleted = to_its_end(async move {
            for name in cluster.with_snapshot(&snapshot).await? {
                match cluster.delete_snapshot(&name, &snapshot).await {
                    Err(Fault::BeingReset { .. }) => {
                        warn!(resource = %name, %snapshot, "a snapshot stays: its resource is not reset")
                    }
                    deleted => deleted?,
                }
            }
            Ok::<_, Fault>(())
        });
        Ok(deleted.await??)
    }

    async fn clone_snapshot(
        &self,
        snapshot: &SnapshotName,
        volume: &VolumeId,
        new: &VolumeId,
    ) -> Result<VolumeInfo, Error> {
        // What is half-made is thrown away for it.
        let ((to, turn), from) = (self.alone(new).await?, name(volume)?);
        let (cluster, point, group) = (self.cluster.clone(), named(snapshot)?, self.group.clone());
        let restored = to_its_end(async move {
            let _turn = turn;
            cluster.restore(&from, &point, &to, &group).await
        });
        let device = restored.await?.map_err(|fault| match fault {
            Fault::Exists { .. } => Error::VolumeExists { volume: new.clone() },
            Fault::NoSnapshot { .. } => {
                Error::NoSnapshot { snapshot: snapshot.clone(), volume: volume.clone() }
            }
            fault => fault.into(),
        })?;
        Ok(VolumeInfo { size: device.size, reads_zero: ReadsZero::Unknown })
    }

    async fn reset(&self, volume: &VolumeId, to: &SnapshotName) -> Result<(), Error> {
        let ((name, turn), point, cluster) = (self.alone(volume).await?, named(to)?, self.cluster.clone());
        let reset = to_its_end(async move {
            let _turn = turn;
            cluster.reset(&name, &point).await
        });
        reset.await?.map(|_| ()).map_err(|fault| match fault {
            Fault::NoSnapshot { .. } => Error::NoSnapshot { snapshot: to.clone(), volume: volume.clone() },
            fault => of(fault, volume),
        })
    }

    /// Of the node with the least: every copy of a volume needs it.
    async fn space(&self) -> Result<Space, Error> {
        let pools = self.pools().await?;
        let known = pools.iter().filter_map(|pool| Some((pool.free_capacity?, pool.total_capacity?)));
        let least = known.min_by_key(|(free, _)| *free).map(|(free, total)| Space {
            free: free.saturating_mul(1024),
            total: total.saturating_mul(1024),
        });
        least.ok_or_else(|| Fault::NoCapacity { group: self.group.clone() }.into())
    }

    fn standing(&self) -> Option<Standing> {
        Some(self.cluster.client().circuit().standing())
    }

    async fn point_cost(&self) -> Result<PointCost, Error> {
        let thin = |pool: &Pool| {
            matches!(pool.provider_kind.as_str(), "LVM_THIN" | "ZFS" | "ZFS_THIN" | "FILE_THIN")
        };
        Ok(match self.pools().await?.iter().all(thin) {
            true => PointCost::Shared,
            false => PointCost::Whole,
        })
    }
}

/// What a new volume reads. LVM's thin pools may be set not to zero what they hand out (`thin_pool_zero`), which LINSTOR does not say;
/// thick ones hold what was there. What this version does not know is written.
fn zeros_of(provider: &str) -> ReadsZero {
    match provider {
        "ZFS" | "ZFS_THIN" | "FILE" | "FILE_THIN" => ReadsZero::Yes,
        _ => ReadsZero::Unknown,
    }
}

fn name(volume: &VolumeId) -> Result<Name, Error> {
    Ok(Name::parse(volume.as_str())?)
}

fn named(snapshot: &SnapshotName) -> Result<Name, Error> {
    Ok(Name::parse(snapshot.as_str())?)
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Linstor(Box::new(fault))
    }
}

fn of(fault: Fault, volume: &VolumeId) -> Error {
    let volume = volume.clone();
    match fault {
        Fault::NoResource { .. } => Error::NoVolume { volume },
        Fault::OtherSize { have, need, .. } => Error::OtherSize { volume, have, need },
        fault => fault.into(),
    }
}

/// Ends what it begins, whoever waits for it or no longer does.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
    tokio::spawn(work.in_current_span()).await.map_err(|_| Error::Died)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Died)?
}
