//! A command on its way: who calls, with what, and the steps that all commands share.

use super::Sim;
use super::contract::Found;
use super::fault::What;
use super::params::Params;
use super::refusal::Refusal;
use super::state::{State, Vm, Volume};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The account's name.
    pub(super) account: String,
    pub(super) account_id: String,
    pub(super) user_id: String,
    pub(super) is_admin: bool,
}

/// A command that was let in.
pub(super) struct Call<'a> {
    pub(super) sim: &'a Sim,
    pub(super) command: &'a str,
    pub(super) params: Params,
    pub(super) caller: Caller,
    /// The job that it runs in.
    pub(super) job: Option<String>,
    /// What goes wrong in it, where that is not decided outside.
    pub(super) fault: Option<What>,
}

/// What an asynchronous command left to do.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// The id of what it made.
    pub(super) made: Option<String>,
    /// What its job is about: a kind and an id.
    pub(super) instance: Option<(String, String)>,
    /// Jobs on the same machine run one at a time.
    pub(super) queue: Option<String>,
}

impl Begun {
    pub(super) fn on_vm(id: &str) -> Self {
        let instance = Some(("VirtualMachine".to_owned(), id.to_owned()));
        Self { made: None, instance, queue: Some(id.to_owned()) }
    }

    pub(super) fn on_volume(id: &str, vm: Option<&str>) -> Self {
        let queue = Some(vm.unwrap_or(id).to_owned());
        Self { made: None, instance: Some(("Volume".to_owned(), id.to_owned())), queue }
    }
}

/// Now, as CloudStack writes it.
pub(super) fn now() -> String {
    Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S%z").to_string()
}

pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Sim {
    /// What an id of a kind stands for, by its text or the database's number.
    pub(super) fn find(&self, state: &State, kind: &str, id: &str, caller: &Caller) -> Found {
        let number = id.parse::<u64>().ok();
        let here = |id: &str, removed: bool| {
            if removed { Found::Removed } else { Found::Here(id.to_owned()) }
        };
        let found = match kind {
            "vm" => {
                let same = |vm: &&Vm| vm.id.eq_ignore_ascii_case(id) || number == Some(vm.number);
                state.vms.iter().find(same).map(|vm| here(&vm.id, vm.removed))
            }
            "volume" => {
                let mine = |volume: &Volume| caller.is_admin || volume.account == caller.account;
                let same = |volume: &&Volume| {
                    mine(volume) && (volume.id.eq_ignore_ascii_case(id) || number == Some(volume.number))
                };
                state.volumes.iter().find(same).map(|volume| here(&volume.id, volume.removed))
            }
            "snapshot" => state.snapshot(id).map(|snapshot| here(&snapshot.id, snapshot.removed)),
            "job" => state.job(id).map(|job| here(&job.id, false)),
            "nic" => state.nic_owner(id).map(|_| here(id, false)),
            "template" => {
                let template = self.world.get("template", id).or_else(|| self.world.get("iso", id));
                template.and_then(|found| found["id"].as_str()).map(|id| here(id, false))
            }
            kind => self.world.get(kind, id).and_then(|found| found["id"].as_str()).map(|id| here(id, false)),
        };
        found.unwrap_or(Found::Nothing)
    }
}

impl Call<'_> {
    /// The machine that a parameter names; another account's is not the caller's to touch.
    pub(super) fn vm(&self, param: &str) -> Result<Vm, Refusal> {
        let id = self.params.required(param);
        let vm = self.sim.read(|state| state.vm(id).filter(|vm| !vm.removed).cloned());
        let vm = vm.ok_or_else(|| {
            Refusal::value(format!("Unable to find UUID for id [{id}] of type [VirtualMachine]"))
        })?;
        if self.caller.is_admin || vm.account == self.caller.account {
            return Ok(vm);
        }
        Err(Refusal::permission("Caller does not have permission to operate with provided resource."))
    }

    pub(super) fn volume(&self, param: &str) -> Result<Volume, Refusal> {
        let id = self.params.required(param);
        let volume = self.sim.read(|state| state.volume(id).filter(|volume| !volume.removed).cloned());
        let volume = volume
            .ok_or_else(|| Refusal::value(format!("Unable to find UUID for id [{id}] of type [Volume]")))?;
        if self.caller.is_admin || volume.account == self.caller.account {
            return Ok(volume);
        }
        Err(Refusal::permission("Caller does not have permission to operate with provided resource."))
    }

    /// An object of the world that a parameter names.
    pub(super) fn world(&self, kind: &str, param: &str) -> Option<&Value> {
        self.params.get(param).and_then(|id| self.sim.world.get(kind, id))
    }

    /// The id that something new gets: a wished one, where it was never used, or a new one.
    pub(super) fn id_for_new(&self, is_vm: bool) -> Result<String, Refusal> {
        let Some(wished) = self.params.get("customid") else { return Ok(new_id()) };
        if !self.caller.is_admin {
            let text = "Please check your permissions, you are not allowed to create/update custom id";
            return Err(Refusal::permission(text));
        }
        if !is_uuid(wished) {
            return Err(Refusal::value(format!("UUID: {wished} doesn't follow the UUID format")));
        }
        let known = self.sim.read(|state| match is_vm {
            true => state.vm(wished).map(|vm| vm.removed),
            false => state.volume(wished).map(|volume| volume.removed),
        });
        match known {
            None => Ok(wished.to_owned()),
            Some(false) => {
                let text = format!("UUID: {wished} already exists so can't create/update with custom id");
                Err(Refusal::value(text))
            }
            // Burnt: the row of what was expunged is still in the database.
            Some(true) => Err(Refusal::new(530, if is_vm { 0 } else { 9999 }, "Entity already exists ")),
        }
    }
}

/// Lower case, with hyphens.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    let hex = |group: &&str| group.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(hex)
}
