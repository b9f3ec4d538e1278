//! What a profile says, by flags or from a file.

use super::Of;
use shared::ids::DeviceKey;
use shared::profile::{AddressPolicy, Backend, MacPolicy, NetworkMap, NicMap, Settings};
use std::path::{Path, PathBuf};

/// What is given.
#[derive(Debug, clap::Args)]
pub(super) struct Say {
    #[command(flatten)]
    pub(super) of: Of,
    /// All of it, from a file: .json, else TOML; the `settings` of `target get -o json` are one
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "backend", "zone", "compute_offering", "disk_offering", "storage_pool", "live", "test", "nic_live", "nic_test",
        "live_mac", "addresses", "notes",
    ])]
    file: Option<PathBuf>,
    /// What makes the machines; by default local, the only one of this version
    #[arg(long, value_name = "local|cloudstack|linstor")]
    backend: Option<Backend>,
    /// Empty: any
    #[arg(long)]
    zone: Option<String>,
    #[arg(long, value_name = "NAME")]
    compute_offering: Option<String>,
    #[arg(long, value_name = "NAME")]
    disk_offering: Option<String>,
    #[arg(long, value_name = "NAME")]
    storage_pool: Option<String>,
    /// Where a network of the source is when a VM is live; may be repeated. Empty: nowhere
    #[arg(long, value_name = "SOURCE=NETWORK", value_parser = pair)]
    live: Vec<(String, String)>,
    /// Where it is in a test: never a network that is live; may be repeated
    #[arg(long, value_name = "SOURCE=NETWORK", value_parser = pair)]
    test: Vec<(String, String)>,
    /// The same for one NIC, by the source's name of it
    #[arg(long, value_name = "NIC=NETWORK", value_parser = pair)]
    nic_live: Vec<(String, String)>,
    #[arg(long, value_name = "NIC=NETWORK", value_parser = pair)]
    nic_test: Vec<(String, String)>,
    /// MAC addresses when a VM is live; a test always makes new ones
    #[arg(long, value_name = "keep|new")]
    live_mac: Option<MacPolicy>,
    #[arg(long, value_name = "keep|dhcp|new")]
    addresses: Option<AddressPolicy>,
    #[arg(long, value_name = "TEXT")]
    notes: Option<String>,
    /// Taken by a begin that names none: yes takes it from the one that was
    #[arg(long, value_name = "yes|no", num_args = 0..=1, default_missing_value = "yes", value_parser = yes_no)]
    default: Option<bool>,
}

/// Arguments or a file that cannot be used; exit code 64.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Unusable {
    #[error("{} cannot be read: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{} is not a target profile: {why}", path.display())]
    Json { path: PathBuf, why: serde_json::Error },
    #[error(transparent)]
    Toml(#[from] shared::config::Error),
    #[error("{0}")]
    Nic(#[from] shared::ids::InvalidId),
    #[error("nothing to change is given: see `migratekit target update --help`")]
    Nothing,
}

/// At the first equals sign: for a source network that has one in its name there is the file.
fn pair(text: &str) -> Result<(String, String), String> {
    let (source, target) =
        text.split_once('=').ok_or("write SOURCE=NETWORK, such as \"VM Network=production\"")?;
    Ok((source.to_owned(), target.to_owned()))
}

fn yes_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}

fn read(path: &Path) -> Result<Settings, Unusable> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Unusable::File { path: path.to_owned(), source })?;
        return serde_json::from_str(&text).map_err(|why| Unusable::Json { path: path.to_owned(), why });
    }
    Ok(shared::config::load(path)?)
}

impl Say {
    pub(super) fn is_nothing(&self) -> bool {
        let texts =
            [&self.zone, &self.compute_offering, &self.disk_offering, &self.storage_pool, &self.notes];
        let pairs = [&self.live, &self.test, &self.nic_live, &self.nic_test];
        self.file.is_none()
            && self.backend.is_none()
            && self.live_mac.is_none()
            && self.addresses.is_none()
            && self.default.is_none()
            && texts.iter().all(|t| t.is_none())
            && pairs.iter().all(|p| p.is_empty())
    }

    /// What is given, on top of what is there.
    pub(super) fn settings(&self, before: Settings) -> Result<Settings, Unusable> {
        let mut s = match &self.file {
            Some(path) => read(path)?,
            None => before,
        };
        let text = |into: &mut Option<String>, given: &Option<String>| {
            if let Some(given) = given {
                *into = Some(given.clone()).filter(|t| !t.is_empty());
            }
        };
        text(&mut s.zone, &self.zone);
        text(&mut s.compute_offering, &self.compute_offering);
        text(&mut s.disk_offering, &self.disk_offering);
        text(&mut s.storage_pool, &self.storage_pool);
        text(&mut s.notes, &self.notes);
        s.backend = self.backend.unwrap_or(s.backend);
        s.live_mac = self.live_mac.unwrap_or(s.live_mac);
        s.addresses = self.addresses.unwrap_or(s.addresses);
        s.is_default = self.default.unwrap_or(s.is_default);
        let target = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        for (source, network) in &self.live {
            of_network(&mut s, source).live = target(network);
        }
        for (source, network) in &self.test {
            of_network(&mut s, source).test = target(network);
        }
        for (key, network) in &self.nic_live {
            of_nic(&mut s, key.parse()?).live = target(network);
        }
        for (key, network) in &self.nic_test {
            of_nic(&mut s, key.parse()?).test = target(network);
        }
        if self.file.is_none() {
            // Nowhere live and nowhere in tests: the map is taken away.
            s.networks.retain(|map| map.live.is_some() || map.test.is_some());
            s.nics.retain(|map| map.live.is_some() || map.test.is_some());
        }
        Ok(s)
    }
}

fn of_network<'a>(s: &'a mut Settings, source: &str) -> &'a mut NetworkMap {
    let at = s.networks.iter().position(|map| map.source == source).unwrap_or_else(|| {
        s.networks.push(NetworkMap { source: source.to_owned(), live: None, test: None });
        s.networks.len() - 1
    });
    &mut s.networks[at]
}

fn of_nic(s: &mut Settings, key: DeviceKey) -> &mut NicMap {
    let at = s.nics.iter().position(|map| map.key == key).unwrap_or_else(|| {
        s.nics.push(NicMap { key, live: None, test: None });
        s.nics.len() - 1
    });
    &mut s.nics[at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        say: Say,
    }

    fn say(arguments: &[&str]) -> Say {
        Line::try_parse_from([&["x", "shop"], arguments].concat()).expect("arguments").say
    }

    #[test]
    fn flags_change_what_they_name_and_leave_the_rest() {
        let made = say(&[
            "--zone",
            "z",
            "--live",
            "VM Network=a=b",
            "--test",
            "VM Network=t",
            "--nic-test",
            "4000=u",
        ]);
        let made = made.settings(Settings::new(Backend::Local)).expect("usable");
        assert_eq!(made.networks[0].live.as_deref(), Some("a=b"), "at the first equals sign");
        assert_eq!((made.networks.len(), made.nics[0].test.as_deref()), (1, Some("u")));
        let changed = say(&[
            "--zone",
            "",
            "--test",
            "VM Network=",
            "--nic-test",
            "4000=",
            "--default",
            "--addresses",
            "dhcp",
        ]);
        let changed = changed.settings(made.clone()).expect("usable");
        let map = NetworkMap { test: None, ..made.networks[0].clone() };
        let expected = Settings {
            zone: None,
            networks: vec![map],
            nics: vec![],
            is_default: true,
            addresses: AddressPolicy::Dhcp,
            ..made
        };
        assert_eq!(changed, expected);
        assert!(say(&[]).is_nothing() && !say(&["--default", "no"]).is_nothing());
        assert!(Line::try_parse_from(["x", "shop", "--live", "production"]).is_err());
        assert!(Line::try_parse_from(["x", "Shop"]).is_err());
        assert!(
            Line::try_parse_from(["x", "shop", "--file", "f", "--zone", "z"]).is_err(),
            "one or the other"
        );
    }

    #[test]
    fn a_file_is_all_of_it_and_strict() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            let path = path.display().to_string();
            let before = Settings { zone: Some("z".to_owned()), ..Settings::new(Backend::Local) };
            say(&["--file", &path]).settings(before)
        };
        let toml = include_str!("../../../../deploy/examples/target-profile.toml");
        let read = file("p.toml", toml).expect("the example is usable");
        assert_eq!(read.clone().usable(), Ok(read.clone()), "the example can be made");
        assert_eq!(file("p.json", &serde_json::to_string(&read).expect("JSON")).expect("the same"), read);
        for (name, text, says) in [
            ("x.toml", "backend = 'local'\nzones = 'a'", "unknown key `zones`"),
            ("x.toml", "zone = 'a'", "backend"),
            ("x.json", r#"{"backend": "local", "zones": "a"}"#, "zones"),
            ("x.json", "{", "is not a target profile"),
        ] {
            let error = file(name, text).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
