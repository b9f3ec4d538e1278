//! `vma-agent.toml`.

mod hardware;

pub use hardware::Hardware;

use crate::metrics::Counted;
use crate::source::{Source, plain, qemu};
use crate::transfer::{Budget, Settings};
use migratekit::compress::Mode;
use migratekit::rate::Limit;
use migratekit::read::usual_connections;
use serde::Deserialize;
use shared::config::{self, ByteSize, Period};
use shared::daemon::{Configuration, Unusable};
use shared::ids::{AgentId, DiskKey, VmUuid};
use shared::telemetry::{Log, Traces};
use shared::tls::{Dialer, Files, Role};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that all VMs' configurations may have together: an inventory is one message, of at most 4 MiB.
const MOST_DESCRIBED: usize = 3 << 20;

/// The daemon's configuration. Every key is documented in `deploy/examples/vma-agent.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `host:port` of the OMA.
    pub oma: String,
    /// Dial it in clear, as whom the certificate names.
    #[serde(default)]
    pub oma_cleartext: bool,
    pub tls: Files,
    /// Sockets of our children and records of our snapshots.
    pub state_dir: PathBuf,
    #[serde(default)]
    pub diagnostics: Diagnostics,
    #[serde(default)]
    pub progress: Progress,
    #[serde(default)]
    pub transfer: Transfer,
    #[serde(default)]
    pub log: Log,
    #[serde(default)]
    pub telemetry: Traces,
    /// The inventory.
    #[serde(default, rename = "vm")]
    pub vms: Vec<Vm>,
}

/// The port for `grpcurl`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Diagnostics {
    pub listen: SocketAddr,
}

impl Default for Diagnostics {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], config::ports::AGENT_DIAGNOSTICS_GRPC).into() }
    }
}

/// The progress API: HTTP, in clear, for whoever may reach it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Progress {
    pub listen: SocketAddr,
}

impl Default for Progress {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], config::ports::AGENT_PROGRESS_REST).into() }
    }
}

/// What a disk's transfer may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transfer {
    /// NBD connections a disk, where the server can serve several; 0: as the engine thinks best.
    pub connections: usize,
    /// One NBD request.
    pub request_size: ByteSize,
    /// Read buffers of a disk.
    pub buffers: ByteSize,
    /// Read and not yet durable at the OMA, a disk: what a crash may make us read again.
    pub window: ByteSize,
    /// To the OMA, a second, of all disks together; 0: no limit.
    pub rate: ByteSize,
    /// NBD connections to one source host, of all disks together.
    pub connections_per_host: usize,
    /// Of what is sent.
    pub compression: Mode,
    /// Silence of the source that counts as an error.
    pub source_deadline: Period,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            connections: 0,
            request_size: ByteSize(512 << 10),
            buffers: ByteSize::mib(6),
            window: ByteSize::mib(64),
            rate: ByteSize(0),
            connections_per_host: 24,
            compression: Mode::Auto,
            source_deadline: Period::seconds(30),
        }
    }
}

/// A VM of the inventory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// As the source knows it.
    pub uuid: String,
    /// For people.
    pub name: String,
    /// Its disks lie behind QEMU: live, with change tracking.
    pub qemu: Option<qemu::Config>,
    /// Its disks lie behind plain NBD servers or in files: no snapshots, no change tracking.
    pub plain: Option<plain::Config>,
    /// What it is made of, as far as the source cannot be asked.
    #[serde(default)]
    pub configuration: Hardware,
}

impl Vm {
    fn disk_keys(&self) -> impl Iterator<Item = &DiskKey> {
        let qemu = self.qemu.iter().flat_map(|config| config.disks.iter().map(|disk| &disk.key));
        qemu.chain(self.plain.iter().flat_map(|config| config.disks.iter().map(|disk| &disk.key)))
    }

    /// The source, which talks to nobody yet. `state` is the agent's own folder.
    fn open(&self, uuid: &VmUuid, state: &Path) -> Option<Arc<dyn Source>> {
        let (uuid, name, snapshots) = (uuid.clone(), self.name.clone(), state.join("snapshots"));
        let declared = self.configuration.read(self.disk_keys()).ok()?;
        match (&self.qemu, &self.plain) {
            (Some(config), None) => {
                let source = qemu::QemuSource::new(uuid, name, config.clone(), &snapshots);
                Some(Arc::new(source.with_declared(declared)))
            }
            (None, Some(config)) => {
                let sockets = state.join("run");
                let source = plain::PlainSource::new(uuid, name, config.clone(), &snapshots, &sockets);
                Some(Arc::new(source.with_declared(declared)))
            }
            _ => None,
        }
    }
}

impl Config {
    /// Reads and checks the file; binds nothing, makes nothing. `rate` is what the command line says instead.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn load(path: &Path, rate: Option<ByteSize>) -> Result<Self, config::Error> {
        let mut config: Self = config::load(path)?;
        check_rate(path, "transfer.rate", config.transfer.rate)?;
        if let Some(rate) = rate {
            check_rate(Path::new("command line"), "--rate", rate)?;
            config.transfer.rate = rate;
        }
        let invalid = |key: &str, why: &str| config::Error::invalid(path, key, why);
        let mib = 1 << 20;
        let transfer = &config.transfer;
        if transfer.connections > 16 {
            return Err(invalid("transfer.connections", "must be 0 to 16"));
        }
        if !(1..=1024).contains(&transfer.connections_per_host) {
            return Err(invalid("transfer.connections_per_host", "must be 1 to 1024"));
        }
        // Shorter, a source that is well has no time to answer; longer, one that is not is never told of.
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&transfer.source_deadline.0) {
            return Err(invalid("transfer.source_deadline", "must be 1s to 1h"));
        }
        if !(8 * mib..=64 * mib).contains(&transfer.window.bytes()) {
            return Err(invalid(
                "transfer.window",
                "must be 8MiB to 64MiB: it is what a crash may make us read again",
            ));
        }
        if !(64 << 10..=4 * mib).contains(&transfer.request_size.bytes()) {
            return Err(invalid("transfer.request_size", "must be 64KiB to 4MiB"));
        }
        if !(4 * mib..=256 * mib).contains(&transfer.buffers.bytes()) {
            return Err(invalid("transfer.buffers", "must be 4MiB to 256MiB"));
        }
        let (mut seen, mut names, mut described) = (BTreeSet::new(), BTreeSet::new(), 0);
        for (index, vm) in config.vms.iter().enumerate() {
            if vm.name.trim().is_empty() {
                return Err(invalid(&format!("vm[{index}].name"), "is empty: commands and people need one"));
            }
            if vm.name.chars().any(char::is_control) {
                return Err(invalid(
                    &format!("vm[{index}].name"),
                    "has a control character: write it without",
                ));
            }
            if !names.insert(vm.name.as_str()) {
                return Err(invalid(&format!("vm[{index}].name"), "is the name of another VM in this file"));
            }
            let mut keys = BTreeSet::new();
            if let Some(key) = vm.disk_keys().find(|key| !keys.insert(*key)) {
                let why = format!("there are two disks {key}: each needs a key of its own");
                return Err(invalid(&format!("vm[{index}].disks"), &why));
            }
            let uuid = VmUuid::parse(vm.uuid.clone())
                .map_err(|e| invalid(&format!("vm[{index}].uuid"), &e.to_string()))?;
            if vm.qemu.is_some() == vm.plain.is_some() {
                return Err(invalid(
                    &format!("vm[{index}]"),
                    "needs either a [vm.qemu] or a [vm.plain] table",
                ));
            }
            let declared = vm.configuration.read(vm.disk_keys()).map_err(|wrong| {
                invalid(&format!("vm[{index}].configuration{}", wrong.place()), &wrong.to_string())
            })?;
            described += declared.to_json().len();
            if described > MOST_DESCRIBED {
                let why = "is too much with those before it: all together may have 3 MiB, since they travel in one message; shorten notes and tags";
                return Err(invalid(&format!("vm[{index}].configuration"), why));
            }
            if !seen.insert(uuid) {
                return Err(invalid(&format!("vm[{index}].uuid"), "is the uuid of another VM in this file"));
            }
        }
        Ok(config)
    }

    /// How the OMA is dialled.
    ///
    /// # Errors
    /// A certificate or an address that is not usable.
    pub fn dialer(&self) -> anyhow::Result<Dialer> {
        match self.oma_cleartext {
            true => Dialer::cleartext(&self.oma, self.tls.name_as(Role::Agent)?),
            false => Dialer::new(&self.oma, self.tls.client()?),
        }
        .map_err(anyhow::Error::msg)
    }

    /// Who the certificate says this agent is; and all else that can be known before anything is started.
    ///
    /// # Errors
    /// When a file is unusable, the certificate is not an agent's, or the OMA's address or the log level is none.
    pub fn check(&self) -> anyhow::Result<AgentId> {
        self.tls.server()?;
        self.dialer()?;
        shared::telemetry::check(&self.log)?;
        self.telemetry.check()?;
        Ok(self.tls.name_as(Role::Agent)?)
    }

    /// The sources of the inventory, in order; they talk to nobody yet.
    pub fn sources(&self) -> Vec<(VmUuid, Arc<dyn Source>)> {
        let one = |vm: &Vm| {
            let uuid = VmUuid::parse(vm.uuid.clone()).ok()?;
            let source = vm.open(&uuid, &self.state_dir)?;
            Some((uuid, source))
        };
        self.vms.iter().filter_map(one).collect()
    }

    /// For the transfers.
    pub fn settings(&self) -> Settings {
        Settings {
            connections: match self.transfer.connections {
                0 => usual_connections(),
                some => some,
            },
            request: self.transfer.request_size.bytes(),
            memory: self.transfer.buffers.bytes(),
            window: u32::try_from(self.transfer.window.bytes()).unwrap_or(64 << 20),
            budget: Budget::new(self.transfer.connections_per_host),
            limit: Arc::new(Limit::new(self.transfer.rate.bytes())),
            compression: self.transfer.compression,
            read_deadline: self.transfer.source_deadline.0,
            counted: Counted::default(),
        }
    }
}

/// `place` and `key` are where it was said.
fn check_rate(place: &Path, key: &str, rate: ByteSize) -> Result<(), config::Error> {
    match (1..64 << 10).contains(&rate.bytes()) {
        true => {
            Err(config::Error::invalid(place, key, "must be at least 64KiB (a second), or 0 for no limit"))
        }
        false => Ok(()),
    }
}

impl Configuration for Config {
    fn log(&self) -> &Log {
        &self.log
    }

    fn traces(&self) -> &Traces {
        &self.telemetry
    }

    fn check(&self) -> Result<(), Unusable> {
        Self::check(self)?;
        Ok(())
    }

    fn check_certificate(&self) -> Result<(), Unusable> {
        Ok(self.tls.check_own(Role::Agent)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../deploy/examples/vma-agent.toml");
    const UNIT: &str = include_str!("../../deploy/systemd/vma-agent.service");

    fn load(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("written");
        Config::load(file.path(), None).expect("the example is usable")
    }

    #[test]
    fn the_example_is_usable_and_its_defaults_are_true() {
        let (plain, all) = (load(EXAMPLE), load(&config::with_all_keys(EXAMPLE)));
        let shown = |c: &Config| {
            format!(
                "{:?} {:?} {:?} {:?} {}",
                c.diagnostics, c.progress, c.transfer, c.log, c.telemetry.sample_ratio
            )
        };
        assert_eq!(shown(&plain), shown(&all), "what is commented out shows the default");
        let scratch = |c: &Config| c.vms[0].qemu.as_ref().and_then(|qemu| qemu.scratch.clone());
        assert_eq!((scratch(&plain), scratch(&all).is_some()), (None, true));
        assert_eq!(plain.sources().len(), 2, "one of each kind");
        let declared = plain.vms[0].configuration.read(plain.vms[0].disk_keys()).expect("usable");
        assert_eq!((declared.cpus, declared.nics.len(), declared.disks[0].unit), (Some(4), 1, Some(0)));
    }

    #[test]
    fn a_deadline_that_nothing_meets_and_a_rate_that_never_ends_are_refused_where_they_were_said() {
        let load = |transfer: &str, rate: Option<u64>| {
            let file = tempfile::NamedTempFile::new().expect("temporary file");
            let tls = "[tls]\nca = \"/x\"\ncert = \"/x\"\nkey = \"/x\"\n";
            let text = format!("oma = \"localhost:1\"\nstate_dir = \"/x\"\n{tls}[transfer]\n{transfer}\n");
            std::fs::write(file.path(), text).expect("written");
            Config::load(file.path(), rate.map(ByteSize)).map(drop).map_err(|error| error.to_string())
        };
        for period in ["0s", "999ms", "2h"] {
            let error = load(&format!("source_deadline = \"{period}\""), None).expect_err("refused");
            assert!(error.contains("`transfer.source_deadline` must be 1s to 1h"), "{error}");
        }
        for period in ["1s", "1h"] {
            load(&format!("source_deadline = \"{period}\""), None).expect("usable");
        }
        let words = "must be at least 64KiB (a second), or 0 for no limit";
        let of_option = load("", Some(1)).expect_err("refused");
        assert_eq!(of_option, format!("command line: `--rate` {words}"));
        let of_file = load("rate = \"1B\"", Some(0)).expect_err("refused");
        assert!(of_file.ends_with(&format!("`transfer.rate` {words}")), "{of_file}");
        load("rate = \"64KiB\"", Some(0)).expect("usable");
    }

    #[test]
    fn what_could_be_taken_for_each_other_is_refused() {
        let vm = |name: &str, uuid: u8, keys: [&str; 2]| {
            let disk = |key: &str| format!("[[vm.plain.disks]]\nkey = \"{key}\"\nfile = \"/x\"\n");
            let uuid = format!("00000000-0000-4000-8000-000000000{uuid:03}");
            format!("[[vm]]\nuuid = \"{uuid}\"\nname = \"{name}\"\n{}{}", disk(keys[0]), disk(keys[1]))
        };
        let tls = "[tls]\nca = \"/x\"\ncert = \"/x\"\nkey = \"/x\"\n";
        let long = |n: u8| {
            let notes = "x".repeat(4096);
            let tags = format!("[{}]", format!("\"{}\",", "t".repeat(256)).repeat(64));
            vm(&n.to_string(), n, ["a", "b"])
                + &format!("[vm.configuration]\nnotes = \"{notes}\"\ntags = {tags}\n")
        };
        for (vms, why) in [
            ((0..160).map(long).collect(), "].configuration` is too much with those before it"),
            (vm("", 1, ["a", "b"]), "vm[0].name"),
            (vm("a\\u001b[31m", 1, ["a", "b"]), "control character"),
            (vm("web", 1, ["a", "a"]), "two disks a"),
            (vm("web", 1, ["a", "b"]) + &vm("web", 2, ["a", "b"]), "name of another VM"),
            (vm("web", 1, ["a", "b"]) + &vm("db", 1, ["a", "b"]), "uuid of another VM"),
            (
                vm("web", 1, ["a", "b"]) + "[vm.configuration]\nmemory = 0\n",
                "`vm[0].configuration` cannot be used: memory is 0",
            ),
        ] {
            let file = tempfile::NamedTempFile::new().expect("temporary file");
            let text = format!("oma = \"localhost:1\"\nstate_dir = \"/x\"\n{tls}{vms}");
            std::fs::write(file.path(), text).expect("written");
            let error = Config::load(file.path(), None).expect_err("refused").to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_unit_fits_the_program_and_the_example() {
        assert!(UNIT.contains("\nExecStart=/usr/bin/vma-agent --config /etc/migratekit/vma-agent.toml\n"));
        assert!(UNIT.contains(&format!("\nRestartPreventExitStatus={}\n", config::EXIT_CONFIGURATION)));
        let Config { tls, state_dir, .. } = load(EXAMPLE);
        for file in [tls.ca, tls.cert, tls.key] {
            let name =
                file.strip_prefix("/run/credentials/vma-agent.service").expect("a credential").display();
            assert!(
                UNIT.contains(&format!("\nLoadCredential={name}:/etc/migratekit/tls/{name}\n")),
                "{name}"
            );
        }
        let state = state_dir.strip_prefix("/var/lib").expect("a state directory").display();
        assert!(UNIT.contains(&format!("\nStateDirectory={state}\n")), "{state}");
    }
}
