//! What CloudStack's LINSTOR plug-in asks of a controller, and a controller in memory.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A resource definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    pub name: String,
    pub group: String,
    /// `None`: the answer has none at all, as of a definition without resources.
    pub props: Option<BTreeMap<String, String>>,
}

/// A resource on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    pub node: String,
    pub device: Option<String>,
    pub diskless: bool,
    pub in_use: bool,
}

/// A controller. Calls block; errors are the controller's message, which CloudStack hands on to its client.
pub trait Linstor: Send + Sync {
    /// # Errors
    /// As the trait.
    fn definitions(&self) -> Result<Vec<Definition>, String>;
    /// What a group selects storage by.
    ///
    /// # Errors
    /// As the trait.
    fn select_filter(&self, group: &str) -> Result<Value, String>;
    /// A new resource out of a group, empty.
    ///
    /// # Errors
    /// As the trait.
    fn spawn(&self, group: &str, name: &str, kib: u64) -> Result<(), String>;
    /// # Errors
    /// As the trait.
    fn set_property(&self, name: &str, key: &str, value: &str) -> Result<(), String>;
    /// Of volume 0.
    ///
    /// # Errors
    /// As the trait.
    fn size_kib(&self, name: &str) -> Result<u64, String>;
    /// # Errors
    /// As the trait.
    fn resize(&self, name: &str, kib: u64) -> Result<(), String>;
    /// # Errors
    /// As the trait.
    fn placements(&self, name: &str) -> Result<Vec<Placement>, String>;
    /// Deleting what is not there succeeds.
    ///
    /// # Errors
    /// As the trait.
    fn delete_definition(&self, name: &str) -> Result<(), String>;
    /// # Errors
    /// As the trait.
    fn create_snapshot(&self, name: &str, snapshot: &str) -> Result<(), String>;
    /// Whether its pools have a device of each snapshot, as LVM_THIN and ZFS have and files have not: without, CloudStack
    /// takes a snapshot that is there for one that failed.
    ///
    /// # Errors
    /// As the trait.
    fn has_snapshot_devices(&self, name: &str) -> Result<bool, String>;
    /// # Errors
    /// As the trait.
    fn delete_snapshot(&self, name: &str, snapshot: &str) -> Result<(), String>;
    /// # Errors
    /// As the trait.
    fn rollback(&self, name: &str, snapshot: &str) -> Result<(), String>;
    /// Gives the node a device, diskless where it has none.
    ///
    /// # Errors
    /// As the trait.
    fn make_available(&self, name: &str, node: &str) -> Result<(), String>;
    /// Takes a diskless device away again; a tie breaker stays.
    ///
    /// # Errors
    /// As the trait.
    fn drop_diskless(&self, name: &str, node: &str) -> Result<(), String>;
}

/// A controller with two nodes and nothing behind it. Tests look into it and put things there.
#[derive(Debug, Default)]
pub struct InMemory(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    resources: BTreeMap<String, Resource>,
    filters: BTreeMap<String, Value>,
    calls: Vec<String>,
}

/// A definition with what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    pub group: String,
    pub props: BTreeMap<String, String>,
    pub kib: u64,
    pub placements: Vec<Placement>,
    pub snapshots: Vec<String>,
    /// It was spawned by the plug-in: nothing is on it.
    pub is_empty: bool,
}

impl InMemory {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a resource with content there, on two nodes.
    pub fn put(&self, name: &str, group: &str, kib: u64) {
        let resource =
            Resource { group: group.to_owned(), kib, placements: two(name), ..Resource::default() };
        self.lock().resources.insert(name.to_owned(), resource);
    }

    /// A definition and nothing else.
    pub fn put_bare(&self, name: &str, group: &str, kib: u64) {
        let resource = Resource { group: group.to_owned(), kib, ..Resource::default() };
        self.lock().resources.insert(name.to_owned(), resource);
    }

    /// What a group selects by; one that nobody set selects as any other.
    pub fn set_filter(&self, group: &str, filter: Value) {
        self.lock().filters.insert(group.to_owned(), filter);
    }

    pub fn get(&self, name: &str) -> Option<Resource> {
        self.lock().resources.get(name).cloned()
    }

    pub fn names(&self) -> Vec<String> {
        self.lock().resources.keys().cloned().collect()
    }

    /// What was asked that changes something, in order.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    pub fn change(&self, name: &str, change: impl FnOnce(&mut Resource)) {
        if let Some(resource) = self.lock().resources.get_mut(name) {
            change(resource);
        }
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Resource) -> Result<T, String>) -> Result<T, String> {
        let mut inside = self.lock();
        let resource = inside.resources.get_mut(name);
        act(resource.ok_or_else(|| format!("Resource definition '{name}' not found."))?)
    }

    fn note(&self, call: String) {
        self.lock().calls.push(call);
    }
}

fn two(name: &str) -> Vec<Placement> {
    let device = format!("/dev/drbd/by-res/{name}/0");
    let on = |node: &str| Placement {
        node: node.to_owned(),
        device: Some(device.clone()),
        ..Placement::default()
    };
    vec![on("kvm1"), on("kvm2")]
}

impl Linstor for InMemory {
    fn definitions(&self) -> Result<Vec<Definition>, String> {
        let inside = self.lock();
        let seen = inside.resources.iter().map(|(name, resource)| Definition {
            name: name.clone(),
            group: resource.group.clone(),
            props: (!resource.placements.is_empty()).then(|| resource.props.clone()),
        });
        Ok(seen.collect())
    }

    fn select_filter(&self, group: &str) -> Result<Value, String> {
        Ok(self.lock().filters.get(group).cloned().unwrap_or_else(|| json!({"place_count": 2})))
    }

    fn spawn(&self, group: &str, name: &str, kib: u64) -> Result<(), String> {
        self.note(format!("spawn {name}"));
        let mut inside = self.lock();
        if inside.resources.contains_key(name) {
            return Err(format!("A resource definition with the name '{name}' already exists."));
        }
        let placements = two(name);
        let resource =
            Resource { group: group.to_owned(), kib, placements, is_empty: true, ..Resource::default() };
        inside.resources.insert(name.to_owned(), resource);
        Ok(())
    }

    fn set_property(&self, name: &str, key: &str, value: &str) -> Result<(), String> {
        self.note(format!("property {name} {key}"));
        self.with(name, |resource| {
            resource.props.insert(key.to_owned(), value.to_owned());
            Ok(())
        })
    }

    fn size_kib(&self, name: &str) -> Result<u64, String> {
        self.with(name, |resource| Ok(resource.kib))
    }

    fn resize(&self, name: &str, kib: u64) -> Result<(), String> {
        self.note(format!("resize {name} {kib}"));
        self.with(name, |resource| {
            if kib < resource.kib {
                return Err("Shrinking volumes is not supported by layer 'DRBD'.".to_owned());
            }
            resource.kib = kib;
            Ok(())
        })
    }

    fn placements(&self, name: &str) -> Result<Vec<Placement>, String> {
        Ok(self.lock().resources.get(name).map(|resource| resource.placements.clone()).unwrap_or_default())
    }

    fn delete_definition(&self, name: &str) -> Result<(), String> {
        self.note(format!("delete {name}"));
        let mut inside = self.lock();
        let Some(resource) = inside.resources.get(name) else { return Ok(()) };
        if !resource.snapshots.is_empty() {
            return Err(format!("Cannot delete resource definition '{name}' because it has snapshots."));
        }
        if let Some(user) = resource.placements.iter().find(|placement| placement.in_use) {
            return Err(format!("Resource '{name}' on node '{}' is still in use.", user.node));
        }
        inside.resources.remove(name);
        Ok(())
    }

    fn create_snapshot(&self, name: &str, snapshot: &str) -> Result<(), String> {
        self.note(format!("snapshot {name} {snapshot}"));
        self.with(name, |resource| {
            resource.snapshots.push(snapshot.to_owned());
            Ok(())
        })
    }

    fn has_snapshot_devices(&self, _name: &str) -> Result<bool, String> {
        Ok(true)
    }

    fn delete_snapshot(&self, name: &str, snapshot: &str) -> Result<(), String> {
        self.note(format!("delete-snapshot {name} {snapshot}"));
        self.with(name, |resource| {
            resource.snapshots.retain(|own| own != snapshot);
            Ok(())
        })
    }

    fn rollback(&self, name: &str, snapshot: &str) -> Result<(), String> {
        self.note(format!("rollback {name} {snapshot}"));
        self.with(name, |resource| {
            let is_there = resource.snapshots.iter().any(|own| own == snapshot);
            is_there.then_some(()).ok_or_else(|| format!("Snapshot '{snapshot}' of '{name}' not found."))
        })
    }

    fn make_available(&self, name: &str, node: &str) -> Result<(), String> {
        self.note(format!("make-available {name} {node}"));
        self.with(name, |resource| {
            if !resource.placements.iter().any(|placement| placement.node == node) {
                let device = Some(format!("/dev/drbd/by-res/{name}/0"));
                resource.placements.push(Placement {
                    node: node.to_owned(),
                    device,
                    diskless: true,
                    in_use: false,
                });
            }
            Ok(())
        })
    }

    fn drop_diskless(&self, name: &str, node: &str) -> Result<(), String> {
        self.note(format!("drop {name} {node}"));
        self.with(name, |resource| {
            resource.placements.retain(|placement| !(placement.diskless && placement.node == node));
            Ok(())
        })
    }
}
