//! Target profiles: where and how a VM is made on the target, as an operator names it once for many VMs.
//!
//! Pure: what a profile says, and what it must not say ([`rules`](Settings::check)). The rule that protects people: a
//! test failover starts a second copy of a VM that is still running, so its network is never one that is live anywhere.
//! Not here: whether a zone or an offering exists; the backend's client knows.

mod rules;

pub use rules::{Refused, check_beside};

use crate::ids::{DeviceKey, ProfileName};
use crate::vm::Nic;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an operator writes, in a file, in a body, or by flags. Unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TargetProfileSettings)]
pub struct Settings {
    pub backend: Backend,
    /// Left out: any zone, so its networks count as being in each.
    #[serde(default)]
    #[schema(example = "zone-1", max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub zone: Option<String>,
    #[serde(default)]
    #[schema(example = "4 cores, 8 GiB", max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub compute_offering: Option<String>,
    #[serde(default)]
    #[schema(max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub disk_offering: Option<String>,
    #[serde(default)]
    #[schema(max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub storage_pool: Option<String>,
    /// By the network's name at the source.
    #[serde(default)]
    pub networks: Vec<NetworkMap>,
    /// For single NICs, in place of what their network's map says.
    #[serde(default)]
    pub nics: Vec<NicMap>,
    /// Of a live failover; a test always makes new ones, since the source's are in use.
    #[serde(default)]
    pub live_mac: MacPolicy,
    #[serde(default)]
    pub addresses: AddressPolicy,
    #[serde(default)]
    #[schema(max_length = 4096)]
    pub notes: Option<String>,
    /// Taken by a begin that names none; one profile at most.
    #[serde(default, rename = "default")]
    pub is_default: bool,
}

/// What makes the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Replicas as files beside the control plane; machines for test failovers only, by `[compute]`.
    Local,
    CloudStack,
    Linstor,
}

/// Where a source's network is on the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkMap {
    /// Its name at the source.
    #[schema(
        example = "VM Network",
        max_length = 256,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\u0000-\\u0020\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub source: String,
    /// Of a live failover.
    #[serde(default)]
    #[schema(example = "production", max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub live: Option<String>,
    /// Of a test: never one that is live.
    #[serde(default)]
    #[schema(example = "isolated", max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub test: Option<String>,
}

/// The same for one NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NicMap {
    /// The source's own name of the NIC.
    #[schema(value_type = String, example = "4000", pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
    pub key: DeviceKey,
    #[serde(default)]
    #[schema(max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub live: Option<String>,
    #[serde(default)]
    #[schema(max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub test: Option<String>,
}

/// MAC addresses of a machine that was failed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MacPolicy {
    #[default]
    Keep,
    New,
}

/// IP addresses of a machine that was failed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressPolicy {
    /// Those of the source.
    #[default]
    Keep,
    /// The guest asks for them.
    Dhcp,
    /// The target gives others.
    New,
}

macro_rules! spelled {
    ($name:ident, $what:literal, { $($variant:ident = $word:literal),* }) => {
        impl $name {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("{word:?} is no {}: write one of {}", $what, [$($word),*].join(", "))),
                }
            }
        }
    };
}
spelled!(Backend, "backend", { Local = "local", CloudStack = "cloudstack", Linstor = "linstor" });
spelled!(MacPolicy, "MAC policy", { Keep = "keep", New = "new" });
spelled!(AddressPolicy, "address policy", { Keep = "keep", Dhcp = "dhcp", New = "new" });

impl Settings {
    /// That and nothing else.
    pub fn new(backend: Backend) -> Self {
        Self {
            backend,
            zone: None,
            compute_offering: None,
            disk_offering: None,
            storage_pool: None,
            networks: vec![],
            nics: vec![],
            live_mac: MacPolicy::default(),
            addresses: AddressPolicy::default(),
            notes: None,
            is_default: false,
        }
    }

    /// Without what is blank or stands around names, where two spellings of one name would be taken for two networks;
    /// and without maps to nothing, which say as much as none.
    fn tidy(mut self) -> Self {
        // Spaces only: a line break is a mistake that is told.
        let tidy = |text: &mut Option<String>| {
            *text = text.take().map(|t| t.trim_matches(' ').to_owned()).filter(|t| !t.is_empty());
        };
        let Self { zone, compute_offering, disk_offering, storage_pool, notes, .. } = &mut self;
        [zone, compute_offering, disk_offering, storage_pool, notes].into_iter().for_each(tidy);
        for map in &mut self.networks {
            map.source = map.source.trim_matches(' ').to_owned();
            [&mut map.live, &mut map.test].into_iter().for_each(tidy);
        }
        for map in &mut self.nics {
            [&mut map.live, &mut map.test].into_iter().for_each(tidy);
        }
        self.networks.retain(|map| map.live.is_some() || map.test.is_some());
        self.nics.retain(|map| map.live.is_some() || map.test.is_some());
        self
    }
}

/// What a machine is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Live,
    Test,
}

impl Settings {
    /// The target's network for a NIC; `None`: the profile has none for it.
    pub fn network_of(&self, nic: &Nic, purpose: Purpose) -> Option<&str> {
        let by_key = self.nics.iter().find(|map| map.key == nic.key);
        let by_name = self.networks.iter().find(|map| Some(&map.source) == nic.network.as_ref());
        let (of_nic, of_network) = match purpose {
            Purpose::Live => (by_key.map(|m| &m.live), by_name.map(|m| &m.live)),
            Purpose::Test => (by_key.map(|m| &m.test), by_name.map(|m| &m.test)),
        };
        of_nic.and_then(Option::as_deref).or(of_network.and_then(Option::as_deref))
    }
}

/// A profile's name and what it says.
pub type Named<'a> = (&'a ProfileName, &'a Settings);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_one_spelling_and_others_are_refused() {
        for backend in [Backend::Local, Backend::CloudStack, Backend::Linstor] {
            assert_eq!(backend.as_str().parse(), Ok(backend));
            assert_eq!(serde_json::to_value(backend).expect("a word"), backend.as_str());
        }
        assert!("vsphere".parse::<Backend>().expect_err("none").contains("local, cloudstack, linstor"));
        let unknown = serde_json::from_str::<Settings>(r#"{"backend": "local", "live_macs": "new"}"#);
        assert!(unknown.expect_err("misspelt").to_string().contains("live_macs"));
    }
    #[test]
    fn a_nic_goes_where_its_own_map_says_else_where_that_of_its_network_does() {
        let text = r#"{"backend": "local",
            "networks": [{"source": "LAN", "live": "production", "test": "isolated"}, {"source": "DMZ", "live": "dmz"}],
            "nics": [{"key": "4001", "test": "lonely"}]}"#;
        let settings: Settings = serde_json::from_str(text).expect("good");
        let of = |key: &str, network: Option<&str>, purpose| {
            let network = network.map(str::to_owned);
            let (key, model) = (key.parse().expect("a key"), Default::default());
            let nic = Nic { key, mac: None, model, network, addresses: vec![] };
            settings.network_of(&nic, purpose).unwrap_or("-").to_owned()
        };
        assert_eq!(of("4000", Some("LAN"), Purpose::Live), "production");
        assert_eq!(of("4000", Some("LAN"), Purpose::Test), "isolated");
        assert_eq!(of("4001", Some("LAN"), Purpose::Live), "production", "it says nothing of live");
        assert_eq!(of("4001", Some("LAN"), Purpose::Test), "lonely");
        assert_eq!(of("4000", Some("DMZ"), Purpose::Test), "-");
        assert_eq!(of("4000", None, Purpose::Live), "-");
        assert_eq!(of("4001", None, Purpose::Test), "lonely");
    }
}
