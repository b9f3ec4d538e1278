//! `oma-api.toml`.

use crate::compute::{Accel, cloudstack};
use crate::conversion;
use crate::failover::live::policy::Policy;
use crate::notify;
use crate::retention::Retention;
use crate::storage::{Floor, LinstorSettings};
use serde::Deserialize;
use shared::config::{self, Period};
use shared::daemon::{Configuration, Unusable};
use shared::telemetry::{Log, Traces};
use shared::tls::{Files, Role};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The daemon's configuration. Every key is documented in `deploy/examples/oma-api.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where agents and operators connect.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where agents connect in clear; they say who they are, and are believed.
    pub listen_cleartext: Option<SocketAddr>,
    /// `sqlite:///path/to/file`, or `mysql://user:password@host:3306/database` (MariaDB too); in the file,
    /// `file:/path` names another that holds it.
    pub database_url: DatabaseUrl,
    /// Manifests lie here.
    pub state_dir: PathBuf,
    pub tls: Files,
    pub storage: Storage,
    /// How many are kept, and how long.
    #[serde(default)]
    pub restore_points: Retention,
    /// Left out: no machines are made, so that there are no failovers.
    pub compute: Option<Compute>,
    /// How guests are made to run on virtio.
    #[serde(default)]
    pub conversion: conversion::Settings,
    /// What is asked of every live failover.
    #[serde(default)]
    pub failover: Policy,
    /// Who sends mails about failovers; left out: nobody does.
    pub notifications: Option<notify::Settings>,
    #[serde(default)]
    pub rest: Rest,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub log: Log,
    #[serde(default)]
    pub telemetry: Traces,
}

/// The REST API: HTTP, for whoever has a token; for this machine alone while none was made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rest {
    pub listen: SocketAddr,
    /// Whether it speaks TLS, with the certificate of `[tls]`.
    pub tls: bool,
}

impl Default for Rest {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], config::ports::OMA_REST).into(), tls: false }
    }
}

/// May hold a password: its `Debug` shows nothing.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// For the store alone.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the content of the file that it names, where it names one.
    fn read(&mut self, config: &Path) -> Result<(), config::Error> {
        let Some(file) = self.0.strip_prefix("file:") else { return Ok(()) };
        let path = Path::new(file.strip_prefix("//").unwrap_or(file));
        let content = std::fs::read_to_string(path).map_err(|error| {
            let message = format!("names the file {}, which cannot be read: {error}", path.display());
            config::Error::invalid(config, "database_url", message)
        })?;
        self.0 = content.trim().to_owned();
        Ok(())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where replicas are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase", tag = "kind")]
pub enum Storage {
    /// Files in a folder.
    Local {
        path: PathBuf,
        /// What has to stay free there.
        #[serde(default)]
        floor: Floor,
    },
    /// Resources of a LINSTOR cluster.
    Linstor(LinstorSettings),
}

impl Storage {
    /// What has to stay free.
    pub fn floor(&self) -> Floor {
        match self {
            Self::Local { floor, .. } | Self::Linstor(LinstorSettings { floor, .. }) => *floor,
        }
    }
}

/// What makes machines.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase", tag = "kind")]
pub enum Compute {
    /// QEMU on this host.
    Local {
        /// Definitions and consoles lie here.
        path: PathBuf,
        #[serde(default)]
        accel: Accel,
    },
    /// CloudStack, on the LINSTOR of `[storage]`.
    CloudStack(Box<cloudstack::Settings>),
    /// No machines at all, only their records in a folder: for tests.
    #[cfg(any(test, feature = "test-compute"))]
    Instant { path: PathBuf },
}

/// What peers may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Period,
    /// From there to the first bytes of HTTP/2.
    pub preface: Period,
    /// Between heartbeats of an agent.
    pub heartbeat: Period,
    /// Without any progress, after which a running cycle is stopped.
    pub stalled: Period,
    /// Requests for failovers from an address, by REST.
    pub failovers_per_minute: NonZeroU32,
    /// And at once.
    pub failover_burst: NonZeroU32,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            handshake: Period::seconds(10),
            preface: Period::seconds(5),
            heartbeat: Period::seconds(5),
            stalled: Period::seconds(600),
            failovers_per_minute: const { NonZeroU32::new(10).expect("not 0") },
            failover_burst: const { NonZeroU32::new(20).expect("not 0") },
            trusted_proxies: vec![],
        }
    }
}

fn default_listen() -> SocketAddr {
    ([0, 0, 0, 0], config::ports::OMA_GRPC).into()
}

impl Config {
    /// Reads and checks the file; binds nothing, makes nothing.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn load(path: &Path) -> Result<Self, config::Error> {
        let mut config: Self = config::load(path)?;
        config.database_url.read(path)?;
        for (key, period) in [
            ("limits.handshake", config.limits.handshake),
            ("limits.preface", config.limits.preface),
            ("limits.heartbeat", config.limits.heartbeat),
            ("limits.stalled", config.limits.stalled),
        ] {
            if period.0 < Duration::from_secs(1) {
                return Err(config::Error::invalid(path, key, "must be at least 1s"));
            }
        }
        if config.restore_points.max_age.is_some_and(|age| age.0 < Duration::from_secs(1)) {
            return Err(config::Error::invalid(path, "restore_points.max_age", "must be at least 1s"));
        }
        if let Storage::Linstor(settings) = &config.storage
            && let Some((key, message)) = settings.unusable()
        {
            return Err(config::Error::invalid(path, key, message));
        }
        if let Some(Compute::CloudStack(settings)) = &config.compute {
            if !matches!(config.storage, Storage::Linstor(_)) {
                let why = "\"cloudstack\" needs [storage] kind = \"linstor\": its machines run on LINSTOR's volumes";
                return Err(config::Error::invalid(path, "compute.kind", why));
            }
            if let Some((key, message)) = settings.unusable() {
                return Err(config::Error::invalid(path, key, message));
            }
        }
        if config.limits.connections == 0 {
            return Err(config::Error::invalid(path, "limits.connections", "must be at least 1"));
        }
        Ok(config)
    }

    /// All that can be known before anything is started.
    ///
    /// # Errors
    /// When a certificate file is unusable, the certificate is not an OMA's, or the database's URL or the log level is
    /// none.
    pub fn check(&self) -> anyhow::Result<()> {
        self.tls.server()?;
        self.tls.name_as(Role::Oma)?;
        crate::store::lock_file(self.database_url.as_str())?;
        shared::telemetry::check(&self.log)?;
        self.telemetry.check()?;
        if let Some(notifications) = &self.notifications {
            notifications.mailer()?;
        }
        if let Storage::Linstor(settings) = &self.storage {
            settings.cluster()?;
        }
        Ok(())
    }

    /// For the listener.
    pub fn tls_limits(&self) -> shared::tls::Limits {
        shared::tls::Limits {
            handshake: self.limits.handshake.0,
            preface: self.limits.preface.0,
            connections: self.limits.connections,
            ..shared::tls::Limits::default()
        }
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
        Ok(self.tls.check_own(Role::Oma)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../deploy/examples/oma-api.toml");
    const UNIT: &str = include_str!("../../deploy/systemd/oma-api.service");

    fn load(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("written");
        Config::load(file.path()).expect("the example is usable")
    }

    #[test]
    fn the_example_is_usable_and_its_defaults_are_true() {
        let (plain, mut all) = (load(EXAMPLE), load(&config::with_all_keys(EXAMPLE)));
        assert!(all.listen_cleartext.take().is_some(), "an example, not the default");
        assert!(all.telemetry.otlp_endpoint.take().is_some(), "an example, not the default");
        assert!(all.restore_points.max_age.take().is_some(), "an example, not the default");
        assert!(all.compute.take().is_some(), "an example, not the default");
        assert!(all.notifications.take().is_some(), "an example, not the default");
        assert!(all.conversion.virtio_win.take().is_some(), "an example, not the default");
        assert!(all.conversion.virt_tools.take().is_some(), "an example, not the default");
        assert_ne!(EXAMPLE, config::with_all_keys(EXAMPLE));
        assert_eq!(format!("{plain:?}"), format!("{all:?}"), "what is commented out shows the default");
    }

    /// The example, with the keys of another kind of storage (`#  key = value`) in place of those of the one that is on.
    fn on_linstor() -> String {
        let (before, rest) = EXAMPLE.split_once("kind = \"local\"\n").expect("a kind");
        let (own, after) = rest.split_once("\n#floor").expect("what both kinds have");
        let keys = own.lines().filter_map(|line| line.strip_prefix("#  ")).collect::<Vec<_>>().join("\n");
        format!("{before}{keys}\n#floor{after}")
    }

    #[test]
    fn replicas_may_lie_in_linstor() {
        let text = on_linstor();
        let linstor = |text: &str| match load(text).storage {
            Storage::Linstor(settings) => settings,
            other @ Storage::Local { .. } => panic!("{other:?}"),
        };
        let all = linstor(&text);
        assert_eq!(all.controllers.len(), 2);
        assert!(all.token_file.is_some() && all.ca_file.is_some());
        assert_eq!((all.resource_group.as_str(), all.node.as_str()), ("cloudstack", "oma"));
        let without = |keys: &[&str]| {
            let is_one = |line: &&str| keys.iter().any(|key| line.starts_with(&format!("{key} = ")));
            text.lines().filter(|line| !is_one(line)).collect::<Vec<_>>().join("\n")
        };
        let least = linstor(&without(&["token_file", "ca_file", "node", "deadline"]));
        assert_eq!(least.deadline.0, all.deadline.0, "the default");
        assert_eq!((least.floor, least.token_file, least.ca_file), (Floor::default(), None, None));
        assert_eq!(least.node, rustix::system::uname().nodename().to_string_lossy());
        for (key, bad) in [
            ("controllers", "[]"),
            ("controllers", "[\"linstor\"]"),
            // The token would be for everybody to read.
            ("controllers", "[\"http://10.0.0.1:3370\"]"),
            ("node", "\"a/b\""),
            ("deadline", "\"10ms\""),
            ("resource_group", "\"1abc\""),
        ] {
            let file = tempfile::NamedTempFile::new().expect("temporary file");
            let changed =
                without(&[key]).replace("kind = \"linstor\"", &format!("kind = \"linstor\"\n{key} = {bad}"));
            std::fs::write(file.path(), changed).expect("written");
            let error = Config::load(file.path()).expect_err("cannot be used").to_string();
            assert!(error.contains(&format!("storage.{key}")) || error.contains("1abc"), "{error}");
        }
    }

    #[test]
    fn machines_may_be_made_in_cloudstack() {
        let of_compute = EXAMPLE.split_once("#[compute]\n").expect("a section").1;
        let own = of_compute.split_once("\n#[").expect("another one").0;
        let keys: Vec<_> = own.lines().filter_map(|line| line.strip_prefix("#  ")).collect();
        let without = |left_out: &[&str]| {
            let is_one = |line: &&&str| left_out.iter().any(|key| line.starts_with(&format!("{key} = ")));
            let keys: Vec<_> = keys.iter().filter(|line| !is_one(line)).copied().collect();
            format!("{}\n[compute]\n{}\n", on_linstor(), keys.join("\n"))
        };
        let cloudstack = |text: &str| match load(text).compute {
            Some(Compute::CloudStack(settings)) => *settings,
            other => panic!("{other:?}"),
        };
        let all = cloudstack(&without(&[]));
        assert!(all.ca_file.is_some() && all.service_offering.is_some() && all.isolated_network.is_some());
        let optional =
            ["ca_file", "service_offering", "isolated_network", "deadline", "job_deadline", "poll"];
        let least = cloudstack(&without(&optional));
        assert_eq!((least.ca_file, least.service_offering, least.isolated_network), (None, None, None));
        let periods =
            [(least.deadline, all.deadline), (least.job_deadline, all.job_deadline), (least.poll, all.poll)];
        assert!(periods.iter().all(|(default, shown)| default.0 == shown.0), "the defaults: {periods:?}");
        for key in
            ["endpoint", "api_key_file", "secret_key_file", "zone", "pool", "disk_offering", "template"]
        {
            let file = tempfile::NamedTempFile::new().expect("temporary file");
            std::fs::write(file.path(), without(&[key])).expect("written");
            let error = shared::error::chain(&Config::load(file.path()).expect_err("it cannot be left out"));
            assert!(error.contains(key), "{key}: {error}");
        }
        let on_files = without(&[]).replace(&on_linstor(), EXAMPLE);
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), on_files).expect("written");
        let error = Config::load(file.path()).expect_err("it needs LINSTOR").to_string();
        assert!(error.contains("compute.kind"), "{error}");
    }

    #[test]
    fn what_is_asked_of_a_live_failover_can_be_set() {
        let policy =
            load(&format!("{EXAMPLE}\n[failover]\ntest_max_age = \"0s\"\nkeep = \"36h\"\n")).failover;
        let day = Period::seconds(24 * 3600).0;
        assert_eq!((policy.test_max_age.0, policy.keep.0), (Duration::ZERO, day * 3 / 2));
        assert_eq!(policy.verified_max_age.0, day * 30, "as it is");
    }

    #[test]
    fn the_url_of_the_database_may_lie_in_a_file_and_is_not_shown() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let named =
            EXAMPLE.replace("sqlite:///var/lib/oma-api/oma.db", &format!("file:{}", file.path().display()));
        assert_ne!(named, EXAMPLE);
        std::fs::write(file.path(), "mysql://oma:secret@db.example/oma\n").expect("written");
        let config = load(&named);
        assert_eq!(config.database_url.as_str(), "mysql://oma:secret@db.example/oma");
        assert!(!format!("{config:?}").contains("secret"));
        let missing = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(missing.path(), named.replace("file:", "file:/nowhere")).expect("written");
        let error = Config::load(missing.path()).expect_err("it is not there").to_string();
        assert!(error.contains("database_url") && error.contains("/nowhere"), "{error}");
    }

    #[test]
    fn the_unit_fits_the_program_and_the_example() {
        assert!(UNIT.contains("\nExecStart=/usr/bin/oma-api --config /etc/migratekit/oma-api.toml\n"));
        assert!(UNIT.contains(&format!("\nRestartPreventExitStatus={}\n", config::EXIT_CONFIGURATION)));
        let Config { tls, state_dir, .. } = load(EXAMPLE);
        for file in [tls.ca, tls.cert, tls.key] {
            let name = file.strip_prefix("/run/credentials/oma-api.service").expect("a credential").display();
            assert!(
                UNIT.contains(&format!("\nLoadCredential={name}:/etc/migratekit/tls/{name}\n")),
                "{name}"
            );
        }
        let state = state_dir.strip_prefix("/var/lib").expect("a state directory").display();
        assert!(UNIT.contains(&format!("\nStateDirectory={state}\n")), "{state}");
    }
}
