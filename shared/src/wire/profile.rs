//! Target profiles: messages ↔ [`crate::profile`].

use super::Invalid;
use crate::ids::{DeviceKey, ProfileName};
use crate::profile::{AddressPolicy, Backend, MacPolicy, NetworkMap, NicMap, Settings};
use proto::v1;

fn said(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

fn newer(field: &'static str, value: i32) -> Invalid {
    Invalid::new(field, format!("has no value {value}"))
}

/// Generation and times are the caller's to set.
pub fn profile_to_wire(name: &ProfileName, settings: Settings) -> v1::TargetProfile {
    let network = |map: NetworkMap| v1::NetworkMapping {
        source: map.source,
        live: map.live.unwrap_or_default(),
        test: map.test.unwrap_or_default(),
    };
    let nic = |map: NicMap| v1::NicMapping {
        key: map.key.into(),
        live: map.live.unwrap_or_default(),
        test: map.test.unwrap_or_default(),
    };
    v1::TargetProfile {
        name: name.to_string(),
        backend: match settings.backend {
            Backend::Local => v1::TargetBackend::Local,
            Backend::CloudStack => v1::TargetBackend::Cloudstack,
            Backend::Linstor => v1::TargetBackend::Linstor,
        }
        .into(),
        zone: settings.zone.unwrap_or_default(),
        compute_offering: settings.compute_offering.unwrap_or_default(),
        disk_offering: settings.disk_offering.unwrap_or_default(),
        storage_pool: settings.storage_pool.unwrap_or_default(),
        networks: settings.networks.into_iter().map(network).collect(),
        nics: settings.nics.into_iter().map(nic).collect(),
        live_mac: match settings.live_mac {
            MacPolicy::Keep => v1::MacPolicy::Keep,
            MacPolicy::New => v1::MacPolicy::New,
        }
        .into(),
        addresses: match settings.addresses {
            AddressPolicy::Keep => v1::AddressPolicy::Keep,
            AddressPolicy::Dhcp => v1::AddressPolicy::Dhcp,
            AddressPolicy::New => v1::AddressPolicy::New,
        }
        .into(),
        notes: settings.notes.unwrap_or_default(),
        is_default: settings.is_default,
        generation: 0,
        created_at: String::new(),
        updated_at: String::new(),
    }
}

/// What an operator says is kept as it was meant, or refused: a policy of a newer client is never guessed.
///
/// # Errors
/// The field, and what is wrong with it.
pub fn profile_from_wire(profile: v1::TargetProfile) -> Result<(ProfileName, Settings), Invalid> {
    let name = ProfileName::parse(profile.name).map_err(|e| Invalid::new("profile.name", e))?;
    let backend = match v1::TargetBackend::try_from(profile.backend) {
        Ok(v1::TargetBackend::Local) => Backend::Local,
        Ok(v1::TargetBackend::Cloudstack) => Backend::CloudStack,
        Ok(v1::TargetBackend::Linstor) => Backend::Linstor,
        Ok(v1::TargetBackend::Unspecified) => return Err(Invalid::missing("profile.backend")),
        Err(_) => return Err(newer("profile.backend", profile.backend)),
    };
    let live_mac = match v1::MacPolicy::try_from(profile.live_mac) {
        Ok(v1::MacPolicy::Keep | v1::MacPolicy::Unspecified) => MacPolicy::Keep,
        Ok(v1::MacPolicy::New) => MacPolicy::New,
        Err(_) => return Err(newer("profile.live_mac", profile.live_mac)),
    };
    let addresses = match v1::AddressPolicy::try_from(profile.addresses) {
        Ok(v1::AddressPolicy::Keep | v1::AddressPolicy::Unspecified) => AddressPolicy::Keep,
        Ok(v1::AddressPolicy::Dhcp) => AddressPolicy::Dhcp,
        Ok(v1::AddressPolicy::New) => AddressPolicy::New,
        Err(_) => return Err(newer("profile.addresses", profile.addresses)),
    };
    let network = |map: v1::NetworkMapping| NetworkMap {
        source: map.source,
        live: said(map.live),
        test: said(map.test),
    };
    let nic = |map: v1::NicMapping| {
        let key = DeviceKey::parse(map.key).map_err(|e| Invalid::new("profile.nics.key", e))?;
        Ok(NicMap { key, live: said(map.live), test: said(map.test) })
    };
    let settings = Settings {
        backend,
        zone: said(profile.zone),
        compute_offering: said(profile.compute_offering),
        disk_offering: said(profile.disk_offering),
        storage_pool: said(profile.storage_pool),
        networks: profile.networks.into_iter().map(network).collect(),
        nics: profile.nics.into_iter().map(nic).collect::<Result<_, Invalid>>()?,
        live_mac,
        addresses,
        notes: said(profile.notes),
        is_default: profile.is_default,
    };
    Ok((name, settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_comes_through_as_it_was_and_is_never_guessed() {
        let text = r#"{"backend": "local", "zone": "z", "compute_offering": "c", "disk_offering": "d",
            "storage_pool": "p", "networks": [{"source": "LAN", "live": "a", "test": "b"}, {"source": "DMZ", "live": "c"}],
            "nics": [{"key": "4000", "test": "e"}], "live_mac": "new", "addresses": "dhcp", "notes": "n", "default": true}"#;
        let settings: Settings = serde_json::from_str(text).expect("good");
        let name: ProfileName = "shop-1".parse().expect("a name");
        let wire = profile_to_wire(&name, settings.clone());
        assert_eq!(profile_from_wire(wire.clone()), Ok((name, settings)));
        let refused = |change: fn(&mut v1::TargetProfile)| {
            let mut wire = wire.clone();
            change(&mut wire);
            profile_from_wire(wire).expect_err("refused").field
        };
        assert_eq!(refused(|w| w.name = "Shop".into()), "profile.name");
        assert_eq!(refused(|w| w.backend = 0), "profile.backend");
        assert_eq!(refused(|w| w.backend = 9), "profile.backend");
        assert_eq!(refused(|w| w.live_mac = 9), "profile.live_mac");
        assert_eq!(refused(|w| w.addresses = 9), "profile.addresses");
        assert_eq!(refused(|w| w.nics[0].key = "a/b".into()), "profile.nics.key");
    }
}
