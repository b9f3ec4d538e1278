//! The static source: disks behind plain NBD servers, or in files that the agent serves by its own nbdkit.
//!
//! There is no point in time here and no change tracking. A "snapshot" is only a record that a cycle began, with the
//! sizes it began with: it is right for a VM that is switched off, and for one that runs the replica is a mixture of
//! moments. Increments are by hash-diff. What a server exports is never written to.

mod config;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use migratekit::nbd::{ConnectOptions, Handle, NbdUri};
use shared::cycle::{Vm, VmDisk};
use shared::ids::{DiskKey, VmUuid};
use shared::vm;
use tokio::sync::Mutex;

use super::record::{Folder, Record, RecordDisk, Stage, failed};
use super::{ChangeId, ChangedPage, Error, OpenDisk, PowerState, Snapshot, SnapshotName, Source, blocking};
use crate::child::{Child, Spec};

pub use config::{Config, DiskConfig, Origin};

/// How long a server of ours may take to answer for the first time, or after it aborted.
const PATIENCE: Duration = Duration::from_secs(15);

/// A VM whose disks stand still.
#[derive(Debug)]
pub struct PlainSource {
    uuid: VmUuid,
    name: String,
    config: Config,
    declared: vm::Configuration,
    folder: Folder,
    sockets: PathBuf,
    /// Servers of files, started when first needed and kept.
    servers: Mutex<HashMap<DiskKey, Arc<Child>>>,
}

impl PlainSource {
    /// `state` is a folder of the agent that outlives it; `sockets` one with a short path, for Unix sockets. Both are
    /// made where missing.
    pub fn new(uuid: VmUuid, name: impl Into<String>, config: Config, state: &Path, sockets: &Path) -> Self {
        let folder = Folder::new(state, &uuid);
        let sockets = sockets.join(uuid.as_str());
        let declared = vm::Configuration::default();
        Self { uuid, name: name.into(), config, declared, folder, sockets, servers: Mutex::default() }
    }

    /// What the operator says of the VM's hardware.
    pub fn with_declared(mut self, declared: vm::Configuration) -> Self {
        self.declared = declared;
        self
    }

    async fn serve(&self, disk: &DiskConfig) -> Result<OpenDisk, Error> {
        let file = match &disk.origin {
            Origin::Uri(uri) => return Ok(OpenDisk { uri: uri.clone(), server: None }),
            Origin::File(file) => file,
        };
        let mut servers = self.servers.lock().await;
        let position = self.config.disks.iter().position(|other| other.key == disk.key).unwrap_or_default();
        // Each time: a server that is there already would only say that it has no such export.
        std::fs::metadata(file).map_err(failed("read", file))?;
        let server = match servers.get(&disk.key) {
            Some(server) => Arc::clone(server),
            None => {
                private(&self.sockets)?;
                let socket = self.sockets.join(position.to_string());
                let child = Child::start(nbdkit(file, socket));
                let child =
                    Arc::new(child.map_err(|source| Error::Child { disk: disk.key.clone(), source })?);
                servers.insert(disk.key.clone(), Arc::clone(&child));
                child
            }
        };
        drop(servers);
        server.ready(PATIENCE).await.map_err(|source| Error::Child { disk: disk.key.clone(), source })?;
        Ok(OpenDisk { uri: NbdUri::unix(server.socket())?, server: Some(server) })
    }

    async fn sizes(&self) -> Result<Vec<VmDisk>, Error> {
        let asked = self
            .config
            .disks
            .iter()
            .map(async |disk| Ok(VmDisk { key: disk.key.clone(), size: self.size(disk).await? }));
        try_join_all(asked).await
    }

    /// A connection of its own: servers tell the size once. It is not cheap everywhere (nbdkit looks for holes in all of
    /// a file on tmpfs, VDDK logs in), so it is asked for only where an answer may differ.
    async fn size(&self, disk: &DiskConfig) -> Result<u64, Error> {
        let uri = self.serve(disk).await?.uri;
        blocking(move || {
            let options = ConnectOptions { contexts: vec![], ..ConnectOptions::default() };
            let handle = Handle::<()>::connect(&uri, &options)?;
            let size = handle.export().size;
            handle.disconnect(Duration::from_secs(1));
            Ok(size)
        })
        .await
    }

    fn config_of(&self, disk: &DiskKey) -> Result<&DiskConfig, Error> {
        let found = self.config.disks.iter().find(|other| other.key == *disk);
        found.ok_or_else(|| Error::DiskUnknown { disk: disk.clone() })
    }
}

/// `nbdkit` on one file, read-only.
fn nbdkit(file: &Path, socket: PathBuf) -> Spec {
    let mut arguments = ["--foreground", "--readonly", "--unix"].map(Into::into).to_vec();
    arguments.push(socket.clone().into());
    arguments.push("file".into());
    let mut name = std::ffi::OsString::from("file=");
    name.push(file);
    arguments.push(name);
    Spec::new("nbdkit", arguments, socket)
}

/// Makes the folder, for this user only: whoever reaches a socket in it can read the disk.
fn private(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let made = made.and_then(|()| std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700)));
    made.map_err(failed("make the folder", folder))
}

fn powerless() -> Error {
    Error::PowerUnsupported { why: "an NBD server or a file has the disks and not the machine".to_owned() }
}

#[async_trait]
impl Source for PlainSource {
    async fn describe(&self) -> Result<Vm, Error> {
        let disks = self.sizes().await?;
        let mut configuration = self.declared.clone();
        configuration.change_tracking = Some(false);
        Ok(Vm { uuid: self.uuid.clone(), name: self.name.clone(), disks, configuration: Some(configuration) })
    }

    async fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, Error> {
        if let Some(snapshot) = self.find(name).await? {
            return Ok(snapshot);
        }
        if let Some(existing) = self.snapshots().await?.into_iter().find(|other| other != name) {
            return Err(Error::SnapshotExists { wanted: name.clone(), existing });
        }
        let taken_at = jiff::Timestamp::now();
        let disk =
            |disk: VmDisk| RecordDisk { key: disk.key.into(), size: disk.size, change_id: None, means: () };
        let disks = self.sizes().await?.into_iter().map(disk).collect();
        let record = Record { stage: Stage::Whole, taken_at, disks };
        let snapshot = record.snapshot(name)?;
        let (folder, name) = (self.folder.clone(), name.clone());
        blocking(move || folder.save(&name, &record)).await?;
        Ok(snapshot)
    }

    async fn find(&self, name: &SnapshotName) -> Result<Option<Snapshot>, Error> {
        // Whoever reads sees the size of now, and `confirm` looks once more.
        let (folder, name) = (self.folder.clone(), name.clone());
        blocking(move || match folder.load::<()>(&name) {
            Ok(None) | Err(Error::BadRecord { .. }) => Ok(None),
            Ok(Some(record)) => record.snapshot(&name).map(Some),
            Err(error) => Err(error),
        })
        .await
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotName>, Error> {
        let folder = self.folder.clone();
        blocking(move || folder.names()).await
    }

    async fn changed(
        &self,
        snapshot: &Snapshot,
        disk: &DiskKey,
        _since: &ChangeId,
        _offset: u64,
    ) -> Result<ChangedPage, Error> {
        snapshot.disk(disk)?;
        Err(Error::NoChangeTracking { disk: disk.clone() })
    }

    async fn open(&self, snapshot: &Snapshot, disk: &DiskKey) -> Result<OpenDisk, Error> {
        snapshot.disk(disk)?;
        self.serve(self.config_of(disk)?).await
    }

    async fn confirm(&self, snapshot: &Snapshot, disk: &DiskKey) -> Result<(), Error> {
        if self.find(&snapshot.name).await?.as_ref() != Some(snapshot) {
            let why = "its record is gone, or another one".to_owned();
            return Err(Error::SnapshotLost { name: snapshot.name.clone(), why });
        }
        snapshot.still_has(disk, self.size(self.config_of(disk)?).await?)
    }

    async fn delete(&self, name: &SnapshotName) -> Result<(), Error> {
        let (folder, name) = (self.folder.clone(), name.clone());
        blocking(move || folder.remove(&name)).await
    }

    async fn forget_change_ids(&self, _keep: &[(DiskKey, ChangeId)]) -> Result<(), Error> {
        Ok(())
    }

    async fn power(&self) -> Result<PowerState, Error> {
        Ok(PowerState::Unknown)
    }

    async fn shut_down(&self) -> Result<(), Error> {
        Err(powerless())
    }

    async fn power_off(&self) -> Result<(), Error> {
        Err(powerless())
    }

    async fn power_on(&self) -> Result<(), Error> {
        Err(powerless())
    }
}
