//! What keeps data, over the single calls: each of these may be repeated after any end, looks before it acts, and touches
//! nothing that is not marked as ours (`contracts/LINSTOR.md`, the eight ways to lose data there).
//!
//! ```text
//!  define + mark ──► volume ──► place ──► device there? ──► whole            a new volume: goes on where it was left
//!  define + mark ──► restore volume ──► restore ──► device there? ──► whole  a clone: without *whole* it is thrown away
//! ```
//!
//! A mark is a property whose key holds the resource's own name: restored definitions inherit the properties of the snapshot,
//! and another's mark must not make them ours. *Whole* holds the definition's uuid besides. It is set only when the device was
//! seen, because any change of a resource whose restore failed makes an empty volume of it, which nothing tells from a good one.

use super::client::Client;
use super::fault::Fault;
use super::locks::Locks;
use super::model::{Definition, Resource, Unusable};
use super::name::Name;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Key of the mark that a resource definition is ours; its own name follows.
const OURS: &str = "Aux/mk-volume/";

/// Key of the mark that its content is what it should be; its own name follows, the definition's uuid is the value.
const WHOLE: &str = "Aux/mk-whole/";

/// The controller's key-value store in which a reset is said to be under way: `reset/<name>`. It has to lie outside of the
/// resource, as a rollback gives a definition back the properties that its snapshot had, *whole* among them.
const NOTES: &str = "migratekit";

/// One cluster, as this control plane uses it. Clones share the locks.
#[derive(Clone)]
pub struct Cluster {
    pub(super) client: Client,
    /// LINSTOR's name of the host that opens the devices.
    node: Arc<str>,
    pub(super) locks: Arc<Locks>,
}

/// A resource that can be opened on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub path: PathBuf,
    /// Usable bytes.
    pub size: u64,
    /// What its volume lies on: `LVM_THIN`, `ZFS`, …
    pub provider: String,
}

/// A resource of ours that is whole, as it was looked at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub definition: Definition,
    pub device: Device,
    /// On all nodes.
    pub resources: Vec<Resource>,
    /// Everybody's, whose names begin with its own.
    pub beside: Vec<String>,
}

/// Whether a resource was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It was made by this call, all of it.
    New,
    /// It was there, or a part of it was: it may have been written.
    Found,
}

impl Cluster {
    pub fn new(client: Client, node: &str) -> Self {
        Self { client, node: node.into(), locks: Arc::default() }
    }

    /// LINSTOR's name of this host.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The single calls, for what only looks.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The definition of a resource of ours that is whole. `None`: there is none, or a part of one.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn find(&self, name: &Name) -> Result<Option<Definition>, Fault> {
        match self.ours(name).await?.filter(|definition| is_whole(definition, name)) {
            Some(_) if self.is_being_reset(name).await? => Ok(None),
            found => Ok(found),
        }
    }

    pub(super) async fn is_being_reset(&self, name: &Name) -> Result<bool, Fault> {
        Ok(self.client.notes(NOTES).await?.contains_key(&reset_of(name)))
    }

    /// Says that its content is none to trust, until [`forget_reset`](Self::forget_reset).
    pub(super) async fn note_reset(&self, name: &Name) -> Result<(), Fault> {
        self.client.note(NOTES, &BTreeMap::from([(reset_of(name), "1".to_owned())]), &[]).await?;
        Ok(())
    }

    pub(super) async fn forget_reset(&self, name: &Name) -> Result<(), Fault> {
        if self.is_being_reset(name).await? {
            self.client.note(NOTES, &BTreeMap::new(), &[&reset_of(name)]).await?;
        }
        Ok(())
    }

    /// Those of ours that have a snapshot of that name, in whatever state both are.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn with_snapshot(&self, snapshot: &Name) -> Result<Vec<Name>, Fault> {
        let all = self.client.all_snapshots().await?;
        let has_one = |definition: &Definition| {
            let is_it = |s: &super::Snapshot| {
                s.name.eq_ignore_ascii_case(snapshot.as_str())
                    && s.resource_name.eq_ignore_ascii_case(&definition.name)
            };
            all.iter().any(is_it)
        };
        let ours = |definition: Definition| {
            let name = Name::parse(definition.name.as_str()).ok()?;
            (is_marked(&definition, &name) && has_one(&definition)).then_some(name)
        };
        Ok(self.client.definitions().await?.into_iter().filter_map(ours).collect())
    }

    /// All resources of ours that are whole.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn all(&self) -> Result<Vec<(Name, Definition)>, Fault> {
        let resets = self.client.notes(NOTES).await?;
        let is_one = |(name, definition): &(Name, Definition)| {
            is_marked(definition, name) && is_whole(definition, name) && !resets.contains_key(&reset_of(name))
        };
        let named = |definition: Definition| Some((Name::parse(definition.name.as_str()).ok()?, definition));
        Ok(self.client.definitions().await?.into_iter().filter_map(named).filter(is_one).collect())
    }

    /// Makes a resource of one volume, or goes on where that was left. One that is whole already is taken as it is.
    ///
    /// # Errors
    /// [`Fault`]; nothing of others has changed.
    pub async fn create(&self, name: &Name, group: &Name, size_kib: u64) -> Result<(Device, Age), Fault> {
        let _held = self.locks.hold([name]).await;
        let filter = self.filter(group).await?;
        let mut age = Age::Found;
        let definition = match self.ours(name).await? {
            Some(definition) => definition,
            None => {
                age = Age::New;
                self.client.define(name, group, &filter.layer_stack, &marks(name)).await?;
                self.ours(name).await?.ok_or_else(|| Fault::NoResource { name: name.clone() })?
            }
        };
        match definition.size() {
            None if definition.volume_definitions.is_empty() => {
                self.client.define_volume(name, size_kib).await?;
            }
            have => {
                let (have, need) = (have.unwrap_or(0), size_kib.saturating_mul(1024));
                if have != need {
                    return Err(Fault::OtherSize { name: name.clone(), have, need });
                }
            }
        }
        if self.client.resources(name).await?.iter().all(Resource::is_diskless) {
            self.client.place(name, &filter).await?;
        }
        let (device, _) = self.open_here(name, None).await?;
        if !is_whole(&definition, name) {
            self.say_whole(name, definition.uuid).await?;
        }
        Ok((device, age))
    }

    pub(super) async fn filter(&self, group: &Name) -> Result<super::Filter, Fault> {
        let found = self.client.group(group).await?;
        found.map(|found| found.select_filter).ok_or_else(|| Fault::NoGroup { group: group.clone() })
    }

    /// Its device was seen.
    pub(super) async fn say_whole(&self, name: &Name, uuid: String) -> Result<(), Fault> {
        let whole = BTreeMap::from([(format!("{WHOLE}{name}"), uuid)]);
        self.client.set_props(name, &whole, &[]).await?;
        Ok(())
    }

    /// Where it is opened on this node; makes it reachable here where it is not.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn device(&self, name: &Name) -> Result<Device, Fault> {
        let _held = self.locks.hold([name]).await;
        let found = self.find(name).await?.ok_or_else(|| Fault::NoResource { name: name.clone() })?;
        Ok(self.open_here(name, Some(&found)).await?.0)
    }

    /// The same, with what else is there of it and beside it; asks for each of these once.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn survey(&self, name: &Name) -> Result<Sight, Fault> {
        let _held = self.locks.hold([name]).await;
        let (own, others): (Vec<_>, Vec<_>) = self
            .client
            .definitions()
            .await?
            .into_iter()
            .partition(|d| d.name.eq_ignore_ascii_case(name.as_str()));
        let none = || Fault::NoResource { name: name.clone() };
        let definition =
            ours(name, own.into_iter().next())?.filter(|found| is_whole(found, name)).ok_or_else(none)?;
        if self.is_being_reset(name).await? {
            return Err(none());
        }
        let (device, resources) = self.open_here(name, Some(&definition)).await?;
        let begins = |other: &Definition| {
            other.name.get(..name.as_str().len()).is_some_and(|head| head.eq_ignore_ascii_case(name.as_str()))
        };
        let beside = others.into_iter().filter(begins).map(|other| other.name).collect();
        Ok(Sight { definition, device, resources, beside })
    }

    /// Looks for a copy with a disk first: without one, what `make-available` gives to this node leads nowhere, and any change may
    /// make an empty volume of a copy whose restore failed. `known`: its definition, if nothing has changed since it was read.
    pub(super) async fn open_here(
        &self,
        name: &Name,
        known: Option<&Definition>,
    ) -> Result<(Device, Vec<Resource>), Fault> {
        let unusable = |source| Fault::Unusable { name: name.clone(), source };
        let there = self.client.resources(name).await?;
        let disk = with_disk(&there).map_err(unusable)?;
        let provider = disk.volumes.first().map(|volume| volume.provider_kind.clone()).unwrap_or_default();
        let is_here = |resource: &&Resource| resource.node_name == *self.node;
        let (there, known) = match there.iter().any(|resource| is_here(&resource)) {
            true => (there, known),
            false => {
                self.client.make_available(name, &self.node).await?;
                (self.client.resources(name).await?, None)
            }
        };
        let not_there = || unusable(Unusable::NotThere { node: self.node.to_string() });
        let here = there.iter().find(is_here).ok_or_else(not_there)?;
        let path = here.device().map_err(unusable)?.to_owned();
        let size = match known {
            Some(known) => known.size(),
            None => self.client.definition(name).await?.and_then(|definition| definition.size()),
        };
        let size = size.ok_or_else(|| Fault::NoResource { name: name.clone() })?;
        Ok((Device { path, size, provider }, there))
    }

    /// Makes it larger. LINSTOR shrinks as readily, so that the size is compared first.
    ///
    /// # Errors
    /// [`Fault::OtherSize`] where it is larger already.
    pub async fn grow(&self, name: &Name, size_kib: u64) -> Result<Device, Fault> {
        let _held = self.locks.hold([name]).await;
        let definition = self.find(name).await?.ok_or_else(|| Fault::NoResource { name: name.clone() })?;
        let (have, need) = (definition.size().unwrap_or(u64::MAX), size_kib.saturating_mul(1024));
        if have > need {
            return Err(Fault::OtherSize { name: name.clone(), have, need });
        }
        let known = (have == need).then_some(&definition);
        if known.is_none() {
            self.client.set_size(name, size_kib).await?;
        }
        Ok(self.open_here(name, known).await?.0)
    }

    /// Removes it with its snapshots, where it is ours; nothing to remove is success. Nobody may have it open: without DRBD
    /// LINSTOR does not look.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn delete(&self, name: &Name) -> Result<(), Fault> {
        let _held = self.locks.hold([name]).await;
        if self.ours(name).await?.is_none() {
            return self.forget_reset(name).await;
        }
        self.discard_all(name).await?;
        // Nodes that are off: it is marked, and goes when they are back.
        match self.client.definition(name).await? {
            None => self.forget_reset(name).await,
            Some(_) => Err(Fault::BeingDeleted { name: name.clone() }),
        }
    }

    /// It and its snapshots, which go first: LINSTOR refuses otherwise.
    pub(super) async fn discard_all(&self, name: &Name) -> Result<(), Fault> {
        let all = self.client.snapshots(name).await?;
        for snapshot in &all {
            if let Ok(snapshot) = Name::parse(snapshot.name.as_str()) {
                self.discard_seen(name, &snapshot, &all).await?;
            }
        }
        Ok(self.client.delete_definition(name).await?)
    }

    /// Sets properties of one that is whole: of another, a change may make an empty volume.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn set(&self, name: &Name, props: &BTreeMap<String, String>) -> Result<(), Fault> {
        let _held = self.locks.hold([name]).await;
        self.find(name).await?.ok_or_else(|| Fault::NoResource { name: name.clone() })?;
        self.client.set_props(name, props, &[]).await?;
        Ok(())
    }

    /// Takes properties from one that is whole.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn unset(&self, name: &Name, keys: &[&str]) -> Result<(), Fault> {
        let _held = self.locks.hold([name]).await;
        let found = self.find(name).await?.ok_or_else(|| Fault::NoResource { name: name.clone() })?;
        if keys.iter().any(|key| found.props.contains_key(*key)) {
            self.client.set_props(name, &BTreeMap::new(), keys).await?;
        }
        Ok(())
    }

    /// The definition of that name, which has to be ours. `None`: there is none.
    pub(super) async fn ours(&self, name: &Name) -> Result<Option<Definition>, Fault> {
        ours(name, self.client.definition(name).await?)
    }

    /// All of them are there, whole.
    pub(super) async fn all_whole(&self, names: &[Name]) -> Result<(), Fault> {
        let none = |name: &Name| Fault::NoResource { name: name.clone() };
        for name in names {
            self.ours(name).await?.filter(|found| is_whole(found, name)).ok_or_else(|| none(name))?;
        }
        let resets = self.client.notes(NOTES).await?;
        match names.iter().find(|name| resets.contains_key(&reset_of(name))) {
            Some(name) => Err(none(name)),
            None => Ok(()),
        }
    }
}

fn ours(name: &Name, found: Option<Definition>) -> Result<Option<Definition>, Fault> {
    match found {
        None => Ok(None),
        Some(definition) if !is_marked(&definition, name) => Err(Fault::NotOurs { name: name.clone() }),
        Some(definition) if definition.is_being_deleted() => Err(Fault::BeingDeleted { name: name.clone() }),
        Some(definition) => Ok(Some(definition)),
    }
}

/// A copy that has a disk, and may be used.
fn with_disk(all: &[Resource]) -> Result<&Resource, Unusable> {
    let mut why = Unusable::NoDisk;
    for resource in all.iter().filter(|resource| !resource.is_diskless()) {
        match resource.device() {
            Ok(_) => return Ok(resource),
            Err(unusable) => why = unusable,
        }
    }
    Err(why)
}

/// Whether what it holds is what its snapshot held, and not what a failed restore left.
fn is_whole(definition: &Definition, name: &Name) -> bool {
    definition.props.get(&format!("{WHOLE}{name}")).is_some_and(|uuid| *uuid == definition.uuid)
}

fn reset_of(name: &Name) -> String {
    format!("reset/{}", name.as_str().to_ascii_lowercase())
}

fn is_marked(definition: &Definition, name: &Name) -> bool {
    definition.props.contains_key(&format!("{OURS}{name}"))
}

pub(super) fn marks(name: &Name) -> BTreeMap<String, String> {
    BTreeMap::from([(format!("{OURS}{name}"), "1".to_owned())])
}
