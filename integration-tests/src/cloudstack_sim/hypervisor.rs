//! What starts machines. In memory one runs as soon as it is asked to; `qemu` boots guests.

pub mod qemu;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A machine as a host's agent is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub id: String,
    /// `i-2-3-VM`.
    pub instance_name: String,
    /// The host that it starts on.
    pub host: String,
    pub cpus: u64,
    pub memory_mib: u64,
    /// `LEGACY`, `SECURE`, or none for a BIOS.
    pub uefi: Option<String>,
    pub details: BTreeMap<String, String>,
    /// By device; the first is the one to boot from.
    pub disks: Vec<Disk>,
    pub nics: Vec<Interface>,
}

/// A volume, as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// CloudStack's id of the volume.
    pub volume: String,
    pub device_id: u64,
    /// A LINSTOR device, or a made-up file of a plain pool.
    pub path: String,
    /// In bytes.
    pub size: u64,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub network: String,
    pub mac: String,
}

/// How a machine is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Asked,
    Forced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Running,
    Off,
}

/// Hosts, all together. Calls may block; errors are texts for people, as a host's are.
pub trait Hypervisor: Send + Sync {
    /// # Errors
    /// It does not run.
    fn start(&self, machine: &Machine) -> Result<(), String>;
    /// Of one that does not run, too.
    ///
    /// # Errors
    /// It is not known to be off.
    fn stop(&self, id: &str, how: Stop) -> Result<(), String>;
    fn state(&self, id: &str) -> Power;
    /// What hosts report by themselves: the machines that run, and on which host each. None: they report nothing, and what
    /// the server has written down counts.
    fn reports(&self) -> Option<Vec<(String, String)>> {
        None
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct InMemory(Mutex<BTreeMap<String, Machine>>);

impl InMemory {
    /// What runs.
    pub fn running(&self) -> Vec<Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Hypervisor for InMemory {
    fn start(&self, machine: &Machine) -> Result<(), String> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(machine.id.clone(), machine.clone());
        Ok(())
    }

    fn stop(&self, id: &str, _how: Stop) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    fn state(&self, id: &str) -> Power {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains_key(id) { Power::Running } else { Power::Off }
    }
}
