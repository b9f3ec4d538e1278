//! The source's VM against what a failover makes of it, field by field.
//!
//! It is what CloudStack makes on KVM, whatever the profile's backend: `local` makes machines for test failovers only.

use super::disks::{controller_of, device_id, is_virtio, made};
use super::names::usable;
use super::{Facts, Profile};
use serde::Serialize;
use shared::config::ByteSize;
use shared::cycle::VmDisk;
use shared::profile::{AddressPolicy, MacPolicy, Purpose};
use shared::vm::{Configuration, Firmware, Nic, NicModel, Tools};
use utoipa::ToSchema;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Kept,
    Changed,
    /// The source has nothing of it.
    Added,
    /// The target has nothing of it.
    Lost,
}

impl Change {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Lost => "lost",
        }
    }
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PlanRow)]
pub struct Row {
    #[schema(example = "disks[2000].size")]
    pub field: String,
    /// Null: it has none, or it is not known.
    #[schema(example = "10737418241B")]
    pub source: Option<String>,
    /// Null: it will have none, or that is not known yet.
    #[schema(example = "11GiB")]
    pub target: Option<String>,
    pub change: Change,
    #[schema(example = "the target's volumes are whole GiB; what is added reads zero")]
    pub reason: String,
}

struct Rows(Vec<Row>);

impl Rows {
    /// The change is what the two sides say.
    fn add(
        &mut self,
        field: impl Into<String>,
        source: Option<String>,
        target: Option<String>,
        reason: impl Into<String>,
    ) {
        let change = match (&source, &target) {
            // Of neither anything is known: it stays as it is.
            (None, None) => return,
            (Some(a), Some(b)) if a == b => Change::Kept,
            (Some(_), Some(_)) => Change::Changed,
            (None, Some(_)) => Change::Added,
            (Some(_), None) => Change::Lost,
        };
        self.0.push(Row { field: field.into(), source, target, change, reason: reason.into() });
    }

    fn kept(&mut self, field: impl Into<String>, value: Option<String>, reason: &str) {
        self.add(field, value.clone(), value, reason);
    }
}

fn text(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

/// See the module.
pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = Rows(Vec::new());
    let vm = &facts.vm;
    let name = usable(&vm.name);
    let why = match name == vm.name {
        true => "a host name already",
        false => "the target needs a host name",
    };
    rows.add("name", text(&vm.name), text(name), why);
    rows.kept("display_name", text(&vm.name), "for people; any text");
    rows.add("uuid", text(&vm.uuid), None, "the target gives its own; the source's stays with the migration");
    if let Some(profile) = &facts.profile {
        place(profile, &mut rows);
    }
    if let Some(c) = &vm.configuration {
        machine(facts, c, &mut rows);
    }
    for (index, disk) in vm.disks.iter().enumerate() {
        self::disk(facts, index, disk, &mut rows);
    }
    if let Some(c) = &vm.configuration {
        for nic in &c.nics {
            self::nic(facts, nic, &mut rows);
        }
        guest(c, &mut rows);
    }
    rows.0
}

/// What only the target has.
fn place(profile: &Profile, rows: &mut Rows) {
    let s = &profile.settings;
    let why = format!("profile {}", profile.name);
    for (field, said) in [
        ("zone", &s.zone),
        ("compute_offering", &s.compute_offering),
        ("disk_offering", &s.disk_offering),
        ("storage_pool", &s.storage_pool),
    ] {
        rows.add(field, None, said.clone(), why.as_str());
    }
}

fn machine(facts: &Facts, c: &Configuration, rows: &mut Rows) {
    let offering = facts.profile.as_ref().and_then(|p| p.settings.compute_offering.as_ref());
    let sized = match offering {
        Some(offering) => format!("as far as compute offering {offering:?} lets it"),
        None => "of an offering that lets it be chosen".to_owned(),
    };
    rows.kept("cpus", c.cpus.map(|n| n.to_string()), &sized);
    rows.kept("cores_per_socket", c.cores_per_socket.map(|n| n.to_string()), "as a detail of the VM");
    rows.kept("memory", c.memory_bytes.map(|bytes| ByteSize(bytes).to_string()), &sized);
    if c.firmware != Firmware::Unknown {
        rows.kept("firmware", text(c.firmware), "the guest starts by it");
    }
    if c.firmware == Firmware::Efi {
        let why = "the target's firmware begins with none; the guest starts from its usual path";
        rows.add("firmware_variables", text("those of the VM"), None, why);
    }
    let on_off = |on: bool| text(if on { "on" } else { "off" });
    rows.kept("secure_boot", c.secure_boot.and_then(on_off), "enrolled keys of its own are lost");
    if c.tpm == Some(true) {
        rows.add("tpm", on_off(true), None, "what is sealed in it cannot be taken out");
    }
}

fn disk(facts: &Facts, index: usize, disk: &VmDisk, rows: &mut Rows) {
    let field = |what: &str| format!("disks[{}].{what}", disk.key);
    let target = made(disk.size);
    let why = match target == Some(disk.size) {
        true => "every byte of it",
        false => "the target's volumes are whole GiB; what is added reads zero",
    };
    rows.add(field("size"), text(ByteSize(disk.size)), target.map(|size| ByteSize(size).to_string()), why);
    let kind = facts.vm.configuration.as_ref().and_then(|c| controller_of(c, &disk.key));
    match kind {
        Some(kind) if is_virtio(kind) => rows.kept(field("controller"), text(kind), "the target has it"),
        Some(kind) => {
            rows.add(
                field("controller"),
                text(kind),
                text("virtio"),
                "the target has no other that is as fast; drivers are installed",
            );
        }
        None => {
            rows.add(field("controller"), None, text("virtio"), "what it hangs on at the source is not known")
        }
    }
    let what = if index == 0 {
        "the root; the guest starts from it"
    } else {
        "in the VM's order; 3 is the CD drive"
    };
    rows.add(field("device_id"), None, text(device_id(index)), what);
}

fn nic(facts: &Facts, nic: &Nic, rows: &mut Rows) {
    let field = |what: &str| format!("nics[{}].{what}", nic.key);
    let settings = facts.profile.as_ref().map(|p| &p.settings);
    for (purpose, word) in [(Purpose::Live, "live"), (Purpose::Test, "test")] {
        let target = settings.and_then(|s| s.network_of(nic, purpose));
        let why = match target {
            Some(_) => format!("the profile's {word} network"),
            None => format!("no {word} network is mapped: it is not attached"),
        };
        rows.add(field(&format!("network.{word}")), nic.network.clone(), target.map(str::to_owned), why);
    }
    let mac = nic.mac.map(|mac| mac.to_string());
    match facts.macs() {
        MacPolicy::Keep => rows.kept(field("mac.live"), mac.clone(), "so that licences and leases stay"),
        MacPolicy::New => rows.add(field("mac.live"), mac.clone(), text("a new one"), "the profile says so"),
    }
    rows.add(field("mac.test"), mac, text("a new one"), "the source's is in use while a test runs");
    if nic.model != NicModel::Unknown {
        let why = match nic.model == NicModel::Virtio {
            true => "the target has it",
            false => "the target has no other that is as fast; drivers are installed",
        };
        rows.add(field("model"), text(nic.model), text(NicModel::Virtio), why);
    }
    if !nic.addresses.is_empty() {
        let own = nic.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (target, why) = match settings.map_or(AddressPolicy::default(), |s| s.addresses) {
            AddressPolicy::Keep => (own.clone(), "the guest has them set"),
            AddressPolicy::Dhcp => ("by DHCP".to_owned(), "the profile says so: the guest asks"),
            AddressPolicy::New => ("new ones".to_owned(), "the profile says so: the target gives them"),
        };
        rows.add(field("addresses"), Some(own), Some(target), why);
    }
}

fn guest(c: &Configuration, rows: &mut Rows) {
    let os = c.guest_name.clone().or_else(|| c.guest_id.clone());
    if os.is_some() {
        rows.add("guest_os", os, text("the nearest OS type"), "each side has its own list");
    }
    match c.tools {
        Tools::Running | Tools::Old | Tools::NotRunning => {
            rows.add("guest_tools", text(c.tools), None, "the source's do nothing on the target");
        }
        Tools::NotInstalled | Tools::Unknown => {}
    }
    if !c.tags.is_empty() {
        let why = "the migration keeps them; the target's are pairs of key and value";
        rows.add("tags", text(c.tags.join(", ")), None, why);
    }
    if c.notes.is_some() {
        rows.add(
            "notes",
            c.notes.clone(),
            None,
            "the migration keeps them; the target has no place for them",
        );
    }
}
