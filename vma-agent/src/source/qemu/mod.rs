//! The live source: a running VM behind QEMU, through a QMP monitor that is the agent's own and a process that is not.
//!
//! - A snapshot is a copy-before-write filter per disk (see [`make`]), all put in at one instant: what the guest wrote
//!   to one disk before it wrote to another is never seen the other way round.
//! - Change tracking is one persistent dirty bitmap per snapshot and disk, added *before* the filter goes in and
//!   recording for as long as it lives: each means "everything changed since", none depends on another, and a write
//!   that falls between the two steps is in the bitmap and in the view, copied twice and never missed.
//! - A query merges the bitmap into a frozen copy that lives with the snapshot, so that all pages, and those asked
//!   for again after an interruption, tell the same. Writes since the snapshot may be in it: more than needed, never
//!   less.
//!
//! Everything of ours is named after the snapshot and the disk, and written down in the agent's folder before it is
//! made (see [`super::record`]). Bitmaps are stored when QEMU ends in order; after a crash they are inconsistent or
//! gone, and that is [`Error::ChangeIdUnknown`].
//!
//! Not here: the VM's own configuration, images without persistent bitmaps (raw).

mod changes;
mod config;
#[cfg(test)]
mod faults;
mod freeze;
mod graph;
mod jobs;
mod make;
mod power;
pub mod qmp;
mod scratch;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde_json::json;
use shared::cycle::{Vm, VmDisk};
use shared::ids::{DiskKey, VmUuid};
use shared::vm;
use tokio::sync::Mutex;

use super::record::{Folder, Record, RecordDisk, Stage};
use super::{ChangeId, ChangedPage, Error, OpenDisk, PowerState, Snapshot, SnapshotName, Source, blocking};

pub use changes::PageLimits;
pub use config::{Config, DiskConfig, NbdServer, Nodes};

use graph::{FrozenNames, Graph};
use make::Part;
use qmp::{Monitor, Session};

/// A VM behind QEMU.
#[derive(Debug)]
pub struct QemuSource {
    uuid: VmUuid,
    name: String,
    config: Config,
    monitor: Monitor,
    folder: Folder,
    declared: vm::Configuration,
    limits: PageLimits,
    /// One operation at a time: the monitor serves one, and half of one must not be seen by another. Holds the change ids
    /// that are needed, as they were last said.
    turn: Mutex<Vec<(DiskKey, ChangeId)>>,
}

impl QemuSource {
    /// `state` is a folder of the agent that outlives it, for records, and for scratch files where the configuration
    /// names no other.
    pub fn new(uuid: VmUuid, name: impl Into<String>, config: Config, state: &Path) -> Self {
        let folder = Folder::new(config.scratch.as_deref().unwrap_or(state), &uuid);
        let monitor = Monitor::new(&config.qmp);
        Self {
            uuid,
            name: name.into(),
            config,
            monitor,
            folder,
            declared: vm::Configuration::default(),
            limits: PageLimits::default(),
            turn: Mutex::default(),
        }
    }

    /// What the operator says of the VM's hardware.
    pub fn with_declared(mut self, declared: vm::Configuration) -> Self {
        self.declared = declared;
        self
    }

    /// How much one page of changed areas tells.
    pub fn with_page_limits(mut self, limits: PageLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Deadlines of the monitor.
    pub fn monitor_mut(&mut self) -> &mut Monitor {
        &mut self.monitor
    }

    fn disk(&self, key: &DiskKey) -> Result<&DiskConfig, Error> {
        self.config
            .disks
            .iter()
            .find(|disk| disk.key == *key)
            .ok_or_else(|| Error::DiskUnknown { disk: key.clone() })
    }

    fn describe_disks(&self, graph: &Graph) -> Result<Vec<VmDisk>, Error> {
        let size = |disk: &DiskConfig| {
            let missing =
                |what: &str| Error::DiskMissing { disk: disk.key.clone(), what: format!("node {what}") };
            graph.node(&disk.nodes.top).ok_or_else(|| missing(&disk.nodes.top))?;
            let node = graph.node(&disk.nodes.node).ok_or_else(|| missing(&disk.nodes.node))?;
            Ok(VmDisk { key: disk.key.clone(), size: node.size })
        };
        self.config.disks.iter().map(size).collect()
    }

    async fn record(&self, name: &SnapshotName) -> Result<Option<Record<Nodes>>, Error> {
        let (folder, name) = (self.folder.clone(), name.clone());
        blocking(move || folder.load(&name)).await
    }

    async fn save(&self, name: &SnapshotName, record: &Record<Nodes>) -> Result<(), Error> {
        let (folder, name, record) = (self.folder.clone(), name.clone(), record.clone());
        blocking(move || folder.save(&name, &record)).await
    }

    /// What the snapshot's disks are made of: as recorded, and as configured.
    fn parts(&self, name: &SnapshotName, record: Option<&Record<Nodes>>) -> Vec<Part> {
        let recorded = record.into_iter().flat_map(|record| &record.disks);
        let recorded =
            recorded.filter_map(|disk| Some((DiskKey::parse(disk.key.clone()).ok()?, &disk.means)));
        let mut parts: Vec<_> = recorded.map(|(key, nodes)| Part::new(name, &key, nodes)).collect();
        for disk in &self.config.disks {
            if !parts.iter().any(|part| part.key == disk.key) {
                parts.push(Part::new(name, &disk.key, &disk.nodes));
            }
        }
        parts
    }

    async fn names(&self, graph: &Graph) -> Result<Vec<SnapshotName>, Error> {
        let folder = self.folder.clone();
        let mut names = blocking(move || folder.names()).await?;
        names.extend(graph.snapshots());
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The record of a snapshot that is whole, or why it is not.
    async fn whole(&self, name: &SnapshotName) -> Result<Result<Snapshot, String>, Error> {
        let record = match self.record(name).await {
            Ok(Some(record)) if record.stage == Stage::Whole => record,
            Ok(Some(_)) => return Ok(Err("it was never finished".to_owned())),
            Ok(None) => return Ok(Err("there is none".to_owned())),
            Err(error @ Error::BadRecord { .. }) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        let graph = Graph::read(&mut self.monitor.open().await?).await?;
        let mut canaries = Vec::new();
        for disk in &record.disks {
            let Some(part) = self.parts(name, Some(&record)).into_iter().find(|p| p.key.as_str() == disk.key)
            else {
                return Ok(Err(format!("its record names a disk {} that cannot be", disk.key)));
            };
            if let Some(missing) = make::missing(&graph, &part) {
                return Ok(Err(missing));
            }
            let bitmap = disk.change_id.as_deref().unwrap_or_default();
            if let Err(why) = usable(&graph, &part.nodes.node, bitmap) {
                return Ok(Err(format!("its change id on disk {}: {why}", part.key)));
            }
            canaries.push((part.key, self.config.nbd.uri(&part.names.canary_export)?));
        }
        let sung = move || {
            let dead = |(key, uri)| changes::canary(&uri).err().map(|error| (key, error));
            Ok(canaries.into_iter().find_map(dead))
        };
        match blocking(sung).await? {
            Some((key, error)) => {
                tracing::warn!(snapshot = %name, disk = %key, %error, "a snapshot broke");
                Ok(Err(format!(
                    "its copies of disk {key} could not be kept (is {} full?)",
                    self.folder.of(name).display()
                )))
            }
            None => Ok(Ok(record.snapshot(name)?)),
        }
    }

    async fn make(
        &self,
        session: &mut Session,
        name: &SnapshotName,
        kept: &[(DiskKey, ChangeId)],
    ) -> Result<Snapshot, Error> {
        let graph = Graph::read(session).await?;
        let disks = self.describe_disks(&graph)?;
        let record_disk = |(disk, nodes): (&VmDisk, &DiskConfig)| RecordDisk {
            key: disk.key.as_str().to_owned(),
            size: disk.size,
            change_id: None,
            means: nodes.nodes.clone(),
        };
        let mut record = Record {
            stage: Stage::Making,
            taken_at: jiff::Timestamp::now(),
            disks: disks.iter().zip(&self.config.disks).map(record_disk).collect(),
        };
        self.save(name, &record).await?;
        let parts = self.parts(name, Some(&record));
        for (part, disk) in parts.iter().zip(&disks) {
            let path = self.scratch(name, &part.key);
            scratch::create(session, name, part, &path, disk.size, &self.config.nbd).await?;
            make::prepare(session, part).await?;
        }
        // Before the point in time, and no sooner: what is written in between is in this cycle and in the next.
        for (part, disk) in parts.iter().zip(&mut record.disks) {
            let change_id = track(session, &graph, name, &part.nodes.node).await?;
            disk.change_id = Some(change_id.as_str().to_owned());
        }
        record.taken_at = jiff::Timestamp::now();
        make::swap_in(session, &parts).await?;
        freeze::copy_kept(session, &graph, name, &parts, kept).await?;
        for part in &parts {
            make::publish(session, part).await?;
        }
        let graph = Graph::read(session).await?;
        for (before, after) in disks.into_iter().zip(self.describe_disks(&graph)?) {
            if before.size != after.size {
                let (disk, before, after) = (before.key, before.size, after.size);
                return Err(Error::ResizedMeanwhile { name: name.clone(), disk, before, after });
            }
        }
        record.stage = Stage::Whole;
        self.save(name, &record).await?;
        record.snapshot(name)
    }

    fn scratch(&self, name: &SnapshotName, disk: &DiskKey) -> PathBuf {
        self.folder.of(name).join(format!("{disk}.scratch"))
    }

    /// Removes everything of the snapshot but its change ids.
    async fn remove(&self, session: &mut Session, name: &SnapshotName) -> Result<(), Error> {
        let record = match self.record(name).await {
            Err(error @ Error::BadRecord { .. }) => {
                tracing::warn!(snapshot = %name, %error, "the configuration has to do");
                None
            }
            other => other?,
        };
        make::take_down(session, name, &self.parts(name, record.as_ref())).await?;
        let (folder, name) = (self.folder.clone(), name.clone());
        blocking(move || folder.remove(&name)).await
    }

    /// The frozen copy of what changed since, exported; made where it is not there yet.
    async fn freeze(
        &self,
        snapshot: &Snapshot,
        disk: &DiskConfig,
        since: &ChangeId,
    ) -> Result<FrozenNames, Error> {
        let mut session = self.monitor.open().await?;
        let graph = Graph::read(&mut session).await?;
        let part = Part::new(&snapshot.name, &disk.key, &disk.nodes);
        if let Some(why) = make::missing(&graph, &part) {
            return Err(Error::SnapshotLost { name: snapshot.name.clone(), why });
        }
        let names = FrozenNames::new(&snapshot.name, &disk.key, since);
        let node = disk.nodes.node.as_str();
        let refused = |error: qmp::Error| match error.is_refusal() {
            true => Error::ChangeQueryRefused {
                disk: disk.key.clone(),
                since: since.clone(),
                source: Box::new(error),
            },
            false => Error::Qmp(error),
        };
        if graph.node(node).is_none_or(|node| node.bitmap(&names.bitmap).is_none()) {
            let granularity = usable(&graph, node, since.as_str()).map_err(|why| Error::ChangeIdUnknown {
                disk: disk.key.clone(),
                since: since.clone(),
                why,
            })?;
            freeze::copy(&mut session, node, &names, since.as_str(), granularity).await.map_err(refused)?;
        }
        if !graph.has_export(&names.export_id) {
            let export = json!({
                "type": "nbd", "id": names.export_id, "name": names.export, "node-name": node,
                "bitmaps": [names.bitmap],
            });
            session.run("block-export-add", export).await.map_err(refused)?;
        }
        Ok(names)
    }
}

#[async_trait]
impl Source for QemuSource {
    async fn describe(&self) -> Result<Vm, Error> {
        let _turn = self.turn.lock().await;
        let mut session = self.monitor.open().await?;
        let graph = Graph::read(&mut session).await?;
        let disks = self.describe_disks(&graph)?;
        let mut configuration = self.declared.clone();
        configuration.change_tracking = Some(true);
        // A qemu-storage-daemon knows no guest; a QEMU knows better than a file.
        match power::state(&mut session).await? {
            PowerState::Running => configuration.power = vm::Power::On,
            PowerState::Off => configuration.power = vm::Power::Off,
            PowerState::Unknown => {}
        }
        Ok(Vm { uuid: self.uuid.clone(), name: self.name.clone(), disks, configuration: Some(configuration) })
    }

    async fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, Error> {
        let kept = self.turn.lock().await;
        if let Ok(snapshot) = self.whole(name).await? {
            return Ok(snapshot);
        }
        let mut session = self.monitor.open().await?;
        let names = self.names(&Graph::read(&mut session).await?).await?;
        if let Some(existing) = names.iter().find(|other| *other != name) {
            return Err(Error::SnapshotExists { wanted: name.clone(), existing: existing.clone() });
        }
        self.remove(&mut session, name).await?;
        match self.make(&mut session, name, &kept).await {
            Ok(snapshot) => Ok(snapshot),
            Err(error) => {
                // The guest should not go on paying for what nobody will use.
                if let Err(again) = self.remove(&mut session, name).await {
                    tracing::warn!(snapshot = %name, error = %again, "parts of a failed snapshot remain");
                }
                Err(error)
            }
        }
    }

    async fn find(&self, name: &SnapshotName) -> Result<Option<Snapshot>, Error> {
        let _turn = self.turn.lock().await;
        let found = self.whole(name).await?;
        Ok(found.inspect_err(|why| tracing::info!(snapshot = %name, why, "no such snapshot")).ok())
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotName>, Error> {
        let _turn = self.turn.lock().await;
        let graph = Graph::read(&mut self.monitor.open().await?).await?;
        self.names(&graph).await
    }

    async fn changed(
        &self,
        snapshot: &Snapshot,
        disk: &DiskKey,
        since: &ChangeId,
        offset: u64,
    ) -> Result<ChangedPage, Error> {
        let size = snapshot.disk(disk)?.size;
        if offset >= size {
            return Err(Error::OffsetAtEnd { disk: disk.clone(), offset, size });
        }
        let names = {
            let _turn = self.turn.lock().await;
            self.freeze(snapshot, self.disk(disk)?, since).await?
        };
        let (uri, limits) = (self.config.nbd.uri(&names.export)?, self.limits);
        let page = blocking(move || Ok(changes::page(&uri, &names.bitmap, size, offset, limits))).await?;
        page.map_err(|error| match error {
            changes::Error::Nbd(error) => Error::Nbd(error),
            error @ changes::Error::Refused { .. } => Error::ChangeQueryRefused {
                disk: disk.clone(),
                since: since.clone(),
                source: Box::new(error),
            },
        })
    }

    async fn open(&self, snapshot: &Snapshot, disk: &DiskKey) -> Result<OpenDisk, Error> {
        snapshot.disk(disk)?;
        let part = Part::new(&snapshot.name, disk, &self.disk(disk)?.nodes);
        Ok(OpenDisk { uri: self.config.nbd.uri(&part.names.export)?, server: None })
    }

    /// A snapshot stands or falls as a whole.
    async fn confirm(&self, snapshot: &Snapshot, _disk: &DiskKey) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let lost = |why| Error::SnapshotLost { name: snapshot.name.clone(), why };
        match self.whole(&snapshot.name).await?.map_err(lost)? == *snapshot {
            true => Ok(()),
            false => Err(lost("another one was made under its name".to_owned())),
        }
    }

    async fn delete(&self, name: &SnapshotName) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let mut session = self.monitor.open().await?;
        self.remove(&mut session, name).await
    }

    async fn forget_change_ids(&self, keep: &[(DiskKey, ChangeId)]) -> Result<(), Error> {
        let mut kept = self.turn.lock().await;
        *kept = keep.to_vec();
        let mut session = self.monitor.open().await?;
        let graph = Graph::read(&mut session).await?;
        let alive = self.names(&graph).await?;
        for disk in &self.config.disks {
            for bitmap in graph.node(&disk.nodes.node).map_or(&[][..], |node| &node.bitmaps) {
                let owner = graph::snapshot_of(&bitmap.name).or_else(|| graph::frozen_of(&bitmap.name));
                let Some(owner) = owner else { continue };
                let kept = keep.iter().any(|(key, id)| *key == disk.key && id.as_str() == bitmap.name);
                if !kept && !alive.contains(&owner) {
                    let bitmap = json!({ "node": disk.nodes.node, "name": bitmap.name });
                    session.run("block-dirty-bitmap-remove", bitmap).await?;
                }
            }
        }
        Ok(())
    }

    async fn power(&self) -> Result<PowerState, Error> {
        let _turn = self.turn.lock().await;
        power::state(&mut self.monitor.open().await?).await
    }

    async fn shut_down(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        power::shut_down(&mut self.monitor.open().await?).await
    }

    async fn power_off(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        power::power_off(&mut self.monitor.open().await?).await
    }

    async fn power_on(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        power::power_on(&mut self.monitor.open().await?).await
    }
}

/// Makes the bitmap that will be the snapshot's change id, or takes the one that a broken-off attempt left: it
/// began earlier and so tells more, never less.
async fn track(
    session: &mut Session,
    graph: &Graph,
    name: &SnapshotName,
    node: &str,
) -> Result<ChangeId, qmp::Error> {
    let bitmaps = graph.node(node).map_or(&[][..], |node| &node.bitmaps);
    let mut ours = bitmaps.iter().filter(|bitmap| graph::snapshot_of(&bitmap.name).as_ref() == Some(name));
    if let Some(bitmap) = ours.find(|bitmap| usable(graph, node, &bitmap.name).is_ok()) {
        return Ok(ChangeId::new(bitmap.name.clone()));
    }
    let id = graph::new_change_id(name);
    let bitmap = json!({
        "node": node, "name": id.as_str(), "persistent": true, "granularity": shared::leaf::LEAF,
    });
    session.run("block-dirty-bitmap-add", bitmap).await?;
    Ok(id)
}

/// Granularity of a bitmap that tells everything changed since it was made; else why it does not.
fn usable(graph: &Graph, node: &str, bitmap: &str) -> Result<u64, String> {
    let Some(found) = graph.node(node).and_then(|node| node.bitmap(bitmap)) else {
        return Err(format!("node {node} has no bitmap of that name"));
    };
    if found.inconsistent {
        return Err("its bitmap is inconsistent: QEMU ended without storing it".to_owned());
    }
    if !found.recording {
        return Err("its bitmap was disabled and has missed writes".to_owned());
    }
    Ok(found.granularity)
}
