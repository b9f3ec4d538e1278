//! What changes: machines, volumes, snapshots, tags, limits, events and jobs.
//!
//! What was expunged stays, marked: its id is known to the server for good ("removed", and burnt as a customid).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Jobs that are remembered, pending ones apart.
const JOBS: usize = 2000;

/// Events that are remembered.
const EVENTS: usize = 1000;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The database's last number; numbers are what instance names and some errors are made of.
    number: u64,
    pub(super) vms: Vec<Vm>,
    pub(super) volumes: Vec<Volume>,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) tags: Vec<Tag>,
    pub(super) events: Vec<Value>,
    pub(super) jobs: Vec<Job>,
    /// Of an account (by name) and a resource type (by number): the most that it may have.
    pub(super) limits: BTreeMap<String, i64>,
    /// Volumes whose creation on storage failed once: never again.
    pub(super) stuck: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Vm {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) display_name: String,
    pub(super) account: String,
    pub(super) created: String,
    pub(super) updated: Option<String>,
    pub(super) state: String,
    pub(super) zone: String,
    pub(super) template: String,
    pub(super) service_offering: String,
    pub(super) os_type: String,
    /// Set where the offering leaves them open.
    pub(super) cpu_number: Option<u64>,
    pub(super) cpu_speed: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) details: BTreeMap<String, String>,
    pub(super) nics: Vec<Nic>,
    /// Where it runs.
    pub(super) host: Option<String>,
    /// It has run: from then on an attached volume is made on storage at once.
    pub(super) has_run: bool,
    /// How it boots shows after its first start, until it is stopped or its details are changed.
    pub(super) shows_boot: bool,
    pub(super) delete_protection: bool,
    pub(super) removed: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Nic {
    pub(super) id: String,
    pub(super) network: String,
    pub(super) mac: String,
    pub(super) ip: Option<String>,
    pub(super) default: bool,
    pub(super) device: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Volume {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) account: String,
    pub(super) zone: String,
    pub(super) created: String,
    pub(super) state: String,
    /// `ROOT` or `DATADISK`.
    pub(super) kind: String,
    /// In bytes.
    pub(super) size: u64,
    pub(super) vm: Option<String>,
    pub(super) device: Option<u64>,
    pub(super) disk_offering: Option<String>,
    /// Of a root that was made with its machine.
    pub(super) service_offering: Option<String>,
    pub(super) template: Option<String>,
    pub(super) pool: Option<String>,
    pub(super) path: Option<String>,
    pub(super) format: Option<String>,
    /// When it was attached; a root that came with its machine never was.
    pub(super) attached: Option<String>,
    /// The server keeps statistics of it while it is attached.
    pub(super) stats: bool,
    pub(super) delete_protection: bool,
    pub(super) removed: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Snapshot {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) account: String,
    pub(super) volume: String,
    pub(super) created: String,
    pub(super) state: String,
    pub(super) size: u64,
    pub(super) removed: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tag {
    pub(super) account: String,
    /// `UserVm` or `Volume`.
    pub(super) resource_type: String,
    pub(super) resource: String,
    pub(super) key: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) command: String,
    pub(super) params: BTreeMap<String, String>,
    /// Name of the account that sent it.
    pub(super) account: String,
    /// Jobs with the same one run one at a time: the machine's id where there is one.
    pub(super) queue: String,
    pub(super) instance: Option<(String, String)>,
    /// 0, 1 or 2.
    pub(super) status: u8,
    pub(super) code: u16,
    pub(super) result: Option<Value>,
    pub(super) created: String,
    pub(super) completed: Option<String>,
    /// It ended with the server, not by itself.
    pub(super) interrupted: bool,
    /// What the switchboard has in store for it.
    pub(super) fault: Option<super::fault::What>,
}

impl State {
    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(super) fn vm(&self, id: &str) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.id.eq_ignore_ascii_case(id))
    }

    pub(super) fn vm_mut(&mut self, id: &str) -> Option<&mut Vm> {
        self.vms.iter_mut().find(|vm| vm.id.eq_ignore_ascii_case(id))
    }

    pub(super) fn volume(&self, id: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.id.eq_ignore_ascii_case(id))
    }

    pub(super) fn volume_mut(&mut self, id: &str) -> Option<&mut Volume> {
        self.volumes.iter_mut().find(|volume| volume.id.eq_ignore_ascii_case(id))
    }

    /// Those of a machine, by device.
    pub(super) fn volumes_of(&self, vm: &str) -> Vec<&Volume> {
        let of = |volume: &&Volume| volume.vm.as_deref() == Some(vm) && !volume.removed;
        let mut volumes: Vec<_> = self.volumes.iter().filter(of).collect();
        volumes.sort_by_key(|volume| volume.device);
        volumes
    }

    pub(super) fn root_of(&self, vm: &str) -> Option<&Volume> {
        self.volumes_of(vm).into_iter().find(|volume| volume.kind == "ROOT")
    }

    pub(super) fn snapshot(&self, id: &str) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.id.eq_ignore_ascii_case(id))
    }

    pub(super) fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id.eq_ignore_ascii_case(id))
    }

    pub(super) fn job_mut(&mut self, id: &str) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    pub(super) fn nic_owner(&self, nic: &str) -> Option<&Vm> {
        self.vms.iter().find(|vm| !vm.removed && vm.nics.iter().any(|own| own.id == nic))
    }

    /// Finished jobs and events beyond what anybody asks for: the whole state is written at every change.
    pub(super) fn forget_old(&mut self) {
        let mut more = self.jobs.len().saturating_sub(JOBS);
        self.jobs.retain(|job| {
            let goes = more > 0 && job.status != 0;
            more -= usize::from(goes);
            !goes
        });
        let more = self.events.len().saturating_sub(EVENTS);
        self.events.drain(..more);
    }

    /// What pending jobs become when the server comes back.
    pub(super) fn interrupt_jobs(&mut self, now: &str) {
        for job in self.jobs.iter_mut().filter(|job| job.status == 0) {
            job.status = 2;
            job.code = 530;
            job.interrupted = true;
            job.completed = Some(now.to_owned());
        }
        // A machine that was on its way is found where it was.
        for vm in &mut self.vms {
            match vm.state.as_str() {
                "Starting" => vm.state = "Stopped".to_owned(),
                "Stopping" => vm.state = "Running".to_owned(),
                _ => {}
            }
        }
    }
}
