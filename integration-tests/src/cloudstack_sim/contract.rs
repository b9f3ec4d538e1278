//! Every call is held against what the server itself said of its commands (`listApis` of 4.22.0).
//!
//! `recordings/cloudstack-contract-4.22.0.json.zst` is cut from that answer: the commands that are simulated, whole, and
//! the names of the others (by `recordings/cut-cloudstack.py`). What a command does not list is ignored, as the real server does, and written down.

use super::params::Params;
use super::refusal::Refusal;
use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const RECORDED: &[u8] = include_bytes!("../../recordings/cloudstack-contract-4.22.0.json.zst");

/// Commands that a plain user's role does not have.
const ADMINS_ONLY: [&str; 6] =
    ["listHosts", "listStoragePools", "listClusters", "listPods", "listCapacity", "listConfigurations"];

#[derive(Deserialize)]
struct File {
    commands: Vec<Value>,
    others: BTreeSet<String>,
}

pub(super) struct Contract {
    commands: BTreeMap<String, Api>,
    others: BTreeSet<String>,
}

struct Api {
    is_async: bool,
    params: BTreeMap<String, Param>,
    /// As `listApis` shows it.
    whole: Value,
}

#[derive(Clone, Debug, Deserialize)]
struct Param {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default = "short")]
    length: usize,
    #[serde(default)]
    required: bool,
}

fn short() -> usize {
    255
}

/// What an id stands for.
pub(super) enum Found {
    /// Something that is there; with its full id.
    Here(String),
    /// Something that was there.
    Removed,
    Nothing,
}

/// How a role stands to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Allowed,
    /// Not for this role.
    Denied,
    /// A command of the real server that is not simulated.
    NotSimulated,
    /// No command at all.
    Unknown,
}

impl Contract {
    /// `placed`: as a later server that takes `storageid` in `createVolume`.
    pub(super) fn load(placed: bool) -> anyhow::Result<Self> {
        let text = zstd::decode_all(RECORDED).context("the contract cannot be unpacked")?;
        let mut file: File = serde_json::from_slice(&text).context("the contract cannot be read")?;
        if placed {
            let known = file.commands.iter_mut().find(|api| api["name"] == "createVolume");
            if let Some(params) = known.and_then(|api| api["params"].as_array_mut()) {
                params.push(json!({
                    "name": "storageid", "type": "uuid", "length": 255, "required": false, "since": "4.22.1",
                    "description": "Storage pool ID to create the volume in. Cannot be used with the snapshotid parameter."
                }));
            }
        }
        let commands = file.commands.into_iter().map(|whole| {
            let name = whole["name"].as_str().context("a command without a name")?.to_owned();
            let params = Vec::<Param>::deserialize(&whole["params"])?;
            let params = params.into_iter().map(|param| (param.name.clone(), param)).collect();
            Ok((name, Api { is_async: whole["isasync"] == true, params, whole }))
        });
        Ok(Self { commands: commands.collect::<anyhow::Result<_>>()?, others: file.others })
    }

    pub(super) fn standing(&self, command: &str, is_admin: bool) -> Standing {
        let is_simulated = self.commands.contains_key(command);
        match (is_simulated, is_admin || !ADMINS_ONLY.contains(&command)) {
            (true, true) => Standing::Allowed,
            (true, false) => Standing::Denied,
            (false, _) if self.others.contains(command) => Standing::NotSimulated,
            (false, _) => Standing::Unknown,
        }
    }

    pub(super) fn is_async(&self, command: &str) -> bool {
        self.commands.get(command).is_some_and(|api| api.is_async)
    }

    /// As `listApis` shows those that the role has.
    pub(super) fn apis(&self, is_admin: bool) -> Vec<&Value> {
        let allowed = |name: &&String| self.standing(name, is_admin) == Standing::Allowed;
        self.commands.keys().filter(allowed).map(|name| &self.commands[name].whole).collect()
    }

    /// Parameters that the command does not list.
    pub(super) fn unknown(&self, command: &str, params: &Params) -> Vec<String> {
        let Some(api) = self.commands.get(command) else { return Vec::new() };
        let listed = |name: &str| {
            api.params.contains_key(name)
                || PAGING.contains(&name) && command.starts_with("list")
                || name == "ctxstartid"
        };
        params.names().filter(|name| !listed(name)).map(str::to_owned).collect()
    }

    /// Refuses what is missing or malformed, and spells ids out.
    pub(super) fn check(
        &self,
        command: &str,
        params: &mut Params,
        find: impl Fn(&str, &str) -> Found,
    ) -> Result<(), Refusal> {
        let Some(api) = self.commands.get(command) else { return Ok(()) };
        let lower = command.to_lowercase();
        let given: BTreeSet<_> = params.names().map(str::to_owned).collect();
        for param in api.params.values() {
            let name = &param.name;
            match params.get(name) {
                None if param.required && !given.contains(name) => {
                    let text =
                        format!("Unable to execute API command {lower} due to missing parameter {name}");
                    return Err(Refusal::parameter(text));
                }
                Some("") if param.required => {
                    return Err(Refusal::value(format!("Invalid value provided for API arg: {name}")));
                }
                None => {}
                Some(value) => {
                    let value = value.to_owned();
                    if let Some(spelled) = param.check(command, &lower, &value, &find)? {
                        params.set(name, spelled);
                    }
                }
            }
        }
        Ok(())
    }
}

const PAGING: [&str; 3] = ["page", "pagesize", "keyword"];

impl Param {
    fn check(
        &self,
        command: &str,
        lower: &str,
        value: &str,
        find: &impl Fn(&str, &str) -> Found,
    ) -> Result<Option<String>, Refusal> {
        let name = &self.name;
        let invalid =
            |what: String| Refusal::parameter(format!("Unable to execute API command {lower} {what}"));
        let unprintable = |c: char| c.is_ascii_control() && c != '\n' && c != '\r';
        if value.chars().any(unprintable) {
            let text = "Received value containing illegal ASCII non-printable characters for parameter";
            return Err(Refusal::parameter(format!("{text} {name}")));
        }
        match self.kind.as_str() {
            "integer" | "long" | "short" if value.parse::<i64>().is_err() => {
                Err(invalid(format!("due to invalid value {value} for parameter {name}")))
            }
            "string" if value.chars().count() > self.length => Err(invalid(format!(
                "due to invalid value. Value greater than max allowed length {} for param: {name}",
                self.length
            ))),
            "uuid" => self.id(command, lower, value, find).map(Some),
            "list" if name == "networkids" => {
                for id in value.split(',') {
                    self.id(command, lower, id, find)?;
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// An id as people or the database know it, as the former.
    fn id(
        &self,
        command: &str,
        lower: &str,
        value: &str,
        find: &impl Fn(&str, &str) -> Found,
    ) -> Result<String, Refusal> {
        let name = &self.name;
        let Some(kind) = kind_of(command, name) else { return Ok(value.to_owned()) };
        if value == "0" {
            return Err(Refusal::parameter(format!(
                "Unable to execute API command {lower} due to invalid value. Invalid value provided for API arg: {name}"
            )));
        }
        match find(kind, value) {
            Found::Here(id) => Ok(id),
            Found::Removed if command.starts_with("list") => Ok(value.to_owned()),
            found => {
                let is_number = value.parse::<i64>().is_ok();
                if is_number || matches!(found, Found::Removed) {
                    let shown = java_name(kind);
                    return Err(Refusal::value(format!(
                        "Unable to find UUID for id [{value}] of type [{shown}]"
                    )));
                }
                Err(Refusal::parameter(format!(
                    "Unable to execute API command {lower} due to invalid value. Invalid parameter {name} value={value} \
                     due to incorrect long value format, or entity does not exist or due to incorrect parameter \
                     annotation for the field in api cmd class."
                )))
            }
        }
    }
}

fn java_name(kind: &str) -> &str {
    match kind {
        "vm" => "VirtualMachine",
        "volume" => "Volume",
        "snapshot" => "Snapshot",
        "job" => "AsyncJob",
        other => other,
    }
}

/// What a parameter's id is the id of; `None` where that is not looked at.
fn kind_of(command: &str, param: &str) -> Option<&'static str> {
    Some(match param {
        "id" => match command {
            "listVirtualMachines"
            | "startVirtualMachine"
            | "stopVirtualMachine"
            | "rebootVirtualMachine"
            | "destroyVirtualMachine"
            | "expungeVirtualMachine"
            | "recoverVirtualMachine"
            | "updateVirtualMachine" => "vm",
            "listVolumes" | "attachVolume" | "detachVolume" | "deleteVolume" | "destroyVolume"
            | "recoverVolume" | "resizeVolume" | "updateVolume" => "volume",
            "listSnapshots" | "deleteSnapshot" | "revertSnapshot" => "snapshot",
            "listZones" => "zone",
            "listPods" => "pod",
            "listClusters" => "cluster",
            "listHosts" => "host",
            "listStoragePools" => "storagepool",
            "listNetworks" => "network",
            "listServiceOfferings" => "serviceoffering",
            "listDiskOfferings" => "diskoffering",
            "listOsTypes" => "ostype",
            "listTemplates" => "template",
            "listIsos" => "iso",
            _ => return None,
        },
        "virtualmachineid" => "vm",
        "volumeid" => "volume",
        "snapshotid" => "snapshot",
        "jobid" => "job",
        "nicid" => "nic",
        "zoneid" => "zone",
        "podid" => "pod",
        "clusterid" => "cluster",
        "hostid" => "host",
        "storageid" => "storagepool",
        "networkid" | "networkids" => "network",
        "serviceofferingid" => "serviceoffering",
        "diskofferingid" => "diskoffering",
        "ostypeid" => "ostype",
        "templateid" => "template",
        "domainid" => "domain",
        _ => return None,
    })
}
